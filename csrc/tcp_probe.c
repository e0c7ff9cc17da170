// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * TCP sockets that end between two dumps. tcp_ends runs when the kernel destroys one, tcp_changes_state when
 * its state changes: it keeps those that close by an error or before there was a connection.
 *
 * The kernel's structures are read at the offsets that its own type information gives, found by user space
 * (monitors/tcp/offsets.py), which also knows what the pieces mean that are kept here.
 */
#include <linux/bpf.h>
#include <linux/errno.h>

#include "bpf_helpers.h"
#include "tcp.h"

#define ABSENT 0xffffffff
/* Bytes from the beginning of struct tcp_sock, or ABSENT. */
SWITCH(__u32, at_net);
SWITCH(__u32, at_error);
SWITCH(__u32, at_ca_ops);
/* From the beginning of struct net, of struct tcp_congestion_ops. */
SWITCH(__u32, at_netns);
SWITCH(__u32, at_ca_name);

/* Which pieces of struct tcp_sock to keep: where they begin, their sizes (0: none), where in tcp_end.raw they
 * go. */
#define SWITCHES(number)                                                                                     \
	SWITCH(__u32, piece##number##_at);                                                                   \
	SWITCH(__u32, piece##number##_size);                                                                 \
	SWITCH(__u32, piece##number##_to)
SWITCHES(0);
SWITCHES(1);
SWITCHES(2);
SWITCHES(3);
SWITCHES(4);
SWITCHES(5);
SWITCHES(6);
SWITCHES(7);
SWITCHES(8);
SWITCHES(9);
SWITCHES(10);
SWITCHES(11);

static long (*bpf_probe_read_kernel)(void *to, __u32 size,
				     const void *from) = (void *)BPF_FUNC_probe_read_kernel;

struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_TYPE(key, struct tcp_end_key);
	MAP_TYPE(value, struct tcp_end);
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

#define PIECE(end, socket, number)                                                                           \
	do {                                                                                                 \
		if (piece##number##_size)                                                                    \
			bpf_probe_read_kernel((end)->raw + piece##number##_to, piece##number##_size,         \
					      (const char *)(socket) + piece##number##_at);                  \
	} while (0)

static __always_inline __u32 namespace_of(const void *socket)
{
	const void *net = (const void *)MEMBER(__u64, socket, at_net);

	return MEMBER(__u32, net, at_netns);
}

static __always_inline void fill(struct tcp_end *end, const void *socket)
{
	const char *algorithm = (const char *)MEMBER(__u64, socket, at_ca_ops);

	PIECE(end, socket, 0);
	PIECE(end, socket, 1);
	PIECE(end, socket, 2);
	PIECE(end, socket, 3);
	PIECE(end, socket, 4);
	PIECE(end, socket, 5);
	PIECE(end, socket, 6);
	PIECE(end, socket, 7);
	PIECE(end, socket, 8);
	PIECE(end, socket, 9);
	PIECE(end, socket, 10);
	PIECE(end, socket, 11);
	if (algorithm && at_ca_name != ABSENT)
		bpf_probe_read_kernel(end->congestion, sizeof(end->congestion), algorithm + at_ca_name);
}

static __always_inline int keep(const void *socket, __u8 event, __u8 state, __u16 error)
{
	struct tcp_end_key key = {.socket = (__u64)socket};
	__u32 netns = namespace_of(socket), first = 0;
	struct tcp_end end;
	__u64 *missing;

	if (!bpf_map_lookup_elem(&namespaces, &netns))
		return 0;
	__builtin_memset(&end, 0, sizeof(end));
	fill(&end, socket);
	end.netns = netns;
	end.event = event;
	end.state = state;
	end.error = error;
	key.at_ns = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&ends, &key, &end, BPF_NOEXIST)) {
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
