// SPDX-License-Identifier: GPL-2.0-or-later
/* An XDP program that is not ours: it passes every frame. */
#include <linux/bpf.h>

#include "bpf_helpers.h"

SEC("xdp/other")
int other_program(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
