/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A program that runs for about a millisecond, long enough to meet it at work. */
#include "bpf_helpers.h"

SEC(".data.begun") volatile __u32 begun;
SEC(".data.ended") volatile __u32 ended;

SEC("xdp/slow") int slow(struct xdp_md *ctx)
{
	__u32 run = begun + 1;

	begun = run;
#pragma clang loop unroll(disable)
	for (int i = 0; i < 50000; i++)
		bpf_ktime_get_ns();
	ended = run;
	return ctx->rx_queue_index ? XDP_ABORTED : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
