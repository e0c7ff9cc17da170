// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The packet programs: parse every frame of one interface and count it, exactly once (count.h). They never
 * change a frame and pass every one on.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "buffers.h"
#include "count.h"
#include "decrypted.h"
#include "flow.h"
#include "frame.h"
#include "nested.h"
#include "owner_ask.h"
#include "owner_beside.h"
#include "parse.h"
#include "plain.h"
#include "switches.h"

/* Keeps the compiler from taking a struct apart into registers that then are spilled one by one. */
#define IN_MEMORY(variable) asm volatile("" : : "r"(&(variable)) : "memory")

/* Makes the verifier forget what it knows of a packet. */
static __always_inline void forget_packet(struct flow_entry *packet, __u64 unknown)
{
	forget_key(&packet->key, unknown);
	packet->counters.tcp_flags = forget(unknown, packet->counters.tcp_flags);
	packet->counters.ecn_ce = forget(unknown, packet->counters.ecn_ce);
}

/*
 * What the counters of one packet have in common at every hook; packets and bytes are the caller's to set
 * before. The verifier makes bpf_jiffies64() one load, where bpf_ktime_get_ns() costs more than all the rest.
 */
static __always_inline void describe(struct flow_counters *packet, __u8 traffic_class, __u8 tcp_flags)
{
	/* in one store: the table reads it whole */
	packet->ecn_ce = ((traffic_class & ECN_MASK) == ECN_CE ? packet->packets : 0) |
			 (__u64)(traffic_class >> DSCP_SHIFT) << ECN_DSCP_SHIFT;
	packet->tcp_flags = pack_flags(tcp_flags);
	packet->first = bpf_jiffies64();
	packet->last = packet->first;
}

/* The DSCP of a packet differs from that of its flow's last one, or it reports congestion. */
static __always_inline void note_class(struct flow_counters *flow, __u8 class, __u64 packets)
{
	const struct flow_counters seen = {.dscp = class >> DSCP_SHIFT};

	note_dscp(flow, &seen);
	if ((class & ECN_MASK) == ECN_CE)
		flow->ecn_ce += packets;
}

/* Counts a plain packet where this CPU alone counts its flow. */
static __always_inline void add_plain(struct flow_counters *flow, const struct plain *plain, bool is_ipv6,
				      struct packet_count count)
{
	__u32 class = plain_class(plain, is_ipv6);

	flow->packets += count.packets;
	flow->bytes += count.bytes;
	if (is_tcp(plain))
		flow->tcp_flags |= pack_flags(plain_flags(plain, is_ipv6));
	flow->last = bpf_jiffies64();
	/* less only without congestion, and of the same DSCP */
	if (unlikely((class ^ flow->dscp << DSCP_SHIFT) >= ECN_CE))
		note_class(flow, class, count.packets);
}

/* Whether a recent flow is a plain frame's. */
static __always_inline bool is_flow_of(const struct recent_flow *recent, const struct plain *plain,
				       bool is_ipv6)
{
	if (recent->plain_rest != plain_rest(plain))
		return false;
	return is_ipv6 ? has_addresses(&recent->key, plain)
		       : recent->plain_addresses == plain_addresses(plain);
}

/* Counts a plain packet whose flow this CPU has for itself, in the table or, at `recent`, among the recent
 * ones.
 */
static __always_inline bool count_own_plain(const struct plain *plain, bool is_ipv6,
					    struct packet_count count, const struct flow_place *place,
					    struct recent_flow **recent)
{
	struct flow_counters *own = is_ipv6 ? 0 : find_own(place, plain);

	if (likely(own)) {
		add_plain(own, plain, is_ipv6, count);
		return true;
	}
	*recent = recent_place(place->hash, place->buffer);
	if (!*recent || !is_flow_of(*recent, plain, is_ipv6))
		return false;
	add_plain(&(*recent)->counters, plain, is_ipv6, count);
	(*recent)->challenger = 0;
	return true;
}

/*
 * Counts a plain packet: most belong to a flow that this CPU has for itself, which takes no key. For the
 * table, the rest is described in `packet`. Returns whether it is counted. Whether it is of IPv6 is a
 * constant wherever this is inlined.
 */
