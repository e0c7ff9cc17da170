/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The packet programs, on a kernel where every other lookup of a flow finds nothing: as it is where another
 * CPU inserts the flow between lookup and insertion.
 */
#include <linux/types.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "flow.h"

SEC(".data.looked") volatile __u32 looked;

static __always_inline bool is_early(void)
{
	return ++looked & 1;
}

#define bpf_map_lookup_elem(map, key)                                                                        \
	(__builtin_types_compatible_p(__typeof__(*(key)), struct flow_key) && is_early()                     \
	     ? (void *)0                                                                                     \
	     : (bpf_map_lookup_elem)(map, key))

#include "xdp_monitor.c"
