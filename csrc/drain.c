/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <linux/in.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

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

#define AHEAD 16 /* entries whose places are fetched early: they lie anywhere */

void xt_add_owned(struct flow_entry *entries, __u32 count, struct index_place *index, __u32 places)
{
	for (__u32 i = 0; i < count; i++) {
		__u32 number = entries[i].place, ahead = i + AHEAD < count ? entries[i + AHEAD].place : 0;
		struct index_place *place;

		if (ahead && ahead <= places)
			__builtin_prefetch(&index[ahead - 1], 1);
		if (!number || number > places)
			continue;
		place = &index[number - 1];
		if (place->counters.packets)
			add(&entries[i].counters, &place->counters);
		memset(place, 0, sizeof(*place));
	}
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

static int compare_flows(const void *one, const void *other)
{
	const struct ranked_flow *first = one, *second = other;

	if (first->bytes != second->bytes)
		return first->bytes > second->bytes ? -1 : 1;
	return first->index < second->index ? -1 : 1;
}

/* Of a heap whose smallest flow is its first: put the one at `place` where it belongs. */
static void sift(struct ranked_flow *heap, __u32 count, __u32 place)
{
	struct ranked_flow flow = heap[place];

	for (__u32 below; (below = 2 * place + 1) < count; place = below) {
		if (below + 1 < count && compare_flows(&heap[below + 1], &heap[below]) > 0)
			below++;
		if (compare_flows(&flow, &heap[below]) > 0)
			break;
		heap[place] = heap[below];
	}
	heap[place] = flow;
}

void xt_largest(const struct flow_entry *entries, const __u32 *chosen, __u32 count, __u32 room,
		struct ranked_flow *ranked, __u32 *largest)
{
	__u32 kept = 0;

	for (__u32 i = 0; i < count; i++) {
		__u32 index = chosen ? chosen[i] : i;
		__u64 bytes = entries[index].counters.bytes;

		if (kept < room) {
			ranked[kept++] = (struct ranked_flow){.bytes = bytes, .index = index};
			for (__u32 place = kept / 2; kept == room && place--;)
				sift(ranked, kept, place);
		} else if (room && bytes > ranked[0].bytes) { /* of equal ones the first stay */
			ranked[0] = (struct ranked_flow){.bytes = bytes, .index = index};
			sift(ranked, kept, 0);
		}
	}
	qsort(ranked, kept, sizeof(*ranked), compare_flows);
	for (__u32 i = 0; i < kept; i++)
		largest[i] = ranked[i].index;
}

/*
 * What others choose is hashed here, such as IPv6 addresses and names of commands: who knew these numbers
 * could have all of it in one place of an index. Early in the boot there may be no others.
 */
static struct {
	__u64 seed, multiplier;
} secret = {.multiplier = 0x9e3779b97f4a7c15};

__attribute__((constructor)) static void draw_secret(void)
{
	if (getrandom(&secret, sizeof(secret), GRND_NONBLOCK) == sizeof(secret))
		secret.multiplier |= 1;
}

/* Of bytes whose number is a multiple of 8. */
static __u64 hash(const void *bytes, size_t size)
{
	__u64 mixed = secret.seed;

	for (size_t i = 0; i < size; i += sizeof(__u64)) {
		__u64 word;

		memcpy(&word, (const char *)bytes + i, sizeof(word));
		mixed = (mixed ^ word) * secret.multiplier ^ mixed >> 29;
	}
	return mixed ^ mixed >> 32;
}

__u32 xt_merge_flows(struct flow_entry *entries, struct flow_owner *owners, __u32 count, __u32 *index,
		     __u32 places)
{
	__u32 left = 0;

	for (__u32 i = 0; i < count; i++) {
		const struct flow_entry *entry = &entries[i];
		__u32 place = hash(&entry->key, sizeof(entry->key)) & (places - 1);

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

static bool is_of(const struct owner_sum *sum, const struct flow_key *key, const struct flow_owner *owner)
{
	return sum->slot == key->slot && sum->egress == (key->flags & FLOW_EGRESS) &&
	       !memcmp(&sum->owner, owner, sizeof(*owner));
}

/* Returns the place in the index of a flow's sum, which is 0 if there is none yet. */
static __u32 *find_sum(const struct owner_sum *sums, const struct flow_key *key,
		       const struct flow_owner *owner, __u32 *index, __u32 places)
{
	__u64 mixed = hash(owner, sizeof(*owner)) + key->slot * 2 + (key->flags & FLOW_EGRESS);
	__u32 place = mixed & (places - 1);

	while (index[place] && !is_of(&sums[index[place] - 1], key, owner))
		place = (place + 1) & (places - 1);
	return &index[place];
}

/* The programs leave what they read of a socket that they then did not believe. */
static struct flow_owner what_is_known(const struct flow_owner *owner)
{
	if (owner->kind == OWNER_SOCKET)
		return *owner;
	return (struct flow_owner){.cgroup = owner->kind == OWNER_CGROUP ? owner->cgroup : 0,
				   .kind = owner->kind};
}

__u32 xt_sum_owners(const struct flow_entry *entries, const struct flow_owner *owners, __u32 count,
		    struct owner_sum *sums, __u32 *numbers, __u32 *index, __u32 places)
{
	static const struct flow_owner nobody;
	__u32 used = 0, number = 0;

	for (__u32 i = 0; i < count; i++) {
		const struct flow_key *key = &entries[i].key;
		struct flow_owner known = owners ? what_is_known(&owners[i]) : nobody, *owner = &known;

		/* often the same as the flow's before */
		if (!used || !is_of(&sums[number], key, owner)) {
			__u32 *found = find_sum(sums, key, owner, index, places);

			if (!*found) {
				sums[used] = (struct owner_sum){
				    .owner = *owner, .slot = key->slot, .egress = key->flags & FLOW_EGRESS};
				*found = ++used;
			}
			number = *found - 1;
		}
		numbers[i] = number;
		sums[number].flows++;
		sums[number].packets += entries[i].counters.packets;
		sums[number].bytes += entries[i].counters.bytes;
	}
	return used;
}

__u32 xt_find_flows(const struct flow_entry *entries, const struct flow_owner *owners, __u32 count,
		    const struct flow_search *search, __u32 *found)
{
	__u32 used = 0;

	for (__u32 i = 0; i < count; i++) {
		const struct flow_key *key = &entries[i].key;

		if ((key->protocol == IPPROTO_TCP || key->protocol == IPPROTO_UDP) &&
		    search->kinds >> owners[i].kind & 1 && search->slots[key->slot] &&
		    search->ports[key->src_port] && search->ports[key->dst_port])
			found[used++] = i;
	}
	return used;
}

/* Returns an owner's place in the index, which leads to one of its sums: by its rank, or without `ranks` at
 * once. */
static __u32 find_place(const struct owner_sum *sums, const struct flow_owner *owner,
			const struct owner_rank *ranks, const __u32 *index, __u32 places)
{
	__u32 place = hash(owner, sizeof(*owner)) & (places - 1);

	while (index[place]) {
		__u32 number = ranks ? ranks[index[place] - 1].last : index[place] - 1;

		if (!memcmp(&sums[number].owner, owner, sizeof(*owner)))
			break;
		place = (place + 1) & (places - 1);
	}
	return place;
}

static int compare_ranks(const void *one, const void *other)
{
	const struct owner_rank *first = one, *second = other;

	if (first->is_process != second->is_process)
		return first->is_process < second->is_process ? -1 : 1;
	if (first->bytes != second->bytes)
		return first->bytes > second->bytes ? -1 : 1;
	return first->last < second->last ? -1 : first->last > second->last;
}

__u32 xt_rank_owners(const struct owner_sum *sums, __u32 count, struct owner_rank *ranks, __u32 *before,
		     __u32 *index, __u32 places)
{
	__u32 used = 0;

	for (__u32 i = 0; i < count; i++) {
		__u32 place = find_place(sums, &sums[i].owner, ranks, index, places);
		struct owner_rank *rank;

		before[i] = index[place] ? ranks[index[place] - 1].last + 1 : 0;
		if (!index[place]) {
			ranks[used] = (struct owner_rank){.is_process = sums[i].owner.kind == OWNER_SOCKET};
			index[place] = ++used;
		}
		rank = &ranks[index[place] - 1];
		rank->bytes += sums[i].bytes;
		rank->last = i;
	}
	for (__u32 place = 0; place < places; place++) {
		if (index[place])
			index[place] = ranks[index[place] - 1].last + 1;
	}
	qsort(ranks, used, sizeof(*ranks), compare_ranks);
	return used;
}

__u32 xt_find_owner(const struct owner_sum *sums, const struct flow_owner *owner, const __u32 *index,
		    __u32 places)
{
	return index[find_place(sums, owner, NULL, index, places)];
}

void xt_sum_places(const struct owner_sum *sums, const __u32 *before, const struct owner_rank *ranks,
		   __u32 count, struct owner_sum *at)
{
	for (__u32 i = 0; i < count; i++) {
		for (__u32 number = ranks[i].last + 1; number; number = before[number - 1]) {
			const struct owner_sum *sum = &sums[number - 1];
			struct owner_sum *place = &at[2 * sum->slot + !!sum->egress];

			place->slot = sum->slot;
			place->egress = sum->egress;
			place->flows += sum->flows;
			place->packets += sum->packets;
			place->bytes += sum->bytes;
		}
	}
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
