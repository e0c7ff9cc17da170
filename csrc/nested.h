/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The walk through packets in packets, each copied header by header from wherever it lies. It says two
 * things:
 *
 * How long the headers are that each packet of a merged one (GSO, GRO) has on the wire: all of them down to
 * the innermost TCP, UDP or SCTP. What a UDP datagram carries, and what stands behind an MPLS label, is named
 * by a port or a nibble only. There a packet is believed if its own length reaches to the end of the merged
 * packet: the kernel has made it so, while of a sender's own datagrams (UDP_SEGMENT) each has a packet of its
 * own in it.
 *
 * With --tunnel inner, where the IP packet in the outermost tunnel is. PPPoE and MPLS are tunnels, too. The
 * packet is believed if it ends where the one around it does, at the latest; exactly there if the frame is a
 * merged one, or if only its first bits say what it is. Behind MPLS labels its checksum has to be right, too,
 * as those bits may be an Ethernet address. What is in fragments, cut short, or not IP is not found.
 */
#pragma once

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include "bpf_helpers.h"
#include "flow.h"
#include "key.h"
#include "parse.h"
#include "switches.h"
#include "tunnel.h"

#define MOST_PACKETS 3 /* in one another */
#define MOST_TAGS 4
#define JUMBO_OPTION 0xc204    /* RFC 2675: type and length, first in a hop-by-hop header of 8 bytes */
#define SHORTEST_FRAME 64      /* bytes of a frame up to which it may have been padded, with a tag */
#define PLAIN_IPV4 0x45	       /* version 4, a header without options */
#define FARTHEST_HEADER 0x3fff /* bytes into a frame; more than the walk can pass */

/* Where the walk stands. What of a frame it reads, and what it is to say, are constants wherever it is
 * inlined. */
struct nested {
	bool peels;	       /* it is to find the packet in a tunnel */
	struct __sk_buff *skb; /* at tc */
	struct xdp_md *xdp;    /* else */
	__u64 length;	       /* of the frame */
	__u64 gso_size;	       /* 0: the frame is not merged */
	__u64 tagged;	       /* the frame had a tag that is not in it any more */
	__u64 unknown;	       /* a number of which the verifier knows nothing */
	__u64 offset;
	__u64 headers; /* what each packet has, down to the last TCP, UDP or SCTP header so far; 0: none */
	__u64 extra;   /* what only the merged packet has */
	__u64 what;    /* stands at offset */
	__u64 doubted; /* whether it is a packet is to be seen from its length */

	/* with --tunnel inner */
	__u64 end;	  /* of the packet that the walk is in, in the frame, by its own length */
	__u64 vlan_id;	  /* the frame's first tag */
	__u64 tag;	  /* of the frame in the tunnel, else the frame's second */
	__u64 kind;	  /* enum tunnel, the outermost */
	__u64 number;	  /* of the tunnel */
	__u64 by_bits;	  /* only the first bits say what stands at offset */
	__u64 fragmented; /* only a part of what is in the packet is here */
	__u64 decided;	  /* whether there is a packet in the tunnel */
	__u64 inner;	  /* where it begins; 0: none was found */
	__u64 inner_what; /* its ethertype */
};

/* The beginnings of IP headers: as much as is read, for the programs' stack is small. */
struct ipv4_start {
	__u8 version_ihl;
	__u8 tos;
	__be16 total_length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
};

struct ipv6_start {
	__u8 version_class[4];
	__be16 payload_length;
	__u8 next_header;
	__u8 hop_limit;
};

/* The next bytes of a frame where XDP can read them, or NULL. */
static __always_inline void *reach(const struct nested *walk, __u64 size)
{
	__u64 offset = walk->offset;
	void *next;

	PIN(offset);
	if (offset > FARTHEST_HEADER)
		return 0;
	PIN(offset);
	next = (void *)(long)walk->xdp->data + offset;
	PIN(next); /* or it would be computed again where it is used, and its bounds lost */
	return next + size > (void *)(long)walk->xdp->data_end ? 0 : next;
}

/* Whether the header at the walk's place is there, and then its copy. */
#define COPY_HEADER(walk, header)                                                                            \
	({                                                                                                   \
		const typeof(*(header)) *in_place;                                                           \
		bool there;                                                                                  \
                                                                                                             \
		if ((walk)->skb) {                                                                           \
			there = !bpf_skb_load_bytes((walk)->skb, (walk)->offset, header, sizeof(*(header))); \
		} else if ((in_place = reach(walk, sizeof(*(header))))) {                                    \
			*(header) = *in_place;                                                               \
			there = true;                                                                        \
		} else {                                                                                     \
			there = has_frags &&                                                                 \
				!bpf_xdp_load_bytes((walk)->xdp, (walk)->offset, header, sizeof(*(header))); \
		}                                                                                            \
		there;                                                                                       \
	})

