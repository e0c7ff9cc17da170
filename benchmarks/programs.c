// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the packet program is measured against: `empty` passes every frame, `naive` is the simplest
 * exact per-flow counter one could write (IPv4 5-tuple, one hash map, atomic adds). `scatter` gives a
 * frame the addresses of one of many flows, then calls the program that is measured.
 */
#include <linux/bpf.h>

#include "bpf_helpers.h"
#include "parse.h"

struct naive_key {
	__u8 src[4];
	__u8 dst[4];
	__be16 src_port;
	__be16 dst_port;
	__u8 protocol;
	__u8 padding[3];
};

struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_TYPE(key, struct naive_key);
	MAP_TYPE(value, struct packet_count);
	MAP_UINT(max_entries, DEFAULT_MAX_FLOWS);
} naive_flows SEC(".maps");

SEC("xdp/empty") int empty(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

SEC("xdp/naive") int naive(struct xdp_md *ctx)
{
	struct cursor cursor = in_frame((void *)(long)ctx->data, (void *)(long)ctx->data_end, 0);
	struct ethernet_header *ethernet = take(&cursor, sizeof(*ethernet));
	struct ipv4_header *ip = take(&cursor, sizeof(*ip));
	struct ports_header *ports = take(&cursor, sizeof(*ports));
	struct packet_count first = {1, ctx->data_end - ctx->data}, *count;
	struct naive_key key = {};

	if (!ethernet || !ip || !ports || be16(ethernet->ethertype) != ETHERTYPE_IPV4)
		return XDP_PASS;
	__builtin_memcpy(key.src, ip->src, 4);
	__builtin_memcpy(key.dst, ip->dst, 4);
	key.src_port = ports->src_port;
	key.dst_port = ports->dst_port;
	key.protocol = ip->protocol;
	count = bpf_map_lookup_elem(&naive_flows, &key);
	if (!count) {
		bpf_map_update_elem(&naive_flows, &key, &first, BPF_NOEXIST);
		return XDP_PASS;
	}
	__sync_fetch_and_add(&count->packets, 1);
	__sync_fetch_and_add(&count->bytes, first.bytes);
	return XDP_PASS;
}

SWITCH(__u32, flows);	/* how many there are to choose from */
SWITCH(__u32, train);	/* packets of one flow in a row */
SWITCH(__u8, in_order); /* one flow after the other instead of at random */

struct {
	MAP_UINT(type, BPF_MAP_TYPE_PROG_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u32);
	MAP_UINT(max_entries, 1);
} measured SEC(".maps");

__u32 sent;
__u32 flow;
__u32 state;

SEC("xdp/scatter") int scatter(struct xdp_md *ctx)
{
	struct cursor cursor = in_frame((void *)(long)ctx->data, (void *)(long)ctx->data_end, 0);
	struct ethernet_header *ethernet = take(&cursor, sizeof(*ethernet));
	struct ipv4_header *ip = take(&cursor, sizeof(*ip));
	struct ports_header *ports = take(&cursor, sizeof(*ports));

	if (!ethernet || !ip || !ports)
		return XDP_ABORTED;
	if (sent++ % train == 0) {
		state =
		    state * 1664525 + 1013904223; /* a linear congruence is random enough to miss caches */
		flow = in_order ? sent / train : state >> 8;
		flow %= flows;
	}
	ip->src[1] = flow >> 16;
	ip->src[2] = flow >> 8;
	ip->src[3] = flow;
	ports->src_port = flow * 7;
	bpf_tail_call(ctx, &measured, 0);
	return XDP_ABORTED;
}

char LICENSE[] SEC("license") = "GPL";
