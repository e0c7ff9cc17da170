// SPDX-License-Identifier: GPL-2.0-or-later
/* A program at tc that is not ours: one verdict about every packet. */
#include <linux/bpf.h>

#include "bpf_helpers.h"

SWITCH(__u32, verdict);

SEC("tc")
int other_tc_program(struct __sk_buff *skb)
{
	(void)skb;
	return (int)verdict;
}

char LICENSE[] SEC("license") = "GPL";
