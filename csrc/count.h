/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where packets are counted: totals by interface, and the flow tables, of which one is active.
 *
 * User space flips `active`, waits a grace period, and then owns the other table's contents: no
 * running program can still write to it. See docs/architecture.md, "Every packet counted exactly once".
 */
#pragma once

#include <linux/bpf.h>
#include <linux/errno.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "buffers.h"
#include "filter.h"
#include "flow.h"
#include "switches.h"
#include "traffic_type.h"

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

/*
 * The one place where a packet is counted: in the total of its interface and direction, and in its
 * flow. Where another flow has the cache entry, the packet goes to the table; only if its flow comes
 * twice before the other is seen again does it take the entry over. So trains of packets are cached,
 * and single packets of many flows do not wear the cache out.
 */
static __always_inline void count_packet(struct flow_entry *packet, __u32 datagram, __u32 buffer)
{
	struct interface_counters *interface = counters_of(&packet->key, buffer);
	struct cache_entry *cached;
	struct flow_counters *flow;
	enum verdict verdict;
	__u32 index, hash;

	if (!interface)
		return; /* cannot be: the loader sizes the map for every slot it hands out */
	add_on_this_cpu(&interface->total, packet);
	verdict = judge(packet, datagram);
	if (verdict != VERDICT_WANTED) {
		add_on_this_cpu(verdict == VERDICT_FILTERED ? &interface->filtered
							    : &interface->filtered_fragments,
				packet);
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
