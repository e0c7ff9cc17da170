/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Gives a terminal back when the process that uses it is gone: after kill -9 nothing else can.
 *
 * Read by guardian.c and, as cffi definitions, by build_ffi.py: plain declarations only.
 */
#pragma once

/*
 * A process that waits until a byte comes from the pipe `dismissal`, and ends; or until nobody can write to
 * it any more: then it sets the modes that `keyboard` has now, unless somebody else has changed them since,
 * and writes `leave` to `screen`. It keeps no other descriptor and next to no memory of this process, and
 * only SIGKILL and SIGSTOP reach it. Its process id, or -errno.
 */
int xt_guard_terminal(int keyboard, int screen, int dismissal, const char *leave, unsigned int length);
