/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Flow tables in memory that is shared with user space, which reads the entries where they lie.
 *
 * The entries of a buffer are taken one after the other, so that what has to be drained lies in one piece. An
 * index finds them: a power of two of places, each with the number of an entry and some bits of its flow's
 * hash in one word, or 0. An entry's key is written before that word is, by compare-and-swap: who finds the
 * word finds the key, so nobody waits, and no flow has two entries.
 *
 * The NIC gives most flows to one CPU. The first that sees a flow owns it: the rest of its place is that
 * CPU's alone, which counts there without locking, and tells by two words that a plain frame is the flow's.
 * So most packets need one cache line of the table. The others count in the entry, atomically. Both are added
 * up when the buffer is drained.
 */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "entries.h"
#include "flow.h"
#include "flow_hash.h"
#include "merge.h"
#include "owner.h"
#include "plain.h"
#include "switches.h"

#define MOST_PROBES 18	   /* places that a flow may have; the verifier follows each */
#define HASH_STEP_SHIFT 15 /* upper bits of the hash say which places come next */
#define NEAR_PLACES 2	   /* the first of them: neighbors, and all that is looked at for a plain frame */

/* Index buffer * index_places + place. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct index_place);
	MAP_UINT(max_entries, 2);
	MAP_UINT(map_flags, BPF_F_MMAPABLE);
} flow_index SEC(".maps");

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
	/* all of it: what an earlier interval left there is not cleared */
	entry->key = packet->key;
	entry->counters =
	    (struct flow_counters){.first = packet->counters.first, .last = packet->counters.first};
	entry->counters.dscp = packet->counters.dscp;
	entry->place = 0;
	entry->asked = 0;
	return taken + 1;
}

/* What the index has beside the number of an entry. Places go by the lower bits of the hash. */
static __always_inline __u32 index_tag(__u32 hash)
{
	return hash & ~number_mask;
}

/* The number of the place that a flow may have after `probes` others: two neighbors, then any. */
static __always_inline __u32 place_number(__u32 hash, __u32 probes)
{
	__u32 number = probes < NEAR_PLACES ? hash ^ probes : hash + probes * (hash >> HASH_STEP_SHIFT | 1);

	return number & index_mask;
}

static __always_inline struct index_place *place_at(__u32 number, __u32 buffer)
{
	__u32 index = buffer * index_places + number;

	return bpf_map_lookup_elem(&flow_index, &index);
}

static __always_inline __u32 this_cpu(void)
{
	return bpf_get_smp_processor_id() + 1;
}

/* An entry was taken for nothing. */
static __always_inline void leave_unused(__u32 buffer)
{
	struct claimed *claimed = bpf_map_lookup_elem(&claims, &buffer);

	if (claimed)
		__sync_fetch_and_add(&claimed->unused, 1);
}

/* A flow in the table. */
struct found_entry {
	struct index_place *place;
	__u32 number; /* of its entry; 0: the table cannot take the flow */
	bool near;    /* the place is one of the first */
};

/* A place of the index was taken for an entry: it is this CPU's, but for the word. */
static __always_inline void own_place(struct index_place *place, const struct flow_entry *packet,
				      struct flow_entry *entry, __u32 number)
{
	entry->place = number + 1;
	if (is_realtime)
		return;
	place->owner = this_cpu();
	place->counters.dscp = packet->counters.dscp;
	place->counters.first = packet->counters.first;
}

/* Finds a flow's entry, or takes one. */
static __always_inline struct found_entry find_entry(const struct flow_entry *packet, __u32 hash,
						     __u32 buffer)
{
	struct found_entry none = {}, at;
	__u32 tag = index_tag(hash), mine = 0, number, found;
	struct flow_entry *entry;

#pragma nounroll
	for (__u32 i = 0; i < MOST_PROBES; i++) {
		number = place_number(hash, i);
		at.place = place_at(number, buffer);
		if (!at.place)
			return none;
		at.near = i < NEAR_PLACES;
		found = *(volatile __u32 *)&at.place->word;
		if (unlikely(!found)) {
			if (!mine)
				mine = claim_entry(packet, buffer);
			if (!mine)
				return none;
			found = __sync_val_compare_and_swap(&at.place->word, 0, tag | mine);
			if (!found) {
				at.number = mine;
				entry = entry_at(mine, buffer);
				if (entry)
					own_place(at.place, packet, entry, number);
				return at;
			}
		}
		if ((found & ~number_mask) != tag)
			continue;
		at.number = found & number_mask;
		entry = entry_at(at.number, buffer);
		if (entry && likely(same_words((__u64 *)&entry->key, (__u64 *)&packet->key))) {
			if (unlikely(mine))
				leave_unused(buffer);
			return at;
		}
	}
	if (mine)
		leave_unused(buffer);
	return none;
}

