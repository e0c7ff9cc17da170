// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * TCP sockets that end between two dumps. tcp_ends runs when the kernel destroys one, tcp_changes_state when
 * its state changes: it keeps those that close by an error or before there was a connection.
 *
 * The kernel's structures are read at the offsets that its own type information gives, found by user space
 * (monitors/tcp/offsets.py). A member that it does not have is not read, and its value not known.
 */
#include <linux/bpf.h>
#include <linux/errno.h>

#include "bpf_helpers.h"
#include "tcp.h"

#define ABSENT 0xffffffff
#define AF_INET 2
#define AF_INET6 10

/* Bytes from the beginning of struct tcp_sock, or ABSENT. */
SWITCH(__u32, at_family);
SWITCH(__u32, at_local4);
SWITCH(__u32, at_remote4);
SWITCH(__u32, at_local6);
SWITCH(__u32, at_remote6);
SWITCH(__u32, at_local_port);
SWITCH(__u32, at_remote_port);
SWITCH(__u32, at_net);
SWITCH(__u32, at_cookie);
SWITCH(__u32, at_error);
SWITCH(__u32, at_ca_ops);
SWITCH(__u32, at_retransmitted);
SWITCH(__u32, at_segments_sent);
SWITCH(__u32, at_segments_received);
SWITCH(__u32, at_data_sent);
SWITCH(__u32, at_data_received);
SWITCH(__u32, at_bytes_sent);
SWITCH(__u32, at_bytes_retransmitted);
SWITCH(__u32, at_bytes_acked);
SWITCH(__u32, at_bytes_received);
SWITCH(__u32, at_delivered);
SWITCH(__u32, at_delivered_ce);
SWITCH(__u32, at_duplicates);
SWITCH(__u32, at_reordered);
SWITCH(__u32, at_out_of_order);
SWITCH(__u32, at_rtt);
SWITCH(__u32, at_rtt_variance);
SWITCH(__u32, at_min_rtt);
SWITCH(__u32, at_send_mss);
SWITCH(__u32, at_cwnd);
SWITCH(__u32, at_ssthresh);
SWITCH(__u32, at_send_window);
SWITCH(__u32, at_receive_window);
SWITCH(__u32, at_timeouts);
/* From the beginning of struct net, of struct tcp_congestion_ops. */
SWITCH(__u32, at_netns);
SWITCH(__u32, at_ca_name);

static long (*bpf_probe_read_kernel)(void *to, __u32 size,
				     const void *from) = (void *)BPF_FUNC_probe_read_kernel;

struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_TYPE(key, struct tcp_end_key);
	MAP_TYPE(value, struct tcp_sample);
	MAP_UINT(max_entries, TCP_MAX_ENDS);
} ends SEC(".maps");

/* By inode number: those to follow. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u32);
	MAP_UINT(max_entries, TCP_MAX_NAMESPACES);
} namespaces SEC(".maps");

/* The only element: ends that found no room. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
	MAP_UINT(max_entries, 1);
} lost SEC(".maps");

/* A member of a socket; 0 where the kernel does not have it. */
#define MEMBER(type, socket, offset)                                                                         \
	({                                                                                                   \
		type value_ = 0;                                                                             \
		if ((offset) != ABSENT)                                                                      \
			bpf_probe_read_kernel(&value_, sizeof(value_), (const char *)(socket) + (offset));   \
		value_;                                                                                      \
	})

#define FILL(number, type, offset, scaled)                                                                   \
	do {                                                                                                 \
		if ((offset) != ABSENT) {                                                                    \
			__u64 member = MEMBER(type, socket, offset);                                         \
			sample->values[number] = (scaled);                                                   \
			sample->known |= 1ULL << (number);                                                   \
		}                                                                                            \
	} while (0)

static __always_inline __u32 namespace_of(const void *socket)
{
	const void *net = (const void *)MEMBER(__u64, socket, at_net);

	return MEMBER(__u32, net, at_netns);
}

static __always_inline void fill_ends(struct tcp_sample *sample, const void *socket)
{
	__u16 family = MEMBER(__u16, socket, at_family), port;

	if (family == AF_INET6 && at_local6 != ABSENT) {
		bpf_probe_read_kernel(sample->local, 16, (const char *)socket + at_local6);
		bpf_probe_read_kernel(sample->remote, 16, (const char *)socket + at_remote6);
	} else {
		sample->local[10] = sample->local[11] = sample->remote[10] = sample->remote[11] = 0xff;
		bpf_probe_read_kernel(sample->local + 12, 4, (const char *)socket + at_local4);
		bpf_probe_read_kernel(sample->remote + 12, 4, (const char *)socket + at_remote4);
	}
	port = MEMBER(__u16, socket, at_local_port);
	sample->local_port = __builtin_bswap16(port);
	port = MEMBER(__u16, socket, at_remote_port);
	sample->remote_port = __builtin_bswap16(port);
}

