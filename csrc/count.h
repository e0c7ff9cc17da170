/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counting: totals by interface, and the flow tables, one of which is active.
 *
 * User space flips `active`, waits a grace period, and then owns the other table's contents: no
 * running program can still write to it. See docs/architecture.md, "Every packet counted exactly once".
 */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "buffers.h"
#include "filter.h"
#include "flow.h"
#include "flow_hash.h"
#include "merge.h"
#include "switches.h"
#include "traffic_type.h"

static __always_inline void add_marks(struct flow_counters *flow, const struct flow_counters *seen);
static __always_inline void add_alone(struct flow_counters *flow, const struct flow_counters *seen);

#ifdef HASH_TABLES
#include "table_hash.h"
#else
#include "table_mapped.h"
#endif

/*
 * Beside the table of each buffer, per CPU, a direct-mapped cache that stays in the CPU's own, for flows that
 * find_own() does not find: most of their packets, too, belong to a flow seen a moment ago, and find it there
 * without locking. User space adds what it holds to the flows it has. Index (cpu * 2 + buffer) * RECENT_FLOWS
 * + place; where there is no room for a CPU, its packets go to the table.
 */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct recent_flow);
	MAP_UINT(max_entries, 2 * RECENT_FLOWS);
	MAP_UINT(map_flags, BPF_F_MMAPABLE);
} recent SEC(".maps");

/* Index (slot * 2 + egress) * 2 + buffer. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct interface_counters);
	MAP_UINT(max_entries, 4);
} counters SEC(".maps");

/* `seen` is later than what the flow has. A value that two CPUs replace at once is replaced by one of them.
 */
static __always_inline void note_dscp(struct flow_counters *flow, const struct flow_counters *seen)
{
	if (likely(flow->dscp == seen->dscp && !seen->dscp_changed))
		return;
	flow->dscp = seen->dscp;
	flow->dscp_changed = 1;
}

/* All but packets and bytes, into counters of a table, which every CPU may write to. */
static __always_inline void add_marks(struct flow_counters *flow, const struct flow_counters *seen)
{
	__u64 congested = seen->ecn_ce & ECN_CE_COUNT;

	if (is_later(seen->last, flow->last))
		flow->last = seen->last;
	if (is_later(flow->first, seen->first))
		flow->first = seen->first;
	if (unlikely(congested))
		__sync_fetch_and_add(&flow->ecn_ce, congested);
	note_dscp(flow, seen);
	or_flags(flow, seen->tcp_flags);
}

/* Into counters that no other CPU writes. On PREEMPT_RT another softirq of this CPU might. */
static __always_inline void add_on_this_cpu(struct packet_count *count, struct packet_count seen)
{
	if (is_realtime) {
		__sync_fetch_and_add(&count->packets, seen.packets);
		__sync_fetch_and_add(&count->bytes, seen.bytes);
	} else {
		count->packets += seen.packets;
		count->bytes += seen.bytes;
	}
}

static __always_inline struct packet_count counted(const struct flow_entry *packet)
{
	return (struct packet_count){packet->counters.packets, packet->counters.bytes};
}

/* A place among this CPU's recent flows; NULL if it keeps none. */
static __always_inline struct recent_flow *recent_place(__u32 number, __u32 buffer)
{
	__u32 index = (bpf_get_smp_processor_id() * 2 + buffer) * RECENT_FLOWS + (number & recent_mask);

	return keeps_recent ? bpf_map_lookup_elem(&recent, &index) : 0;
}

/* Counts a packet where this CPU alone counts. */
static __always_inline void add_alone(struct flow_counters *flow, const struct flow_counters *seen)
{
	__u64 congested = seen->ecn_ce & ECN_CE_COUNT;

	flow->packets += seen->packets;
	flow->bytes += seen->bytes;
	flow->tcp_flags |= seen->tcp_flags;
	flow->last = seen->last;
	if (unlikely(congested))
		flow->ecn_ce += congested;
	note_dscp(flow, seen);
}

/* The buffer is read once: a packet is in one with all its counters. */
static __always_inline void find_buffer(struct flow_place *place, __u32 hash)
{
	place->buffer = active & 1;
	place->hash = hash;
}

