/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The plain frames that most traffic is made of: Ethernet, with one tag or none, IPv4 without options and not
 * in fragments or IPv6 without extension headers, and TCP, UDP, or RoCE v2 without extended headers that name
 * a queue pair; all of it in the linear data. Their flows are made in registers, and are what parse.h makes
 * of the same frame; it has all other frames.
 */
#pragma once

#include <linux/types.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "flow.h"
#include "flow_hash.h"
#include "parse.h"
#include "switches.h"

/* As far as they are looked at. */
union plain_transport {
	struct ports_header ports;
	struct tcp_header tcp;
	struct udp_header udp;
} __attribute__((packed, aligned(2)));

struct plain_ipv4 {
	struct ethernet_header ethernet;
	struct ipv4_header ip;
	union plain_transport transport;
} __attribute__((packed, aligned(2)));

struct plain_ipv6 {
	struct ethernet_header ethernet;
	struct ipv6_header ip;
	union plain_transport transport;
} __attribute__((packed, aligned(2)));

struct plain_roce {
	struct udp_header udp;
	struct bth bth;
} __attribute__((packed, aligned(2)));

/* A plain frame, and what identifies its flow. */
struct plain {
	const void *frame; /* where it would begin if the tag were not in it */
	__u32 lower;	   /* all but the addresses (flow_hash.h), in halves */
	__u32 upper;
	bool is_ipv6;
};

/* A flow key as the words that are hashed and compared. */
struct key_words {
	__u64 word[sizeof(struct flow_key) / sizeof(__u64)];
};

_Static_assert(sizeof(struct key_words) == sizeof(struct flow_key), "a key is whole words");

#define PLAIN_START 12			/* of four bytes: ethertype, version, and what is beside it */
#define PLAIN_START_TAG_MASK 0x0000ffff /* little endian, as all of these */
#define PLAIN_START_TAG 0x00000081
#define PLAIN_START_IPV4_MASK 0x00ffffff /* the header's length, too */
#define PLAIN_START_IPV4 0x00450008
#define PLAIN_START_IPV6_MASK 0x00f0ffff
#define PLAIN_START_IPV6 0x0060dd86
#define PLAIN_ADDRESSES_IPV4 26
#define PLAIN_ADDRESSES_IPV6 22
#define BTH_QPN 4		/* of four bytes, the last three of which are the queue pair */
#define BTH_QPN_MASK 0xffffff00 /* little endian */

/* Reads from any address: BPF has unaligned loads of packets where the machine has. */
#define AT(type, frame, offset) (*(const type *)((const char *)(frame) + (offset)))

/* RoCE of which the destination's queue pair is all that the key has; the packet goes on for `left` bytes. */
static __always_inline bool read_roce(struct plain *plain, const struct plain_roce *roce, const void *end,
				      __u64 left)
{
	__u64 length;

	if ((const void *)(roce + 1) > end)
		return false;
	length = be16(roce->udp.length) - sizeof(roce->udp);
	if (length > left - sizeof(roce->udp) || !is_plausible(&roce->bth, length) ||
	    roce->bth.opcode >> 5 == BTH_CLASS_UD)
		return false;
	plain->lower = (AT(__u32, &roce->bth, BTH_QPN) & BTH_QPN_MASK) | roce->bth.opcode;
	plain->upper |= PLAIN_ROCE >> 32;
	return true;
}

/* What follows the IP header, where the packet goes on for `left` bytes. */
static __always_inline bool read_transport(struct plain *plain, const union plain_transport *transport,
					   __u8 protocol, const void *end, __u64 left)
{
	plain->upper |= plain_place | protocol << (PLAIN_PROTOCOL_SHIFT - 32);
	if (protocol != PROTOCOL_TCP) {
		if (protocol != PROTOCOL_UDP)
			return false;
		if (be16(transport->ports.dst_port) == ROCE_V2_PORT)
			return read_roce(plain, (const void *)transport, end, left);
	}
	plain->lower = AT(__u32, transport, 0);
	return true;
}

static __always_inline bool read_ipv4(struct plain *plain, const void *end)
{
	const struct plain_ipv4 *frame = plain->frame;
	__u64 length = be16(frame->ip.total_length);

	if (be16(frame->ip.fragment) & (IPV4_MORE_FRAGMENTS | IPV4_OFFSET_MASK))
		return false;
	/* what follows the packet is padding */
	if (length < sizeof(frame->ip) + sizeof(frame->transport))
		return false;
	return read_transport(plain, &frame->transport, frame->ip.protocol, end, length - sizeof(frame->ip));
}

static __always_inline bool read_ipv6(struct plain *plain, const void *end)
{
	const struct plain_ipv6 *frame = plain->frame;
	__u64 length;

	if ((const void *)(frame + 1) > end)
		return false;
	length = be16(frame->ip.payload_length);
	if (length < sizeof(frame->transport))
		return false;
	plain->is_ipv6 = true;
	plain->upper |= PLAIN_IPV6 >> 32;
	return read_transport(plain, &frame->transport, frame->ip.next_header, end, length);
}

