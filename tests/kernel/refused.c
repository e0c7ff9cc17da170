/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A program the verifier refuses: nothing says that the frame has a first byte. */
#include "bpf_helpers.h"

SEC("xdp/refused") int unchecked(struct xdp_md *ctx)
{
	return *(__u8 *)(long)ctx->data;
}

char LICENSE[] SEC("license") = "GPL";
