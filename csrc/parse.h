/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a frame to a flow_key. A cursor walks the headers; each parser checks its bounds, advances the
 * cursor and fills its part of the key. A header that is cut short ends the walk: the flow keeps what
 * was known so far, so that no packet goes uncounted.
 *
 * The frame is parsed where it lies as far as its linear data reaches; if that is not far enough and
 * the frame goes on, its first COPY_SIZE bytes are copied and parsed there.
 *
 * This is the one place in the kernel where byte order changes: be16() and be24() take fields as they
 * are on the wire and return host order.
 */
#pragma once

#include <linux/types.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "flow.h"
#include "traffic_type.h"

#define ETHERTYPE_8021Q 0x8100
#define ETHERTYPE_8021AD 0x88a8

#define PROTOCOL_HOP_BY_HOP 0
#define PROTOCOL_ROUTING 43
#define PROTOCOL_FRAGMENT 44
#define PROTOCOL_AH 51
#define PROTOCOL_DESTINATION 60

/* IPv4 "fragment offset" field: more fragments, and the offset in units of 8 bytes (RFC 791). */
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_OFFSET_MASK 0x1fff
/* The same in an IPv6 fragment header, whose offset field stands three bits higher (RFC 8200, 4.5). */
#define IPV6_MORE_FRAGMENTS 0x0001
#define IPV6_OFFSET_MASK 0xfff8

#define VLAN_TAGS 2		/* that are looked behind: 802.1ad with 802.1Q inside */
#define VLAN_ID_MASK 0x0fff	/* of the tag control information */
#define EXTENSION_HEADERS 6	/* of IPv6 that are walked */
#define TCP_LEAST_LENGTH 20	/* bytes of a TCP header without options */
#define SCTP_LENGTH 12		/* bytes of SCTP's common header */
#define LONGEST_IP_PACKET 65535 /* bytes that IPv4's length field can name */
#define NO_LENGTH (1ULL << 62)	/* of a packet that no header has named yet */
#define MAX_OFFSET 2047		/* bytes into a frame up to which a header may begin */
#define FARTHEST_OFFSET 16383	/* that the cursor can reach from there */
#define LONGEST_HEADER 2048	/* an IPv6 extension header of 256 times 8 bytes */
#define COPY_SIZE 192		/* bytes of a frame that are parsed at most when it is copied */
#define LONG_COPY_SIZE 384	/* with the headers of a packet in the packet */
#define IPOIB_PSEUDO_LENGTH 20
#define ROCE_V2_PORT 4791 /* UDP destination port */
#define DNS_PORT 53
#define GRH_NEXT_HEADER 0x1b /* of a global route header: InfiniBand transport follows */
#define BTH_VERSION_MASK 0x0f
#define BTH_PAD_SHIFT 4 /* of flags_version: how many bytes of padding make the payload whole words */
#define BTH_PAD_MASK 3
#define BTH_WORD 4
#define PARTITION_MASK 0x7fff /* of the partition key: the rest is the membership bit */
#define BTH_CLASS_UD 3	      /* opcode >> 5: unreliable datagram, whose DETH follows */

/* Headers as on the wire; 16- and 32-bit fields are big endian. */
struct ethernet_header {
	__u8 destination[6];
	__u8 source[6];
	__be16 ethertype;
};

struct vlan_header {
	__be16 control;
	__be16 ethertype;
};

/*
 * An IPoIB frame as the kernel has it: 20 bytes for the peer's hardware address, which are not on the wire
 * (struct ipoib_pseudo_header in drivers/infiniband/ulp/ipoib/ipoib.h), then the header of RFC 4391, 6.
 */
struct ipoib_header {
	__u8 pseudo[IPOIB_PSEUDO_LENGTH];
	__be16 ethertype;
	__u8 reserved[2];
};

