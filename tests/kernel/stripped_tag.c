/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Gives a frame a VLAN tag the way a NIC does: beside the data, not in it. BPF_PROG_TEST_RUN takes no tag
 * from its caller, so that comes in other fields: the EtherType in `mark`, the tag in `priority`.
 */
#include "bpf_helpers.h"

#include <linux/types.h>

static long (*bpf_skb_vlan_push)(struct __sk_buff *skb, __be16 protocol,
				 __u16 tag) = (void *)BPF_FUNC_skb_vlan_push;

struct {
	MAP_UINT(type, BPF_MAP_TYPE_PROG_ARRAY);
	MAP_UINT(key_size, 4);
	MAP_UINT(value_size, 4);
	MAP_UINT(max_entries, 1);
} next SEC(".maps");

SEC("tc") int strip_tag(struct __sk_buff *skb)
{
	if (bpf_skb_vlan_push(skb, __builtin_bswap16(skb->mark), skb->priority))
		return 1;
	bpf_tail_call(skb, &next, 0);
	return 2;
}

char LICENSE[] SEC("license") = "GPL";
