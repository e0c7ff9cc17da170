/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The contract about TCP sockets: what the dump of the living (tcp_diag.c) fills in, what the program that
 * sees the dead (tcp_probe.c) keeps, and user space reads.
 *
 * Read by both, by shim.c and, as cffi definitions, by build_ffi.py: plain declarations only.
 */
#pragma once

/*
 * What is known about a socket, each by its bit in tcp_sample.known: kernels differ. The first are counters,
 * that only grow while a connection lives; the levels after them are as of the moment.
 */
enum tcp_value {
	TCP_RETRANSMITTED, /* packets sent again */
	TCP_SEGMENTS_SENT,
	TCP_SEGMENTS_RECEIVED,
	TCP_DATA_SENT, /* segments with payload */
	TCP_DATA_RECEIVED,
	TCP_BYTES_SENT, /* payload, those sent again included */
	TCP_BYTES_RETRANSMITTED,
	TCP_BYTES_ACKED,
	TCP_BYTES_RECEIVED,
	TCP_DELIVERED,	      /* segments that arrived, as acknowledged */
	TCP_DELIVERED_CE,     /* of them with a congestion mark */
	TCP_DUPLICATES,	      /* segments that the remote side had already (DSACK) */
	TCP_REORDERED,	      /* times that reordering was seen */
	TCP_OUT_OF_ORDER,     /* segments received out of order */
	TCP_BUSY,	      /* us with data to send; the next two are part of it */
	TCP_RECEIVER_LIMITED, /* us held up by the remote side's window */
	TCP_BUFFER_LIMITED,   /* us held up by the own send buffer */
	TCP_RTT,	      /* us, smoothed */
	TCP_RTT_VARIANCE,     /* us, mean deviation */
	TCP_MIN_RTT,	      /* us, of the last minutes */
	TCP_RECEIVER_RTT,     /* us, estimated from received data */
	TCP_RTO,	      /* us */
	TCP_SEND_MSS,	      /* bytes */
	TCP_CWND,	      /* segments */
	TCP_SSTHRESH,	      /* segments */
	TCP_SEND_WINDOW,      /* bytes that the remote side takes */
	TCP_RECEIVE_WINDOW,   /* bytes that this side takes */
	TCP_UNACKED,	      /* segments in flight */
	TCP_LOST,	      /* of them believed lost */
	TCP_NOT_SENT,	      /* bytes written by the application and not sent yet */
	TCP_UNREAD,	      /* bytes that the application has not read */
	TCP_PACING,	      /* bytes per second */
	TCP_DELIVERY_RATE,    /* bytes per second */
	TCP_TIMEOUTS,	      /* retransmission timeouts in a row without an answer */
	TCP_PROBES,	      /* window probes in a row without an answer */
	TCP_CA_STATE,	      /* 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss */
	TCP_VALUES,
};

/* What a sample was taken for. */
enum tcp_event {
	TCP_DUMPED,    /* the socket lives */
	TCP_DESTROYED, /* its last moment */
	TCP_CLOSED,    /* closed by an error, before it was connected, or by a process; destroyed later */
};

/* The kernel's states (net/tcp_states.h). */
#define TCP_STATE_ESTABLISHED 1
#define TCP_STATE_SYN_SENT 2
#define TCP_STATE_FIN_WAIT1 4
#define TCP_STATE_FIN_WAIT2 5
#define TCP_STATE_CLOSE 7
#define TCP_STATE_CLOSE_WAIT 8
#define TCP_STATE_LAST_ACK 9

/* One socket at one moment. Addresses in network order, IPv4 mapped; everything else in host order. */
struct tcp_sample {
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port;
	__u16 remote_port;
	__u32 netns;	/* inode number of the network namespace; 0 in dumps, which are of one */
	__u64 cookie;	/* 0: nobody has asked for it yet */
	__u64 activity; /* dumps: differs from that of the last dump if anything happened */
	__u64 known;	/* bit i: values[i] is known */
	__u64 values[TCP_VALUES];
	char congestion[16]; /* name of the algorithm */
	__u8 event;	     /* enum tcp_event */
	__u8 state;	     /* TCP_CLOSED: the state before */
	__u16 error;	     /* TCP_CLOSED: the errno, 0 for none */
	__u32 uid;	     /* dumps: of the owner */
};

/*
 * What the program keeps of an end: pieces of the kernel's struct tcp_sock as they are, one after the other.
 * One read for each value would cost three times as much; user space knows where in them the values are.
 */
#define TCP_PIECES 12
#define TCP_RAW_BYTES 336

struct tcp_end {
	__u32 netns; /* inode number of the network namespace */
	__u8 event;  /* enum tcp_event */
	__u8 state;  /* TCP_CLOSED: the state before */
	__u16 error; /* TCP_CLOSED: the errno, 0 for none */
	char congestion[16];
	__u32 closer; /* the process that closed this side of the connection; 0: not known */
	char command[16];
	__u8 raw[TCP_RAW_BYTES];
};

/* The program's map: a socket's address and CLOCK_MONOTONIC, since addresses are used again. */
struct tcp_end_key {
	__u64 socket;
	__u64 at_ns;
};

/* Ends that are kept until user space reads them. */
#define TCP_MAX_ENDS 16384

/* Sockets that a process has closed and the kernel not yet destroyed, whose closers are kept. */
#define TCP_MAX_CLOSERS 16384

/* The most network namespaces that are followed. */
#define TCP_MAX_NAMESPACES 64