/* Notes the outermost tunnel. */
static __always_inline void note_tunnel(struct nested *walk, enum tunnel kind, __u32 number)
{
	if (!walk->peels || walk->kind)
		return;
	walk->kind = kind;
	walk->number = number;
}

static __always_inline bool pass_ethernet(struct nested *walk)
{
	__be16 ethertype;

	walk->offset += offsetof(struct ethernet_header, ethertype);
	if (!COPY_HEADER(walk, &ethertype))
		return false;
	walk->offset += sizeof(ethertype);
	walk->what = be16(ethertype);
	return true;
}

/* A tag; how many stand before it, and whether the frame is the one on the interface, are constants. */
static __always_inline bool pass_vlan(struct nested *walk, int before, bool outside)
{
	struct vlan_header vlan;
	__u16 tag;

	if (!COPY_HEADER(walk, &vlan))
		return false;
	walk->offset += sizeof(vlan);
	walk->what = be16(vlan.ethertype);
	tag = be16(vlan.control) & VLAN_ID_MASK;
	if (outside && before == 0 && !walk->tagged)
		walk->vlan_id = tag;
	else if (before == 0 || (outside && before == 1 && !walk->tagged))
		walk->tag = tag;
	return true;
}

static __always_inline bool pass_mpls(struct nested *walk)
{
	struct mpls_label label;

	if (!COPY_HEADER(walk, &label))
		return false;
	walk->offset += sizeof(label);
	if (label.label[2] & MPLS_BOTTOM)
		walk->what = IS_IP;
	return true;
}

static __always_inline bool pass_pppoe(struct nested *walk)
{
	struct pppoe_header pppoe;

	if (!COPY_HEADER(walk, &pppoe))
		return false;
	note_tunnel(walk, TUNNEL_PPPOE, 0);
	walk->offset += sizeof(pppoe);
	walk->what = ethertype_of_ppp(be16(pppoe.protocol));
	return walk->what;
}

static __always_inline bool pass_version(struct nested *walk)
{
	__u8 first;

	if (!COPY_HEADER(walk, &first))
		return false;
	walk->what = first >> 4 == 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6;
	walk->doubted = walk->skb != 0;
	walk->by_bits = true;
	return true;
}

/* Whether a packet of `length` bytes, which its header says in `field`, ends with the merged one. */
static __always_inline bool reaches_the_end(const struct nested *walk, __u16 field, __u64 length)
{
	__u64 rest = walk->length - walk->offset;

	return rest > LONGEST_IP_PACKET ? !field : rest == length;
}

/* Notes where a packet ends that begins here, and whether its rest is in `more` fragments. */
static __always_inline void end_at(struct nested *walk, __u16 field, __u64 length, __u16 more)
{
	if (!walk->peels)
		return;
	walk->fragmented |= more;
	if (field || walk->length - walk->offset <= LONGEST_IP_PACKET)
		walk->end = walk->offset + length;
}

static __always_inline bool pass_ipv4(struct nested *walk)
{
	struct ipv4_start ip;
	__u64 length;

	if (!COPY_HEADER(walk, &ip) || ip.version_ihl >> 4 != 4 || be16(ip.fragment) & IPV4_OFFSET_MASK)
		return false;
	length = (ip.version_ihl & 0x0f) * 4;
	if (length < sizeof(struct ipv4_header))
		return false;
	if (walk->doubted && !reaches_the_end(walk, be16(ip.total_length), be16(ip.total_length)))
		return false;
	end_at(walk, be16(ip.total_length), be16(ip.total_length), be16(ip.fragment) & IPV4_MORE_FRAGMENTS);
	walk->offset += length;
	walk->what = ip.protocol;
	return true;
}

static __always_inline bool pass_ipv6(struct nested *walk)
{
	struct ipv6_start ip;
	__u64 length;

	if (!COPY_HEADER(walk, &ip) || ip.version_class[0] >> 4 != 6)
		return false;
	length = sizeof(struct ipv6_header) + be16(ip.payload_length);
	if (walk->doubted && !reaches_the_end(walk, be16(ip.payload_length), length))
		return false;
	end_at(walk, be16(ip.payload_length), length, 0);
	walk->offset += sizeof(struct ipv6_header);
	walk->what = ip.next_header;
	return true;
}

