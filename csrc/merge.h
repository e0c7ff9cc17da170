/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Adding up what was counted for one flow in several places: in the BPF programs and in user space. */
#pragma once

#include <linux/types.h>
#include <stdbool.h>

#include "flow.h"

/* Whether one number that wraps (a tick, a sequence number) is later than another, less than 2^31 away. */
static inline __attribute__((always_inline)) bool is_later(__u32 one, __u32 other)
{
	return (__s32)(one - other) > 0;
}

/* Adds to counters that nobody else writes. */
static inline __attribute__((always_inline)) void add_counters(struct flow_counters *flow,
							       const struct flow_counters *seen)
{
	int other_dscp = flow->dscp != seen->dscp || seen->dscp_changed;

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
