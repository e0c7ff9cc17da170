/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "flow.h"
#include "owner.h"
#include "drain.h"

/* Flow times are 32 bits of a counter: less than half its range apart. */
static bool is_later(__u32 one, __u32 other)
{
	return (__s32)(one - other) > 0;
}

static void add(struct flow_counters *flow, const struct flow_counters *seen)
{
	bool other_dscp = flow->dscp != seen->dscp || seen->dscp_changed;

	flow->packets += seen->packets;
	flow->bytes += seen->bytes;
	flow->tcp_flags |= seen->tcp_flags;
	flow->ecn_ce += seen->ecn_ce & ECN_CE_COUNT;
	if (other_dscp)
		flow->dscp_changed = 1;
	if (!is_later(flow->last, seen->last)) {
		flow->last = seen->last;
		flow->dscp = seen->dscp;
	}
	if (is_later(flow->first, seen->first))
		flow->first = seen->first;
}

void xt_add_recent(struct flow_entry *entries, __u32 count, struct recent_flow *recent)
{
	for (struct recent_flow *flow = recent; flow < recent + RECENT_FLOWS; flow++) {
		if (flow->entry && flow->entry <= count && flow->counters.packets)
			add(&entries[flow->entry - 1].counters, &flow->counters);
	}
	memset(recent, 0, RECENT_FLOWS * sizeof(*recent));
}

void xt_add_foreign(struct flow_entry *entries, __u32 count, struct packet_count *foreign)
{
	for (__u32 i = 0; i < count; i++) {
		entries[i].counters.packets += foreign[i].packets;
		entries[i].counters.bytes += foreign[i].bytes;
	}
	memset(foreign, 0, count * sizeof(*foreign));
}

/* Bit i of the byte stands in byte i: the product's top byte is the sum of all, which have no common bit. */
static __u64 collect_flags(__u64 spread)
{
	return spread * 0x0101010101010101 >> 56;
}

__u32 xt_take_recent(struct flow_entry *entries, struct recent_flow *recent)
{
	struct flow_entry *next = entries;

	for (struct recent_flow *flow = recent; flow < recent + RECENT_FLOWS; flow++) {
		if (!flow->counters.packets)
			continue;
		next->key = flow->key;
		next->counters = flow->counters;
		next->counters.tcp_flags = collect_flags(flow->counters.tcp_flags);
		next++;
	}
	memset(recent, 0, RECENT_FLOWS * sizeof(*recent));
	return next - entries;
}

__u32 xt_drop_unused(struct flow_entry *entries, struct flow_owner *owners, __u32 count)
{
	__u32 left = 0;

	for (__u32 i = 0; i < count; i++) {
		if (!entries[i].counters.packets)
			continue;
		if (owners)
			owners[left] = owners[i];
		entries[left++] = entries[i];
	}
	return left;
}

static __u64 hash(const struct flow_key *key)
{
	__u64 words[sizeof(*key) / sizeof(__u64)], mixed = 0;

	memcpy(words, key, sizeof(*key));
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		mixed = (mixed ^ words[i]) * 0x9e3779b97f4a7c15 ^ mixed >> 29;
	return mixed ^ mixed >> 32;
}

__u32 xt_merge_flows(struct flow_entry *entries, struct flow_owner *owners, __u32 count, __u32 *index,
		     __u32 places)
{
	__u32 left = 0;

	for (__u32 i = 0; i < count; i++) {
		const struct flow_entry *entry = &entries[i];
		__u32 place = hash(&entry->key) & (places - 1);

		while (index[place] &&
		       memcmp(&entries[index[place] - 1].key, &entry->key, sizeof(entry->key)))
			place = (place + 1) & (places - 1);
		if (index[place]) {
			add(&entries[index[place] - 1].counters, &entry->counters);
			if (owners && owners[i].kind > owners[index[place] - 1].kind)
				owners[index[place] - 1] = owners[i];
			continue;
		}
		if (owners)
			owners[left] = owners[i];
		entries[left++] = *entry;
		index[place] = left;
	}
	return left;
}

void xt_from_batch(struct flow_entry *entries, const struct flow_key *keys,
		   const struct flow_counters *values, __u32 count)
{
	for (__u32 i = 0; i < count; i++) {
		entries[i].key = keys[i];
		entries[i].counters = values[i];
		entries[i].counters.tcp_flags = collect_flags(values[i].tcp_flags);
	}
}

void xt_clear(void *memory, size_t size)
{
	memset(memory, 0, size);
}
