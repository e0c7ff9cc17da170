// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The packet programs: parse every frame of one interface and count it, exactly once, in the flow
 * table that is active. They never change a frame and pass every one on.
 *
 * User space flips `active`, waits a grace period, and then owns the other table's contents: no
 * running program can still write to it. See docs/architecture.md, "Every packet counted exactly once".
 */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "buffers.h"
#include "flow.h"
#include "parse.h"

/* Set by the loader, then frozen: the verifier removes what a switch turns off. */
SWITCH(__u8, interface_slot);
SWITCH(__u8, has_frags);      /* loaded with BPF_F_XDP_HAS_FRAGS: frames may have fragments */
SWITCH(__u8, is_egress);      /* tc: attached where frames leave */
SWITCH(__u8, link_layer);     /* LINK_LAYER_* */
SWITCH(__u8, is_realtime);    /* PREEMPT_RT: softirqs do not exclude each other on one CPU */
SWITCH(__u32, slots);	      /* interface slots the counters map has room for */
SWITCH(__u32, possible_cpus); /* CPUs the front cache has room for */
SWITCH(__u32, cache_entries); /* of one CPU's front cache; a power of two, <= FRONT_CACHE_ENTRIES */
SWITCH(__u64, jiffy_ns);      /* length of a kernel tick */
SWITCH(__u64, jiffies_base);  /* jiffies64 when CLOCK_MONOTONIC was 0 */

/* Filters, all off by default. Which traffic types are wanted: bit 1 << TRAFFIC_*; 0 is all. */
SWITCH(__u16, wanted_types);
SWITCH(__u8, has_networks);	     /* src or dst must be in `networks` */
SWITCH(__u8, has_excluded_networks); /* neither may be in `excluded_networks` */
SWITCH(__u8, has_ports);	     /* src or dst port must be in `ports` */
SWITCH(__u8, excludes_dns);

struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_TYPE(key, struct flow_key);
	MAP_TYPE(value, struct flow_counters);
	MAP_UINT(max_entries, DEFAULT_MAX_FLOWS);
} flows_a SEC(".maps"), flows_b SEC(".maps");

/*
 * In front of the table of each buffer, per CPU, a direct-mapped cache: most packets belong to a flow
 * seen a moment ago, and find it there without hashing for, locking or sharing the table. Index
 * (buffer * possible_cpus + cpu) * cache_entries + hash.
 */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct cache_entry);
	MAP_UINT(max_entries, 2 * FRONT_CACHE_ENTRIES);
} front_cache SEC(".maps");

/* Index (buffer * slots + slot) * 2 + egress. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct interface_counters);
	MAP_UINT(max_entries, 4);
} counters SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_LPM_TRIE);
	MAP_TYPE(key, struct network);
	MAP_TYPE(value, __u8);
	MAP_UINT(max_entries, MAX_NETWORKS);
	MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
} networks SEC(".maps"), excluded_networks SEC(".maps");

/* A bit per port. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
	MAP_UINT(max_entries, 65536 / 64);
} ports SEC(".maps");

/* Room for the copy of a frame's beginning, where its headers are not in the linear data. */
struct frame_copy {
	__u8 bytes[COPY_SIZE];
};

struct {
	MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct frame_copy);
	MAP_UINT(max_entries, 1);
} frame_copies SEC(".maps");

/*
 * CLOCK_MONOTONIC to the kernel's tick. The verifier makes bpf_jiffies64() one load, where
 * bpf_ktime_get_ns() costs more than all the rest of a cache hit.
 */
static __always_inline __u64 now_ns(void)
{
	return (bpf_jiffies64() - jiffies_base) * jiffy_ns;
}

/* Bit i of the flags byte to bit i of byte i: copy the byte to all eight, keep the diagonal. */
static __always_inline __u64 spread_flags(__u8 flags)
{
	return flags * 0x0101010101010101ULL & 0x8040201008040201ULL;
}

/* Into counters that no other CPU writes. On PREEMPT_RT another softirq of this CPU might. */
static __always_inline void add_on_this_cpu(struct packet_count *count, const struct flow_entry *entry)
{
	if (is_realtime) {
		__sync_fetch_and_add(&count->packets, entry->counters.packets);
		__sync_fetch_and_add(&count->bytes, entry->counters.bytes);
	} else {
		count->packets += entry->counters.packets;
		count->bytes += entry->counters.bytes;
	}
}

