/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hash and comparison of flow keys, as six words. */
#pragma once

#include <linux/types.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "flow.h"
#include "switches.h"

/*
 * Multiply and add, then mix, or flows that count up in address and port would stand side by side. Returns
 * the upper half, whose upper bits are the best mixed. The multipliers are random: nobody can choose flows
 * whose hashes are equal.
 */
static __always_inline __u32 hash_words(const __u64 *words)
{
	__u64 sum = words[0] * hash_0 + words[1] * hash_1 + words[2] * hash_2 + words[3] * hash_3 +
		    words[4] * hash_4 + words[5] * hash_5;

	return (sum ^ sum >> 32) * 0x9e3779b97f4a7c15ULL >> 32;
}

static __always_inline bool same_words(const __u64 *a, const __u64 *b)
{
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) |
		 (a[5] ^ b[5]));
}
