/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hash and comparison of flow keys. */
#pragma once

#include <linux/types.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "flow.h"
#include "parse.h"
#include "switches.h"

#define PLAIN_PROTOCOL_SHIFT 40 /* of the protocol in plain_rest, above ports and slot */
#define PLAIN_EGRESS_SHIFT 48
#define PLAIN_VLAN_SHIFT 52

/* Where those, and what else a plain frame's key may have, stand in the last word of a key. */
#define KEY_PLACE_MASK 0x0000ffff00000000 /* slot and protocol */
#define KEY_EGRESS_SHIFT 56
#define KEY_FIXED_MASK 0xfeff0000fffff000 /* all but slot, protocol, direction, VLAN id */
#define KEY_FIXED_IPV4 ((__u64)ETHERTYPE_IPV4 << 16)

/*
 * The words of a flow are multiplied and added, then mixed, or flows that count up in address and port would
 * stand side by side. This is the upper half, whose upper bits are the best mixed. The multipliers are
 * random: nobody can choose flows whose hashes are equal.
 */
static __always_inline __u32 mix(__u64 sum)
{
	return (sum ^ sum >> 32) * 0x9e3779b97f4a7c15ULL >> 32;
}

/* The hash of a flow of IPv4 by its addresses and all else, as plain frames have them (plain.h). */
static __always_inline __u32 hash_plain(__u64 addresses, __u64 rest)
{
	return mix(addresses * hash_0 + rest * hash_1);
}

/* Of a key that plain frames may have, what hash_plain() takes. */
static __always_inline __u64 key_addresses(const struct flow_key *key)
{
	return *(const __u32 *)(key->src + 12) | (__u64) * (const __u32 *)(key->dst + 12) << 32;
}

static __always_inline __u64 key_rest(const struct flow_key *key, __u64 last_word)
{
	return be16(key->src_port) | (__u64)be16(key->dst_port) << 16 | (last_word & KEY_PLACE_MASK) |
	       (last_word >> KEY_EGRESS_SHIFT & FLOW_EGRESS) << PLAIN_EGRESS_SHIFT |
	       last_word << PLAIN_VLAN_SHIFT;
}

/* The hash of a key: of one that plain frames may have, what they are hashed to without making it. */
static __always_inline __u32 hash_key(const struct flow_key *key)
{
	const __u64 *words = (const __u64 *)key;

	if (!key->src_qpn && (words[5] & KEY_FIXED_MASK) == KEY_FIXED_IPV4)
		return hash_plain(key_addresses(key), key_rest(key, words[5]));
	return mix(words[0] * hash_0 + words[1] * hash_1 + words[2] * hash_2 + words[3] * hash_3 +
		   words[4] * hash_4 + words[5] * hash_5);
}

/* Where the flow of a packet is, if it is there. */
struct flow_place {
	__u32 buffer;
	__u32 hash;
	struct recent_flow *recent; /* on this CPU; NULL if no recent flows are kept */
	__u64 plain_addresses;
	__u64 plain_rest; /* 0 if the frame is not plain */
};

static __always_inline bool same_words(const __u64 *a, const __u64 *b)
{
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) |
		 (a[5] ^ b[5]));
}
