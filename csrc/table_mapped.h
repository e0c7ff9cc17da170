/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Flow tables in memory that is shared with user space, which reads and clears it without system calls.
 *
 * The entries of a buffer are taken one after the other, so that what has to be drained lies in one piece. An
 * index finds them: a power of two of words, each some bits of a flow's hash and the number of its entry, or
 * 0. An entry's key is written before its word is, by compare-and-swap: who finds the word finds the key, so
 * nobody waits, and no flow has two entries. Counters are 0 in a free entry, and only added to.
 *
 * The NIC gives most flows to one CPU. The first that sees a flow owns its entry, and adds packets and bytes
 * without locking; the others add theirs elsewhere, atomically, and user space brings them together.
 */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "entries.h"
#include "flow.h"
#include "flow_hash.h"
#include "owner.h"
#include "switches.h"

#define MOST_PROBES (2 * INDEX_LINE) /* words that a flow may have; the verifier follows each */

/* Half a cache line of the index. */
struct index_line {
	__u32 words[INDEX_LINE];
};

/* Index buffer * table_lines + line. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct index_line);
	MAP_UINT(max_entries, 2);
	MAP_UINT(map_flags, BPF_F_MMAPABLE);
} flow_index SEC(".maps");

/* What other CPUs than its owner counted for the flow of an entry, by the same index. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct packet_count);
	MAP_UINT(max_entries, 2);
	MAP_UINT(map_flags, BPF_F_MMAPABLE);
} foreign SEC(".maps");

/* By buffer. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct claimed);
	MAP_UINT(max_entries, 2);
	MAP_UINT(map_flags, BPF_F_MMAPABLE);
} claims SEC(".maps");

/* The TCP flags byte as the counters have it. */
static __always_inline __u64 pack_flags(__u8 flags)
{
	return flags;
}

static __always_inline void or_flags(struct flow_counters *flow, __u64 flags)
{
	if (unlikely(flags & ~flow->tcp_flags))
		__sync_fetch_and_or(&flow->tcp_flags, flags);
}

static __always_inline struct flow_entry *entry_at(__u32 number, __u32 buffer)
{
	__u32 index = buffer * table_entries + number - 1;

	return bpf_map_lookup_elem(&flows, &index);
}

/* Takes a free entry for a flow; returns its number, 0 if there is none. */
static __always_inline __u32 claim_entry(const struct flow_entry *packet, __u32 buffer)
{
	struct claimed *claimed = bpf_map_lookup_elem(&claims, &buffer);
	struct flow_entry *entry;
	__u32 taken;

	if (!claimed || *(volatile __u32 *)&claimed->entries >= max_flows)
		return 0;
	taken = __sync_fetch_and_add(&claimed->entries, 1);
	if (taken >= max_flows)
		return 0;
	entry = entry_at(taken + 1, buffer);
	if (!entry)
		return 0;
	entry->key = packet->key;
	entry->counters.dscp = packet->counters.dscp;
	entry->counters.first = packet->counters.first;
	entry->counters.last = packet->counters.first;
	entry->owner = is_realtime ? 0 : bpf_get_smp_processor_id() + 1;
	return taken + 1;
}

/*
 * What the index has beside the number of an entry. A line goes by the upper bits of the hash, so here are
 * the lower ones.
 */
static __always_inline __u32 index_tag(__u32 hash)
{
	return __builtin_bswap32(hash) & ~number_mask;
}

/* The word of the index that a flow may have after `probes` others: all of a line, then another line. */
static __always_inline __u32 *word_at(__u32 hash, __u32 probes, __u32 buffer)
{
	__u32 step = probes / INDEX_LINE * (hash | 1);
	__u32 number = ((__u64)hash * table_lines >> 32) + step;
	__u32 index = buffer * table_lines + (number & (table_lines - 1));
	struct index_line *line = bpf_map_lookup_elem(&flow_index, &index);

	return line ? &line->words[(hash ^ probes) & (INDEX_LINE - 1)] : 0;
}

/* An entry was taken for nothing. */
static __always_inline void leave_unused(__u32 buffer)
{
	struct claimed *claimed = bpf_map_lookup_elem(&claims, &buffer);

	if (claimed)
		__sync_fetch_and_add(&claimed->unused, 1);
}

