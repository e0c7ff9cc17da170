/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * TCP sockets as sock_diag lists them: from the datagrams of a dump to struct tcp_sample.
 *
 * Read by tcp_diag.c and, as cffi definitions, by build_ffi.py: plain declarations only.
 */
#pragma once

/* Where the samples of one dump go. */
struct xt_tcp_samples {
	struct tcp_sample *samples;
	__u32 room;  /* in samples */
	__u32 count; /* in, out */
};

/*
 * Append the sockets in a datagram of the dump with this sequence number; sockets without tcp_info
 * (TIME_WAIT) are left out. Returns the bytes read: less than `length` where a message is something else, or
 * there is no room.
 */
int xt_tcp_read(const void *datagram, size_t length, __u32 sequence, struct xt_tcp_samples *out);
