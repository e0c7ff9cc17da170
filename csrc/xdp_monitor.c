// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The packet program: parses every frame of one interface and counts it, exactly once, in the flow
 * table that is active. It never changes a frame and passes every one.
 *
 * User space flips `active`, waits a grace period, and then owns the other table's contents: no
 * running program can still write to it. See docs/architecture.md, "Every packet counted exactly once".
 */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "flow.h"
#include "parse.h"

/* Set by the loader, then frozen: the verifier removes what a switch turns off. */
SWITCH(__u8, interface_slot);
SWITCH(__u8, has_frags);      /* loaded with BPF_F_XDP_HAS_FRAGS: frames may have fragments */
SWITCH(__u8, is_realtime);    /* PREEMPT_RT: softirqs do not exclude each other on one CPU */
SWITCH(__u32, slots);	      /* interface slots the counters map has room for */
SWITCH(__u32, possible_cpus); /* CPUs the front cache has room for */
SWITCH(__u32, cache_entries); /* of one CPU's front cache; a power of two, <= FRONT_CACHE_ENTRIES */
SWITCH(__u64, jiffy_ns);      /* length of a kernel tick */
SWITCH(__u64, jiffies_base);  /* jiffies64 when CLOCK_MONOTONIC was 0 */

/* Which buffer counts: 0 is A, 1 is B. In a map of its own, written through mmap(). */
SEC(".data.active") volatile __u32 active;

struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_TYPE(key, struct flow_key);
	MAP_TYPE(value, struct flow_counters);
	MAP_UINT(max_entries, DEFAULT_MAX_FLOWS);
} flows_a SEC(".maps"), flows_b SEC(".maps");

/*
 * In front of the table of each buffer, per CPU, a direct-mapped cache: most packets belong to a flow
 * seen a moment ago, and find it there without hashing for, locking or sharing the table. Index
 * (buffer * possible_cpus + cpu) * cache_entries + hash.
 */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct flow_entry);
	MAP_UINT(max_entries, 2 * FRONT_CACHE_ENTRIES);
} front_cache SEC(".maps");

/* Index (buffer * slots + slot) * 2 + egress. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct interface_counters);
	MAP_UINT(max_entries, 4);
} counters SEC(".maps");

/*
 * Never looked up. Replacing its one element makes the kernel wait until every program that runs now
 * has ended (maybe_wait_bpf_programs() in kernel/bpf/syscall.c): the grace period.
 */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	MAP_TYPE(key, __u32);
	MAP_UINT(max_entries, 1);
	MAP_INNER(
	    values, struct {
		    MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
		    MAP_TYPE(key, __u32);
		    MAP_TYPE(value, __u32);
		    MAP_UINT(max_entries, 1);
	    });
} grace SEC(".maps");

/*
 * CLOCK_MONOTONIC to the kernel's tick. The verifier makes bpf_jiffies64() one load, where
 * bpf_ktime_get_ns() costs more than all the rest of a cache hit.
 */
static __always_inline __u64 now_ns(void)
{
	return (bpf_jiffies64() - jiffies_base) * jiffy_ns;
}

/* Bit i of the flags byte to bit i of byte i: copy the byte to all eight, keep the diagonal. */
static __always_inline __u64 spread_flags(__u8 flags)
{
	return flags * 0x0101010101010101ULL & 0x8040201008040201ULL;
}

/* Into counters that no other CPU writes. On PREEMPT_RT another softirq of this CPU might. */
static __always_inline void add_on_this_cpu(struct packet_count *count, const struct flow_entry *entry)
{
	if (is_realtime) {
		__sync_fetch_and_add(&count->packets, entry->counters.packets);
		__sync_fetch_and_add(&count->bytes, entry->counters.bytes);
	} else {
		count->packets += entry->counters.packets;
		count->bytes += entry->counters.bytes;
	}
}

/* Into a table's counters. `alone`: no other CPU writes to them now. */
static __always_inline void add_to_flow(struct flow_counters *flow, const struct flow_counters *seen,
					bool alone)
{
	__u8 *flags = (__u8 *)&flow->tcp_flags;

	__sync_fetch_and_add(&flow->packets, seen->packets);
	__sync_fetch_and_add(&flow->bytes, seen->bytes);
	if (flow->last_ns < seen->last_ns)
		flow->last_ns = seen->last_ns;
	if (flow->first_ns > seen->first_ns)
		flow->first_ns = seen->first_ns;
	if (alone) {
		flow->tcp_flags |= seen->tcp_flags;
		return;
	}
	if (likely(!(seen->tcp_flags & ~flow->tcp_flags)))
		return;
#pragma unroll
	for (int i = 0; i < 8; i++) {
		if (seen->tcp_flags >> i * 9 & 1)
			*(volatile __u8 *)(flags + i) = 1 << i;
	}
}

/* Returns 0, or a negative error where the table cannot take the entry. */
static __always_inline long count_in_table(void *table, const struct flow_entry *entry, bool alone)
{
	struct flow_counters *flow = bpf_map_lookup_elem(table, &entry->key);
	long error;

	if (!flow) {
		error = bpf_map_update_elem(table, &entry->key, &entry->counters, BPF_NOEXIST);
		if (error != -EEXIST)
			return error;
		/* another CPU inserted the flow since the lookup */
		flow = bpf_map_lookup_elem(table, &entry->key);
		if (!flow)
			return -ENOENT;
	}
	add_to_flow(flow, &entry->counters, alone);
	return 0;
}

