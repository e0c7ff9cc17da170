/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a frame to a flow_key. A cursor walks the headers; each parser checks its bounds, advances the
 * cursor and fills its part of the key. A header that is cut short ends the walk: the flow keeps what
 * was known so far, so that no packet goes uncounted.
 *
 * This is the one place in the kernel where byte order changes: be16() and be32() read fields as they
 * are on the wire and return host order.
 */
#pragma once

#include <linux/types.h>

#include "bpf_helpers.h"
#include "flow.h"

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_IPV6 0x86dd

#define PROTOCOL_ICMP 1
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_ICMPV6 58
#define PROTOCOL_SCTP 132

/* IPv4 "fragment offset" field: more fragments, and the offset in units of 8 bytes (RFC 791). */
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_OFFSET_MASK 0x1fff

/* Headers as on the wire; 16- and 32-bit fields are big endian. */
struct ethernet_header {
	__u8 destination[6];
	__u8 source[6];
	__be16 ethertype;
};

struct ipv4_header {
	__u8 version_ihl; /* version in the high half, header length in 32-bit words in the low */
	__u8 tos;
	__be16 total_length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__u8 src[4];
	__u8 dst[4];
};

struct ipv6_header {
	__u8 version_class[4];
	__be16 payload_length;
	__u8 next_header;
	__u8 hop_limit;
	__u8 src[16];
	__u8 dst[16];
};

/* The first four bytes of TCP, UDP and SCTP. */
struct ports_header {
	__be16 src_port;
	__be16 dst_port;
};

struct tcp_header {
	struct ports_header ports;
	__u8 sequence[4];
	__u8 acknowledgment[4];
	__u8 data_offset;
	__u8 flags;
	/* window, checksum and urgent pointer are not read, so they need not be in the linear data */
};

struct icmp_header {
	__u8 type;
	__u8 code;
};

/* Where the walk stands, and where the bytes that may be read end. */
struct cursor {
	void *position;
	void *end;
};

static __always_inline __u16 be16(__be16 wire)
{
	return __builtin_bswap16(wire);
}

/* Returns the header at the cursor and moves past it, or NULL where it is cut short. */
static __always_inline void *take(struct cursor *cursor, __u32 size)
{
	void *header = cursor->position;

	if (header + size > cursor->end)
		return 0;
	cursor->position = header + size;
	return header;
}

static __always_inline void parse_ports(struct cursor *cursor, struct flow_key *key)
{
	struct ports_header *ports = take(cursor, sizeof(*ports));

	if (!ports)
		return;
	key->src_port = be16(ports->src_port);
	key->dst_port = be16(ports->dst_port);
}

/* Fills the ports and returns the flags byte; a header cut behind its ports still gives those. */
static __always_inline __u8 parse_tcp(struct cursor *cursor, struct flow_key *key)
{
	struct cursor whole = *cursor;
	struct tcp_header *tcp = take(&whole, sizeof(*tcp));

	parse_ports(cursor, key);
	return tcp ? tcp->flags : 0;
}

static __always_inline void parse_icmp(struct cursor *cursor, struct flow_key *key)
{
	struct icmp_header *icmp = take(cursor, sizeof(*icmp));

	if (!icmp)
		return;
	key->src_port = icmp->type;
	key->dst_port = icmp->code;
}

/* Returns the TCP flags byte, 0 for everything else. */
static __always_inline __u8 parse_transport(struct cursor *cursor, struct flow_key *key)
{
	switch (key->protocol) {
	case PROTOCOL_TCP:
		return parse_tcp(cursor, key);
	case PROTOCOL_UDP:
	case PROTOCOL_SCTP:
		parse_ports(cursor, key);
		return 0;
	case PROTOCOL_ICMP:
	case PROTOCOL_ICMPV6:
		parse_icmp(cursor, key);
		return 0;
	}
	return 0;
}

/* ::ffff:a.b.c.d (RFC 4291, 2.5.5.2) */
static __always_inline void set_mapped_address(__u8 *address, const __u8 *ipv4)
{
	address[10] = 0xff;
	address[11] = 0xff;
	__builtin_memcpy(address + 12, ipv4, 4);
}

static __always_inline __u8 parse_ipv4(struct cursor *cursor, struct flow_key *key)
{
	struct ipv4_header *ip = take(cursor, sizeof(*ip));
	__u32 header_length;
	__u16 fragment;

	/* a wrong version or length says that this is no IPv4 header: keep the ethertype alone */
	if (!ip || ip->version_ihl >> 4 != 4)
		return 0;
	header_length = (ip->version_ihl & 0x0f) * 4;
	if (header_length < sizeof(*ip))
		return 0;

	set_mapped_address(key->src, ip->src);
	set_mapped_address(key->dst, ip->dst);
	key->protocol = ip->protocol;

	fragment = be16(ip->fragment);
	if (fragment & (IPV4_MORE_FRAGMENTS | IPV4_OFFSET_MASK))
		key->flags |= FLOW_FRAGMENT;
	if (fragment & IPV4_OFFSET_MASK)
		return 0; /* what follows is payload, not a transport header */

	if (!take(cursor, header_length - sizeof(*ip)))
		return 0;
	return parse_transport(cursor, key);
}

static __always_inline __u8 parse_ipv6(struct cursor *cursor, struct flow_key *key)
{
	struct ipv6_header *ip = take(cursor, sizeof(*ip));

	if (!ip || ip->version_class[0] >> 4 != 6)
		return 0;
	__builtin_memcpy(key->src, ip->src, 16);
	__builtin_memcpy(key->dst, ip->dst, 16);
	key->protocol = ip->next_header;
	return parse_transport(cursor, key);
}

/*
 * Walks an Ethernet frame. The key must be zeroed; slot and direction are the caller's to set.
 * Returns the TCP flags byte, 0 for everything else.
 */
static __always_inline __u8 parse_packet(struct cursor *cursor, struct flow_key *key)
{
	struct ethernet_header *ethernet = take(cursor, sizeof(*ethernet));

	if (!ethernet)
		return 0;
	key->ethertype = be16(ethernet->ethertype);
	switch (key->ethertype) {
	case ETHERTYPE_IPV4:
		return parse_ipv4(cursor, key);
	case ETHERTYPE_IPV6:
		return parse_ipv6(cursor, key);
	}
	return 0;
}

/* The same decision, from the same fields, as traffic_type() in xtrace/flow.py. */
static __always_inline enum traffic_type traffic_type(const struct flow_key *key)
{
	if (key->flags & FLOW_ROCE_V2)
		return TRAFFIC_ROCE_V2;
	if (key->flags & FLOW_ROCE_V1)
		return TRAFFIC_ROCE_V1_IBOE;
	if (key->ethertype == ETHERTYPE_ARP)
		return TRAFFIC_ARP;
	switch (key->protocol) {
	case PROTOCOL_TCP:
		return TRAFFIC_TCP;
	case PROTOCOL_UDP:
		return TRAFFIC_UDP;
	case PROTOCOL_SCTP:
		return TRAFFIC_SCTP;
	case PROTOCOL_ICMP:
	case PROTOCOL_ICMPV6:
		return TRAFFIC_ICMP;
	}
	return TRAFFIC_OTHER;
}
