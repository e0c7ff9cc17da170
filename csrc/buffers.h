/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every program with two buffers has: the word that says which one counts, and the map whose update
 * is the grace period. User space: xtrace/monitors/buffers.py.
 */
#pragma once

#include "bpf_helpers.h"

/* Which buffer counts: 0 is A, 1 is B. In a map of its own, written through mmap(). */
SEC(".data.active") volatile __u32 active;

/*
 * Never looked up. Replacing its one element makes the kernel wait until every program that runs now
 * has ended (maybe_wait_bpf_programs() in kernel/bpf/syscall.c): the grace period.
 */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	MAP_TYPE(key, __u32);
	MAP_UINT(max_entries, 1);
	MAP_INNER(
	    values, struct {
		    MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
		    MAP_TYPE(key, __u32);
		    MAP_TYPE(value, __u32);
		    MAP_UINT(max_entries, 1);
	    });
} grace SEC(".maps");
