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
SWITCH(__u32, at_owned);
/* From the beginning of struct net, of struct tcp_congestion_ops, of struct task_struct. */
SWITCH(__u32, at_netns);
SWITCH(__u32, at_ca_name);
SWITCH(__u32, at_flags);

#define KERNEL_THREAD 0x00200000 /* PF_KTHREAD (linux/sched.h) */

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
static __u64 (*bpf_get_current_task)(void) = (void *)BPF_FUNC_get_current_task;

struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_TYPE(key, struct tcp_end_key);
	MAP_TYPE(value, struct tcp_end);
	MAP_UINT(max_entries, TCP_MAX_ENDS);
} ends SEC(".maps");

struct closer {
	__u32 pid;
	char command[16];
};

/* By a socket's address: which process has closed it. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_TYPE(key, __u64);
	MAP_TYPE(value, struct closer);
	MAP_UINT(max_entries, TCP_MAX_CLOSERS);
} closers SEC(".maps");

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
	struct closer *closer;
	struct tcp_end end;
	__u32 first = 0;
	__u64 *missing;

	__builtin_memset(&end, 0, sizeof(end));
	fill(&end, socket);
	end.netns = namespace_of(socket);
	end.event = event;
	end.state = state;
	end.error = error;
	closer = bpf_map_lookup_elem(&closers, &key.socket);
	if (closer) {
		end.closer = closer->pid;
		__builtin_memcpy(end.command, closer->command, sizeof(end.command));
	}
	key.at_ns = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&ends, &key, &end, BPF_NOEXIST)) {
		missing = bpf_map_lookup_elem(&lost, &first);
		if (missing)
			__sync_fetch_and_add(missing, 1);
	}
	return 0;
}

static __always_inline int is_followed(const void *socket)
{
	__u32 netns = namespace_of(socket);

	return bpf_map_lookup_elem(&namespaces, &netns) != 0;
}

/*
 * Whether it is the current process that closes the connection: by close(), shutdown() or its end, with a
 * FIN, or with a reset, before which there is no error on the socket.
 *
 * A process that does so holds the socket's lock. A softirq does not: it leaves packets to the holder
 * (tcp_v4_rcv()), and these end no established connection without an error. What a request socket becomes is
 * left out.
 */
static __always_inline int is_closed_here(const void *socket, int before, int after, int error)
{
	if (before != TCP_STATE_ESTABLISHED && before != TCP_STATE_CLOSE_WAIT)
		return 0;
	if (after != TCP_STATE_FIN_WAIT1 && after != TCP_STATE_LAST_ACK &&
	    (after != TCP_STATE_CLOSE || error))
		return 0;
	return MEMBER(int, socket, at_owned) &&
	       !(MEMBER(__u32, bpf_get_current_task(), at_flags) & KERNEL_THREAD);
}

/*
 * Whether a process takes the connection off its socket: close() with a linger time of 0, connect() to
 * AF_UNSPEC. Before such a socket is destroyed, or connected again, the kernel forgets what it did, and with
 * whom (tcp_disconnect()). Where it is no such call, the socket is destroyed with the same values.
 */
static __always_inline int is_disconnected(const void *socket, int before)
{
	return (before == TCP_STATE_ESTABLISHED || before == TCP_STATE_CLOSE_WAIT ||
		before == TCP_STATE_FIN_WAIT1 || before == TCP_STATE_FIN_WAIT2) &&
	       MEMBER(int, socket, at_owned);
}

static __always_inline void keep_closer(const void *socket)
{
	__u64 key = (__u64)socket;
	struct closer closer = {.pid = bpf_get_current_pid_tgid() >> 32};

	bpf_get_current_comm(closer.command, sizeof(closer.command));
	bpf_map_update_elem(&closers, &key, &closer, BPF_ANY);
}

SEC("raw_tracepoint/tcp_destroy_sock")
int tcp_ends(struct bpf_raw_tracepoint_args *ctx)
{
	const void *socket = (const void *)ctx->args[0];
	__u64 key = (__u64)socket;

	if (is_followed(socket))
		keep(socket, TCP_DESTROYED, TCP_STATE_CLOSE, 0);
	/* in other namespaces, too: this one may have been followed before, and addresses are used again */
	bpf_map_delete_elem(&closers, &key);
	return 0;
}

SEC("raw_tracepoint/inet_sock_set_state")
int tcp_changes_state(struct bpf_raw_tracepoint_args *ctx)
{
	const void *socket = (const void *)ctx->args[0];
	int before = ctx->args[1], after = ctx->args[2], error;

	if (after != TCP_STATE_CLOSE && after != TCP_STATE_FIN_WAIT1 && after != TCP_STATE_LAST_ACK)
		return 0;
	if (!is_followed(socket))
		return 0;
	error = MEMBER(int, socket, at_error);
	if (is_closed_here(socket, before, after, error))
		keep_closer(socket);
	if (after != TCP_STATE_CLOSE)
		return 0;
	if (!error && before != TCP_STATE_SYN_SENT && !is_disconnected(socket, before))
		return 0;
	return keep(socket, TCP_CLOSED, before, error);
}

char LICENSE[] SEC("license") = "GPL";