static __always_inline bool pass_extension(struct nested *walk)
{
	struct extension extension;
	__u32 protocol = walk->what;

	if (!COPY_HEADER(walk, &extension))
		return false;
	walk->what = extension.next_header;
	walk->offset += sizeof(extension);
	if (protocol == PROTOCOL_FRAGMENT) {
		walk->fragmented |= be16(extension.fragment) & IPV6_MORE_FRAGMENTS;
		return !(be16(extension.fragment) & IPV6_OFFSET_MASK);
	}
	walk->offset += extension.length * (protocol == PROTOCOL_AH ? 4 : 8);
	/* the kernel's own, of a length that IPv6's field cannot hold: the packets that it is cut into lack
	 * it */
	if (protocol == PROTOCOL_HOP_BY_HOP && !extension.length && be16(extension.fragment) == JUMBO_OPTION)
		walk->extra += sizeof(extension);
	return true;
}

static __always_inline bool pass_gre(struct nested *walk)
{
	struct gre_header gre;
	__be32 key = 0;
	__u16 flags;

	if (!COPY_HEADER(walk, &gre))
		return false;
	flags = be16(gre.flags);
	walk->offset += sizeof(gre) + gre_option(flags, GRE_CHECKSUM);
	if (walk->peels && flags & GRE_KEY && !COPY_HEADER(walk, &key))
		return false;
	note_tunnel(walk, flags & GRE_KEY ? TUNNEL_GRE_KEY : TUNNEL_GRE, be32(key));
	walk->offset += gre_option(flags, GRE_KEY) + gre_option(flags, GRE_SEQUENCE);
	walk->what = be16(gre.ethertype);
	return is_known_gre(flags);
}

static __always_inline bool pass_vxlan(struct nested *walk)
{
	struct vxlan_header vxlan;

	if (!COPY_HEADER(walk, &vxlan))
		return false;
	note_tunnel(walk, TUNNEL_VXLAN, be24(vxlan.vni));
	walk->offset += sizeof(vxlan);
	walk->what = ETHERTYPE_ETHERNET;
	return vxlan.flags & VXLAN_HAS_VNI;
}

static __always_inline bool pass_geneve(struct nested *walk)
{
	struct geneve_header geneve;

	if (!COPY_HEADER(walk, &geneve))
		return false;
	note_tunnel(walk, TUNNEL_GENEVE, be24(geneve.vni));
	walk->offset += sizeof(geneve) + geneve_options(&geneve);
	walk->what = be16(geneve.ethertype);
	return is_known_geneve(&geneve);
}

static __always_inline bool pass_gtp(struct nested *walk)
{
	struct gtp_options options;
	struct gtp_header gtp;

	if (!COPY_HEADER(walk, &gtp) || !is_gtp_data(&gtp))
		return false;
	note_tunnel(walk, TUNNEL_GTP, be32(gtp.tunnel));
	walk->offset += sizeof(gtp);
	walk->what = IS_IP;
	if (!(gtp.flags & GTP_OPTIONS_MASK))
		return true;
	if (!COPY_HEADER(walk, &options))
		return false;
	walk->offset += sizeof(options);
	if (gtp.flags & GTP_EXTENSION && options.next)
		walk->what = IS_GTP_EXTENSION;
	return true;
}

/* Its length in 4 bytes comes first, the type of the next one last. One is walked, as 5G has it. */
static __always_inline bool pass_gtp_extension(struct nested *walk)
{
	__u8 length, next;

	if (!COPY_HEADER(walk, &length) || !length)
		return false;
	walk->offset += length * 4 - sizeof(next);
	if (!COPY_HEADER(walk, &next))
		return false;
	walk->offset += sizeof(next);
	if (!next)
		walk->what = IS_IP;
	return true;
}

static __always_inline bool pass_udp(struct nested *walk)
{
	struct udp_header udp;

	if (!COPY_HEADER(walk, &udp))
		return false;
	walk->offset += sizeof(udp);
	walk->headers = walk->offset - walk->extra;
	walk->doubted = walk->skb != 0;
	switch (be16(udp.ports.dst_port)) {
	case VXLAN_PORT:
	case VXLAN_LINUX_PORT:
		return pass_vxlan(walk);
	case GENEVE_PORT:
		return pass_geneve(walk);
	case GTP_PORT:
		return pass_gtp(walk);
	}
	return false;
}

