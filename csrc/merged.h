/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long the headers are that each packet of a merged one (GSO, GRO) has on the wire: all of them down to
 * the innermost TCP, UDP or SCTP, through tunnels. Merged packets are few and large, so each header is
 * copied from the socket buffer by itself, wherever it lies; every parser copies its header and moves on.
 *
 * What a UDP datagram carries, and what stands behind an MPLS label, is named by a port or a nibble only.
 * There a packet is believed if its own length reaches to the end of the merged packet: the kernel has
 * made it so, while of a sender's own datagrams (UDP_SEGMENT) each has a packet of its own in it.
 */
#pragma once

#include <linux/types.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "parse.h"

#define ETHERTYPE_ETHERNET 0x6558 /* of GRE and Geneve: an Ethernet frame */
#define ETHERTYPE_MPLS 0x8847
#define ETHERTYPE_MPLS_MULTICAST 0x8848
#define ETHERTYPE_PPPOE 0x8864

#define PROTOCOL_IPIP 4
#define PROTOCOL_IPV6 41
#define PROTOCOL_GRE 47
#define PROTOCOL_MPLS 137

#define GTP_PORT 2152
#define VXLAN_PORT 4789
#define VXLAN_LINUX_PORT 8472 /* what Linux takes where none is given */
#define GENEVE_PORT 6081

/* What stands where the walk is: behind an IP header its protocol, else an ethertype, or one of these. */
#define IS_IP 0x10000 /* IPv4 or IPv6 by its first bits */
#define IS_GTP_EXTENSION 0x10001

#define MOST_PACKETS 3 /* in one another */
#define MOST_TAGS 4
#define MOST_LABELS 4
#define JUMBO_OPTION 0xc204 /* RFC 2675: type and length, first in a hop-by-hop header of 8 bytes */
#define MPLS_BOTTOM 0x01    /* of an MPLS label's third byte */
#define PPP_IPV4 0x0021
#define PPP_IPV6 0x0057
#define GRE_VERSION_MASK 0x0007
#define GRE_ROUTING 0x4000
#define GRE_CHECKSUM 0x8000
#define GRE_KEY 0x2000
#define GRE_SEQUENCE 0x1000
#define GRE_OPTION_LENGTH 4 /* of each: checksum, key, sequence number */
#define VXLAN_HAS_VNI 0x08
#define GENEVE_VERSION_SHIFT 6
#define GENEVE_OPTIONS_MASK 0x3f
#define GTP_VERSION_MASK 0xf0 /* with the bit that says that it is no GTP' */
#define GTP_VERSION_1 0x30
#define GTP_OPTIONS_MASK 0x07 /* extension, sequence number, N-PDU number: any of them is four more bytes */
#define GTP_EXTENSION 0x04
#define GTP_DATA 0xff /* message type of a packet in the tunnel */
#define GTP_OPTIONS_LENGTH 4

struct mpls_label {
	__u8 label[3]; /* 20 bits, traffic class, bottom of stack */
	__u8 ttl;
};

struct pppoe_header {
	__u8 version_type;
	__u8 code;
	__be16 session;
	__be16 length;
	__be16 protocol; /* PPP's */
};

struct gre_header {
	__be16 flags;
	__be16 ethertype;
};

struct vxlan_header {
	__u8 flags;
	__u8 reserved[3];
	__u8 vni[3];
	__u8 reserved_2;
};

struct geneve_header {
	__u8 version_options; /* length of the options in 4 bytes */
	__u8 flags;
	__be16 ethertype;
	__u8 vni[3];
	__u8 reserved;
};

struct gtp_header {
	__u8 flags;
	__u8 type;
	__be16 length;
	__u8 tunnel[4];
	__u8 options[3]; /* sequence number, N-PDU number; if any */
	__u8 next;	 /* type of the first extension */
};

struct merged {
	const struct __sk_buff *skb;
	__u64 unknown; /* a number of which the verifier knows nothing */
	__u64 offset;
	__u64 headers; /* what each packet has, down to the last TCP, UDP or SCTP header so far; 0: none */
	__u64 extra;   /* what only the merged packet has */
	__u64 what;    /* stands at offset */
	__u64 doubted; /* whether it is a packet is to be seen from its length */
};

#define COPY_HEADER(walk, header)                                                                            \
	(!bpf_skb_load_bytes((walk)->skb, (walk)->offset, header, sizeof(*(header))))

static __always_inline bool pass_ethernet(struct merged *walk)
{
	struct ethernet_header ethernet;

	if (!COPY_HEADER(walk, &ethernet))
		return false;
	walk->offset += sizeof(ethernet);
	walk->what = be16(ethernet.ethertype);
	return true;
}