static __always_inline struct interface_counters *counters_of(const struct flow_key *key, __u32 buffer)
{
	__u32 index = (buffer * slots + key->slot) * 2 + (key->flags & FLOW_EGRESS ? 1 : 0);

	return bpf_map_lookup_elem(&counters, &index);
}

/* An entry leaves the cache, or never was in it: to its flow in the table, else unattributed. */
static __always_inline void store_entry(const struct flow_entry *entry, __u32 buffer, bool alone)
{
	struct interface_counters *interface;
	__u32 type;
	long error;

	if (buffer)
		error = count_in_table(&flows_b, entry, alone);
	else
		error = count_in_table(&flows_a, entry, alone);
	if (likely(!error))
		return;
	interface = counters_of(&entry->key, buffer);
	type = traffic_type(&entry->key);
	if (interface && type < TRAFFIC_TYPES)
		add_on_this_cpu(&interface->unattributed[type], entry);
}

/* Multiply-and-add over the key's words, the well-mixed upper half returned. */
static __always_inline __u32 hash_key(const struct flow_key *key)
{
	const __u64 *words = (const __u64 *)key;

	return (words[0] * 0x9e3779b97f4a7c15ULL + words[1] * 0xc2b2ae3d27d4eb4fULL +
		words[2] * 0x165667b19e3779f9ULL + words[3] * 0xd6e8feb86659fd93ULL +
		words[4] * 0xff51afd7ed558ccdULL + words[5] * 0xc4ceb9fe1a85ec53ULL) >>
	       32;
}

static __always_inline bool same_key(const struct flow_key *one, const struct flow_key *other)
{
	const __u64 *a = (const __u64 *)one, *b = (const __u64 *)other;

	return a[4] == b[4] && a[1] == b[1] && a[3] == b[3] && a[0] == b[0] && a[2] == b[2] && a[5] == b[5];
}

/*
 * The one place where a packet is counted: in the total of its interface and direction, and in its
 * flow: through the front cache, whose older entry makes room where two flows meet.
 */
static __always_inline void count_packet(const struct flow_entry *packet, __u32 buffer)
{
	struct interface_counters *interface = counters_of(&packet->key, buffer);
	struct flow_entry *cached;
	__u32 index;

	if (!interface)
		return; /* cannot be: the loader sizes the map for every slot it hands out */
	add_on_this_cpu(&interface->total, packet);

	index = (buffer * possible_cpus + bpf_get_smp_processor_id()) * cache_entries +
		(hash_key(&packet->key) & (cache_entries - 1));
	cached = bpf_map_lookup_elem(&front_cache, &index);
	if (is_realtime || !cached) {
		store_entry(packet, buffer, false);
		return;
	}
	if (likely(same_key(&cached->key, &packet->key)) && cached->counters.packets) {
		cached->counters.packets += packet->counters.packets;
		cached->counters.bytes += packet->counters.bytes;
		cached->counters.last_ns = packet->counters.last_ns;
		cached->counters.tcp_flags |= packet->counters.tcp_flags;
		return;
	}
	if (cached->counters.packets)
		store_entry(cached, buffer, false);
	*cached = *packet;
}

SEC("xdp/ingress")
int xdp_ingress(struct xdp_md *ctx)
{
	struct cursor cursor = {(void *)(long)ctx->data, (void *)(long)ctx->data_end};
	struct flow_entry packet = {};

	packet.key.slot = interface_slot;
	packet.counters.packets = 1;
	packet.counters.bytes = has_frags ? bpf_xdp_get_buff_len(ctx) : ctx->data_end - ctx->data;
	packet.counters.first_ns = now_ns();
	packet.counters.last_ns = packet.counters.first_ns;
	packet.counters.tcp_flags = spread_flags(parse_packet(&cursor, &packet.key));
	/* `active` is read once: a packet is in one buffer with all its counters */
	count_packet(&packet, active != 0);
	return XDP_PASS;
}

/*
 * Run by user space (BPF_PROG_TEST_RUN, repeated) between grace period and drain: moves what the front
 * cache of the inactive buffer holds into its table. Never attached.
 */
SEC("xdp/flush")
int flush_cache(struct xdp_md *ctx)
{
	struct cursor cursor = {(void *)(long)ctx->data, (void *)(long)ctx->data_end};
	struct flush_request *request = take(&cursor, sizeof(*request));
	struct flow_entry *cached;
	__u32 entries = possible_cpus * cache_entries;
	__u32 buffer, next, index;

	if (!request)
		return XDP_ABORTED;
	buffer = request->buffer != 0;
	next = request->next;
	request->next = next + FLUSH_ENTRIES;
	for (int i = 0; i < FLUSH_ENTRIES; i++, next++) {
		if (next >= entries)
			break; /* what follows is the other buffer's */
		index = buffer * entries + next;
		cached = bpf_map_lookup_elem(&front_cache, &index);
		if (!cached || !cached->counters.packets)
			continue;
		store_entry(cached, buffer, true);
		cached->counters.packets = 0;
	}
	return XDP_PASS;
}

/* Run by user space: writes now_ns() into the frame, to be set against CLOCK_MONOTONIC. Never attached. */
SEC("xdp/clock")
int sample_clock(struct xdp_md *ctx)
{
	struct cursor cursor = {(void *)(long)ctx->data, (void *)(long)ctx->data_end};
	__u64 *sample = take(&cursor, sizeof(*sample));

	if (!sample)
		return XDP_ABORTED;
	*sample = now_ns();
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