/* A flow takes a place among the recent ones: what was counted there for another goes to the table. */
static __always_inline void replace_recent(struct recent_flow *recent, const struct flow_place *place,
					   const struct flow_entry *packet, __u32 number)
{
	if (recent->entry && recent->counters.packets)
		table_add(recent->entry, (struct flow_entry *)recent, place->buffer);
	table_leaves(number, place->buffer);
	recent->key = packet->key;
	recent->counters =
	    (struct flow_counters){.first = packet->counters.last, .last = packet->counters.last};
	recent->counters.dscp = packet->counters.dscp;
	recent->entry = number;
	recent->challenger = 0;
	recent->plain_addresses = place->plain_addresses;
	recent->plain_rest = place->plain_rest;
}

/* Counts a packet if its flow is the recent one of its place. */
static __always_inline bool add_to_recent(struct recent_flow *recent, const struct flow_key *key,
					  const struct flow_counters *seen)
{
	if (!recent || !recent->entry ||
	    unlikely(!same_words((const __u64 *)&recent->key, (const __u64 *)key)))
		return false;
	add_alone(&recent->counters, seen);
	recent->challenger = 0;
	return true;
}

/* Counts a packet if its flow is among the recent ones; else says where to look for it. */
static __always_inline bool count_recent(const struct flow_key *key, const struct flow_counters *seen,
					 struct flow_place *place)
{
	find_buffer(place, hash_key(key));
	place->plain_addresses = place->plain_rest = 0;
	return add_to_recent(recent_place(place->hash, place->buffer), key, seen);
}

/* Counts a plain packet if its flow is among the recent ones, but came by other frames so far. */
static __always_inline bool count_first_plain(struct recent_flow *recent, const struct flow_entry *packet,
					      const struct flow_place *place)
{
	if (!add_to_recent(recent, &packet->key, &packet->counters))
		return false;
	recent->plain_addresses = place->plain_addresses;
	recent->plain_rest = place->plain_rest;
	return true;
}

/*
 * Counts a packet in the table. Where another flow has its place among the recent ones, it takes that over
 * only if it comes twice before the other is seen again. So trains of packets stay on this CPU, and single
 * packets of many flows do not displace each other. A plain flow that find_own() finds stays in the table; so
 * does one whose owner is to be asked for, so that recent ones need no test: its entry's number is in
 * `to_ask`, else 0.
 */
static __always_inline bool count_in_table(const struct flow_entry *packet, const struct flow_place *place,
					   __u32 *to_ask)
{
	bool finds;
	__u32 number = table_count(packet, place, &finds);
	/* not before: the verifier would follow both answers through the search of the table */
	struct recent_flow *recent = recent_place(place->hash, place->buffer);

	*to_ask = 0;
	if (unlikely(!number))
		return false;
	if (names_owners && table_asks(number, place->buffer))
		*to_ask = number;
	else if (finds)
		return true;
	else if (recent && (!recent->entry || recent->challenger == place->hash))
		replace_recent(recent, place, packet, number);
	else if (recent)
		recent->challenger = place->hash;
	return true;
}

/* This interface's and direction's counters, on this CPU. NULL cannot be: the map is sized for every slot. */
static __always_inline struct interface_counters *counters_here(__u32 buffer)
{
	__u32 index = own_counters + buffer;

	return bpf_map_lookup_elem(&counters, &index);
}

/* Counts a packet that is in a flow. */
static __always_inline void count_total(struct packet_count seen, __u32 buffer)
{
	struct interface_counters *interface = counters_here(buffer);

	if (interface)
		add_on_this_cpu(&interface->total, seen);
}

/* Counts a packet that the filters keep out of its flow, by the reason. */
static __always_inline void count_filtered(struct packet_count seen, enum verdict verdict, __u32 buffer)
{
	struct interface_counters *interface = counters_here(buffer);

	if (!interface)
		return;
	add_on_this_cpu(&interface->total, seen);
	add_on_this_cpu(verdict == VERDICT_FILTERED ? &interface->filtered : &interface->filtered_fragments,
			seen);
}

/* Counts a packet that no table could take. */
static __always_inline void count_unattributed(const struct flow_entry *packet, __u32 buffer)
{
	struct interface_counters *interface = counters_here(buffer);
	__u32 type = traffic_type(&packet->key);

	if (!interface)
		return;
	add_on_this_cpu(&interface->total, counted(packet));
	if (type < TRAFFIC_TYPES)
		add_on_this_cpu(&interface->unattributed[type], counted(packet));
}
