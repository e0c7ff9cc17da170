/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Double buffering: the word that selects the active buffer, and the map that provides a grace period.
 * User space: xtrace/monitors/buffers.py.
 */
#pragma once

#include "bpf_helpers.h"

/* The active buffer: 0 is A, 1 is B. In its own map, written through mmap(). */
SEC(".data.active") volatile __u32 active;

/*
 * Never looked up. Replacing its only element makes the kernel wait until every program that is running
 * now has ended (maybe_wait_bpf_programs() in kernel/bpf/syscall.c): the grace period.
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