struct arp_header {
	__be16 hardware_type; /* 1: Ethernet */
	__be16 protocol_type; /* 0x0800: IPv4 */
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender[4];
	__u8 target_mac[6];
	__u8 target[4];
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

/* Also InfiniBand's global route header, which has the same layout. */
struct ipv6_header {
	__u8 version_class[4];
	__be16 payload_length;
	__u8 next_header;
	__u8 hop_limit;
	__u8 src[16];
	__u8 dst[16];
};

/* The first 8 bytes of an IPv6 extension header; all have at least these. IPv4 knows the authentication
 * header. */
struct extension {
	__u8 next_header;
	__u8 length;	 /* of what follows, in 8 bytes; authentication header: in 4 bytes */
	__be16 fragment; /* fragment header: offset and "more" */
	__u8 rest[4];
};

/* The first four bytes of TCP, UDP and SCTP. */
struct ports_header {
	__be16 src_port;
	__be16 dst_port;
};

/* As far as it is read. */
struct tcp_header {
	struct ports_header ports;
	__u8 sequence[4];
	__u8 acknowledgment[4];
	__u8 data_offset; /* header length in 32-bit words in the high half */
	__u8 flags;
};

struct udp_header {
	struct ports_header ports;
	__be16 length;
	__be16 checksum;
};

struct icmp_header {
	__u8 type;
	__u8 code;
};

/* Base transport header of InfiniBand and RoCE (IBA 9.2). */
struct bth {
	__u8 opcode;
	__u8 flags_version;
	__be16 partition;
	__u8 fecn_becn;
	__u8 dst_qpn[3];
	__u8 ack_psn[4];
};

/* Datagram extended transport header (IBA 9.3.3). */
struct deth {
	__u8 queue_key[4];
	__u8 reserved;
	__u8 src_qpn[3];
};

/*
 * Where the walk stands. Either in packet data, which ends at `end`, or in a copy of the frame's first
 * `length` bytes; which of both is a constant wherever this is inlined. Made by in_frame() and in_copy().
 */
struct cursor {
	void *start;
	void *end;
	__u64 length;
	__u64 frame_length;
	__u64 offset;
	__u64 left;    /* bytes of the packet behind the cursor, by the packet's own length */
	__u64 unknown; /* a number of which the verifier knows nothing */
	bool copied;
	__u64 truncated;     /* a header was cut short that the packet's own length has room for */
	__u64 traffic_class; /* DSCP and ECN of the IP header that the key is of; 0 without one */
	__u64 inner_tag;     /* VLAN id of the second tag; 0 without */
	__u32 datagram;	     /* number of the datagram that the packet is a fragment of, as on the wire */
};

#define ECN_MASK 3 /* of the traffic class; 3 is CE (RFC 3168) */
#define ECN_CE 3
#define DSCP_SHIFT 2

static __always_inline __u16 be16(__be16 wire)
{
	return __builtin_bswap16(wire);
}

static __always_inline __u32 be24(const __u8 *wire)
{
	return wire[0] << 16 | wire[1] << 8 | wire[2];
}

static __always_inline __u32 be32_bytes(const __u8 *wire)
{
	return (__u32)wire[0] << 24 | wire[1] << 16 | wire[2] << 8 | wire[3];
}

/* A cursor at the beginning of a frame of `frame_length` bytes, of which those up to `end` lie here. */
static __always_inline struct cursor in_frame(void *start, void *end, __u64 frame_length)
{
	return (struct cursor){.start = start,
			       .end = end,
			       .frame_length = frame_length,
			       .left = NO_LENGTH,
			       .unknown = end - start};
}

/* A cursor at the beginning of a copy of a frame's first `size` bytes; `unknown` is the other cursor's. */
static __always_inline struct cursor in_copy(void *start, __u64 size, __u64 frame_length, __u64 unknown)
{
	return (struct cursor){.start = start,
			       .length = size,
			       .frame_length = frame_length,
			       .left = NO_LENGTH,
			       .unknown = unknown,
			       .copied = true};
}

/*
 * Returns the header at the cursor and moves past it, or NULL where it is cut short, or where the packet
 * ends before it: what follows a packet is padding.
 */
static __always_inline void *take(struct cursor *cursor, __u64 size)
{
	__u64 offset = cursor->offset, left, end;
	void *header;

	if (cursor->copied) {
		PIN(offset);
		/*
		 * In two steps: after one, Linux 6.12 takes what a comparison of the sum says for what it
		 * says of the offset, and adds where it should subtract (sync_linked_regs()).
		 */
		end = offset + 1;
		PIN(end);
		end += size - 1;
		if (end > cursor->length || offset > LONG_COPY_SIZE - size)
			goto cut_short;
		PIN(offset); /* or the address would be computed, and its bounds lost, before the check */
		header = cursor->start + offset;
		if (size > cursor->left)
			goto cut_short;
	} else {
		/* Linux 5.10 forgets the bounds of a spilled number: check it again. */
		PIN(offset);
		if (offset > FARTHEST_OFFSET)
			goto cut_short;
		PIN(offset);
		if (!__builtin_constant_p(size)) {
			PIN(size);
			if (size > LONGEST_HEADER)
				goto cut_short;
			PIN(size);
		}
		header = cursor->start + offset;
		if (header + size > cursor->end || size > cursor->left)
			goto cut_short;
	}
	cursor->offset = offset + size;
	cursor->left -= size;
	return header;

cut_short:
	/* the sign, without a branch: the verifier would follow either answer through all that comes */
	left = cursor->left;
	PIN(left);
	cursor->truncated |= (left - size) >> 63 ^ 1;
	return 0;
}

/*
 * The same number, of which the verifier knows nothing any more: it would follow what it knows of each
 * through all the rest.
 */
static __always_inline __u64 forget(__u64 unknown, __u64 number)
{
	number ^= unknown;
	PIN(number);
	return number ^ unknown;
}

/*
 * Makes the verifier forget how the cursor came here, for every combination of tags and extension headers.
 * Headers further in than MAX_OFFSET are not looked for.
 */
static __always_inline bool join_paths(struct cursor *cursor)
{
	__u64 offset = forget(cursor->unknown, cursor->offset);

	PIN(offset);
	if (offset > MAX_OFFSET)
		return false;
	PIN(offset); /* Linux 5.10 knows the bound of the register that was compared only, not of its copies
		      */
	cursor->offset = offset;
	return true;
}

/*
 * The packet goes on for `length` bytes behind the cursor, by the header before it, and ends there. A
 * `field` of 0 in a frame that is longer than it could say is a merged packet's (BIG TCP), or a jumbogram's
 * (RFC 2675).
 */
static __always_inline void end_packet(struct cursor *cursor, __u16 field, __u64 length)
{
	if (!field && cursor->frame_length > LONGEST_IP_PACKET)
		return;
	cursor->left = length;
}

/*
 * By opcode, the least words of a packet from base transport header to invariant CRC, with the extension
 * headers that the opcode has; 0: there is no such opcode (IBA 9.2, table 38; annexes A14 XRC, A17 CNP, A19
 * FLUSH and ATOMIC WRITE). The last quarter is the manufacturers'.
 */
static const __u8 least_words[256] = {
    /* reliable connection: SEND, WRITE, READ, ACK and atomics, SEND with invalidate, FLUSH and ATOMIC WRITE
     */
    [0x00] = 4,
    4,
    4,
    5,
    4,
    5,
    8,
    4,
    4,
    5,
    8,
    9,
    8,
    5,
    4,
    5,
    5,
    5,
    7,
    11,
    11,
    [0x16] = 5,
    5,
    [0x1c] = 9,
    10,
    /* unreliable connection */
    [0x20] = 4,
    4,
    4,
    5,
    4,
    5,
    8,
    4,
    4,
    5,
    8,
    9,
    /* reliable datagram; the last is RESYNC */
    [0x40] = 7,
    7,
    7,
    8,
    7,
    8,
    11,
    7,
    7,
    8,
    11,
    12,
    11,
    6,
    5,
    6,
    6,
    6,
    8,
    14,
    14,
    7,
    /* unreliable datagram, congestion notification */
    [0x64] = 6,
    7,
    [0x81] = 8,
    /* extended reliable connection */
    [0xa0] = 5,
    5,
    5,
    6,
    5,
    6,
    9,
    5,
    5,
    6,
    9,
    10,
    9,
    5,
    4,
    5,
    5,
    5,
    7,
    12,
    12,
    [0xb6] = 6,
    6,
    [0xc0 ... 0xff] = 4,
};

/* Whether a packet with `length` bytes from here to its end can be InfiniBand's; others use the port, too. */
static __always_inline bool is_plausible(const struct bth *bth, __u64 length)
{
	__u32 words = least_words[bth->opcode];
	__u32 pad = bth->flags_version >> BTH_PAD_SHIFT & BTH_PAD_MASK;

	return words && !(bth->flags_version & BTH_VERSION_MASK) && be16(bth->partition) & PARTITION_MASK &&
	       length % BTH_WORD == 0 && length >= words * BTH_WORD + pad;
}

static __always_inline void parse_bth(struct cursor *cursor, struct flow_key *key, __u8 version, __u64 length)
{
	struct bth *bth = take(cursor, sizeof(*bth));
	struct deth *deth;

	if (!bth || !is_plausible(bth, length))
		return;
	key->flags |= version;
	key->opcode = bth->opcode;
	key->dst_qpn = be24(bth->dst_qpn);
	if (bth->opcode >> 5 != BTH_CLASS_UD)
		return;
	deth = take(cursor, sizeof(*deth));
	if (!deth)
		return;
	key->flags |= FLOW_HAS_SRC_QPN;
	key->src_qpn = be24(deth->src_qpn);
}

static __always_inline void set_ports(struct flow_key *key, const struct ports_header *ports)
{
	key->src_port = be16(ports->src_port);
	key->dst_port = be16(ports->dst_port);
}

/* Where no more is there, or is to be known. */
static __always_inline void parse_ports(struct cursor *cursor, struct flow_key *key)
{
	struct ports_header *ports = take(cursor, sizeof(*ports));

	if (ports)
		set_ports(key, ports);
}

/* Returns the flags byte. */
static __always_inline __u8 parse_tcp(struct cursor *cursor, struct flow_key *key)
{
	struct tcp_header *tcp = take(cursor, sizeof(*tcp));

	if (!tcp) {
		parse_ports(cursor, key);
		return 0;
	}
	set_ports(key, &tcp->ports);
	return tcp->flags;
}

static __always_inline void parse_udp(struct cursor *cursor, struct flow_key *key)
{
	struct udp_header *udp = take(cursor, sizeof(*udp));
	__u64 length;

	if (!udp) {
		parse_ports(cursor, key);
		return;
	}
	set_ports(key, &udp->ports);
	length = be16(udp->length) - sizeof(*udp);
	/* of a fragment more may come; else a datagram ends with its packet at the latest */
	if (key->dst_port == ROCE_V2_PORT &&
	    length <= (key->flags & FLOW_FRAGMENT ? LONGEST_IP_PACKET : cursor->left))
		parse_bth(cursor, key, FLOW_ROCE_V2, length);
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
		parse_udp(cursor, key);
		return 0;
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

/* What follows is payload: no transport header stands there, whatever it looks like. */
static __always_inline bool later_fragment(struct flow_key *key)
{
	key->flags |= FLOW_LATER_FRAGMENT;
	return false;
}

/* ::ffff:a.b.c.d (RFC 4291, 2.5.5.2) */
static __always_inline void set_mapped_address(__u8 *address, const __u8 *ipv4)
{
	address[10] = 0xff;
	address[11] = 0xff;
	__builtin_memcpy(address + 12, ipv4, 4);
}

static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == PROTOCOL_HOP_BY_HOP || protocol == PROTOCOL_ROUTING ||
	       protocol == PROTOCOL_FRAGMENT || protocol == PROTOCOL_AH || protocol == PROTOCOL_DESTINATION;
}

/* Walks one extension header and sets key->protocol to what follows; false where the walk ends. */
static __always_inline bool parse_extension(struct cursor *cursor, struct flow_key *key)
{
	struct extension *extension = take(cursor, sizeof(*extension));
	__u8 protocol = key->protocol;
	__u16 fragment;

	if (!extension)
		return false;
	key->protocol = extension->next_header;
	if (protocol == PROTOCOL_FRAGMENT) {
		fragment = be16(extension->fragment);
		if (fragment & (IPV6_MORE_FRAGMENTS | IPV6_OFFSET_MASK)) {
			key->flags |= FLOW_FRAGMENT;
			__builtin_memcpy(&cursor->datagram, extension->rest, sizeof(cursor->datagram));
		}
		return fragment & IPV6_OFFSET_MASK ? later_fragment(key) : true;
	}
	return take(cursor, extension->length * (protocol == PROTOCOL_AH ? 4 : 8));
}

/* Returns whether a transport header stands at the cursor. */
static __always_inline bool parse_ipv4(struct cursor *cursor, struct flow_key *key)
{
	struct ipv4_header *ip = take(cursor, sizeof(*ip));
	__u64 header_length;
	__u16 fragment, length;

	/* a wrong version or length says that this is no IPv4 header: keep the ethertype alone */
	if (!ip || ip->version_ihl >> 4 != 4)
		return false;
	header_length = (ip->version_ihl & 0x0f) * 4;
	if (header_length < sizeof(*ip))
		return false;

	set_mapped_address(key->src, ip->src);
	set_mapped_address(key->dst, ip->dst);
	key->protocol = ip->protocol;
	cursor->traffic_class = ip->tos;
	length = be16(ip->total_length);
	end_packet(cursor, length, length > sizeof(*ip) ? length - sizeof(*ip) : 0);

	fragment = be16(ip->fragment);
	if (fragment & (IPV4_MORE_FRAGMENTS | IPV4_OFFSET_MASK)) {
		key->flags |= FLOW_FRAGMENT;
		cursor->datagram = ip->id;
	}
	if (fragment & IPV4_OFFSET_MASK)
		return later_fragment(key);
	if (header_length > sizeof(*ip) && !take(cursor, header_length - sizeof(*ip)))
		return false;
	return key->protocol != PROTOCOL_AH || parse_extension(cursor, key);
}

/* The traffic class stands across two bytes. */
static __always_inline __u8 class_of(const struct ipv6_header *ip)
{
	return ip->version_class[0] << 4 | ip->version_class[1] >> 4;
}

/* Returns whether a transport header stands at the cursor. */
static __always_inline bool parse_ipv6(struct cursor *cursor, struct flow_key *key)
{
	struct ipv6_header *ip = take(cursor, sizeof(*ip));
	__u16 length;

	if (!ip || ip->version_class[0] >> 4 != 6)
		return false;
	__builtin_memcpy(key->src, ip->src, 16);
	__builtin_memcpy(key->dst, ip->dst, 16);
	key->protocol = ip->next_header;
	cursor->traffic_class = class_of(ip);
	length = be16(ip->payload_length);
	end_packet(cursor, length, length);
#pragma unroll
	for (int i = 0; i < EXTENSION_HEADERS; i++) {
		if (!is_extension(key->protocol))
			return true;
		if (!parse_extension(cursor, key))
			return false;
		cursor->left = forget(cursor->unknown, cursor->left);
		cursor->offset = forget(cursor->unknown, cursor->offset);
	}
	return true;
}

static __always_inline void parse_arp(struct cursor *cursor, struct flow_key *key)
{
	struct arp_header *arp = take(cursor, sizeof(*arp));

	if (!arp || be16(arp->hardware_type) != 1 || be16(arp->protocol_type) != ETHERTYPE_IPV4 ||
	    arp->hardware_length != 6 || arp->protocol_length != 4)
		return;
	set_mapped_address(key->src, arp->sender);
	set_mapped_address(key->dst, arp->target);
}

/* The global route header stands where IPv6's would, and its identifiers are IPv6 addresses. */
static __always_inline void parse_roce_v1(struct cursor *cursor, struct flow_key *key)
{
	struct ipv6_header *grh = take(cursor, sizeof(*grh));
	__u16 length;

	if (!grh || grh->version_class[0] >> 4 != 6)
		return;
	__builtin_memcpy(key->src, grh->src, 16);
	__builtin_memcpy(key->dst, grh->dst, 16);
	cursor->traffic_class = class_of(grh);
	length = be16(grh->payload_length);
	end_packet(cursor, length, length);
	if (grh->next_header == GRH_NEXT_HEADER)
		parse_bth(cursor, key, FLOW_ROCE_V1, length);
}

/* The link layer: sets the ethertype and the outer VLAN id, unless that is set already (`tagged`). */
static __always_inline bool parse_ethernet(struct cursor *cursor, struct flow_key *key, bool tagged)
{
	struct ethernet_header *ethernet = take(cursor, sizeof(*ethernet));
	bool one_less = tagged;
	struct vlan_header *vlan;

	if (!ethernet)
		return false;
	key->ethertype = be16(ethernet->ethertype);
#pragma unroll
	for (int i = 0; i < VLAN_TAGS; i++) {
		if (key->ethertype != ETHERTYPE_8021Q && key->ethertype != ETHERTYPE_8021AD)
			break;
		if (one_less && i == VLAN_TAGS - 1)
			break;
		vlan = take(cursor, sizeof(*vlan));
		if (!vlan)
			return false;
		if (!tagged)
			key->vlan_id = be16(vlan->control) & VLAN_ID_MASK;
		else
			cursor->inner_tag = be16(vlan->control) & VLAN_ID_MASK;
		tagged = true;
		key->ethertype = be16(vlan->ethertype);
	}
	if (key->ethertype < ETHERTYPE_LEAST)
		key->ethertype = ETHERTYPE_LLC;
	return true;
}

/* IP alone, of the version that its first bits say. Anything else has no ethertype. */
static __always_inline bool parse_raw_ip(struct cursor *cursor, struct flow_key *key)
{
	__u8 *first = take(cursor, 1);
	__u8 version = first ? *first >> 4 : 0;

	cursor->offset = 0;
	cursor->left = NO_LENGTH;
	if (version == 4)
		key->ethertype = ETHERTYPE_IPV4;
	else if (version == 6)
		key->ethertype = ETHERTYPE_IPV6;
	return key->ethertype != 0;
}

static __always_inline bool parse_ipoib(struct cursor *cursor, struct flow_key *key)
{
	struct ipoib_header *header = take(cursor, sizeof(*header));

	if (header)
		key->ethertype = be16(header->ethertype);
	return header;
}

static __always_inline bool parse_link_layer(struct cursor *cursor, struct flow_key *key, __u8 link_layer,
					     bool tagged)
{
	switch (link_layer) {
	case LINK_LAYER_NONE:
		return key->ethertype;
	case LINK_LAYER_IP:
		return parse_raw_ip(cursor, key);
	case LINK_LAYER_IPOIB:
		return parse_ipoib(cursor, key);
	default:
		return parse_ethernet(cursor, key, tagged);
	}
}

/*
 * Walks a packet whose ethertype is in the key. Returns the TCP flags byte, 0 for everything else; the cursor
 * then stands behind the last header.
 */
static __always_inline __u8 parse_network(struct cursor *cursor, struct flow_key *key)
{
	bool transport;

	switch (key->ethertype) {
	case ETHERTYPE_IPV4:
		transport = parse_ipv4(cursor, key);
		break;
	case ETHERTYPE_IPV6:
		transport = parse_ipv6(cursor, key);
		break;
	case ETHERTYPE_ARP:
		parse_arp(cursor, key);
		return 0;
	case ETHERTYPE_ROCE_V1:
		parse_roce_v1(cursor, key);
		return 0;
	default:
		return 0;
	}
	cursor->left = forget(cursor->unknown, cursor->left);
	return transport && join_paths(cursor) ? parse_transport(cursor, key) : 0;
}

/*
 * Walks a frame. The key must be zeroed; slot, direction and the id of a VLAN tag that is not in the
 * frame (`tagged`) are the caller's to set. So are, without a link layer, the ethertype and the place of
 * the network header; nothing is guessed where they are not known. Returns the TCP flags byte, 0 for
 * everything else; the cursor then stands behind the last header.
 */
static __always_inline __u8 parse_packet(struct cursor *cursor, struct flow_key *key, __u8 link_layer,
					 bool tagged)
{
	if (!parse_link_layer(cursor, key, link_layer, tagged) || !join_paths(cursor))
		return 0;
	return parse_network(cursor, key);
}