/* Passes the tag of a frame. */
static __always_inline void pass_tag(struct plain *plain)
{
	const struct vlan_header *vlan = plain->frame + PLAIN_START + sizeof(vlan->ethertype);

	plain->upper |= (__u32)be16(vlan->control) << (PLAIN_VLAN_SHIFT - 32);
	plain->frame += sizeof(*vlan);
}

/*
 * Whether a frame is plain, and what identifies its flow. If it had a tag that is not in it any more
 * (`tagged`), the id is `vlan_id`.
 */
static __always_inline bool read_plain(struct plain *plain, const void *frame, const void *end, bool tagged,
				       __u32 vlan_id)
{
	__u32 start;

	*plain = (struct plain){.frame = frame, .upper = vlan_id << (PLAIN_VLAN_SHIFT - 32)};
	if (!reads_plain || frame + sizeof(struct plain_ipv4) > end)
		return false;
	start = AT(__u32, frame, PLAIN_START);
	if (likely((start & PLAIN_START_IPV4_MASK) == PLAIN_START_IPV4))
		return read_ipv4(plain, end);
	if ((start & PLAIN_START_TAG_MASK) == PLAIN_START_TAG) {
		if (tagged || frame + sizeof(struct vlan_header) + sizeof(struct plain_ipv4) > end)
			return false;
		pass_tag(plain);
		start = AT(__u32, plain->frame, PLAIN_START);
	}
	if ((start & PLAIN_START_IPV4_MASK) == PLAIN_START_IPV4)
		return read_ipv4(plain, end);
	return (start & PLAIN_START_IPV6_MASK) == PLAIN_START_IPV6 && read_ipv6(plain, end);
}

static __always_inline __u64 plain_rest(const struct plain *plain)
{
	return (__u64)plain->upper << 32 | plain->lower;
}

static __always_inline __u8 plain_protocol(const struct plain *plain)
{
	return plain->upper >> (PLAIN_PROTOCOL_SHIFT - 32);
}

static __always_inline bool is_tcp(const struct plain *plain)
{
	return plain_protocol(plain) == PROTOCOL_TCP;
}

/* Whether it goes to a port of this protocol; or is of RoCE, where that stands in the queue pair. */
static __always_inline bool is_to_port(const struct plain *plain, __u8 protocol, __u16 port)
{
	return plain->lower >> 16 == __builtin_bswap16(port) && plain_protocol(plain) == protocol;
}

static __always_inline const union plain_transport *plain_transport(const struct plain *plain, bool is_ipv6)
{
	if (is_ipv6)
		return &((const struct plain_ipv6 *)plain->frame)->transport;
	return &((const struct plain_ipv4 *)plain->frame)->transport;
}

/* The TCP flags byte, 0 for everything else. */
static __always_inline __u8 plain_flags(const struct plain *plain, bool is_ipv6)
{
	return is_tcp(plain) ? plain_transport(plain, is_ipv6)->tcp.flags : 0;
}

static __always_inline __u8 plain_class(const struct plain *plain, bool is_ipv6)
{
	if (is_ipv6)
		return class_of(&((const struct plain_ipv6 *)plain->frame)->ip);
	return ((const struct plain_ipv4 *)plain->frame)->ip.tos;
}

/* Both addresses of IPv4, as on the wire. */
static __always_inline __u64 plain_addresses(const struct plain *plain)
{
	return AT(__u64, plain->frame, PLAIN_ADDRESSES_IPV4);
}

static __always_inline __u32 hash_plain(const struct plain *plain, bool is_ipv6)
{
	if (is_ipv6)
		return hash_ipv6(plain->frame + PLAIN_ADDRESSES_IPV6, plain_rest(plain));
	return hash_ipv4(AT(__u32, plain->frame, PLAIN_ADDRESSES_IPV4),
			 AT(__u32, plain->frame, PLAIN_ADDRESSES_IPV4 + 4), plain->lower, plain->upper);
}

/* A word of a key with half an address of the frame: of IPv4, what is before the second one is the mapping's
 * prefix. */
static __always_inline __u64 address_word(const struct plain *plain, bool is_ipv6, int number)
{
	if (is_ipv6)
		return AT(__u64, plain->frame, PLAIN_ADDRESSES_IPV6 + 8 * number);
	if (!(number & 1))
		return 0;
	return (__u64)AT(__u32, plain->frame, PLAIN_ADDRESSES_IPV4 + 2 * (number - 1)) << 32 | 0xffff0000;
}

static __always_inline struct key_words plain_key(const struct plain *plain, bool is_ipv6)
{
	return (struct key_words){{
	    address_word(plain, is_ipv6, 0),
	    address_word(plain, is_ipv6, 1),
	    address_word(plain, is_ipv6, 2),
	    address_word(plain, is_ipv6, 3),
	    ports_word(plain_rest(plain)),
	    last_word(plain_rest(plain)),
	}};
}

/* Whether the addresses in a key are those of a frame of IPv6. */
static __always_inline bool has_addresses(const struct flow_key *key, const struct plain *plain)
{
	const __u64 *have = (const __u64 *)key;

	return !((have[0] ^ address_word(plain, true, 0)) | (have[1] ^ address_word(plain, true, 1)) |
		 (have[2] ^ address_word(plain, true, 2)) | (have[3] ^ address_word(plain, true, 3)));
}
