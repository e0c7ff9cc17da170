/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Restrict this process: the kernel restricts only the thread that asks for it.
 *
 * Read by confine.c and, as cffi definitions, by build_ffi.py: plain declarations only.
 */
#pragma once

/*
 * Every thread gives up all other capabilities, gains no new privileges, and is restricted by the ruleset
 * (-1: none). A thread that waits in the kernel for more than a second follows when it returns; their number
 * is the result, and the ruleset must stay open for them. Or -errno. To be called by one thread at a time.
 */
int xt_confine(int ruleset_fd, __u64 capabilities);
