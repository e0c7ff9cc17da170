/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The contract between the BPF programs and user space: what a flow is called and what is counted
 * for it. Read by the BPF programs, the shim, render.c and, as cffi definitions, by build_ffi.py; so it
 * holds plain structs, enums and integer defines only, and its reader provides __u8 ... __u64.
 *
 * Ports, queue pair numbers and all other integers are in host byte order: parse.h is the one place
 * in the kernel that converts. Addresses are bytes as on the wire.
 */
#pragma once

/* What a flow_key's flags say. */
#define FLOW_EGRESS 1	       /* seen leaving the interface; ingress otherwise */
#define FLOW_FRAGMENT 2	       /* an IP fragment; all but the first carry no ports */
#define FLOW_ROCE_V1 4	       /* RDMA over Ethernet, ethertype 0x8915 */
#define FLOW_ROCE_V2 8	       /* RDMA over UDP port 4791 */
#define FLOW_HAS_SRC_QPN 16    /* src_qpn was in the packet (DETH) */
#define FLOW_LATER_FRAGMENT 32 /* a fragment but the first: no transport header, no ports */
#define FLOW_INNER 64	       /* of IP packets in others (--tunnel inner) */

/*
 * Where the fields of an inner flow stand, so that the key keeps its size (read by key.h):
 *	vlan_id		the frame's first tag below TUNNEL_SHIFT, above it one of enum tunnel
 *	ethertype	the tag of the frame in the tunnel, else the frame's second, below VERSION_SHIFT,
 *above it 4 or 6: an inner flow is IP's src_qpn		the number of the tunnel where its kind has
 *one; FLOW_HAS_SRC_QPN is never set there Where --tunnel inner finds no tunnel, the frame's second tag stands
 *in the upper bits of vlan_id and src_qpn.
 */
#define TUNNEL_SHIFT 12
#define VERSION_SHIFT 12
#define TAG_MASK 0x0fff
#define QPN_MASK 0xffffff
#define QPN_BITS 24
#define TAG_LOW_BITS 8 /* of a second tag, above the queue pair; the others stand above the first tag */

/* Link layers (switch link_layer). */
#define LINK_LAYER_ETHERNET 0
#define LINK_LAYER_NONE 1  /* tunnels: at tc the kernel knows where the network header is, and whose */
#define LINK_LAYER_IPOIB 2 /* IP over InfiniBand: the kernel's pseudo header, then RFC 4391's */
#define LINK_LAYER_IP 3	   /* XDP of tun: IP from the first byte, whose version the driver has checked */

/* Recent flows that each CPU keeps of one buffer, at most; a power of two. */
#define RECENT_FLOWS 64

/* Networks that --net and --exclude-net take, each. */
#define MAX_NETWORKS 256

/* Fragmented datagrams whose verdict the filters by port remember. */
#define FRAGMENTED_DATAGRAMS 8192

/* Default capacity of one flow table, in flows. */
#define DEFAULT_MAX_FLOWS 65536

/* Traffic types, in the order of the names user space prints (xtrace/model/flow.py). */
enum traffic_type {
	TRAFFIC_TCP,
	TRAFFIC_UDP,
	TRAFFIC_ICMP,
	TRAFFIC_SCTP,
	TRAFFIC_ROCE_V2,
	TRAFFIC_ROCE_V1_IBOE,
	TRAFFIC_ARP,
	TRAFFIC_OTHER,
	TRAFFIC_TYPES,
};

/* Kinds of tunnels, in the order of the names user space prints (xtrace/model/flow.py). */
enum tunnel {
	TUNNEL_NONE,
	TUNNEL_VXLAN,	/* the number is the VNI */
	TUNNEL_GENEVE,	/* the VNI */
	TUNNEL_GTP,	/* the tunnel endpoint identifier */
	TUNNEL_GRE_KEY, /* GRE with a key, which is the number */
	TUNNEL_GRE,	/* without one; no kind from here on has a number */
	TUNNEL_IPIP,	/* IPv4 in IPv4 */
	TUNNEL_SIT,	/* IPv6 in IPv4 */
	TUNNEL_IP6TNL,	/* IPv4 or IPv6 in IPv6 */
	TUNNEL_MPLS,
	TUNNEL_PPPOE,
	TUNNEL_KINDS,
};

/*
 * Names one flow. Six 64-bit words without padding: hashed and compared as bytes, so it is zeroed
 * before it is filled. IPv4 addresses stand as ::ffff:a.b.c.d.
 */