/* Into a table's counters. `alone`: no other CPU writes to them now. */
static __always_inline void add_to_flow(struct flow_counters *flow, const struct flow_counters *seen,
					bool alone)
{
	__u8 *flags = (__u8 *)&flow->tcp_flags;

	__sync_fetch_and_add(&flow->packets, seen->packets);
	__sync_fetch_and_add(&flow->bytes, seen->bytes);
	if (flow->last_ns < seen->last_ns)
		flow->last_ns = seen->last_ns;
	if (flow->first_ns > seen->first_ns)
		flow->first_ns = seen->first_ns;
	if (alone) {
		flow->tcp_flags |= seen->tcp_flags;
		return;
	}
	if (likely(!(seen->tcp_flags & ~flow->tcp_flags)))
		return;
#pragma unroll
	for (int i = 0; i < 8; i++) {
		if (seen->tcp_flags >> i * 9 & 1)
			*(volatile __u8 *)(flags + i) = 1 << i;
	}
}

/* Returns 0, or a negative error where the table cannot take the entry. */
static __always_inline int count_in_table(void *table, const struct flow_entry *entry, bool alone)
{
	struct flow_counters *flow = bpf_map_lookup_elem(table, &entry->key);
	int error;

	if (!flow) {
		error = bpf_map_update_elem(table, &entry->key, &entry->counters, BPF_NOEXIST);
		if (error != -EEXIST)
			return error;
		/* another CPU inserted the flow since the lookup */
		flow = bpf_map_lookup_elem(table, &entry->key);
		if (!flow)
			return -ENOENT;
	}
	add_to_flow(flow, &entry->counters, alone);
	return 0;
}

static __always_inline struct interface_counters *counters_of(const struct flow_key *key, __u32 buffer)
{
	__u32 index = (buffer * slots + key->slot) * 2 + (key->flags & FLOW_EGRESS ? 1 : 0);

	return bpf_map_lookup_elem(&counters, &index);
}

/* An entry leaves the cache, or never was in it: to its flow in the table, else unattributed. */
static __always_inline void store_entry(const struct flow_entry *entry, __u32 buffer, bool alone)
{
	struct interface_counters *interface;
	__u32 type;
	int error;

	if (buffer)
		error = count_in_table(&flows_b, entry, alone);
	else
		error = count_in_table(&flows_a, entry, alone);
	if (likely(!error))
		return;
	interface = counters_of(&entry->key, buffer);
	type = traffic_type(&entry->key);
	if (interface && type < TRAFFIC_TYPES)
		add_on_this_cpu(&interface->unattributed[type], entry);
}

/* Multiply-and-add over the key's words, the well-mixed upper half returned. */
static __always_inline __u32 hash_key(const struct flow_key *key)
{
	const __u64 *words = (const __u64 *)key;

	return (words[0] * 0x9e3779b97f4a7c15ULL + words[1] * 0xc2b2ae3d27d4eb4fULL +
		words[2] * 0x165667b19e3779f9ULL + words[3] * 0xd6e8feb86659fd93ULL +
		words[4] * 0xff51afd7ed558ccdULL + words[5] * 0xc4ceb9fe1a85ec53ULL) >>
	       32;
}

static __always_inline bool same_key(const struct flow_key *one, const struct flow_key *other)
{
	const __u64 *a = (const __u64 *)one, *b = (const __u64 *)other;

	return a[4] == b[4] && a[1] == b[1] && a[3] == b[3] && a[0] == b[0] && a[2] == b[2] && a[5] == b[5];
}

static __always_inline bool is_mapped(const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	return !words[0] && !words[1] && words[2] == __builtin_bswap32(0x0000ffff);
}

static __always_inline bool is_in(void *trie, const __u8 *address)
{
	struct network host = {.prefix_length = 32 + 128, .family = is_mapped(address) ? 4 : 6};

	__builtin_memcpy(host.address, address, sizeof(host.address));
	return bpf_map_lookup_elem(trie, &host);
}

/* Whether source or destination is in one of the networks; frames without addresses are in none. */
static __always_inline bool touches(void *trie, const struct flow_key *key)
{
	const __u64 *words = (const __u64 *)key;

	if (!(words[0] | words[1] | words[2] | words[3]))
		return false;
	return is_in(trie, key->src) || is_in(trie, key->dst);
}

static __always_inline bool is_listed(__u16 port)
{
	__u32 index = port / 64;
	__u64 *bits = bpf_map_lookup_elem(&ports, &index);

	return bits && *bits >> port % 64 & 1;
}