static __always_inline bool count_plain_ip(const struct plain *plain, bool is_ipv6, struct packet_count count,
					   struct flow_entry *packet, struct flow_place *place, __u64 unknown)
{
	struct recent_flow *recent;

	find_buffer(place, hash_plain(plain, is_ipv6));
	if (likely(count_own_plain(plain, is_ipv6, count, place, &recent))) {
		count_total(count, place->buffer);
		return true;
	}
	place->plain_addresses = is_ipv6 ? 0 : plain_addresses(plain);
	place->plain_rest = plain_rest(plain);
	IN_MEMORY(*packet);
	*(struct key_words *)&packet->key = plain_key(plain, is_ipv6);
	packet->counters.packets = forget(unknown, count.packets);
	packet->counters.bytes = forget(unknown, count.bytes);
	describe(&packet->counters, plain_class(plain, is_ipv6), plain_flags(plain, is_ipv6));
	if (count_first_plain(recent, packet, place)) {
		count_total(count, place->buffer);
		return true;
	}
	forget_packet(packet, unknown);
	place->plain_addresses = forget(unknown, place->plain_addresses);
	place->plain_rest = forget(unknown, place->plain_rest);
	return false;
}

static __always_inline bool count_plain(const struct plain *plain, struct packet_count count,
					struct flow_entry *packet, struct flow_place *place, __u64 unknown)
{
	if (plain->is_ipv6)
		return count_plain_ip(plain, true, count, packet, place, unknown);
	return count_plain_ip(plain, false, count, packet, place, unknown);
}

/* The same of a packet that is parsed. */
static __always_inline bool count_parsed(struct flow_entry *packet, __u32 datagram, struct flow_place *place,
					 __u64 unknown)
{
	enum verdict verdict;

	forget_packet(packet, unknown);
	verdict = judge(packet, forget(unknown, datagram));
	if (verdict != VERDICT_WANTED) {
		count_filtered(counted(packet), verdict, active & 1);
		return true;
	}
	if (!count_recent(&packet->key, &packet->counters, place))
		return false;
	count_total(counted(packet), place->buffer);
	return true;
}

/* Counts a packet whose flow is not among the recent ones; returns its entry if the owner is to be asked for.
 */
static __always_inline __u32 count_packet(const struct flow_entry *packet, const struct flow_place *place)
{
	__u32 to_ask;

	if (likely(count_in_table(packet, place, &to_ask)))
		count_total(counted(packet), place->buffer);
	else
		count_unattributed(packet, place->buffer);
	return to_ask;
}

/* Bytes at the front of a frame that are not on the wire; `before` stand before its network header. */
static __always_inline __u64 hidden_bytes(__u64 before, __u64 length)
{
	if (link_layer == LINK_LAYER_IPOIB)
		return length < IPOIB_PSEUDO_LENGTH ? length : IPOIB_PSEUDO_LENGTH;
	return link_layer == LINK_LAYER_NONE && before <= MAX_OFFSET ? before : 0;
}

/* The walk through a frame at XDP, where it is only to find the packet in a tunnel. */
static __always_inline struct nested look_in_xdp(struct xdp_md *ctx, __u64 length, __u64 unknown)
{
	struct nested walk = {.xdp = ctx, .length = length, .unknown = unknown};
	struct ipoib_header ipoib;
	__u8 first;

	if (!peels_tunnels || link_layer == LINK_LAYER_NONE)
		return walk;
	walk.peels = true;
	walk.end = length;
	walk.what = ETHERTYPE_ETHERNET;
	if (link_layer == LINK_LAYER_IPOIB) {
		walk.what = COPY_HEADER(&walk, &ipoib) ? be16(ipoib.ethertype) : 0;
		walk.offset = sizeof(ipoib);
	}
	if (link_layer == LINK_LAYER_IP)
		walk.what = COPY_HEADER(&walk, &first) && first >> 4 == 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4;
	pass_headers(&walk);
	join_walks(&walk);
	return walk;
}

/* Parses a frame that may have fragments; counters but for packets and bytes are set, too. Returns the
 * datagram. */
