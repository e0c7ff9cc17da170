/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The contract about TCP connections that are followed by their packets (--tcp-packets): what tcp_packets.c
 * keeps of each, and user space reads.
 *
 * Read by the BPF program and, as cffi definitions, by build_ffi.py: plain declarations only. Integers are in
 * host byte order, addresses as in struct flow_key.
 */
#pragma once

/* Gaps in what a side has sent that are remembered, each. */
#define TCP_GAPS 4

/* A connection at an interface. Which end is the lower one is the program's to say; it is always the same. */
struct tcp_path_key {
	__u8 low[16];
	__u8 high[16];
	__u16 low_port;
	__u16 high_port;
	__u32 ifindex;
	__u32 vlan_id; /* outer tag, 0 without */
};

/* Sequence numbers from start up to end that were not seen, though later ones were; equal: none. */
struct tcp_gap {
	__u32 start;
	__u32 end;
};

/* tcp_way.flags */
#define TCP_WAY_PLACED 1  /* next and sure_from are known */
#define TCP_WAY_HAS_SYN 2 /* syn is known */
#define TCP_WAY_HAS_ACK 4 /* ack and window are known */
#define TCP_WAY_HAS_FIN 8 /* it has said that it sends no more */
#define TCP_WAY_CLOSED 16 /* the last window that it announced is 0, since closed_since */

/*
 * What one side has sent. Counters only grow. Packets are those on the wire, bytes those of payload. Of what
 * is not new
 *	retransmitted	had been seen before
 *	late		fills a gap that later packets had left
 *	untold		may be either: the gaps of that time are not known (any more); or it stands
 *			where it cannot be
 */
struct tcp_way {
	__u64 packets;
	__u64 data_packets;
	__u64 bytes;
	__u64 retransmitted_packets;
	__u64 retransmitted_bytes;
	__u64 late_packets;
	__u64 late_bytes;
	__u64 untold_packets;
	__u64 untold_bytes;
	__u32 gaps;   /* times that something was missing in front of a packet */
	__u32 probes; /* of keepalive, or of a window that is closed */
	__u32 duplicate_acks;
	__u32 zero_windows; /* packets that announced one */
	__u32 closed_ticks; /* how long windows were closed, those that are open again */
	__u32 syns;	    /* that began a connection */
	__u32 repeated_syns;
	__u32 fins;
	__u32 resets;

	/* what it is known by */
	__u32 next;	    /* sequence number behind the highest one seen */
	__u32 sure_from;    /* of what is below, it is not known whether it was seen */
	__u32 syn;	    /* sequence number of the last SYN */
	__u32 ack;	    /* the highest one */
	__u32 closed_since; /* tick */
	__u32 astray;	    /* sequence number behind the last packet that stood where it cannot be */
	__u32 seen;	    /* tick of the last packet in the direction `hook` */
	struct tcp_gap missing[TCP_GAPS];
	__u16 window; /* as it stands in the header */
	__u8 flags;   /* TCP_WAY_* */
	__u8 hook;    /* where it is followed: 1 entering the interface, 2 leaving it; 0: not seen */
};

/* tcp_path.handshake */
#define TCP_HANDSHAKE_UNSEEN 0
#define TCP_HANDSHAKE_SYN 1
#define TCP_HANDSHAKE_ANSWERED 2
#define TCP_HANDSHAKE_DONE 3

/* tcp_path.opener */
#define TCP_OPENER_LOW 1
#define TCP_OPENER_HIGH 2

/* A connection. Ticks are the lower 32 bits of the kernel's. */
struct tcp_path {
	__u64 syn_ns;	  /* when the SYN was seen; 0: more than one was, or its answer */
	__u64 answer_ns;  /* the same of the SYN-ACK */
	__u64 server_ns;  /* from SYN to SYN-ACK: to the server and back; 0: not known */
	__u64 client_ns;  /* from SYN-ACK to ACK: to the client and back */
	__u32 opened;	  /* connections that began by a SYN, one after another */
	__u32 refused;	  /* those that a reset answered */
	__u32 unanswered; /* SYNs in a row to which no answer was seen */
	__u32 last;	  /* tick of the last packet */
	__u8 opener;	  /* TCP_OPENER_*; 0: not known */
	__u8 handshake;	  /* TCP_HANDSHAKE_* */
	__u8 has_ended;	  /* by a reset */
	__u8 slot;	  /* interface slot */
	__u32 padding;
	struct tcp_way ways[2]; /* of the lower end, of the higher end */
};

/* Packets of TCP that are of no struct tcp_path. Kept per CPU, slot and direction; they only grow. */
struct tcp_missed {
	__u64 no_room;	   /* there was no room for the connection */
	__u64 unread;	   /* fragments, and headers that are cut short */
	__u64 second_pass; /* of a side whose packets are followed in the interface's other direction */
	__u64 uncounted;   /* frames of any kind that the packet program did not get */
};
