/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way from the packet program to the one that knows sockets (owner_probe.c): a tail call, only for flows
 * whose owner is not known yet. A program of its own has a stack of its own.
 */
#pragma once

#include <linux/bpf.h>

#include "bpf_helpers.h"
#include "flow.h"
#include "owner.h"
#include "switches.h"

/* By slot * 2 + egress. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_PROG_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u32);
	MAP_UINT(max_entries, 2);
} owner_programs SEC(".maps");

/* Does not return if there is such a program. `place`: of the flow's entry, in its map. */
static __always_inline void ask_for_owner(struct __sk_buff *skb, __u32 place)
{
	skb->cb[0] = place;
	bpf_tail_call(skb, &owner_programs, own_counters / 2);
}