static __always_inline __u32 parse_xdp(struct xdp_md *ctx, struct flow_entry *packet, __u64 length,
				       __u64 linear)
{
	struct cursor cursor = in_frame((void *)(long)ctx->data, (void *)(long)ctx->data_end, length);
	struct nested walk = look_in_xdp(ctx, length, linear);
	struct frame_copy *copy;
	__u8 tcp_flags;
	__u64 size;

	packet->key = new_key(0);
	tcp_flags = parse_frame(&cursor, &packet->key, false, &walk);
	if (has_frags && unlikely(cursor.truncated && linear < copied_bytes() && length > linear)) {
		copy = room_for_copy(length, &size);
		if (copy && !bpf_xdp_load_bytes(ctx, 0, copy->bytes, size)) {
			cursor = in_copy(copy->bytes, size, length, linear);
			packet->key = new_key(0);
			tcp_flags = parse_frame(&cursor, &packet->key, false, &walk);
		}
	}
	describe(&packet->counters, cursor.traffic_class, tcp_flags);
	return cursor.datagram;
}

/*
 * The length of a frame. Where the kernel shows whether it has fragments at all, most frames are spared the
 * helper's call, which costs as much as half of all the rest.
 */
static __always_inline __u64 frame_length(struct xdp_md *ctx, __u64 linear)
{
	const __u32 flags = frame_flags;
	const char *frame;

	if (flags) {
		frame = bpf_cast_to_kern_ctx(ctx);
		if (likely(!(*(const __u32 *)(frame + flags) & frags_flag)))
			return linear;
	}
	return has_frags ? bpf_xdp_get_buff_len(ctx) : linear;
}

SEC("xdp/ingress")
int xdp_ingress(struct xdp_md *ctx)
{
	void *start = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u64 linear = end - start;
	struct packet_count count = {1, frame_length(ctx, linear)};
	struct flow_entry packet;
	struct flow_place place;
	struct plain plain;
	__u32 datagram;

	if (read_plain(&plain, start, end, false, 0)) {
		if (count_plain(&plain, count, &packet, &place, linear))
			return XDP_PASS;
	} else {
		IN_MEMORY(packet);
		count.bytes = forget(linear, count.bytes); /* whether there are fragments */
		packet.counters.packets = count.packets;
		packet.counters.bytes = count.bytes - hidden_bytes(0, count.bytes);
		datagram = parse_xdp(ctx, &packet, count.bytes, linear);
		if (count_parsed(&packet, datagram, &place, linear))
			return XDP_PASS;
	}
	count_packet(&packet, &place);
	return XDP_PASS;
}

/*
 * The walk through a merged packet (GSO, GRO), and with --tunnel inner through any other. `before` bytes
 * stand before the network header, where there is no link layer.
 */
static __always_inline struct nested look_in_skb(struct __sk_buff *skb, __u64 before, __u64 unknown)
{
	struct nested walk = {.skb = skb, .length = skb->len, .unknown = unknown, .offset = before};

	walk.what = be16(skb->protocol);
	if (link_layer == LINK_LAYER_IPOIB)
		walk.offset = sizeof(struct ipoib_header);
	if (link_layer == LINK_LAYER_ETHERNET)
		walk.what = ETHERTYPE_ETHERNET;
	if (peels_tunnels) {
		walk.peels = true;
		walk.gso_size = skb->gso_size;
		walk.tagged = skb->vlan_present;
		walk.end = skb->len;
		pass_headers(&walk);
		join_walks(&walk);
		return walk;
	}
	if (unlikely(skb->gso_size))
		pass_headers(&walk);
	walk.headers = forget(unknown, walk.headers);
	walk.extra = forget(unknown, walk.extra);
	return walk;
}

/*
 * What the frame is on the wire: a merged one as its segments, each with the headers, and a tag that the NIC
 * adds or has taken off in every one of them. `extra` bytes only the merged one has.
 */
