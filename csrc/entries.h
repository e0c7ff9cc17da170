/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The entries of the flow tables in shared memory: of the packet programs, and of those that find owners. */
#pragma once

#include <linux/bpf.h>

#include "bpf_helpers.h"
#include "flow.h"

/* Index buffer * table_entries + entry. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct flow_entry);
	MAP_UINT(max_entries, 2);
	MAP_UINT(map_flags, BPF_F_MMAPABLE);
} flows SEC(".maps");
