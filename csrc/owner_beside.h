/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finding a flow that another program has counted, and that alone: nothing is inserted. */
#pragma once

#include "count.h"
#include "flow.h"
#include "flow_hash.h"
#include "switches.h"

#ifndef HASH_TABLES

/* The number of a flow's entry in the table, 0 if it has none. */
static __always_inline __u32 look_for(const struct flow_key *key, __u32 buffer)
{
	__u32 hash = hash_key(key), tag = index_tag(hash), found;
	struct index_place *place;
	struct flow_entry *entry;

#pragma nounroll
	for (__u32 i = 0; i < MOST_PROBES; i++) {
		place = place_at(place_number(hash, i), buffer);
		found = place ? *(volatile __u32 *)&place->word : 0;
		if (!found)
			return 0;
		if ((found & ~number_mask) != tag)
			continue;
		entry = entry_at(found & number_mask, buffer);
		if (entry && same_words((const __u64 *)&entry->key, (const __u64 *)key))
			return found & number_mask;
	}
	return 0;
}

/* The same of a packet that XDP may have counted as one without its VLAN tag. */
static __always_inline __u32 find_number(struct flow_key *key, __u32 buffer)
{
	__u32 number = look_for(key, buffer);

	if (number || !may_hide_tags || !key->vlan_id)
		return number;
	key->vlan_id = 0;
	return look_for(key, buffer);
}

#endif