/* The end of the walk. */
static __always_inline bool pass_tcp(struct nested *walk)
{
	struct tcp_header tcp;
	__u64 length;

	if (!COPY_HEADER(walk, &tcp))
		return false;
	length = (tcp.data_offset >> 4) * 4;
	if (length >= TCP_LEAST_LENGTH)
		walk->headers = walk->offset + length - walk->extra;
	return false;
}

/* Makes the verifier forget by which headers the walk came here. */
static __always_inline void join_walks(struct nested *walk)
{
	walk->offset = forget(walk->unknown, walk->offset);
	walk->what = forget(walk->unknown, walk->what);
	if (walk->skb) {
		walk->headers = forget(walk->unknown, walk->headers);
		walk->extra = forget(walk->unknown, walk->extra);
		walk->doubted = forget(walk->unknown, walk->doubted);
	}
	if (!walk->peels)
		return;
	walk->end = forget(walk->unknown, walk->end);
	walk->vlan_id = forget(walk->unknown, walk->vlan_id);
	walk->tag = forget(walk->unknown, walk->tag);
	walk->kind = forget(walk->unknown, walk->kind);
	walk->number = forget(walk->unknown, walk->number);
	walk->by_bits = forget(walk->unknown, walk->by_bits);
	walk->fragmented = forget(walk->unknown, walk->fragmented);
	walk->decided = forget(walk->unknown, walk->decided);
	walk->inner = forget(walk->unknown, walk->inner);
	walk->inner_what = forget(walk->unknown, walk->inner_what);
}

/* Passes what may stand before an IP header; false where the walk ends. */
static __always_inline bool pass_link_layer(struct nested *walk, bool outside)
{
	if (walk->what == ETHERTYPE_ETHERNET && !pass_ethernet(walk))
		return false;
#pragma unroll
	for (int i = 0; i < MOST_TAGS; i++) {
		join_walks(walk);
		if (is_tag(walk->what) && !pass_vlan(walk, i, outside))
			return false;
	}
	join_walks(walk);
	if (is_mpls(walk->what))
		note_tunnel(walk, TUNNEL_MPLS, 0);
	if (walk->what == ETHERTYPE_PPPOE && !pass_pppoe(walk))
		return false;
#pragma unroll
	for (int i = 0; i < MOST_LABELS; i++) {
		join_walks(walk);
		if (is_mpls(walk->what) && !pass_mpls(walk))
			return false;
	}
	join_walks(walk);
	if (walk->what == IS_GTP_EXTENSION && !pass_gtp_extension(walk))
		return false;
	join_walks(walk);
	return walk->what != IS_IP || pass_version(walk);
}

/* Passes an IP header and the extension headers behind it; false where the walk ends. */
static __always_inline bool pass_network(struct nested *walk)
{
	bool in_ipv4 = walk->what == ETHERTYPE_IPV4;

	if (in_ipv4) {
		if (!pass_ipv4(walk))
			return false;
	} else if (walk->what != ETHERTYPE_IPV6 || !pass_ipv6(walk)) {
		return false;
	}
#pragma unroll
	for (int i = 0; i < EXTENSION_HEADERS; i++) {
		join_walks(walk);
		/* IPv4 knows one, at most */
		if (in_ipv4 && (i || walk->what != PROTOCOL_AH))
			continue;
		if (is_extension(walk->what) && !pass_extension(walk))
			return false;
	}
	join_walks(walk);
	return true;
}

/* Passes a transport header, and a tunnel's; false where no packet follows it. */
static __always_inline bool pass_transport(struct nested *walk, bool in_ipv4)
{
	switch (walk->what) {
	case PROTOCOL_TCP:
		return pass_tcp(walk);
	case PROTOCOL_UDP:
		return pass_udp(walk);
	case PROTOCOL_SCTP:
		walk->headers = walk->offset + SCTP_LENGTH - walk->extra;
		return false;
	case PROTOCOL_GRE:
		return pass_gre(walk);
	case PROTOCOL_IPIP:
		note_tunnel(walk, in_ipv4 ? TUNNEL_IPIP : TUNNEL_IP6TNL, 0);
		walk->what = ETHERTYPE_IPV4;
		return true;
	case PROTOCOL_IPV6:
		note_tunnel(walk, in_ipv4 ? TUNNEL_SIT : TUNNEL_IP6TNL, 0);
		walk->what = ETHERTYPE_IPV6;
		return true;
	case PROTOCOL_MPLS:
		walk->what = ETHERTYPE_MPLS;
		return true;
	}
	return false;
}