/* TCP, UDP and SCTP have ports, except in later fragments, and except RoCE, whose place there is a QPN. */
static __always_inline bool has_port_fields(const struct flow_key *key)
{
	enum traffic_type type = traffic_type(key);

	return (type == TRAFFIC_TCP || type == TRAFFIC_UDP || type == TRAFFIC_SCTP) &&
	       !(key->flags & FLOW_LATER_FRAGMENT);
}

/* Whether the filters let the packet into a flow. */
static __always_inline bool is_wanted(const struct flow_key *key)
{
	bool has_port = has_port_fields(key);

	if (wanted_types && !(wanted_types >> traffic_type(key) & 1))
		return false;
	if (excludes_dns && has_port && (key->src_port == DNS_PORT || key->dst_port == DNS_PORT))
		return false;
	if (has_ports && !(has_port && (is_listed(key->src_port) || is_listed(key->dst_port))))
		return false;
	if (has_networks && !touches(&networks, key))
		return false;
	return !has_excluded_networks || !touches(&excluded_networks, key);
}

/*
 * The one place where a packet is counted: in the total of its interface and direction, and in its
 * flow. Where another flow has the cache entry, the packet goes to the table; only if its flow comes
 * twice before the other is seen again does it take the entry over. So trains of packets are cached,
 * and single packets of many flows do not wear the cache out.
 */
static __always_inline void count_packet(const struct flow_entry *packet, __u32 buffer)
{
	struct interface_counters *interface = counters_of(&packet->key, buffer);
	struct cache_entry *cached;
	struct flow_counters *flow;
	__u32 index, hash;

	if (!interface)
		return; /* cannot be: the loader sizes the map for every slot it hands out */
	add_on_this_cpu(&interface->total, packet);
	if (!is_wanted(&packet->key)) {
		add_on_this_cpu(&interface->filtered, packet);
		return;
	}

	hash = hash_key(&packet->key);
	index = (buffer * possible_cpus + bpf_get_smp_processor_id()) * cache_entries +
		(hash & (cache_entries - 1));
	cached = bpf_map_lookup_elem(&front_cache, &index);
	if (is_realtime || !cached) {
		store_entry(packet, buffer, false);
		return;
	}
	flow = &cached->flow.counters;
	if (flow->packets && likely(same_key(&cached->flow.key, &packet->key))) {
		flow->packets += packet->counters.packets;
		flow->bytes += packet->counters.bytes;
		flow->last_ns = packet->counters.last_ns;
		flow->tcp_flags |= packet->counters.tcp_flags;
		cached->challenger = 0;
		return;
	}
	if (flow->packets && cached->challenger != hash) {
		cached->challenger = hash;
		store_entry(packet, buffer, false);
		return;
	}
	if (flow->packets)
		store_entry(&cached->flow, buffer, false);
	cached->flow = *packet;
	cached->challenger = 0;
}

