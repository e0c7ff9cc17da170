/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hash and comparison of flow keys. */
#pragma once

#include <linux/types.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "flow.h"
#include "parse.h"
#include "switches.h"

/*
 * What plain frames (plain.h) with the same addresses are told apart by, in one word that is made of such a
 * frame as it is on the wire, and turned into the last two words of its key and back:
 *
 *	bit 0	both ports as on the wire; of RoCE v2 the opcode, then the queue pair as on the wire
 *	32, 40	slot and protocol, where a key's last word has them
 *	48	PLAIN_*
 *	52	VLAN id
 */
#define PLAIN_PROTOCOL_SHIFT 40
#define PLAIN_EGRESS (1ULL << 48)
#define PLAIN_ROCE (1ULL << 49)
#define PLAIN_IPV6 (1ULL << 50)
#define PLAIN_VLAN_SHIFT 52

/* A key's last word. */
#define KEY_ETHERTYPE_SHIFT 16
#define KEY_PLACE_MASK 0x0000ffff00000000 /* slot and protocol */
#define KEY_OPCODE_SHIFT 48
#define KEY_EGRESS ((__u64)FLOW_EGRESS << 56)
#define KEY_ROCE ((__u64)FLOW_ROCE_V2 << 56)
#define KEY_FIXED_MASK 0xf6000000fffff000 /* without what plain frames may differ in */
#define KEY_FIXED_IPV4 ((__u64)ETHERTYPE_IPV4 << KEY_ETHERTYPE_SHIFT)
#define KEY_FIXED_IPV6 ((__u64)ETHERTYPE_IPV6 << KEY_ETHERTYPE_SHIFT)

#define OPCODE_MASK 0xff

/*
 * The halves of a word, each with a random number added, are multiplied, and the words' products added. Of
 * such a sum the upper half is the same for two flows once in 2^32, whatever these are: nobody can choose
 * flows whose hashes are equal (pair multiply-shift: M. Thorup, High Speed Hashing for Integers and Strings).
 * Products of whole words are no such thing: of words that differ in their upper bits alone, they do, too,
 * and so do their sums.
 */
static __always_inline __u64 product_of(__u32 lower, __u32 upper, __u64 first, __u64 second)
{
	return (lower + first) * (upper + second);
}

static __always_inline __u64 product(__u64 word, __u64 first, __u64 second)
{
	return product_of(word, word >> 32, first, second);
}

/* Flows that count up in address and port would stand at equal distances. Different sums stay different. */
static __always_inline __u32 mix(__u64 sum)
{
	__u32 upper = (__u32)(sum >> 32) * 0x9e3779b1;

	return upper ^ upper >> 15;
}

/* The hash of a flow of IPv4, by both addresses as on the wire and the halves of all else. */
static __always_inline __u32 hash_ipv4(__u32 src, __u32 dst, __u32 lower, __u32 upper)
{
	return mix(product_of(src, dst, hash_0, hash_1) + product_of(lower, upper, hash_2, hash_3));
}

/* The same of IPv6: its addresses are four words. */
static __always_inline __u32 hash_ipv6(const __u64 *addresses, __u64 rest)
{
	return mix(product(addresses[0], hash_4, hash_5) + product(addresses[1], hash_6, hash_7) +
		   product(addresses[2], hash_8, hash_9) + product(addresses[3], hash_10, hash_11) +
		   product(rest, hash_2, hash_3));
}

/* Two ports from the order on the wire to that of the host, or back. */
static __always_inline __u32 swap_ports(__u32 ports)
{
	__u32 swapped = __builtin_bswap32(ports);

	return swapped << 16 | swapped >> 16;
}

/* The word of a plain frame's key with the ports, or the queue pair. */
static __always_inline __u64 ports_word(__u64 rest)
{
	return rest & PLAIN_ROCE ? __builtin_bswap32(rest & ~OPCODE_MASK) : swap_ports(rest);
}

/* The last word of a plain frame's key. */
static __always_inline __u64 last_word(__u64 rest)
{
	__u64 word = rest >> PLAIN_VLAN_SHIFT | (rest & KEY_PLACE_MASK);

	word |= rest & PLAIN_IPV6 ? KEY_FIXED_IPV6 : KEY_FIXED_IPV4;
	if (rest & PLAIN_EGRESS)
		word |= KEY_EGRESS;
	if (rest & PLAIN_ROCE)
		word |= KEY_ROCE | (rest & OPCODE_MASK) << KEY_OPCODE_SHIFT;
	return word;
}

/* Of a key that plain frames may have, what those are told apart by. */
static __always_inline __u64 rest_of(__u64 ports, __u64 last)
{
	__u64 rest = last << PLAIN_VLAN_SHIFT | (last & KEY_PLACE_MASK);

	if (last & KEY_EGRESS)
		rest |= PLAIN_EGRESS;
	if (last & KEY_ROCE)
		return rest | PLAIN_ROCE | __builtin_bswap32(ports) |
		       (last >> KEY_OPCODE_SHIFT & OPCODE_MASK);
	return rest | swap_ports(ports);
}

/* The hash of a key: of one that plain frames may have, what they are hashed to without making it. */
static __always_inline __u32 hash_key(const struct flow_key *key)
{
	const __u64 *words = (const __u64 *)key;
	__u64 fixed = key->src_qpn ? 0 : words[5] & KEY_FIXED_MASK;
	__u64 rest = rest_of(words[4], words[5]);

	if (fixed == KEY_FIXED_IPV4)
		return hash_ipv4(words[1] >> 32, words[3] >> 32, rest, rest >> 32);
	if (fixed == KEY_FIXED_IPV6)
		return hash_ipv6(words, rest | PLAIN_IPV6);
	return mix(product(words[0], hash_0, hash_1) + product(words[1], hash_2, hash_3) +
		   product(words[2], hash_4, hash_5) + product(words[3], hash_6, hash_7) +
		   product(words[4], hash_8, hash_9) + product(words[5], hash_10, hash_11));
}

/* Where the flow of a packet is, if it is there. */
struct flow_place {
	__u32 buffer;
	__u32 hash;
	__u64 plain_addresses;
	__u64 plain_rest; /* 0 if the frame is not plain */
};

static __always_inline bool same_words(const __u64 *a, const __u64 *b)
{
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) |
		 (a[5] ^ b[5]));
}
