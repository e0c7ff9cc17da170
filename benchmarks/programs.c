// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the packet program is measured against: `empty` passes every frame, `naive` is the simplest exact
 * per-flow counter one could write (IPv4 5-tuple, one hash map, atomic adds). Three more have the shape of
 * what others do: `tutorial` (packets by source address, read, incremented and stored again, so not exact),
 * `per_cpu_lru` (5-tuple in an LRU hash with values per CPU, and times, as agents that aggregate in the
 * kernel), `ring` (every packet to user space, as agents that aggregate there). `scatter` gives a frame the
 * addresses of one of many flows, then calls the program that is measured.
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

struct times {
	struct packet_count count;
	__u64 first;
	__u64 last;
};

struct event {
	struct naive_key key;
	__u64 length;
	__u64 when;
};

struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_TYPE(key, struct naive_key);
	MAP_TYPE(value, struct packet_count);
	MAP_UINT(max_entries, DEFAULT_MAX_FLOWS);
} naive_flows SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
	MAP_UINT(max_entries, DEFAULT_MAX_FLOWS);
} tutorial_sources SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	MAP_TYPE(key, struct naive_key);
	MAP_TYPE(value, struct times);
	MAP_UINT(max_entries, DEFAULT_MAX_FLOWS);
} lru_flows SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_RINGBUF);
	MAP_UINT(max_entries, 1 << 24);
} events SEC(".maps");

static void *(*bpf_ringbuf_reserve)(void *ring, __u64 size, __u64 flags) = (void *)BPF_FUNC_ringbuf_reserve;
static void (*bpf_ringbuf_submit)(void *data, __u64 flags) = (void *)BPF_FUNC_ringbuf_submit;

/* The headers of an IPv4 frame; NULL if it is another one. */
static __always_inline struct ipv4_header *ip_of(long data, long end, struct ports_header **ports)
{
	struct cursor cursor = in_frame((void *)data, (void *)end, 0);
	struct ethernet_header *ethernet = take(&cursor, sizeof(*ethernet));
	struct ipv4_header *ip = take(&cursor, sizeof(*ip));

	*ports = take(&cursor, sizeof(**ports));
	if (!ethernet || !ip || !*ports || be16(ethernet->ethertype) != ETHERTYPE_IPV4)
		return 0;
	return ip;
}

static __always_inline struct naive_key key_of(const struct ipv4_header *ip, const struct ports_header *ports)
{
	struct naive_key key = {};

	__builtin_memcpy(key.src, ip->src, 4);
	__builtin_memcpy(key.dst, ip->dst, 4);
	key.src_port = ports->src_port;
	key.dst_port = ports->dst_port;
	key.protocol = ip->protocol;
	return key;
}

static __always_inline void count_naive(long data, long end, __u64 length)
{
	struct packet_count first = {1, length}, *count;
	struct ports_header *ports;
	struct ipv4_header *ip = ip_of(data, end, &ports);
	struct naive_key key;

	if (!ip)
		return;
	key = key_of(ip, ports);
	count = bpf_map_lookup_elem(&naive_flows, &key);
	if (!count) {
		bpf_map_update_elem(&naive_flows, &key, &first, BPF_NOEXIST);
		return;
	}
	__sync_fetch_and_add(&count->packets, 1);
	__sync_fetch_and_add(&count->bytes, first.bytes);
}

SEC("xdp/empty") int empty(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

SEC("xdp/naive") int naive(struct xdp_md *ctx)
{
	count_naive(ctx->data, ctx->data_end, ctx->data_end - ctx->data);
	return XDP_PASS;
}

SEC("tc") int empty_tc(struct __sk_buff *skb)
{
	(void)skb;
	return 0;
}

SEC("tc") int naive_tc(struct __sk_buff *skb)
{
	count_naive(skb->data, skb->data_end, skb->len);
	return 0;
}

SEC("xdp/tutorial") int tutorial(struct xdp_md *ctx)
{
	struct ports_header *ports;
	struct ipv4_header *ip = ip_of(ctx->data, ctx->data_end, &ports);
	__u64 packets = 1, *before;
	__u32 source;

	if (!ip)
		return XDP_PASS;
	__builtin_memcpy(&source, ip->src, 4);
	before = bpf_map_lookup_elem(&tutorial_sources, &source);
	if (before)
		packets += *before;
	bpf_map_update_elem(&tutorial_sources, &source, &packets, BPF_ANY);
	return XDP_PASS;
}

SEC("xdp/per_cpu_lru") int per_cpu_lru(struct xdp_md *ctx)
{
	__u64 length = ctx->data_end - ctx->data, now;
	struct times first = {{1, length}, 0, 0}, *flow;
	struct ports_header *ports;
	struct ipv4_header *ip = ip_of(ctx->data, ctx->data_end, &ports);
	struct naive_key key;

	if (!ip)
		return XDP_PASS;
	key = key_of(ip, ports);
	now = bpf_ktime_get_ns();
	flow = bpf_map_lookup_elem(&lru_flows, &key);
	if (!flow) {
		first.first = first.last = now;
		bpf_map_update_elem(&lru_flows, &key, &first, BPF_ANY);
		return XDP_PASS;
	}
	flow->count.packets++;
	flow->count.bytes += length;
	flow->last = now;
	return XDP_PASS;
}

SEC("xdp/ring") int ring(struct xdp_md *ctx)
{
	struct ports_header *ports;
	struct ipv4_header *ip = ip_of(ctx->data, ctx->data_end, &ports);
	struct event *event = ip ? bpf_ringbuf_reserve(&events, sizeof(*event), 0) : 0;

	if (!event)
		return XDP_PASS;
	event->key = key_of(ip, ports);
	event->length = ctx->data_end - ctx->data;
	event->when = bpf_ktime_get_ns();
	bpf_ringbuf_submit(event, 0);
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
	struct ports_header *ports;
	struct ipv4_header *ip = ip_of(ctx->data, ctx->data_end, &ports);

	if (!ip)
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
