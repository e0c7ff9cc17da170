// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The NCCL probes: one program at the entry of a watched function and one at its return. Every call is
 * counted exactly once, in the call table that is active when it begins; its result and latency in the
 * table that is active when it returns.
 *
 * User space flips `active`, waits for a grace period, and then owns the other table's contents, as in
 * count.h. No per-CPU state: a probe can be preempted by another one on the same CPU.
 */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "buffers.h"
#include "nccl.h"

/* Set by the loader, then frozen: the verifier removes what a switch turns off. */
SWITCH(__u8, is_arm64);	    /* registers are those of arm64, else of x86-64 */
SWITCH(__u8, has_cookie);   /* attached by a multi link, with a cookie for each function */
SWITCH(__u32, common_keys); /* of a call table: for whoever comes first */
SWITCH(__u32,
       user_share); /* keys that a user may have when those are taken; the rest of the table is for them */
SWITCH(__u64, own_cookie); /* without cookies, each function has its own load */

/* A cookie holds the file's number above enum nccl_function. */
#define FUNCTION_BITS 8

#define RESULT_SUCCESS 0 /* ncclResult_t */
#define RESULT_IN_PROGRESS 7
#define NO_RESULT (1ULL << 32) /* not an ncclResult_t */

struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_TYPE(key, struct nccl_key);
	MAP_TYPE(value, struct nccl_counters);
	MAP_UINT(max_entries, NCCL_MAX_KEYS);
} calls_a SEC(".maps"), calls_b SEC(".maps");

/* How many keys each owner has in a table; more owners than keys there are not. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_TYPE(key, struct nccl_owner);
	MAP_TYPE(value, __u32);
	MAP_UINT(max_entries, 2 * NCCL_MAX_KEYS);
} owners_a SEC(".maps"), owners_b SEC(".maps");

/* By a file's number: CLOCK_MONOTONIC of the last call. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
	MAP_UINT(max_entries, NCCL_FILES);
} last_called SEC(".maps");

/* By buffer. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct nccl_totals);
	MAP_UINT(max_entries, 2);
} totals SEC(".maps");

/* A call is one frame of one thread's stack; functions that jump into another share the frame. */
struct frame {
	__u64 thread;
	__u64 stack; /* the stack pointer after the return */
	__u64 function;
};

struct call {
	struct nccl_key key;
	__u64 begin_ns;
	__u64 out; /* address of what the function is to write */
	__u64 list;
	__u32 nranks;
	__u32 rank;
	__u64 file;
};

/* Calls in progress. LRU: entries of threads that were killed during a call are evicted eventually. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_TYPE(key, struct frame);
	MAP_TYPE(value, struct call);
	MAP_UINT(max_entries, 16384);
} running SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_TYPE(key, struct nccl_communicator_key);
	MAP_TYPE(value, struct nccl_communicator);
	MAP_UINT(max_entries, NCCL_MAX_KEYS);
} communicators SEC(".maps");

/* How many of them each user has: user space counts anew now and then, since the map above evicts. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u32);
	MAP_UINT(max_entries, 1024);
} communicators_of SEC(".maps");

/* Arguments of the ncclBcast that a thread is in. */
struct bcast {
	__u64 buffer;
	__u64 count;
	__u64 communicator;
	__u64 stack;
};

