// SPDX-License-Identifier: GPL-2.0-or-later
/* Hands every packet to the peer of an interface, as some container networks do for their pods. */
#include <linux/bpf.h>

#include "bpf_helpers.h"

SWITCH(__u32, ifindex);

static long (*redirect_peer)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect_peer;

SEC("tc")
int hand_to_peer(struct __sk_buff *skb)
{
	(void)skb;
	return (int)redirect_peer(ifindex, 0);
}

char LICENSE[] SEC("license") = "GPL";