static __always_inline bool pass_vlan(struct merged *walk)
{
	struct vlan_header vlan;

	if (!COPY_HEADER(walk, &vlan))
		return false;
	walk->offset += sizeof(vlan);
	walk->what = be16(vlan.ethertype);
	return true;
}

static __always_inline bool pass_mpls(struct merged *walk)
{
	struct mpls_label label;

	if (!COPY_HEADER(walk, &label))
		return false;
	walk->offset += sizeof(label);
	if (label.label[2] & MPLS_BOTTOM)
		walk->what = IS_IP;
	return true;
}

static __always_inline bool pass_pppoe(struct merged *walk)
{
	struct pppoe_header pppoe;

	if (!COPY_HEADER(walk, &pppoe))
		return false;
	walk->offset += sizeof(pppoe);
	walk->what = be16(pppoe.protocol) == PPP_IPV4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6;
	return be16(pppoe.protocol) == PPP_IPV4 || be16(pppoe.protocol) == PPP_IPV6;
}

static __always_inline bool pass_version(struct merged *walk)
{
	__u8 first;

	if (!COPY_HEADER(walk, &first))
		return false;
	walk->what = first >> 4 == 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6;
	walk->doubted = true;
	return true;
}

/* Whether a packet of `length` bytes, which its header says in `field`, ends with the merged one. */
static __always_inline bool reaches_the_end(const struct merged *walk, __u16 field, __u64 length)
{
	__u64 rest = walk->skb->len - walk->offset;

	return rest > LONGEST_IP_PACKET ? !field : rest == length;
}

static __always_inline bool pass_ipv4(struct merged *walk)
{
	struct ipv4_header ip;
	__u64 length;

	if (!COPY_HEADER(walk, &ip) || ip.version_ihl >> 4 != 4 || be16(ip.fragment) & IPV4_OFFSET_MASK)
		return false;
	length = (ip.version_ihl & 0x0f) * 4;
	if (length < sizeof(ip))
		return false;
	if (walk->doubted && !reaches_the_end(walk, be16(ip.total_length), be16(ip.total_length)))
		return false;
	walk->offset += length;
	walk->what = ip.protocol;
	return true;
}

static __always_inline bool pass_ipv6(struct merged *walk)
{
	struct ipv6_header ip;
	__u16 payload;

	if (!COPY_HEADER(walk, &ip) || ip.version_class[0] >> 4 != 6)
		return false;
	payload = be16(ip.payload_length);
	if (walk->doubted && !reaches_the_end(walk, payload, sizeof(ip) + payload))
		return false;
	walk->offset += sizeof(ip);
	walk->what = ip.next_header;
	return true;
}

static __always_inline bool pass_extension(struct merged *walk)
{
	struct extension extension;
	__u32 protocol = walk->what;

	if (!COPY_HEADER(walk, &extension))
		return false;
	walk->what = extension.next_header;
	walk->offset += sizeof(extension);
	if (protocol == PROTOCOL_FRAGMENT)
		return !(be16(extension.fragment) & IPV6_OFFSET_MASK);
	walk->offset += extension.length * (protocol == PROTOCOL_AH ? 4 : 8);
	/* the kernel's own, of a length that IPv6's field cannot hold: the packets that it is cut into lack
	 * it */
	if (protocol == PROTOCOL_HOP_BY_HOP && !extension.length && be16(extension.fragment) == JUMBO_OPTION)
		walk->extra += sizeof(extension);
	return true;
}

static __always_inline bool pass_gre(struct merged *walk)
{
	struct gre_header gre;
	__u16 flags;

	if (!COPY_HEADER(walk, &gre))
		return false;
	flags = be16(gre.flags);
	walk->offset += sizeof(gre);
	walk->offset += flags & GRE_CHECKSUM ? GRE_OPTION_LENGTH : 0;
	walk->offset += flags & GRE_KEY ? GRE_OPTION_LENGTH : 0;
	walk->offset += flags & GRE_SEQUENCE ? GRE_OPTION_LENGTH : 0;
	walk->what = be16(gre.ethertype);
	return !(flags & (GRE_ROUTING | GRE_VERSION_MASK));
}

static __always_inline bool pass_vxlan(struct merged *walk)
{
	struct vxlan_header vxlan;

	if (!COPY_HEADER(walk, &vxlan))
		return false;
	walk->offset += sizeof(vxlan);
	walk->what = ETHERTYPE_ETHERNET;
	return vxlan.flags & VXLAN_HAS_VNI;
}

