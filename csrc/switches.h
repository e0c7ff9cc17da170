/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the loader sets in the packet programs, then freezes: the verifier removes what a switch turns off. */
#pragma once

#include "bpf_helpers.h"

SWITCH(__u8, interface_slot);
SWITCH(__u8, has_frags);      /* loaded with BPF_F_XDP_HAS_FRAGS: frames may have fragments */
SWITCH(__u8, is_egress);      /* tc: attached where frames leave */
SWITCH(__u8, link_layer);     /* LINK_LAYER_* */
SWITCH(__u8, is_realtime);    /* PREEMPT_RT: softirqs do not exclude each other on one CPU */
SWITCH(__u8, knows_ipsec);    /* the kernel says which packets it has decrypted (CONFIG_XFRM) */
SWITCH(__u32, slots);	      /* interface slots the counters map has room for */
SWITCH(__u32, possible_cpus); /* CPUs the front cache has room for */
SWITCH(__u32, cache_entries); /* of one CPU's front cache; a power of two, <= FRONT_CACHE_ENTRIES */
SWITCH(__u64, jiffy_ns);      /* length of a kernel tick */
SWITCH(__u64, jiffies_base);  /* jiffies64 when CLOCK_MONOTONIC was 0 */

/* Filters, all off by default. Which traffic types are wanted: bit 1 << TRAFFIC_*; 0 is all. */
SWITCH(__u16, wanted_types);
SWITCH(__u8, has_networks);	     /* src or dst must be in `networks` */
SWITCH(__u8, has_excluded_networks); /* neither may be in `excluded_networks` */
SWITCH(__u8, has_ports);	     /* src or dst port must be in `ports` */
SWITCH(__u8, excludes_dns);
SWITCH(__u8,
       peels_tunnels); /* --tunnel inner: flows, and what the filters look at, are of packets in packets */