static __always_inline void count_segments(const struct __sk_buff *skb, __u64 headers, __u64 extra,
					   __u64 hidden, struct packet_count *count)
{
	__u64 length = skb->len - extra, segments = 1;

	if (skb->gso_size && length > headers) {
		/* ordinary merged frames that came from a driver do not say their number */
		segments =
		    skb->gso_segs ? skb->gso_segs : (length - headers + skb->gso_size - 1) / skb->gso_size;
	}
	count->packets = segments;
	count->bytes = length + (segments - 1) * headers + segments * removed_length(skb) - segments * hidden;
}

/*
 * The same of a plain frame; false if a walk has to find the headers of a merged one: UDP may carry a tunnel.
 */
static __always_inline bool count_plain_segments(const struct __sk_buff *skb, const struct plain *plain,
						 struct packet_count *count)
{
	const union plain_transport *transport = plain_transport(plain, plain->is_ipv6);
	__u64 headers = (transport->tcp.data_offset >> 4) * 4;

	if (likely(!skb->gso_size)) {
		*count = (struct packet_count){1, skb->len + removed_length(skb)};
		return true;
	}
	if (!is_tcp(plain) || headers < TCP_LEAST_LENGTH)
		return false;
	count_segments(skb, headers + ((const void *)transport - (const void *)(long)skb->data), 0, 0, count);
	return true;
}

/* Parses a frame; `before` bytes stand before its network header, where there is no link layer. */
static __always_inline __u32 parse_tc(const struct __sk_buff *skb, struct flow_entry *packet, __u64 before,
				      const struct nested *walk, __u64 unknown)
{
	struct cursor cursor = in_frame((void *)(long)skb->data, (void *)(long)skb->data_end, skb->len);
	__u64 linear = skb->data_end - skb->data;
	bool tagged = skb->vlan_present;
	struct frame_copy *copy;
	__u8 tcp_flags;
	__u64 size;

	cursor.unknown = unknown;
	packet->key = new_key(removed_tag(skb));
	enter_network(skb, &cursor, &packet->key, before);
	tcp_flags = parse_frame(&cursor, &packet->key, tagged, walk);
	if (unlikely(cursor.truncated && linear < copied_bytes() && skb->len > linear)) {
		copy = room_for_copy(skb->len, &size);
		if (copy && !bpf_skb_load_bytes(skb, 0, copy->bytes, size)) {
			cursor = in_copy(copy->bytes, size, skb->len, unknown);
			packet->key = new_key(removed_tag(skb));
			enter_network(skb, &cursor, &packet->key, before);
			tcp_flags = parse_frame(&cursor, &packet->key, tagged, walk);
		}
	}
	describe(&packet->counters, cursor.traffic_class, tcp_flags);
	return cursor.datagram;
}

/* Parses a frame that is not plain, and counts it unless that is left to count_packet(). */
static __always_inline bool count_other_skb(struct __sk_buff *skb, struct flow_entry *packet,
					    struct flow_place *place, __u64 unknown)
{
	__u64 linear = skb->data_end - skb->data;
	__u64 before = link_layer == LINK_LAYER_NONE ? forget(unknown, network_offset(skb, linear)) : 0;
	struct nested walk = look_in_skb(skb, before, unknown);
	__u64 hidden = hidden_bytes(before, skb->len);
	struct packet_count count;
	__u32 datagram;

	count_segments(skb, walk.headers > hidden ? walk.headers : hidden, walk.extra, hidden, &count);
	IN_MEMORY(*packet);
	packet->counters.packets = count.packets;
	packet->counters.bytes = count.bytes;
	datagram = parse_tc(skb, packet, before, &walk, unknown);
	return count_parsed(packet, datagram, place, unknown);
}