/* The place of an entry whose flow this CPU owns; NULL if it does not. */
static __always_inline struct index_place *owned_place(const struct flow_entry *entry, __u32 buffer)
{
	struct index_place *place = entry->place ? place_at(entry->place - 1, buffer) : 0;

	return place && place->owner == this_cpu() ? place : 0;
}

/* Adds what was seen of a flow to its entry, which every CPU may do. */
static __always_inline void add_to_entry(struct flow_entry *entry, const struct flow_counters *seen)
{
	__sync_fetch_and_add(&entry->counters.packets, seen->packets);
	__sync_fetch_and_add(&entry->counters.bytes, seen->bytes);
	add_marks(&entry->counters, seen);
}

/* Adds what this CPU has seen of a flow, after all that it has added before. */
static __always_inline void table_add(__u32 number, const struct flow_entry *seen, __u32 buffer)
{
	struct flow_entry *entry = entry_at(number, buffer);
	struct index_place *owned = entry ? owned_place(entry, buffer) : 0;

	if (owned)
		add_alone(&owned->counters, &seen->counters);
	else if (entry)
		add_to_entry(entry, &seen->counters);
}

/* From now on a flow is counted among the recent ones: find_own() must not find it. */
static __always_inline void table_leaves(__u32 number, __u32 buffer)
{
	struct flow_entry *entry = entry_at(number, buffer);
	struct index_place *owned = entry ? owned_place(entry, buffer) : 0;

	if (owned)
		owned->plain_rest = 0;
}

/*
 * Counts a packet in its flow; returns the number of its entry, 0 if the table cannot take the flow. `finds`:
 * whether find_own() finds the flow from now on.
 */
static __always_inline __u32 table_count(const struct flow_entry *packet, const struct flow_place *where,
					 bool *finds)
{
	struct found_entry at = find_entry(packet, where->hash, where->buffer);
	struct flow_entry *entry;

	*finds = false;
	if (unlikely(!at.number))
		return 0;
	if (at.place->owner != this_cpu()) {
		entry = entry_at(at.number, where->buffer);
		if (entry)
			add_to_entry(entry, &packet->counters);
		return at.number;
	}
	add_alone(&at.place->counters, &packet->counters);
	if (where->plain_rest && !(where->plain_rest & PLAIN_IPV6)) {
		at.place->plain_addresses = where->plain_addresses;
		at.place->plain_rest = where->plain_rest;
		*finds = at.near;
	}
	return at.number;
}

/* Whether the owner of an entry's flow is to be asked for: it is asked for now. */
static __always_inline bool table_asks(__u32 number, __u32 buffer)
{
	struct flow_entry *entry = entry_at(number, buffer);

	if (!entry || entry->asked >= OWNER_MOST_ASKED)
		return false;
	entry->asked++;
	return true;
}

/* Whether the owner was asked for often enough, or is known. */
static __always_inline bool has_asked(__u32 number, __u32 buffer)
{
	struct flow_entry *entry = entry_at(number, buffer);

	return entry && entry->asked >= OWNER_MOST_ASKED;
}

/*
 * Where this CPU alone counts the flow of a plain frame; NULL if it is another CPU's, not at one of the first
 * places, or its owner is to be asked for.
 */
static __always_inline struct flow_counters *find_own(const struct flow_place *where,
						      const struct plain *plain)
{
	struct index_place *place;

#pragma unroll
	for (__u32 i = 0; i < NEAR_PLACES; i++) {
		place = place_at(place_number(where->hash, i), where->buffer);
		if (!place || place->plain_addresses != plain_addresses(plain) ||
		    place->plain_rest != plain_rest(plain))
			continue;
		if (place->owner != this_cpu() ||
		    (names_owners && !has_asked(place->word & number_mask, where->buffer)))
			return 0;
		return &place->counters;
	}
	return 0;
}

/* Has the place of an entry come into the cache. */
static __always_inline void touch_place(const struct flow_entry *entry, __u32 buffer)
{
	struct index_place *place = entry->place ? place_at(entry->place - 1, buffer) : 0;

	if (place)
		*(volatile __u32 *)&place->word;
}

/*
 * Adds what the owner of a flow counted in the index to its entry, and frees that place. Doing it again does
 * nothing.
 */
static __always_inline void complete_entry(struct flow_entry *entry, __u32 buffer)
{
	struct index_place *place = entry->place ? place_at(entry->place - 1, buffer) : 0;

	if (!place)
		return;
	if (place->counters.packets)
		add_counters(&entry->counters, &place->counters);
	*place = (struct index_place){};
}