static __always_inline bool pass_geneve(struct merged *walk)
{
	struct geneve_header geneve;

	if (!COPY_HEADER(walk, &geneve))
		return false;
	walk->offset += sizeof(geneve) + (geneve.version_options & GENEVE_OPTIONS_MASK) * 4;
	walk->what = be16(geneve.ethertype);
	return !(geneve.version_options >> GENEVE_VERSION_SHIFT);
}

static __always_inline bool pass_gtp(struct merged *walk)
{
	struct gtp_header gtp;

	if (!COPY_HEADER(walk, &gtp))
		return false;
	walk->offset += sizeof(gtp) - GTP_OPTIONS_LENGTH;
	walk->what = IS_IP;
	if (gtp.flags & GTP_OPTIONS_MASK)
		walk->offset += GTP_OPTIONS_LENGTH;
	if (gtp.flags & GTP_EXTENSION && gtp.next)
		walk->what = IS_GTP_EXTENSION;
	return (gtp.flags & GTP_VERSION_MASK) == GTP_VERSION_1 && gtp.type == GTP_DATA;
}

/* Its length in 4 bytes comes first, the type of the next one last. One is walked, as 5G has it. */
static __always_inline bool pass_gtp_extension(struct merged *walk)
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

static __always_inline bool pass_udp(struct merged *walk)
{
	struct udp_header udp;

	if (!COPY_HEADER(walk, &udp))
		return false;
	walk->offset += sizeof(udp);
	walk->headers = walk->offset - walk->extra;
	walk->doubted = true;
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
static __always_inline bool pass_tcp(struct merged *walk)
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
static __always_inline void join_walks(struct merged *walk)
{
	walk->offset = forget(walk->unknown, walk->offset);
	walk->headers = forget(walk->unknown, walk->headers);
	walk->extra = forget(walk->unknown, walk->extra);
	walk->what = forget(walk->unknown, walk->what);
	walk->doubted = forget(walk->unknown, walk->doubted);
}

/* Passes what may stand before an IP header; false where the walk ends. */
static __always_inline bool pass_link_layer(struct merged *walk)
{
	if (walk->what == ETHERTYPE_ETHERNET && !pass_ethernet(walk))
		return false;
#pragma unroll
	for (int i = 0; i < MOST_TAGS; i++) {
		join_walks(walk);
		if ((walk->what == ETHERTYPE_8021Q || walk->what == ETHERTYPE_8021AD) && !pass_vlan(walk))
			return false;
	}
	join_walks(walk);
	if (walk->what == ETHERTYPE_PPPOE && !pass_pppoe(walk))
		return false;
#pragma unroll
	for (int i = 0; i < MOST_LABELS; i++) {
		join_walks(walk);
		if ((walk->what == ETHERTYPE_MPLS || walk->what == ETHERTYPE_MPLS_MULTICAST) &&
		    !pass_mpls(walk))
			return false;
	}
	join_walks(walk);
	if (walk->what == IS_GTP_EXTENSION && !pass_gtp_extension(walk))
		return false;
	join_walks(walk);
	return walk->what != IS_IP || pass_version(walk);
}

/* Passes an IP header and the extension headers behind it; false where the walk ends. */
static __always_inline bool pass_network(struct merged *walk)
{
	if (walk->what == ETHERTYPE_IPV4) {
		if (!pass_ipv4(walk))
			return false;
	} else if (walk->what != ETHERTYPE_IPV6 || !pass_ipv6(walk)) {
		return false;
	}
#pragma unroll
	for (int i = 0; i < EXTENSION_HEADERS; i++) {
		join_walks(walk);
		if (is_extension(walk->what) && !pass_extension(walk))
			return false;
	}
	join_walks(walk);
	return true;
}

/* Passes a transport header, and a tunnel's; false where no packet follows it. */
static __always_inline bool pass_transport(struct merged *walk)
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
		walk->what = ETHERTYPE_IPV4;
		return true;
	case PROTOCOL_IPV6:
		walk->what = ETHERTYPE_IPV6;
		return true;
	case PROTOCOL_MPLS:
		walk->what = ETHERTYPE_MPLS;
		return true;
	}
	return false;
}

/* Walks to the innermost transport header that is known. */
static __always_inline void pass_headers(struct merged *walk)
{
#pragma unroll
	for (int i = 0; i < MOST_PACKETS; i++) {
		join_walks(walk);
		if (!pass_link_layer(walk))
			return;
		join_walks(walk);
		if (!pass_network(walk) || !pass_transport(walk))
			return;
	}
}
