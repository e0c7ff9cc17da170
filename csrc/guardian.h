/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Gives a terminal back when the process that uses it is gone: after kill -9 nothing else can.
 *
 * Read by guardian.c and, as cffi definitions, by build_ffi.py: plain declarations only.
 */
#pragma once

#define XT_TERMINAL_CHARACTERS 19

/* What a view sets: c_iflag, c_lflag and c_cc. The other modes stay as they are. */
struct terminal_modes {
	__u32 input;
	__u32 local;
	unsigned char characters[XT_TERMINAL_CHARACTERS];
};

/*
 * A process that waits until a byte comes from the pipe `dismissal`, and ends; or until nobody can write to
 * it any more: then it sets the modes that `keyboard` has now, if the terminal's are exactly `modes` (and not
 * those of a shell, say), and writes `leave` to `screen`. It keeps no other descriptor and next to no memory
 * of this process, and only SIGKILL and SIGSTOP reach it. If it cannot close the others it ends at once. Its
 * process id, or -errno.
 */
int xt_guard_terminal(int keyboard, int screen, int dismissal, const struct terminal_modes *modes,
		      const char *leave, unsigned int length);
