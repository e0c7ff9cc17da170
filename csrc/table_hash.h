/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Flow tables as hash maps, for kernels without compare-and-swap in BPF (before Linux 5.12), which refuse a
 * program that has such an instruction anywhere: hence an object of its own (xdp_monitor_hash.c). There is no
 * atomic OR either: bit i of the TCP flags byte stands in byte i of a word. Every byte is only ever stored
 * whole, so CPUs setting different flags of one flow at once lose none.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/errno.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "flow.h"
#include "plain.h"
#include "switches.h"

struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_TYPE(key, struct flow_key);
	MAP_TYPE(value, struct flow_counters);
	MAP_UINT(max_entries, DEFAULT_MAX_FLOWS);
} flows_a SEC(".maps"), flows_b SEC(".maps");

/* No CPU has a flow for itself. */
static __always_inline struct flow_counters *find_own(const struct flow_place *where,
						      const struct plain *plain)
{
	(void)where;
	(void)plain;
	return 0;
}

/* Copy the byte to all eight, keep the diagonal. */
static __always_inline __u64 pack_flags(__u8 flags)
{
	return flags * 0x0101010101010101ULL & 0x8040201008040201ULL;
}

static __always_inline void or_flags(struct flow_counters *flow, __u64 flags)
{
	__u8 *bytes = (__u8 *)&flow->tcp_flags;

	if (likely(!(flags & ~flow->tcp_flags)))
		return;
#pragma unroll
	for (int i = 0; i < 8; i++) {
		if (flags >> i * 9 & 1)
			*(volatile __u8 *)(bytes + i) = 1 << i;
	}
}

/* Returns 0, or a negative error where the table cannot take the flow. */
static __always_inline int add_to_table(void *table, const struct flow_entry *seen)
{
	struct flow_counters *flow = bpf_map_lookup_elem(table, &seen->key);
	int error;

	if (!flow) {
		error = bpf_map_update_elem(table, &seen->key, &seen->counters, BPF_NOEXIST);
		if (error != -EEXIST)
			return error;
		/* another CPU inserted the flow since the lookup */
		flow = bpf_map_lookup_elem(table, &seen->key);
		if (!flow)
			return -ENOENT;
	}
	__sync_fetch_and_add(&flow->packets, seen->counters.packets);
	__sync_fetch_and_add(&flow->bytes, seen->counters.bytes);
	add_marks(flow, &seen->counters);
	return 0;
}

/* Adds what was seen of a flow to its entry; returns whether the table can take it. */
static __always_inline bool table_add(__u32 number, const struct flow_entry *seen, __u32 buffer)
{
	(void)number; /* entries have none */
	if (buffer)
		return !add_to_table(&flows_b, seen);
	return !add_to_table(&flows_a, seen);
}

/* A flow that is among the recent ones is found there first. */
static __always_inline void table_leaves(__u32 number, __u32 buffer)
{
	(void)number;
	(void)buffer;
}

/* Counts a packet in its flow; returns 0 if the table cannot take the flow. */
static __always_inline __u32 table_count(const struct flow_entry *packet, const struct flow_place *where,
					 bool *finds)
{
	*finds = false;
	return table_add(0, packet, where->buffer);
}

/* Owners are not asked for: entries have no room to note it. */
static __always_inline bool table_asks(__u32 number, __u32 buffer)
{
	(void)number;
	(void)buffer;
	return false;
}
