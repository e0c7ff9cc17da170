/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets that pass tc's ingress hook twice: as ESP or AH, and again once the kernel has decrypted or
 * authenticated them, when it hands them to the same interface (IPsec by policy). The second pass is not
 * counted. What is said of ESP here holds for AH.
 *
 * A decrypted packet carries its security path. That alone does not say that the hook saw its ESP packet: on
 * interfaces of kinds xfrm, vti and vrf it did not, nor where the NIC or GRO (esp4_offload) decrypts before
 * the hook. So ESP packets are counted by SPI where they pass, and as many decrypted ones of that SPI are
 * left out.
 */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "flow.h"
#include "parse.h"
#include "plain.h"
#include "switches.h"

#define PROTOCOL_ESP 50
#define AH_SPI_OFFSET 4		/* behind next header, length and reserved (RFC 4302) */
#define NAT_TRAVERSAL_PORT 4500 /* ESP in UDP; where the SPI would be, other messages have 0 (RFC 3948) */
#define MOST_SPIS 1024
#define DEEPEST_SECURITY_PATH 6 /* XFRM_MAX_DEPTH */
#define IHL_MASK 0x0f

struct association {
	__be32 spi;
	__u32 slot;
};

/* How many ESP packets have passed that were not seen decrypted yet; those that the kernel dropped stay. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_TYPE(key, struct association);
	MAP_TYPE(value, __s64);
	MAP_UINT(max_entries, MOST_SPIS);
} encrypted SEC(".maps");

/* Whether any has passed: without IPsec no packet is asked for its security path. */
SEC(".data.any_encrypted") volatile __u32 any_encrypted;

/* From the network header; 0, or an error. */
static __always_inline long load(const struct __sk_buff *skb, __u32 offset, void *to, __u32 size)
{
	return bpf_skb_load_bytes_relative(skb, offset, to, size, BPF_HDR_START_NET);
}

/* What most packets are not: ESP, AH, ESP in UDP, or a fragment of IPv6. Cheap, and only for Ethernet. */
static __always_inline bool may_be_encrypted(const struct __sk_buff *skb)
{
	/* the mask alone is what the verifier knows: it would follow what is proven here through all the
	 * parser */
	__u64 unknown = skb->len, offset = forget(unknown, sizeof(struct ethernet_header)) & 0x0f;
	struct ipv4_header *ipv4 = (void *)(long)skb->data + offset;
	struct ipv6_header *ipv6 = (void *)ipv4;
	struct udp_header *behind_ipv4 = (void *)(ipv4 + 1), *behind_ipv6 = (void *)(ipv6 + 1);
	__be16 port;
	__u8 next;

	if (link_layer != LINK_LAYER_ETHERNET)
		return true;
	if ((void *)(behind_ipv6 + 1) > (void *)(long)skb->data_end)
		return false;
	switch (be16(skb->protocol)) {
	case ETHERTYPE_IPV4:
		next = ipv4->protocol;
		port = behind_ipv4->ports.dst_port;
		break;
	case ETHERTYPE_IPV6:
		next = ipv6->next_header;
		port = behind_ipv6->ports.dst_port;
		break;
	default:
		return false;
	}
	return unlikely(next == PROTOCOL_ESP || next == PROTOCOL_AH || next == PROTOCOL_FRAGMENT) ||
	       (next == PROTOCOL_UDP && unlikely(be16(port) == NAT_TRAVERSAL_PORT));
}

/* The SPI of an ESP or AH packet; 0 of all others, and of fragments that do not have it. */
static __always_inline __be32 spi_of(const struct __sk_buff *skb)
{
	struct ipv6_header ip;
	struct ipv4_header *ipv4 = (void *)&ip;
	struct extension fragment;
	struct udp_header udp;
	__u32 offset;
	__be32 spi = 0;
	__u8 next;

	if (load(skb, 0, ipv4, sizeof(*ipv4)))
		return 0;
	if (ipv4->version_ihl >> 4 == 4) {
		if (be16(ipv4->fragment) & IPV4_OFFSET_MASK)
			return 0;
		next = ipv4->protocol;
		offset = (ipv4->version_ihl & IHL_MASK) * 4;
	} else {
		next = ip.next_header;
		offset = sizeof(ip);
	}
	if (next == PROTOCOL_FRAGMENT) {
		if (load(skb, offset, &fragment, sizeof(fragment)) ||
		    be16(fragment.fragment) & IPV6_OFFSET_MASK)
			return 0;
		next = fragment.next_header;
		offset += sizeof(fragment);
	}
	if (next == PROTOCOL_UDP) {
		if (load(skb, offset, &udp, sizeof(udp)) || be16(udp.ports.dst_port) != NAT_TRAVERSAL_PORT)
			return 0;
		next = PROTOCOL_ESP;
		offset += sizeof(udp);
	}
	if (next == PROTOCOL_AH)
		offset += AH_SPI_OFFSET;
	else if (next != PROTOCOL_ESP)
		return 0;
	return load(skb, offset, &spi, sizeof(spi)) ? 0 : spi;
}

/* An ESP or AH packet of this SPI passes. */
static __always_inline void expect_decrypted(__be32 spi)
{
	struct association association = {.spi = spi, .slot = interface_slot};
	__s64 *packets = bpf_map_lookup_elem(&encrypted, &association), first = 1;

	if (packets) {
		__sync_fetch_and_add(packets, 1);
		return;
	}
	/* where another CPU is faster, one decrypted packet is counted a second time */
	bpf_map_update_elem(&encrypted, &association, &first, BPF_NOEXIST);
	any_encrypted = 1;
}

/* Whether decrypted packets of this SPI are still to come; then some have. */
static __always_inline bool were_expected(__be32 spi, __s64 number)
{
	struct association association = {.spi = spi, .slot = interface_slot};
	__s64 *packets = bpf_map_lookup_elem(&encrypted, &association);

	if (!packets || *packets <= 0)
		return false;
	__sync_fetch_and_add(packets, -number);
	return true;
}

/* Whether is_second_pass() has to look at a plain frame: it may be ESP in UDP, or was decrypted. */
static __always_inline bool may_be_second_pass(const struct plain *plain)
{
	if (!knows_ipsec || is_egress)
		return false;
	return unlikely(any_encrypted || is_to_port(plain, PROTOCOL_UDP, NAT_TRAVERSAL_PORT));
}

/* Whether the packet has passed this hook before, encrypted. */
static __always_inline bool is_second_pass(struct __sk_buff *skb)
{
	struct bpf_xfrm_state state;
	__be32 own = 0, last = 0, before = 0;
	__s64 number;

	if (!knows_ipsec || is_egress)
		return false;
	if (may_be_encrypted(skb)) {
		own = spi_of(skb);
		if (own)
			expect_decrypted(own);
	}
	if (likely(!any_encrypted))
		return false;
	for (int index = 0; index < DEEPEST_SECURITY_PATH; index++) {
		if (bpf_skb_get_xfrm_state(skb, index, &state, sizeof(state), 0))
			break;
		before = last;
		last = state.spi;
	}
	/* a NIC that decrypts may leave the headers of ESP */
	if (!last || last == own)
		return false;
	number = skb->gso_segs ? skb->gso_segs : 1;
	/* the last may be what was in the packet before it: IPComp in ESP, or ESP in AH */
	return were_expected(last, number) || (before && were_expected(before, number));
}