struct {
	MAP_UINT(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_TYPE(key, __u64);
	MAP_TYPE(value, struct bcast);
	MAP_UINT(max_entries, 16384);
} bcasts SEC(".maps");

/* Communicators that a thread requested within a group, with their address still unknown (NCCL < 2.14). */
struct pending_group {
	__u64 count;
	struct {
		__u64 out;
		__u32 nranks;
		__u32 rank;
	} asked[NCCL_MOST_PENDING];
};

struct {
	MAP_UINT(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_TYPE(key, __u64);
	MAP_TYPE(value, struct pending_group);
	MAP_UINT(max_entries, 1024);
} pending_groups SEC(".maps");

static const struct nccl_counters no_calls;
static const struct pending_group no_pending;

/*
 * The context is struct pt_regs (asm/ptrace.h), read as numbered 64-bit words. The verifier requires constant
 * offsets in the load itself; written in C, the compiler would merge two loads into one with a computed
 * offset.
 */
#define WORD(ctx, number)                                                                                    \
	({                                                                                                   \
		__u64 value_;                                                                                \
		asm volatile("%0 = *(u64 *)(%1 + %2)" : "=r"(value_) : "r"(ctx), "i"(8 * (number)));         \
		value_;                                                                                      \
	})
#define REGISTER(ctx, x86_64, arm64) (is_arm64 ? WORD(ctx, arm64) : WORD(ctx, x86_64))

static __always_inline __u64 stack_pointer(void *ctx)
{
	return REGISTER(ctx, 19, 31);
}

/* The stack pointer after the call has returned: x86-64 keeps the return address on the stack. */
static __always_inline __u64 stack_after(void *ctx)
{
	return stack_pointer(ctx) + (is_arm64 ? 0 : 8);
}

/* The seventh argument, counted from 0: on x86-64 the first on the stack. */
static __always_inline __u64 argument_6(void *ctx)
{
	__u64 value = 0;

	if (is_arm64)
		return WORD(ctx, 6);
	bpf_probe_read_user(&value, sizeof(value), (void *)(stack_pointer(ctx) + 8));
	return value;
}

static __always_inline __u64 argument(void *ctx, __u32 number)
{
	switch (number) {
	case 0:
		return REGISTER(ctx, 14, 0);
	case 1:
		return REGISTER(ctx, 13, 1);
	case 2:
		return REGISTER(ctx, 12, 2);
	case 3:
		return REGISTER(ctx, 11, 3);
	case 4:
		return REGISTER(ctx, 9, 4);
	case 5:
		return REGISTER(ctx, 8, 5);
	default:
		return argument_6(ctx);
	}
}

/* The totals of a buffer; never null for an index below 2. */
static __always_inline struct nccl_totals *totals_of(__u32 buffer)
{
	return bpf_map_lookup_elem(&totals, &buffer);
}

static __always_inline __u32 keys_of(void *owners, __u32 kind, __u32 id)
{
	struct nccl_owner owner = {.kind = kind, .id = id};
	__u32 *keys = bpf_map_lookup_elem(owners, &owner);

	return keys ? *keys : 0;
}

static __always_inline void add_key(void *owners, __u32 kind, __u32 id)
{
	struct nccl_owner owner = {.kind = kind, .id = id};
	__u32 none = 0, *keys = bpf_map_lookup_elem(owners, &owner);

	if (!keys) {
		bpf_map_update_elem(owners, &owner, &none, BPF_NOEXIST);
		keys = bpf_map_lookup_elem(owners, &owner);
	}
	if (keys)
		__sync_fetch_and_add(keys, 1);
}

/*
 * Whether the current user and process may have another key. Calls on other CPUs may pass this check at the
 * same time: limits are exceeded by a few keys at most, which the table has room for or refuses.
 */
static __always_inline bool may_add(void *owners, __u32 user, __u32 process)
{
	__u32 of_user = keys_of(owners, NCCL_USER, user);

	if (of_user >= NCCL_USER_KEYS || keys_of(owners, NCCL_PROCESS, process) >= NCCL_PROCESS_KEYS)
		return false;
	return of_user < user_share || keys_of(owners, NCCL_EVERYBODY, 0) < common_keys;
}

/* The counters of a key in a table, created if missing; null if there is no room for it. */
static __always_inline struct nccl_counters *counters_in(void *table, void *owners,
							 const struct nccl_key *key)
{
	struct nccl_counters *counters = bpf_map_lookup_elem(table, key);
	__u32 user;
	int error;

	if (counters)
		return counters;
	user = bpf_get_current_uid_gid();
	if (!may_add(owners, user, key->tgid))
		return 0;
	error = bpf_map_update_elem(table, key, &no_calls, BPF_NOEXIST);
	if (error && error != -EEXIST)
		return 0;
	counters = bpf_map_lookup_elem(table, key);
	if (counters && !error) {
		bpf_get_current_comm(counters->command, sizeof(counters->command));
		add_key(owners, NCCL_EVERYBODY, 0);
		add_key(owners, NCCL_USER, user);
		add_key(owners, NCCL_PROCESS, key->tgid);
	}
	return counters;
}

static __always_inline struct nccl_counters *counters_of(const struct nccl_key *key, __u32 buffer)
{
	return buffer ? counters_in(&calls_b, &owners_b, key) : counters_in(&calls_a, &owners_a, key);
}

static __always_inline bool is_collective(__u32 function)
{
	return function <= NCCL_RECV;
}

/* Whether the arguments begin with one buffer, count and datatype, instead of two buffers. */
static __always_inline bool has_one_buffer(__u32 function)
{
	return function == NCCL_BCAST || function == NCCL_SEND || function == NCCL_RECV;
}

/* The communicator's place among a collective's arguments. */
static __always_inline __u64 communicator_of(void *ctx, __u32 function)
{
	switch (function) {
	case NCCL_BCAST:
	case NCCL_SEND:
	case NCCL_RECV:
	case NCCL_ALL_GATHER:
	case NCCL_ALL_TO_ALL:
		return argument(ctx, 4);
	case NCCL_REDUCE:
		return argument(ctx, 6);
	default:
		return argument(ctx, 5);
	}
}

/* Sets communicator and datatype of the key; returns the count. */
static __always_inline __u64 read_collective(void *ctx, struct nccl_key *key)
{
	bool one_buffer = has_one_buffer(key->function);
	__u64 second = argument(ctx, 1), third = argument(ctx, 2), fourth = argument(ctx, 3);
	__u32 datatype = one_buffer ? third : fourth;

	/* an invalid datatype must not look like a valid one */
	key->datatype = datatype < NCCL_NO_DATATYPE ? datatype : NCCL_NO_DATATYPE - 1;
	key->communicator = communicator_of(ctx, key->function);
	return one_buffer ? second : third;
}

/* Saves the arguments of the other functions for their return. */
static __always_inline void read_other(void *ctx, struct call *call)
{
	__u64 first = argument(ctx, 0), second = argument(ctx, 1), third = argument(ctx, 2),
	      fourth = argument(ctx, 3);

	switch (call->key.function) {
	case NCCL_COMM_INIT_RANK: /* comm *, nranks, the 128 bytes of the id by value, rank, config * */
	case NCCL_COMM_INIT_RANK_CONFIG:
		call->out = first;
		call->nranks = second;
		call->rank = is_arm64 ? fourth : third; /* x86-64 passes the id on the stack */
		break;
	case NCCL_COMM_INIT_RANK_SCALABLE: /* comm *, nranks, rank, ... */
		call->out = first;
		call->nranks = second;
		call->rank = third;
		break;
	case NCCL_COMM_INIT_ALL: /* comms *, number, devices * */
		call->out = first;
		call->nranks = second;
		call->list = third;
		break;
	case NCCL_COMM_SPLIT:  /* comm, color, key, newcomm *, config * */
	case NCCL_COMM_SHRINK: /* comm, excluded *, number, newcomm *, config *, flags */
		call->key.communicator = first;
		call->out = fourth;
		break;
	case NCCL_GROUP_START:
	case NCCL_GROUP_END:
		break;
	default: /* comm, result * */
		call->key.communicator = first;
		call->out = second;
	}
}

/* Whether this is the ncclBroadcast that the library's ncclBcast calls with its own arguments. */
static __always_inline bool is_nested(void *ctx, const struct call *call, __u64 count, __u64 thread)
{
	struct bcast bcast = {
	    .buffer = argument(ctx, 0), .count = count, .communicator = call->key.communicator};
	struct bcast *outer;

	bcast.stack = stack_after(ctx);
	if (call->key.function == NCCL_BCAST) {
		bpf_map_update_elem(&bcasts, &thread, &bcast, BPF_ANY);
		return false;
	}
	if (call->key.function != NCCL_BROADCAST || bcast.buffer != argument(ctx, 1))
		return false;
	outer = bpf_map_lookup_elem(&bcasts, &thread);
	return outer && outer->buffer == bcast.buffer && outer->count == count &&
	       outer->communicator == bcast.communicator && outer->stack >= bcast.stack;
}

static __always_inline void add_rank(struct nccl_key *key)
{
	struct nccl_communicator_key where = {.communicator = key->communicator, .tgid = key->tgid};
	struct nccl_communicator *known;

	if (!key->communicator)
		return;
	known = bpf_map_lookup_elem(&communicators, &where);
	if (!known)
		return;
	key->nranks = known->nranks;
	key->rank = known->rank;
}

static __always_inline void count_call(const struct nccl_key *key, __u64 count, __u32 buffer,
				       struct nccl_totals *total)
{
	struct nccl_counters *counters = counters_of(key, buffer);

