/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The plain frames that most traffic is made of: Ethernet without tags, IPv4 without options and not in
 * fragments, TCP, or UDP that is not RoCE, all of it in the linear data. Their keys are made in registers,
 * and are what parse.h makes of the same frame; it has all other frames.
 */
#pragma once

#include <linux/types.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "flow.h"
#include "flow_hash.h"
#include "parse.h"
#include "switches.h"

/* As far as it is looked at. */
struct plain_frame {
	struct ethernet_header ethernet;
	struct ipv4_header ip;
	union {
		struct tcp_header tcp;
		struct udp_header udp;
	};
} __attribute__((packed, aligned(2)));

/* A flow key as the words that are hashed and compared. */
struct key_words {
	__u64 word[sizeof(struct flow_key) / sizeof(__u64)];
};

_Static_assert(sizeof(struct key_words) == sizeof(struct flow_key), "a key is whole words");

#define PLAIN_START 12		    /* of four bytes: ethertype, version and header length, traffic class */
#define PLAIN_START_MASK 0x00ffffff /* little endian */
#define PLAIN_START_IPV4 0x00450008
#define PLAIN_ADDRESSES 26

/* Reads from any address: BPF has unaligned loads of packets where the machine has. */
#define AT(type, frame, offset) (*(const type *)((const char *)(frame) + (offset)))

/* Whether a frame that begins at `start` is plain. */
static __always_inline bool is_plain(const struct plain_frame *frame, const void *end)
{
	if (!reads_plain || (const void *)(frame + 1) > end)
		return false;
	if ((AT(__u32, frame, PLAIN_START) & PLAIN_START_MASK) != PLAIN_START_IPV4 ||
	    be16(frame->ip.fragment) & (IPV4_MORE_FRAGMENTS | IPV4_OFFSET_MASK))
		return false;
	/* what follows the packet is padding */
	if (be16(frame->ip.total_length) < sizeof(frame->ip) + sizeof(frame->tcp))
		return false;
	return frame->ip.protocol == PROTOCOL_TCP ||
	       (frame->ip.protocol == PROTOCOL_UDP && be16(frame->udp.ports.dst_port) != ROCE_V2_PORT);
}

/* The word of a key that ends with an IPv4 address: what is before it is the mapping's prefix. */
static __always_inline __u64 address_word(const __u8 *ipv4)
{
	return (__u64) * (const __u32 *)ipv4 << 32 | 0xffff0000;
}

/* The word with the ports, each in host order, the source first. */
static __always_inline __u64 ports_word(const struct ports_header *ports)
{
	return be16(ports->src_port) | (__u64)be16(ports->dst_port) << 16;
}

static __always_inline struct key_words plain_key(const struct plain_frame *frame, __u64 vlan_id)
{
	return (struct key_words){{
	    0,
	    address_word(frame->ip.src),
	    0,
	    address_word(frame->ip.dst),
	    ports_word(&frame->tcp.ports),
	    plain_word | vlan_id | (__u64)frame->ip.protocol << 40,
	}};
}

static __always_inline __u8 plain_flags(const struct plain_frame *frame)
{
	return frame->ip.protocol == PROTOCOL_TCP ? frame->tcp.flags : 0;
}

static __always_inline __u64 plain_addresses(const struct plain_frame *frame)
{
	return AT(__u64, frame, PLAIN_ADDRESSES);
}

/* What tells plain frames with the same addresses apart. */
static __always_inline __u64 plain_rest(const struct plain_frame *frame, __u64 vlan_id)
{
	return AT(__u32, &frame->tcp, 0) | plain_place | (__u64)frame->ip.protocol << PLAIN_PROTOCOL_SHIFT |
	       vlan_id << PLAIN_VLAN_SHIFT;
}