static __always_inline void fill_values(struct tcp_sample *sample, const void *socket)
{
	const char *algorithm = (const char *)MEMBER(__u64, socket, at_ca_ops);

	FILL(TCP_RETRANSMITTED, __u32, at_retransmitted, member);
	FILL(TCP_SEGMENTS_SENT, __u32, at_segments_sent, member);
	FILL(TCP_SEGMENTS_RECEIVED, __u32, at_segments_received, member);
	FILL(TCP_DATA_SENT, __u32, at_data_sent, member);
	FILL(TCP_DATA_RECEIVED, __u32, at_data_received, member);
	FILL(TCP_BYTES_SENT, __u64, at_bytes_sent, member);
	FILL(TCP_BYTES_RETRANSMITTED, __u64, at_bytes_retransmitted, member);
	FILL(TCP_BYTES_ACKED, __u64, at_bytes_acked, member);
	FILL(TCP_BYTES_RECEIVED, __u64, at_bytes_received, member);
	FILL(TCP_DELIVERED, __u32, at_delivered, member);
	FILL(TCP_DELIVERED_CE, __u32, at_delivered_ce, member);
	FILL(TCP_DUPLICATES, __u32, at_duplicates, member);
	FILL(TCP_REORDERED, __u32, at_reordered, member);
	FILL(TCP_OUT_OF_ORDER, __u32, at_out_of_order, member);
	/* scaled as tcp_get_info() does (net/ipv4/tcp.c) */
	FILL(TCP_RTT, __u32, at_rtt, member >> 3);
	FILL(TCP_RTT_VARIANCE, __u32, at_rtt_variance, member >> 2);
	FILL(TCP_MIN_RTT, __u32, at_min_rtt, member);
	FILL(TCP_SEND_MSS, __u32, at_send_mss, member);
	FILL(TCP_CWND, __u32, at_cwnd, member);
	FILL(TCP_SSTHRESH, __u32, at_ssthresh, member);
	FILL(TCP_SEND_WINDOW, __u32, at_send_window, member);
	FILL(TCP_RECEIVE_WINDOW, __u32, at_receive_window, member);
	FILL(TCP_TIMEOUTS, __u8, at_timeouts, member);
	if (algorithm && at_ca_name != ABSENT)
		bpf_probe_read_kernel(sample->congestion, sizeof(sample->congestion), algorithm + at_ca_name);
}

static __always_inline int keep(const void *socket, __u8 event, __u8 state, __u16 error)
{
	struct tcp_end_key key = {.socket = (__u64)socket};
	__u32 netns = namespace_of(socket), first = 0;
	struct tcp_sample sample;
	__u64 *missing;

	if (!bpf_map_lookup_elem(&namespaces, &netns))
		return 0;
	__builtin_memset(&sample, 0, sizeof(sample));
	fill_ends(&sample, socket);
	fill_values(&sample, socket);
	sample.netns = netns;
	sample.cookie = MEMBER(__u64, socket, at_cookie);
	sample.event = event;
	sample.state = state;
	sample.error = error;
	key.at_ns = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&ends, &key, &sample, BPF_NOEXIST)) {
		missing = bpf_map_lookup_elem(&lost, &first);
		if (missing)
			__sync_fetch_and_add(missing, 1);
	}
	return 0;
}

SEC("raw_tracepoint/tcp_destroy_sock")
int tcp_ends(struct bpf_raw_tracepoint_args *ctx)
{
	return keep((const void *)ctx->args[0], TCP_DESTROYED, TCP_STATE_CLOSE, 0);
}

SEC("raw_tracepoint/inet_sock_set_state")
int tcp_changes_state(struct bpf_raw_tracepoint_args *ctx)
{
	const void *socket = (const void *)ctx->args[0];
	int before = ctx->args[1], after = ctx->args[2], error;

	if (after != TCP_STATE_CLOSE)
		return 0;
	error = MEMBER(int, socket, at_error);
	if (!error && before != TCP_STATE_SYN_SENT)
		return 0;
	return keep(socket, TCP_CLOSED, before, error);
}

char LICENSE[] SEC("license") = "GPL";
