/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Headers of tunnels as on the wire, and what they say.
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

/* What stands where a walk is: behind an IP header its protocol, else an ethertype, or one of these. */
#define IS_IP 0x10000 /* IPv4 or IPv6 by its first bits */
#define IS_GTP_EXTENSION 0x10001

#define MOST_LABELS 4
#define MPLS_BOTTOM 0x01 /* of an MPLS label's third byte */
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
	__be32 tunnel;
};

/* Behind a GTP header where its flags say so. */
struct gtp_options {
	__u8 numbers[3]; /* sequence number, N-PDU number; if any */
	__u8 next;	 /* type of the first extension */
};

static __always_inline __u32 be32(__be32 wire)
{
	return __builtin_bswap32(wire);
}

static __always_inline bool is_mpls(__u32 ethertype)
{
	return ethertype == ETHERTYPE_MPLS || ethertype == ETHERTYPE_MPLS_MULTICAST;
}

static __always_inline bool is_tag(__u32 ethertype)
{
	return ethertype == ETHERTYPE_8021Q || ethertype == ETHERTYPE_8021AD;
}

/* What a session's packet is; 0 for what is no IP. */
static __always_inline __u16 ethertype_of_ppp(__u16 protocol)
{
	if (protocol == PPP_IPV4)
		return ETHERTYPE_IPV4;
	return protocol == PPP_IPV6 ? ETHERTYPE_IPV6 : 0;
}

/* Whether a GRE header is of the version that is known, with options whose lengths are. */
static __always_inline bool is_known_gre(__u16 flags)
{
	return !(flags & (GRE_ROUTING | GRE_VERSION_MASK));
}

/* Bytes of an option that a GRE header has if this bit is set. */
static __always_inline __u64 gre_option(__u16 flags, __u16 bit)
{
	return flags & bit ? GRE_OPTION_LENGTH : 0;
}

static __always_inline bool is_known_geneve(const struct geneve_header *geneve)
{
	return !(geneve->version_options >> GENEVE_VERSION_SHIFT);
}

static __always_inline __u64 geneve_options(const struct geneve_header *geneve)
{
	return (geneve->version_options & GENEVE_OPTIONS_MASK) * 4;
}

/* Whether a packet of a tunnel's user follows. */
static __always_inline bool is_gtp_data(const struct gtp_header *gtp)
{
	return (gtp->flags & GTP_VERSION_MASK) == GTP_VERSION_1 && gtp->type == GTP_DATA;
}
