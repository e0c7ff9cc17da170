/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the loader sets in the packet programs, then freezes: the verifier removes what a switch turns off. */
#pragma once

#include "bpf_helpers.h"

SWITCH(__u8, interface_slot);
SWITCH(__u8, has_frags);     /* loaded with BPF_F_XDP_HAS_FRAGS: frames may have fragments */
SWITCH(__u32, frame_flags);  /* of struct xdp_buff in this kernel, in bytes from its start; 0: not known */
SWITCH(__u32, frags_flag);   /* in them: the frame has fragments */
SWITCH(__u8, is_egress);     /* tc: attached where frames leave */
SWITCH(__u8, link_layer);    /* LINK_LAYER_* */
SWITCH(__u8, reads_plain);   /* plain frames by plain.h; off where filters are on */
SWITCH(__u32, plain_place);  /* slot and direction of a plain frame, where flow_hash.h has them */
SWITCH(__u8, is_realtime);   /* PREEMPT_RT: softirqs do not exclude each other on one CPU */
SWITCH(__u8, knows_ipsec);   /* the kernel says which packets it has decrypted (CONFIG_XFRM) */
SWITCH(__u32, own_counters); /* the slot and direction's place among the counters, of buffer A; B's is next */
SWITCH(__u8, keeps_recent);  /* CPUs keep recent flows; never on PREEMPT_RT */
SWITCH(__u32, recent_mask);  /* of the recent flows that each CPU keeps, how many are used, less 1 */
SWITCH(__u32, max_flows);    /* in one table */
SWITCH(__u32, table_entries); /* of one buffer, at least max_flows */
SWITCH(__u32, number_mask);   /* bits of a word of the index that are the number of an entry */
SWITCH(__u32, index_places);  /* of one buffer; a power of two */
SWITCH(__u32, index_mask);    /* that less 1 */

/* What flows are hashed with, random: nobody can choose flows that collide (flow_hash.h). */
SWITCH(__u64, hash_0);
SWITCH(__u64, hash_1);
SWITCH(__u64, hash_2);
SWITCH(__u64, hash_3);
SWITCH(__u64, hash_4);
SWITCH(__u64, hash_5);
SWITCH(__u64, hash_6);
SWITCH(__u64, hash_7);
SWITCH(__u64, hash_8);
SWITCH(__u64, hash_9);
SWITCH(__u64, hash_10);
SWITCH(__u64, hash_11);

/* Filters, all off by default. Which traffic types are wanted: bit 1 << TRAFFIC_*; 0 is all. */
SWITCH(__u16, wanted_types);
SWITCH(__u8, has_networks);	     /* src or dst must be in `networks` */
SWITCH(__u8, has_excluded_networks); /* neither may be in `excluded_networks` */
SWITCH(__u8, has_ports);	     /* src or dst port must be in `ports` */
SWITCH(__u8, excludes_dns);
/* How long the fragments of a datagram may take: what Linux waits for them (net.ipv4.ipfrag_time). */
SWITCH(__u64, fragment_ticks);
SWITCH(__u8,
       peels_tunnels); /* --tunnel inner: flows, and what the filters look at, are of packets in packets */
SWITCH(__u8, may_hide_tags); /* beside XDP: the NIC takes tags off, which XDP then does not see */
SWITCH(__u8, names_owners);  /* --owners: flows in the table are asked for their owner (owner_ask.h) */
