/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Hashes of passwords, as libcrypt knows them: memory in, memory out, no system calls.
 *
 * Read by password.c and, as cffi definitions, by build_ffi.py: plain declarations only.
 */
#pragma once

/*
 * Whether a hash (crypt(5)) is that of a password. Takes as long as the hash asks for, with bcrypt's usual
 * cost some 0.1 s. -1: out of memory, or a hash that libcrypt does not know.
 */
int xt_password_matches(const char *password, const char *hash);