/* A flow's entry in the table. */
struct found_entry {
	struct flow_entry *entry;
	__u32 number; /* 0: the table cannot take the flow */
};

/* The entry that a flow of this hash has most often: who takes it for a flow's compares the key. */
static __always_inline struct found_entry first_look(__u32 hash, __u32 buffer)
{
	__u32 *word = word_at(hash, 0, buffer), found = word ? *(volatile __u32 *)word : 0;
	struct found_entry at = {.number = found & number_mask};

	if (at.number && (found ^ at.number) == index_tag(hash))
		at.entry = entry_at(at.number, buffer);
	return at;
}

/* Finds a flow's entry, or takes one. */
static __always_inline struct found_entry find_entry(const struct flow_entry *packet, __u32 hash,
						     __u32 buffer)
{
	struct found_entry none = {}, at;
	__u32 tag = index_tag(hash), mine = 0, *word, found;

#pragma nounroll
	for (__u32 i = 0; i < MOST_PROBES; i++) {
		word = word_at(hash, i, buffer);
		if (!word)
			return none;
		found = *(volatile __u32 *)word;
		if (unlikely(!found)) {
			if (!mine)
				mine = claim_entry(packet, buffer);
			if (!mine)
				return none;
			found = __sync_val_compare_and_swap(word, 0, tag | mine);
			if (!found) {
				found = tag | mine;
				mine = 0;
			}
		}
		if ((found & ~number_mask) != tag)
			continue;
		at.number = found & number_mask;
		at.entry = entry_at(at.number, buffer);
		if (at.entry && likely(same_words((__u64 *)&at.entry->key, (__u64 *)&packet->key))) {
			if (unlikely(mine))
				leave_unused(buffer);
			return at;
		}
	}
	if (mine)
		leave_unused(buffer);
	return none;
}

/* Counts what another CPU than its owner saw of a flow. */
static __always_inline void add_foreign(__u32 number, const struct flow_counters *seen, __u32 buffer)
{
	__u32 index = buffer * table_entries + number - 1;
	struct packet_count *count = bpf_map_lookup_elem(&foreign, &index);
	struct claimed *claimed = bpf_map_lookup_elem(&claims, &buffer);

	if (!count || !claimed)
		return;
	if (!claimed->foreign)
		claimed->foreign = 1;
	__sync_fetch_and_add(&count->packets, seen->packets);
	__sync_fetch_and_add(&count->bytes, seen->bytes);
}

/* Adds what was seen of a flow to its entry. */
static __always_inline void add_to_entry(const struct found_entry *at, const struct flow_counters *seen,
					 __u32 buffer)
{
	if (likely(at->entry->owner == bpf_get_smp_processor_id() + 1)) {
		at->entry->counters.packets += seen->packets;
		at->entry->counters.bytes += seen->bytes;
	} else {
		add_foreign(at->number, seen, buffer);
	}
	add_marks(&at->entry->counters, seen);
}

static __always_inline void table_add(__u32 number, const struct flow_entry *seen, __u32 buffer)
{
	struct found_entry at = {entry_at(number, buffer), number};

	if (at.entry)
		add_to_entry(&at, &seen->counters, buffer);
}

/* Counts a packet in its flow; returns the number of its entry, 0 if the table cannot take the flow. */
static __always_inline __u32 table_count(const struct flow_entry *packet, __u32 hash, __u32 buffer)
{
	struct found_entry at = find_entry(packet, hash, buffer);

	if (likely(at.number))
		add_to_entry(&at, &packet->counters, buffer);
	return at.number;
}

/* Whether the owner of a flow that was found is still to be asked for. */
static __always_inline bool has_to_ask(const struct found_entry *at)
{
	return at->entry->asked < OWNER_MOST_ASKED;
}

/* The same, by the number of its entry: then it is asked for now. */
static __always_inline bool table_asks(__u32 number, __u32 buffer)
{
	struct found_entry at = {entry_at(number, buffer), number};

	if (!at.entry || !has_to_ask(&at))
		return false;
	at.entry->asked++;
	return true;
}
