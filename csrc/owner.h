/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The contract about owners of flows: what owner_probe.c finds out, and user space reads.
 *
 * Read by the BPF programs, shim.c, drain.c and, as cffi definitions, by build_ffi.py: plain declarations
 * only.
 */
#pragma once

/* What is known of a flow's owner. */
enum owner_kind {
	OWNER_UNKNOWN,	 /* nobody asked, or no socket was found */
	OWNER_LISTENER,	 /* so far only a listening socket for it: packets of its own may yet go elsewhere */
	OWNER_NOT_LOCAL, /* forwarded: it has no socket here */
	OWNER_CGROUP,	 /* a socket whose creator nobody saw; its control group is known */
	OWNER_KERNEL,	 /* a socket of the kernel's own */
	OWNER_SOCKET,	 /* a socket whose creator is known */
};

/* What the process of an OWNER_SOCKET did. */
enum owner_role {
	OWNER_CREATED,	/* it created the socket */
	OWNER_LISTENED, /* it created, or held, the listening socket that accepted the connection */
	OWNER_HELD,	/* it had the socket open when the tool started */
};

/* Equal bytes are the same owner. Of a size that 256 of them are whole pages. */
struct flow_owner {
	__u64 cgroup; /* id: inode number of the directory; 0: not known */
	__u32 pid;
	__u32 uid;
	char command[16]; /* of the thread */
	__u8 kind;	  /* enum owner_kind */
	__u8 role;	  /* enum owner_role */
	__u8 padding[14];
};

/* Kept with a socket; those that a listening socket accepts inherit a copy. */
struct socket_owner {
	struct flow_owner owner;
	__u64 cookie; /* of the socket that it was made for */
};

/* Whose packets to look at again when their socket is gone: one end of a flow, and the other. */
struct known_flow {
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port; /* host order; 0 without ports */
	__u16 remote_port;
	__u32 ifindex;
	__u64 protocol;
};

/* flow_entry.asked: how often the owner was asked for, and when to stop. */
#define OWNER_MOST_ASKED 6
#define OWNER_FOUND 255

/* Flows whose owner is remembered beyond their socket's end. */
#define OWNER_MOST_KNOWN 32768

/* Socket states (BPF_TCP_* in linux/bpf.h). */
#define OWNER_STATE_ESTABLISHED 1
#define OWNER_STATE_TIME_WAIT 6
#define OWNER_STATE_LISTEN 10
#define OWNER_STATE_SYN_RECV 12