/* Of an IPv4 header without options: 0xffff where it is right (RFC 1071). */
static __always_inline __u32 ipv4_sum(const struct ipv4_header *ip)
{
	const __u16 *words = (const __u16 *)ip;
	__u32 sum = 0;

#pragma unroll
	for (int i = 0; i < (int)sizeof(*ip) / 2; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* Whether a packet of `length` bytes, which its header says in `field`, can be what is left of the one around
 * it. */
static __always_inline bool fits(const struct nested *walk, __u16 field, __u64 length)
{
	__u64 end = walk->end < walk->length ? walk->end : walk->length;
	__u64 rest = end - walk->offset;

	if (end < walk->offset)
		return false;
	if (!field && rest > LONGEST_IP_PACKET)
		return true;
	/* PPPoE and MPLS are the frame's own: what follows the packet may be its padding */
	if (walk->gso_size || (walk->by_bits && walk->length > SHORTEST_FRAME))
		return length == rest;
	return length <= rest;
}

/* Whether an IP packet stands here, by all that its header says. */
static __always_inline bool is_packet(struct nested *walk)
{
	struct ipv4_header ip;
	struct ipv6_start ip6;
	__u16 field;

	if (walk->what == ETHERTYPE_IPV4) {
		if (!COPY_HEADER(walk, &ip) || ip.version_ihl < PLAIN_IPV4 || ip.version_ihl >> 4 != 4)
			return false;
		if (walk->by_bits && (ip.version_ihl != PLAIN_IPV4 || ipv4_sum(&ip) != 0xffff))
			return false;
		field = be16(ip.total_length);
		return fits(walk, field, field);
	}
	if (walk->what != ETHERTYPE_IPV6 || !COPY_HEADER(walk, &ip6) || ip6.version_class[0] >> 4 != 6)
		return false;
	field = be16(ip6.payload_length);
	return fits(walk, field, sizeof(struct ipv6_header) + field);
}

/* Finds the packet in the outermost tunnel, if the walk has come to it; false where no more is to be known.
 */
static __always_inline bool look_inside(struct nested *walk)
{
	if (!walk->peels || !walk->kind)
		return true;
	if (!walk->decided && !walk->fragmented && is_packet(walk)) {
		walk->inner = walk->offset;
		walk->inner_what = walk->what;
	}
	walk->decided = true;
	return walk->gso_size;
}

/* Walks to the innermost transport header that is known. */
static __always_inline void pass_headers(struct nested *walk)
{
	bool in_ipv4;

#pragma unroll
	for (int i = 0; i < MOST_PACKETS; i++) {
		join_walks(walk);
		if (!pass_link_layer(walk, i == 0))
			return;
		join_walks(walk);
		if (!look_inside(walk))
			return;
		join_walks(walk);
		in_ipv4 = walk->what == ETHERTYPE_IPV4;
		if (!pass_network(walk) || !pass_transport(walk, in_ipv4))
			return;
	}
}

/* Makes `key` that of the packet inside, with what is kept of the frame's. */
static __always_inline void name_inner(struct flow_key *key, const struct nested *walk)
{
	__u16 version = walk->inner_what == ETHERTYPE_IPV4 ? 4 : 6;

	key->flags |= FLOW_INNER;
	key->vlan_id |= walk->vlan_id | walk->kind << TUNNEL_SHIFT;
	key->ethertype = version << VERSION_SHIFT | walk->tag;
	if (has_number(walk->kind)) {
		key->flags &= ~FLOW_HAS_SRC_QPN;
		key->src_qpn = walk->number;
	}
}

/* parse_packet(), or what the walk has found in the packet. */
static __always_inline __u8 parse_frame(struct cursor *cursor, struct flow_key *key, bool tagged,
					const struct nested *walk)
{
	__u8 tcp_flags;

	if (!peels_tunnels)
		return parse_packet(cursor, key, link_layer, tagged);
	if (walk->inner) {
		cursor->offset = walk->inner;
		key->ethertype = walk->inner_what;
	} else if (!parse_link_layer(cursor, key, link_layer, tagged)) {
		return 0;
	}
	if (!join_paths(cursor))
		return 0;
	tcp_flags = parse_network(cursor, key);
	if (walk->inner)
		name_inner(key, walk);
	else
		set_second_tag(key, cursor->inner_tag);
	return tcp_flags;
}
