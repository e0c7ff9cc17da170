/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the programs at tc and XDP have to know of a frame before they walk through it, and room for a copy of
 * it. */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "flow.h"
#include "parse.h"
#include "switches.h"

#define FARTHEST_NETWORK_HEADER 128 /* bytes into a frame without a link layer; a power of two */
#define PACKET_LOOPBACK 5	    /* linux/if_packet.h: what this host sent to many, for itself */

/* Room for the copy of a frame's beginning, where its headers are not in the linear data. */
struct frame_copy {
	__u8 bytes[LONG_COPY_SIZE];
};

struct {
	MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct frame_copy);
	MAP_UINT(max_entries, 1);
} frame_copies SEC(".maps");

/* Makes the verifier forget what it knows of a key: it would follow every way through the parser on through
 * all that follows.
 */
static __always_inline void forget_key(struct flow_key *key, __u64 unknown)
{
	__u64 *words = (__u64 *)key;

#pragma unroll
	for (int i = 0; i < (int)(sizeof(*key) / sizeof(*words)); i++)
		words[i] = forget(unknown, words[i]);
}

/* Whether the network header stands `distance` bytes into the frame, or further: -1, else 0. */
static __always_inline __s64 is_beyond(const struct __sk_buff *skb, __u64 linear, __u64 distance)
{
	__s64 offset = linear - distance, error;
	__u8 byte;

	/* the linear data end at the same byte, from wherever it is counted */
	error = bpf_skb_load_bytes_relative(skb, offset, &byte, sizeof(byte), BPF_HDR_START_NET);
	return (error & ~offset) >> 63;
}

/*
 * Whether it never was on the wire: of what this host sends to a group that it is in, or to all, the kernel
 * hands itself a copy at tc ingress of the same interface, which begins with the IP header
 * (dev_loopback_xmit()). Interfaces and packet sockets do not count it either. Read as Ethernet, its
 * addresses may make it a plain frame. What a host sends to itself through a VRF is marked alike, has its
 * Ethernet header and is counted by the interface (vrf_local_xmit()).
 */
static __always_inline bool is_own_copy(const struct __sk_buff *skb)
{
	return unlikely(skb->pkt_type == PACKET_LOOPBACK) && !is_egress &&
	       !is_beyond(skb, skb->data_end - skb->data, 1);
}

/*
 * How many bytes of the frame stand before the network header, MAX_OFFSET + 1 where that is not to be found
 * out. Most interfaces without a link layer have none there; xfrm has the Ethernet header of the packet it
 * was in, and GRE without a remote end the headers that it will put before. The kernel knows and gives no
 * number, so the place is found by halving.
 */
static __always_inline __u64 network_offset(const struct __sk_buff *skb, __u64 linear)
{
	__u64 distance = 0;

	if (!linear || !is_beyond(skb, linear, 0))
		return MAX_OFFSET + 1;
	if (!is_beyond(skb, linear, 1))
		return 0;
#pragma unroll
	for (__u64 step = FARTHEST_NETWORK_HEADER / 2; step; step /= 2)
		distance += step & is_beyond(skb, linear, distance + step);
	return is_beyond(skb, linear, distance + 1) ? MAX_OFFSET + 1 : distance;
}

/* Puts the cursor to the network header of a frame without a link layer, and names its protocol. */
static __always_inline void enter_network(const struct __sk_buff *skb, struct cursor *cursor,
					  struct flow_key *key, __u64 offset)
{
	if (link_layer != LINK_LAYER_NONE)
		return;
	cursor->offset = offset;
	key->ethertype = be16(skb->protocol);
}

/* A packet of which nothing is known but where it was seen. */
static __always_inline struct flow_key new_key(__u16 vlan_id)
{
	return (struct flow_key){
	    .slot = interface_slot,
	    .flags = is_egress ? FLOW_EGRESS : 0,
	    .vlan_id = vlan_id,
	};
}

/* Bytes of the frame's beginning that are parsed where they are copied. */
static __always_inline __u64 copied_bytes(void)
{
	return peels_tunnels ? LONG_COPY_SIZE : COPY_SIZE;
}

/*
 * Room for a copy of the frame's beginning; `size` is how much of it there is. Linux 5.10 knows the bounds
 * of the very register that was compared only, and not that what is unequal to 0 is at least 1.
 */
static __always_inline struct frame_copy *room_for_copy(__u64 frame_length, __u64 *size)
{
	__u64 beyond_first = (frame_length < copied_bytes() ? frame_length : copied_bytes()) - 1;
	__u32 zero = 0;
	struct frame_copy *copy;

	/* one CPU's room is shared by its softirqs, which exclude each other, but not on PREEMPT_RT */
	copy = is_realtime ? 0 : bpf_map_lookup_elem(&frame_copies, &zero);
	PIN(beyond_first);
	if (beyond_first > LONG_COPY_SIZE - 1)
		return 0;
	PIN(beyond_first);
	*size = beyond_first + 1;
	return copy;
}

/* The VLAN id of a tag that is not in the frame any more; 0 without. */
static __always_inline __u16 removed_tag(const struct __sk_buff *skb)
{
	return skb->vlan_present ? skb->vlan_tci & VLAN_ID_MASK : 0;
}

/* Bytes of that tag. */
static __always_inline __u64 removed_length(const struct __sk_buff *skb)
{
	return skb->vlan_present ? sizeof(struct vlan_header) : 0;
}