	if (counters) {
		__sync_fetch_and_add(&counters->calls, 1);
		__sync_fetch_and_add(&counters->elements, count);
	} else {
		__sync_fetch_and_add(&total->unattributed, 1);
		__sync_fetch_and_add(&total->unattributed_elements, count);
	}
}

SEC("uprobe/begin")
int call_begins(void *ctx)
{
	__u64 cookie = has_cookie ? bpf_get_attach_cookie(ctx) : own_cookie;
	__u64 thread = bpf_get_current_pid_tgid();
	struct frame frame = {.thread = thread, .stack = stack_after(ctx)};
	/* read `active` once: everything counted for a call is in one buffer */
	__u32 buffer = active != 0;
	struct call call = {
	    .key = {.tgid = thread >> 32, .rank = NCCL_NO_RANK, .datatype = NCCL_NO_DATATYPE}};
	struct nccl_totals *total = totals_of(buffer);
	struct call *earlier;
	__u64 count = 0, *called;
	__u32 number;

	if (!total)
		return 0; /* impossible: the map has both buffers */
	__sync_fetch_and_add(&total->entries, 1);
	call.file = cookie >> FUNCTION_BITS;
	call.key.function = cookie;
	frame.function = call.key.function;
	/* the same call seen through another file: it is still in progress */
	earlier = bpf_map_lookup_elem(&running, &frame);
	if (earlier && earlier->file != call.file) {
		__sync_fetch_and_add(&total->duplicate, 1);
		return 0;
	}
	if (is_collective(call.key.function)) {
		count = read_collective(ctx, &call.key);
		if (is_nested(ctx, &call, count, thread)) {
			__sync_fetch_and_add(&total->nested, 1);
			return 0;
		}
	} else {
		read_other(ctx, &call);
	}
	add_rank(&call.key);
	count_call(&call.key, count, buffer, total);
	call.begin_ns = bpf_ktime_get_ns();
	bpf_map_update_elem(&running, &frame, &call, BPF_ANY);
	number = call.file & NCCL_FILES - 1;
	called = bpf_map_lookup_elem(&last_called, &number);
	if (called)
		*called = call.begin_ns;
	return 0;
}

static __always_inline __u64 read_pointer(__u64 address)
{
	__u64 value = 0;

	bpf_probe_read_user(&value, sizeof(value), (void *)address);
	return value;
}

/* Adds to a user's number of communicators; false if it has as many as it may. */
static __always_inline bool add_communicator(__u32 user)
{
	__u32 none = 0, *number = bpf_map_lookup_elem(&communicators_of, &user);

	if (!number) {
		bpf_map_update_elem(&communicators_of, &user, &none, BPF_NOEXIST);
		number = bpf_map_lookup_elem(&communicators_of, &user);
	}
	if (!number || *number >= NCCL_USER_COMMUNICATORS)
		return false;
	__sync_fetch_and_add(number, 1);
	return true;
}

/* Stores a communicator, replacing what was known under its address. */
static __always_inline void learn(__u32 tgid, __u64 communicator, __u32 nranks, __u32 rank, __s32 device)
{
	struct nccl_communicator_key where = {.communicator = communicator, .tgid = tgid};
	struct nccl_communicator value = {.nranks = nranks, .rank = rank, .device = device};

	value.user = bpf_get_current_uid_gid();
	if (!bpf_map_lookup_elem(&communicators, &where) && !add_communicator(value.user))
		return;
	bpf_map_update_elem(&communicators, &where, &value, BPF_ANY);
}

/* ncclCommInitAll: one communicator per device; rank i is on device i unless a list is given. */
static __always_inline void learn_all(const struct call *call)
{
	__u64 communicator;
	__s32 device;

	for (__u32 i = 0; i < NCCL_MOST_DEVICES; i++) {
		communicator = read_pointer(call->out + i * sizeof(__u64));
		if (i >= call->nranks || !communicator)
			break;
		device = i;
		if (call->list)
			bpf_probe_read_user(&device, sizeof(device),
					    (void *)(call->list + i * sizeof(device)));
		learn(call->key.tgid, communicator, call->nranks, i, device);
	}
}

/* NCCL before 2.14 writes the address when the group ends. */
static __always_inline void await_group(const struct call *call, __u64 thread)
{
	struct pending_group *group = bpf_map_lookup_elem(&pending_groups, &thread);
	__u64 place;

	if (!group) {
		bpf_map_update_elem(&pending_groups, &thread, &no_pending, BPF_NOEXIST);
		group = bpf_map_lookup_elem(&pending_groups, &thread);
	}
	if (!group)
		return;
	place = group->count;
	if (place >= NCCL_MOST_PENDING)
		return;
	group->asked[place].out = call->out;
	group->asked[place].nranks = call->nranks;
	group->asked[place].rank = call->rank;
	group->count = place + 1;
}

/* A group ended. After an inner group the addresses are still missing. */
static __always_inline void learn_group(__u32 tgid, __u64 thread)
{
	struct pending_group *group = bpf_map_lookup_elem(&pending_groups, &thread);
	__u64 communicator;
	bool learned = false;

	if (!group)
		return;
	for (__u32 i = 0; i < NCCL_MOST_PENDING; i++) {
		if (i >= group->count)
			break;
		communicator = read_pointer(group->asked[i].out);
		if (communicator) {
			learn(tgid, communicator, group->asked[i].nranks, group->asked[i].rank,
			      NCCL_NO_DEVICE);
			learned = true;
		}
	}
	if (learned)
		bpf_map_delete_elem(&pending_groups, &thread);
}

/* Stores the answer of ncclCommCount, ncclCommUserRank or ncclCommCuDevice. */
static __always_inline void learn_answer(const struct call *call)
{
	struct nccl_communicator_key where = {.communicator = call->key.communicator, .tgid = call->key.tgid};
	struct nccl_communicator *known;
	__s32 answer;

	if (bpf_probe_read_user(&answer, sizeof(answer), (void *)call->out))
		return;
	known = bpf_map_lookup_elem(&communicators, &where);
	if (!known) {
		learn(where.tgid, where.communicator, 0, NCCL_NO_RANK, NCCL_NO_DEVICE);
		known = bpf_map_lookup_elem(&communicators, &where);
	}
	if (!known)
		return;
	if (call->key.function == NCCL_COMM_COUNT) {
		known->nranks = answer;
	} else if (call->key.function == NCCL_COMM_USER_RANK) {
		known->rank = answer;
	} else {
		known->device = answer;
	}
}

static __always_inline void forget(const struct nccl_key *key)
{
	struct nccl_communicator_key where = {.communicator = key->communicator, .tgid = key->tgid};
	struct nccl_communicator *known = bpf_map_lookup_elem(&communicators, &where);
	__u32 user, *number;

	if (!known)
		return;
	user = known->user;
	bpf_map_delete_elem(&communicators, &where);
	number = bpf_map_lookup_elem(&communicators_of, &user);
	if (number && *number)
		__sync_fetch_and_add(number, -1);
}

/* Updates the known communicators after a call that did not fail. */
static __always_inline void learn_from(const struct call *call, __u32 function, __u64 thread)
{
	__u64 communicator;

	switch (function) {
	case NCCL_COMM_INIT_RANK:
	case NCCL_COMM_INIT_RANK_CONFIG:
	case NCCL_COMM_INIT_RANK_SCALABLE:
		communicator = read_pointer(call->out);
		if (communicator)
			learn(call->key.tgid, communicator, call->nranks, call->rank, NCCL_NO_DEVICE);
		else
			await_group(call, thread);
		break;
	case NCCL_COMM_INIT_ALL:
		learn_all(call);
		break;
	case NCCL_COMM_SPLIT:
	case NCCL_COMM_SHRINK:
		/* the arguments do not include its size */
		communicator = read_pointer(call->out);
		if (communicator)
			learn(call->key.tgid, communicator, 0, NCCL_NO_RANK, NCCL_NO_DEVICE);
		break;
	case NCCL_COMM_COUNT:
	case NCCL_COMM_USER_RANK:
	case NCCL_COMM_CU_DEVICE:
		learn_answer(call);
		break;
	case NCCL_COMM_DESTROY:
	case NCCL_COMM_ABORT:
		forget(&call->key);
		break;
	case NCCL_GROUP_END:
		learn_group(call->key.tgid, thread);
		break;
	}
}

/*
 * The bucket of a latency: its number of bits beyond those of bucket 0. All bits below the highest one are
 * set, then counted by pairs, nibbles and bytes, so that the verifier has no branch per bucket to follow.
 */
static __always_inline __u64 latency_bucket(__u64 ns)
{
	__u64 bits = ns >> NCCL_FIRST_BUCKET_BITS;

#pragma unroll
	for (int shift = 1; shift < 64; shift *= 2)
		bits |= bits >> shift;
	bits -= bits >> 1 & 0x5555555555555555ULL;
	bits = (bits & 0x3333333333333333ULL) + (bits >> 2 & 0x3333333333333333ULL);
	bits = (bits + (bits >> 4) & 0x0f0f0f0f0f0f0f0fULL) * 0x0101010101010101ULL >> 56;
	return bits < NCCL_LATENCY_BUCKETS ? bits : NCCL_LATENCY_BUCKETS - 1;
}

static __always_inline void count_return(const struct call *call, __u64 result, __u32 buffer)
{
	__u64 latency = bpf_ktime_get_ns() - call->begin_ns;
	struct nccl_counters *counters = counters_of(&call->key, buffer);
	__u64 bucket = latency_bucket(latency);
	struct nccl_totals *total;

	if (!counters) {
		total = totals_of(buffer);
		if (total)
			__sync_fetch_and_add(&total->unattributed_returns, 1);
		return;
	}
	__sync_fetch_and_add(&counters->returned, 1);
	__sync_fetch_and_add(&counters->latency_ns, latency);
	if (result >= NCCL_OTHER_RESULT && result != NO_RESULT)
		result = NCCL_OTHER_RESULT;
	if (result < NCCL_RESULTS)
		__sync_fetch_and_add(&counters->results[result], 1);
	if (bucket < NCCL_LATENCY_BUCKETS)
		__sync_fetch_and_add(&counters->latency[bucket], 1);
}

SEC("uretprobe/return")
int call_returns(void *ctx)
{
	__u64 cookie = has_cookie ? bpf_get_attach_cookie(ctx) : own_cookie;
	__u64 thread = bpf_get_current_pid_tgid();
	__u32 function = (__u8)cookie; /* a constant to the verifier where each function has its own load */
	struct frame frame = {.thread = thread, .stack = stack_pointer(ctx), .function = function};
	__u32 buffer = active != 0, result = REGISTER(ctx, 10, 0), reported;
	struct call *begun = bpf_map_lookup_elem(&running, &frame);
	__u64 counted = result;
	struct call call;

	if (!begun)
		return 0; /* began before attaching, or is not counted: nested, duplicate */
	call = *begun;
	bpf_map_delete_elem(&running, &frame);
	if (function == NCCL_BCAST)
		bpf_map_delete_elem(&bcasts, &thread);
	/* count the error that it reports; if the call itself fails, that is not the communicator's error */
	if (function == NCCL_COMM_GET_ASYNC_ERROR) {
		counted = NO_RESULT;
		if (result == RESULT_SUCCESS &&
		    !bpf_probe_read_user(&reported, sizeof(reported), (void *)call.out))
			counted = reported;
	}
	count_return(&call, counted, buffer);
	if (result == RESULT_SUCCESS || result == RESULT_IN_PROGRESS)
		learn_from(&call, function, thread);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