/* Bytes in front of the frame that are not on the wire. */
static __always_inline __u64 hidden_bytes(void)
{
	return link_layer == LINK_LAYER_IPOIB ? IPOIB_PSEUDO_LENGTH : 0;
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

/*
 * Room for a copy of the frame's beginning; `size` is how much of it there is. Linux 5.10 knows the bounds
 * of the very register that was compared only, and not that what is unequal to 0 is at least 1.
 */
static __always_inline struct frame_copy *room_for_copy(__u64 frame_length, __u64 *size)
{
	__u64 beyond_first = (frame_length < COPY_SIZE ? frame_length : COPY_SIZE) - 1;
	__u32 zero = 0;
	struct frame_copy *copy;

	/* one CPU's room is shared by its softirqs, which exclude each other, but not on PREEMPT_RT */
	copy = is_realtime ? 0 : bpf_map_lookup_elem(&frame_copies, &zero);
	PIN(beyond_first);
	if (beyond_first > COPY_SIZE - 1)
		return 0;
	PIN(beyond_first);
	*size = beyond_first + 1;
	return copy;
}

SEC("xdp/ingress")
int xdp_ingress(struct xdp_md *ctx)
{
	struct cursor cursor = {.start = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end};
	__u64 linear = ctx->data_end - ctx->data;
	__u64 length = has_frags ? bpf_xdp_get_buff_len(ctx) : linear;
	struct flow_entry packet = {.key = new_key(0)};
	struct frame_copy *copy;
	__u8 tcp_flags;
	__u64 size;

	cursor.unknown = linear;
	tcp_flags = parse_packet(&cursor, &packet.key, link_layer, false);
	if (has_frags && unlikely(cursor.truncated && linear < COPY_SIZE && length > linear)) {
		copy = room_for_copy(length, &size);
		if (copy && !bpf_xdp_load_bytes(ctx, 0, copy->bytes, size)) {
			cursor = (struct cursor){
			    .start = copy->bytes, .length = size, .unknown = linear, .copied = true};
			packet.key = new_key(0);
			tcp_flags = parse_packet(&cursor, &packet.key, link_layer, false);
		}
	}
	packet.counters.packets = 1;
	packet.counters.bytes = length - hidden_bytes();
	packet.counters.first_ns = now_ns();
	packet.counters.last_ns = packet.counters.first_ns;
	packet.counters.tcp_flags = spread_flags(tcp_flags);
	/* `active` is read once: a packet is in one buffer with all its counters */
	count_packet(&packet, active != 0);
	return XDP_PASS;
}

/*
 * What the frame is on the wire: a merged one (GSO, GRO) as its segments, each with the headers, and
 * a tag that the NIC adds or has taken off in every one of them. Of packets in tunnels only the outer
 * headers are known, so their inner ones count once.
 */
static __always_inline void count_segments(const struct __sk_buff *skb, __u64 headers,
					   struct flow_counters *counters)
{
	__u64 tag = skb->vlan_present ? sizeof(struct vlan_header) : 0;
	__u64 length = skb->len, segments = 1;

	if (skb->gso_size && length > headers) {
		/* ordinary merged frames that came from a driver do not say their number */
		segments =
		    skb->gso_segs ? skb->gso_segs : (length - headers + skb->gso_size - 1) / skb->gso_size;
	}
	counters->packets = segments;
	counters->bytes = length + (segments - 1) * headers + segments * tag - segments * hidden_bytes();
}

SEC("tc")
int tc_packet(struct __sk_buff *skb)
{
	struct cursor cursor = {.start = (void *)(long)skb->data, .end = (void *)(long)skb->data_end};
	__u64 linear = skb->data_end - skb->data;
	bool tagged = skb->vlan_present;
	__u16 vlan_id = tagged ? skb->vlan_tci & VLAN_ID_MASK : 0;
	struct flow_entry packet = {.key = new_key(vlan_id)};
	struct frame_copy *copy;
	__u8 tcp_flags;
	__u64 size;

	cursor.unknown = linear;
	tcp_flags = parse_packet(&cursor, &packet.key, link_layer, tagged);
	if (unlikely(cursor.truncated && linear < COPY_SIZE && skb->len > linear)) {
		copy = room_for_copy(skb->len, &size);
		if (copy && !bpf_skb_load_bytes(skb, 0, copy->bytes, size)) {
			cursor = (struct cursor){
			    .start = copy->bytes, .length = size, .unknown = linear, .copied = true};
			packet.key = new_key(vlan_id);
			tcp_flags = parse_packet(&cursor, &packet.key, link_layer, tagged);
		}
	}
	count_segments(skb, cursor.headers, &packet.counters);
	packet.counters.first_ns = now_ns();
	packet.counters.last_ns = packet.counters.first_ns;
	packet.counters.tcp_flags = spread_flags(tcp_flags);
	count_packet(&packet, active != 0);
	return TC_ACT_UNSPEC; /* TCX_NEXT */
}

/*
 * Run by user space (BPF_PROG_TEST_RUN, repeated) between grace period and drain: moves what the front
 * cache of the inactive buffer holds into its table. Never attached.
 */
SEC("xdp/flush")
int flush_cache(struct xdp_md *ctx)
{
	struct cursor cursor = {.start = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end};
	struct flush_request *request = take(&cursor, sizeof(*request));
	struct cache_entry *cached;
	__u32 entries = possible_cpus * cache_entries;
	__u32 buffer, next, index;

	if (!request)
		return XDP_ABORTED;
	buffer = request->buffer != 0;
	next = request->next;
	request->next = next + FLUSH_ENTRIES;
	for (int i = 0; i < FLUSH_ENTRIES; i++, next++) {
		if (next >= entries)
			break; /* what follows is the other buffer's */
		index = buffer * entries + next;
		cached = bpf_map_lookup_elem(&front_cache, &index);
		if (!cached || !cached->flow.counters.packets)
			continue;
		store_entry(&cached->flow, buffer, true);
		cached->flow.counters.packets = 0;
	}
	return XDP_PASS;
}

/* Run by user space: writes now_ns() into the frame, to be set against CLOCK_MONOTONIC. Never attached. */
SEC("xdp/clock")
int sample_clock(struct xdp_md *ctx)
{
	struct cursor cursor = {.start = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end};
	__u64 *sample = take(&cursor, sizeof(*sample));

	if (!sample)
		return XDP_ABORTED;
	*sample = now_ns();
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