struct flow_key {
	__u8 src[16];
	__u8 dst[16];
	union {
		struct {
			__u16 src_port; /* ICMP: the type */
			__u16 dst_port; /* ICMP: the code */
		};
		__u32 dst_qpn; /* RoCE: destination queue pair, 24 bits */
	};
	__u32 src_qpn;
	__u16 vlan_id; /* outer tag, 0 without; see FLOW_INNER */
	__u16
	    ethertype; /* of the network layer, behind all tags; ETHERTYPE_LLC for a length; see FLOW_INNER */
	__u8 slot;     /* interface slot */
	__u8 protocol; /* IP protocol number; 0 where there is no IP header */
	__u8 opcode;   /* RoCE: BTH opcode */
	__u8 flags;    /* FLOW_* */
};

#define ECN_CE_COUNT 0xffffffffffff /* bits of flow_counters.ecn_ce; above them stands the DSCP */
#define ECN_DSCP_SHIFT 48

/*
 * What is counted for one flow in one interval. Times are the lower 32 bits of the kernel's tick (jiffies),
 * which user space sets against CLOCK_MONOTONIC (sample_clock).
 */
struct flow_counters {
	__u64 packets;
	__u64 bytes;
	__u64 tcp_flags; /* OR of the flags bytes; in hash tables bit i stands in byte i (table_hash.h) */
	union {
		__u64 ecn_ce; /* ECN_CE_COUNT of it: packets that arrived with "congestion experienced" */
		struct {
			__u8 ecn_ce_bytes[6];
			__u8 dscp;	   /* of the last packet */
			__u8 dscp_changed; /* 1: not all packets had the same */
		};
	};
	__u32 first; /* tick of the first packet */
	__u32 last;
};

/* A flow and what was counted for it: a record of the flow table. One and a half cache lines. */
struct flow_entry {
	struct flow_key key;
	struct flow_counters counters; /* until completed, without what the CPU that owns it counted */
	__u32 place; /* its place in the index, counted from 1; 0: it was taken for nothing */
	__u32 asked; /* --owners: how often it was asked whose the flow is; OWNER_FOUND */
};

/* A place of a flow table's index: the number of an entry, and what its owner counted. A cache line. */
struct index_place {
	__u32 word;	       /* the number of the entry, bits of the flow's hash above it; 0: free */
	__u32 owner;	       /* the CPU that saw the flow first, counted from 1; 0: none */
	__u64 plain_addresses; /* of plain frames (plain.h): both addresses, as on the wire */
	__u64 plain_rest;      /* 0: the owner has seen the flow in other frames only */
	struct flow_counters counters;
};

/* One of the flows that a CPU saw lately, and what was counted there since; its flow table has it, too. */
struct recent_flow {
	struct flow_key key;
	struct flow_counters counters;
	__u32 entry;	       /* in the flow table, counted from 1; 0: this place is free */
	__u32 challenger;      /* hash of the flow that last missed here, since the last hit */
	__u64 plain_addresses; /* as in struct index_place */
	__u64 plain_rest;      /* 0: the flow came by another frame */
};

/* Of one flow table: how many of its entries are taken. In a cache line of its own. */
struct claimed {
	__u32 entries; /* may count on beyond the table's end */
	__u32 unused;  /* of these: taken at once with another CPU that inserted the same flow */
	__u32 padding[14];
};

#define COMPLETED_AT_ONCE 16

/* The frame that complete_entries is run on: each run completes so many entries of a buffer, and moves
 * `next`. */
struct completion {
	__u32 buffer;
	__u32 next; /* of the buffer's entries, counted from 0 */
	__u32 end;
	__u32 padding;
};

struct packet_count {
	__u64 packets;
	__u64 bytes;
};

/*
 * Kept per CPU, buffer, interface slot and direction. In every interval
 *	sum over flows + sum over unattributed + filtered + filtered_fragments == total
 * in packets and in bytes.
 */
struct interface_counters {
	struct packet_count total;
	struct packet_count filtered;
	struct packet_count unattributed[TRAFFIC_TYPES]; /* by enum traffic_type */
	/* later fragments that filters by port cannot judge: the first was not seen */
	struct packet_count filtered_fragments;
};

/* A network as the LPM tries of --net and --exclude-net take it: the bits of family and address that count,
 * then both. */
struct network {
	__u32 prefix_length;
	__u32 family;	  /* 4 or 6, so that no IPv6 network takes in the mapped IPv4 addresses */
	__u8 address[16]; /* as in struct flow_key */
};