SEC("tc")
int tc_packet(struct __sk_buff *skb)
{
	struct packet_count count;
	struct flow_entry packet;
	struct flow_place place;
	struct plain plain;
	__u64 unknown;
	__u32 to_ask;

	if (is_own_copy(skb))
		return TC_ACT_UNSPEC; /* TCX_NEXT */
	/* of the length of the linear data the verifier knows something once the network header was looked
	 * for */
	unknown = link_layer == LINK_LAYER_NONE ? bpf_jiffies64() : skb->data_end - skb->data;
	if (read_plain(&plain, (void *)(long)skb->data, (void *)(long)skb->data_end, skb->vlan_present,
		       removed_tag(skb)) &&
	    !may_be_second_pass(&plain) && count_plain_segments(skb, &plain, &count)) {
		if (count_plain(&plain, count, &packet, &place, unknown))
			return TC_ACT_UNSPEC;
	} else if (is_second_pass(skb) || count_other_skb(skb, &packet, &place, unknown)) {
		return TC_ACT_UNSPEC;
	}
	to_ask = count_packet(&packet, &place);
	if (names_owners && to_ask)
		ask_for_owner(skb, place.buffer * table_entries + to_ask - 1);
	return TC_ACT_UNSPEC;
}

#ifndef HASH_TABLES

/* The entry of a packet that XDP counted; 0: none. The key is left in `packet`. */
static __always_inline __u32 find_counted(struct __sk_buff *skb, struct flow_entry *packet, __u32 buffer)
{
	__u64 linear = skb->data_end - skb->data;
	__u64 unknown = link_layer == LINK_LAYER_NONE ? bpf_jiffies64() : linear;
	__u64 before = link_layer == LINK_LAYER_NONE ? forget(unknown, network_offset(skb, linear)) : 0;
	struct nested no_tunnel = {};

	parse_tc(skb, packet, before, &no_tunnel, unknown);
	forget_key(&packet->key, unknown);
	return find_number(&packet->key, buffer);
}

/*
 * Beside XDP, which counts what enters and sees no sockets: counts nothing, and asks for the owner of a flow
 * that XDP has counted in this interval. What does not get here after XDP is not asked for.
 */
SEC("tc")
int tc_beside_xdp(struct __sk_buff *skb)
{
	__u32 buffer = active & 1, number;
	struct flow_entry packet;

	IN_MEMORY(packet);
	if (is_own_copy(skb) || is_second_pass(skb))
		return TC_ACT_UNSPEC;
	number = find_counted(skb, &packet, buffer);
	if (unlikely(number) && table_asks(number, buffer))
		ask_for_owner(skb, buffer * table_entries + number - 1);
	return TC_ACT_UNSPEC; /* TCX_NEXT */
}

/*
 * Run by user space, over and over on one frame, a struct completion: adds what the owners of flows counted
 * to the entries of a buffer that no program writes to any more. Its index is free then. Never attached.
 */
SEC("tc")
int complete_entries(struct __sk_buff *skb)
{
	struct cursor cursor = in_frame((void *)(long)skb->data, (void *)(long)skb->data_end, 0);
	struct completion *completion = take(&cursor, sizeof(*completion));
	__u32 buffer, next, end;
	struct flow_entry *entry;

	if (!completion)
		return TC_ACT_SHOT;
	buffer = completion->buffer & 1;
	next = completion->next;
	end = completion->end;
	if (end - next > COMPLETED_AT_ONCE)
		end = next + COMPLETED_AT_ONCE;
	completion->next = end;
	/* the places lie anywhere: those that are in no cache are waited for together */
#pragma nounroll
	for (__u32 i = 0; i < COMPLETED_AT_ONCE; i++) {
		entry = next + i < end ? entry_at(next + i + 1, buffer) : 0;
		if (!entry)
			break;
		touch_place(entry, buffer);
	}
#pragma nounroll
	for (__u32 i = 0; i < COMPLETED_AT_ONCE; i++) {
		entry = next + i < end ? entry_at(next + i + 1, buffer) : 0;
		if (!entry)
			break;
		complete_entry(entry, buffer);
	}
	return TC_ACT_OK;
}

#endif

/*
 * Run by user space: writes the kernel's tick into the frame, to be set against CLOCK_MONOTONIC. Never
 * attached. Not for XDP, whose test runs wait for an RCU grace period.
 */
SEC("tc")
int sample_clock(struct __sk_buff *skb)
{
	struct cursor cursor = in_frame((void *)(long)skb->data, (void *)(long)skb->data_end, 0);
	__u64 *sample = take(&cursor, sizeof(*sample));

	if (!sample)
		return TC_ACT_SHOT;
	*sample = bpf_jiffies64();
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
