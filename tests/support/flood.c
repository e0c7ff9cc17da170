// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The load generator: BPF_PROG_TEST_RUN sends this program's frames, one after the other, out of an
 * interface; each run gives the frame the next flow's source address and port.
 */
#include <linux/bpf.h>

#include "bpf_helpers.h"
#include "parse.h"

static long (*bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect;

SWITCH(__u32, target_ifindex);
SWITCH(__u32, flows); /* how many to go through; a power of two */

__u32 next;

SEC("xdp/flood")
int flood(struct xdp_md *ctx)
{
	struct cursor cursor = in_frame((void *)(long)ctx->data, (void *)(long)ctx->data_end, 0);
	struct ethernet_header *ethernet = take(&cursor, sizeof(*ethernet));
	struct ipv4_header *ip = take(&cursor, sizeof(*ip));
	struct ports_header *ports = take(&cursor, sizeof(*ports));
	__u32 flow = next++ & (flows - 1);

	if (!ethernet || !ip || !ports)
		return XDP_ABORTED;
	ip->src[2] = flow >> 8;
	ip->src[3] = flow;
	ports->src_port = __builtin_bswap16(1024 + (flow & 0x3fff));
	return bpf_redirect(target_ifindex, 0);
}

char LICENSE[] SEC("license") = "GPL";
