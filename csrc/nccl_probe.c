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
SWITCH(__u8, has_returns);  /* functions are probed where they return, too */
SWITCH(__u8, has_cookie);   /* attached by a multi link, with a cookie for each function */
SWITCH(__u32, common_keys); /* of a call table: for whoever comes first */
SWITCH(__u32,
       user_share); /* keys that a user may have when those are taken; the rest of the table is for them */
SWITCH(__u64, own_cookie); /* without cookies, each function has its own load */

/* A cookie holds the file's number above enum nccl_function. */
#define FUNCTION_BITS 8

#define RESULT_SUCCESS 0 /* ncclResult_t */
#define RESULT_IN_PROGRESS 7
#define KEEPS_RANK 0xffffffff  /* ncclCommGrow's rank for those that are in the communicator */
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

/* By a file's number. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct nccl_file);
	MAP_UINT(max_entries, NCCL_FILES);
} files SEC(".maps");

/* By buffer. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct nccl_totals);
	MAP_UINT(max_entries, 2);
} totals SEC(".maps");

/* Calls in progress. LRU: entries of threads that were killed during a call are evicted eventually. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_TYPE(key, struct nccl_frame);
	MAP_TYPE(value, struct nccl_call);
	MAP_UINT(max_entries, 16384);
} running SEC(".maps");

struct {
	MAP_UINT(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_TYPE(key, struct nccl_communicator_key);
	MAP_TYPE(value, struct nccl_communicator);
	MAP_UINT(max_entries, NCCL_MAX_KEYS);
} communicators SEC(".maps");

/* Named ones that were ended, as they were then: user space takes them out. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_TYPE(key, struct nccl_communicator_key);
	MAP_TYPE(value, struct nccl_communicator);
	MAP_UINT(max_entries, NCCL_MAX_DEPARTED);
} departed SEC(".maps");

/* No LRU map: a pair that was evicted would begin at 0 again, and look like a send without its receive. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_TYPE(key, struct nccl_peer_key);
	MAP_TYPE(value, struct nccl_peer);
	MAP_UINT(max_entries, NCCL_MAX_PEERS);
} peers SEC(".maps");

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
		__u64 id;
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
static const struct nccl_communicator no_communicator;
static const struct nccl_peer no_peer;

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

static __always_inline __u64 read_word(__u64 address)
{
	__u64 value = 0;

	bpf_probe_read_user(&value, sizeof(value), (void *)address);
	return value;
}

/* Arguments from 6 on, counted from 0, are on the stack of x86-64, those from 8 on also on arm64's. */
static __always_inline __u64 argument_on_stack(void *ctx, __u32 number)
{
	__u32 word = is_arm64 ? number - 8 : number - 5; /* the return address is the first */

	return read_word(stack_pointer(ctx) + word * sizeof(__u64));
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
	case 6:
		return is_arm64 ? WORD(ctx, 6) : argument_on_stack(ctx, 6);
	default:
		return argument_on_stack(ctx, number);
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

/* Whether it has a count and a datatype. */
static __always_inline bool has_count(__u32 function)
{
	return function <= NCCL_PUT_SIGNAL;
}

/* Whether all ranks of the communicator make the call, in the same order. */
static __always_inline bool is_collective(__u32 function)
{
	return has_count(function) && function != NCCL_SEND && function != NCCL_RECV &&
	       function != NCCL_PUT_SIGNAL;
}

/* The function that takes the same arguments but for the last, the configuration, of one ending in Config. */
static __always_inline __u32 without_config(__u32 function)
{
	switch (function) {
	case NCCL_ALL_REDUCE_CONFIG:
		return NCCL_ALL_REDUCE;
	case NCCL_BROADCAST_CONFIG:
		return NCCL_BROADCAST;
	case NCCL_REDUCE_CONFIG:
		return NCCL_REDUCE;
	case NCCL_ALL_GATHER_CONFIG:
		return NCCL_ALL_GATHER;
	case NCCL_REDUCE_SCATTER_CONFIG:
		return NCCL_REDUCE_SCATTER;
	case NCCL_ALL_TO_ALL_CONFIG:
		return NCCL_ALL_TO_ALL;
	case NCCL_GATHER_CONFIG:
		return NCCL_GATHER;
	case NCCL_SCATTER_CONFIG:
		return NCCL_SCATTER;
	default:
		return function;
	}
}

/* Whether the arguments begin with one buffer, count and datatype, instead of two buffers. */
static __always_inline bool has_one_buffer(__u32 function)
{
	return function == NCCL_BCAST || function == NCCL_SEND || function == NCCL_RECV ||
	       function == NCCL_PUT_SIGNAL;
}

/* The communicator's place among the arguments of a function with a count. */
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
	case NCCL_PUT_SIGNAL:
		return argument(ctx, 9);
	default:
		return argument(ctx, 5);
	}
}

/* Root of a collective, or the other rank of a send, or NCCL_NO_ROOT. */
static __always_inline __u32 root_of(void *ctx, __u32 function)
{
	switch (function) {
	case NCCL_BCAST:
	case NCCL_SEND:
	case NCCL_RECV:
	case NCCL_PUT_SIGNAL:
		return argument(ctx, 3);
	case NCCL_BROADCAST:
	case NCCL_GATHER:
	case NCCL_SCATTER:
		return argument(ctx, 4);
	case NCCL_REDUCE:
		return argument(ctx, 5);
	default:
		return NCCL_NO_ROOT;
	}
}

/* Reads the arguments of a function with a count. */
static __always_inline void read_counted(void *ctx, struct nccl_call *call)
{
	__u32 function = without_config(call->key.function);
	bool one_buffer = has_one_buffer(function);
	__u64 second = argument(ctx, 1), third = argument(ctx, 2), fourth = argument(ctx, 3);
	__u32 datatype = one_buffer ? third : fourth;

	/* an invalid datatype must not look like a valid one */
	call->key.datatype = datatype < NCCL_NO_DATATYPE ? datatype : NCCL_NO_DATATYPE - 1;
	call->key.communicator = communicator_of(ctx, function);
	call->count = one_buffer ? second : third;
	call->root = root_of(ctx, function);
}

/* The hash by which NCCL from 2.26 on names a communicator in its log and to its RAS service. */
struct mixture {
	__u64 a;
	__u64 b;
};

static __always_inline void mix(struct mixture *mixed, __u64 word)
{
	mixed->a += mixed->b;
	mixed->b ^= mixed->a;
	mixed->a ^= mixed->a >> 31;
	mixed->a *= 0x9de62bbc8cef3ce3ULL;
	mixed->b ^= mixed->b >> 32;
	mixed->b *= 0x485cd6311b599e79ULL;
	mixed->a += word;
}

static __always_inline __u64 mixed_hash(const struct mixture *mixed)
{
	__u64 hash = mixed->a;

	hash ^= hash >> 31;
	hash *= 0xbac3bd562846de6bULL;
	hash += mixed->b;
	hash ^= hash >> 32;
	hash *= 0x995a187a14e7b445ULL;
	return hash;
}

/* The hash of a unique id, of 128 bytes. */
static __always_inline __u64 hash_of_id(__u64 address)
{
	struct mixture mixed = {.a = 1 ^ NCCL_UNIQUE_ID_BYTES, .b = 1};

	/* unrolled, it is most of the program, which old kernels load for each function */
#pragma clang loop unroll(disable)
	for (__u32 at = 0; at < NCCL_UNIQUE_ID_BYTES; at += sizeof(__u64))
		mix(&mixed, read_word(address + at));
	return mixed_hash(&mixed);
}

/* The hash of the child that a communicator has next. */
static __always_inline __u64 hash_of_child(__u64 parent, __u32 number, __u32 color)
{
	struct mixture mixed = {.a = 1 ^ sizeof(parent), .b = 1};

	mix(&mixed, parent);
	mixed.a ^= sizeof(number);
	mix(&mixed, number);
	mixed.a ^= sizeof(color);
	mix(&mixed, color);
	return mixed_hash(&mixed);
}

/* The hash of what one ncclCommInitAll makes: one process has all ranks, and the id is never seen. */
static __always_inline __u64 hash_of_all(__u32 tgid, __u64 begin_ns)
{
	struct mixture mixed = {.a = 1, .b = 1};

	mix(&mixed, tgid);
	mix(&mixed, begin_ns);
	return mixed_hash(&mixed);
}

static __always_inline struct nccl_communicator *find_communicator(const struct nccl_key *key)
{
	struct nccl_communicator_key where = {.communicator = key->communicator, .tgid = key->tgid};

	return key->communicator ? bpf_map_lookup_elem(&communicators, &where) : 0;
}

/* A child of the communicator that the call is made on. */
static __always_inline void read_child(struct nccl_call *call, __u32 color)
{
	struct nccl_communicator *parent = find_communicator(&call->key);

	if (!parent)
		return;
	parent->children++;
	if (!parent->id || !parent->is_whole)
		return;
	call->parent = parent->id;
	call->id = hash_of_child(parent->id, parent->children, color);
}

/* Saves the arguments of the other functions for their return. */
static __always_inline void read_other(void *ctx, struct nccl_call *call)
{
	__u64 first = argument(ctx, 0), second = argument(ctx, 1), third = argument(ctx, 2),
	      fourth = argument(ctx, 3), id = 0;

	switch (call->key.function) {
	case NCCL_COMM_INIT_RANK: /* comm *, nranks, the 128 bytes of the id by value, rank, config * */
	case NCCL_COMM_INIT_RANK_CONFIG:
		call->out = first;
		call->nranks = second;
		call->rank = is_arm64 ? fourth : third; /* x86-64 passes the id on the stack */
		id = is_arm64 ? third : stack_pointer(ctx) + sizeof(__u64);
		break;
	case NCCL_COMM_INIT_RANK_SCALABLE: /* comm *, nranks, rank, number of ids, ids *, config * */
		call->out = first;
		call->nranks = second;
		call->rank = third;
		id = argument(ctx, 4);
		break;
	case NCCL_COMM_INIT_ALL: /* comms *, number, devices * */
		call->out = first;
		call->nranks = second;
		call->list = third;
		call->id = hash_of_all(call->key.tgid, call->begin_ns);
		break;
	case NCCL_COMM_SPLIT: /* comm, color, key, newcomm *, config * */
		call->key.communicator = first;
		call->out = fourth;
		read_child(call, second);
		break;
	case NCCL_COMM_SHRINK: /* comm, excluded *, number, newcomm *, config *, flags */
		call->key.communicator = first;
		call->out = fourth;
		call->nranks = -third; /* the parent's, less these */
		read_child(call, 0);
		break;
	case NCCL_COMM_GROW: /* comm, nranks, id *, rank, newcomm *, config * */
		call->key.communicator = first;
		call->out = argument(ctx, 4);
		call->nranks = second;
		call->rank = fourth;
		break;
	case NCCL_SIGNAL: /* peer, signal, context, flags, comm, stream */
		call->key.communicator = argument(ctx, 4);
		call->root = first;
		break;
	case NCCL_WAIT_SIGNAL: /* number, descriptions *, comm, stream */
		call->key.communicator = third;
		break;
	case NCCL_GROUP_START:
	case NCCL_GROUP_END:
		break;
	default: /* comm, result * */
		call->key.communicator = first;
		call->out = second;
	}
	if (id)
		call->id = hash_of_id(id);
}

/* Whether this is the ncclBroadcast that the library's ncclBcast calls with its own arguments. */
static __always_inline bool is_nested(void *ctx, const struct nccl_call *call, __u64 thread)
{
	struct bcast bcast = {
	    .buffer = argument(ctx, 0), .count = call->count, .communicator = call->key.communicator};
	struct bcast *outer;

	bcast.stack = stack_after(ctx);
	if (call->key.function == NCCL_BCAST) {
		bpf_map_update_elem(&bcasts, &thread, &bcast, BPF_ANY);
		return false;
	}
	if (call->key.function != NCCL_BROADCAST || bcast.buffer != argument(ctx, 1))
		return false;
	outer = bpf_map_lookup_elem(&bcasts, &thread);
	if (!outer || outer->buffer != bcast.buffer || outer->count != bcast.count ||
	    outer->communicator != bcast.communicator || outer->stack < bcast.stack)
		return false;
	if (!has_returns) /* that of ncclBcast is not seen */
		bpf_map_delete_elem(&bcasts, &thread);
	return true;
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

/* A new communicator, in place of what was known under its address; null if there is no room. */
static __always_inline struct nccl_communicator *new_communicator(__u32 tgid, __u64 communicator)
{
	struct nccl_communicator_key where = {.communicator = communicator, .tgid = tgid};
	struct nccl_communicator *made = bpf_map_lookup_elem(&communicators, &where);
	__u32 user = bpf_get_current_uid_gid();

	if (!made && !add_communicator(user))
		return 0;
	bpf_map_update_elem(&communicators, &where, &no_communicator, BPF_ANY);
	made = bpf_map_lookup_elem(&communicators, &where);
	if (!made)
		return 0;
	made->rank = NCCL_NO_RANK;
	made->device = NCCL_NO_DEVICE;
	made->user = user;
	return made;
}

/* Number of ones, by pairs, nibbles and bytes: the verifier has no branch per bit to follow. */
static __always_inline __u64 ones(__u64 bits)
{
	bits -= bits >> 1 & 0x5555555555555555ULL;
	bits = (bits & 0x3333333333333333ULL) + (bits >> 2 & 0x3333333333333333ULL);
	return (bits + (bits >> 4) & 0x0f0f0f0f0f0f0f0fULL) * 0x0101010101010101ULL >> 56;
}

/* Gives a collective its number, and keeps its arguments. NCCL lets one thread at a time use a communicator.
 */
static __always_inline void number_call(struct nccl_communicator *known, struct nccl_call *call)
{
	struct nccl_mark *mark;
	__u64 number, place;

	__sync_fetch_and_add(&known->begun, 1);
	number = *(volatile __u64 *)&known->begun; /* a sum with its old value: Linux 5.12 */
	call->number = number;
	known->last_begin_ns = call->begin_ns;
	place = ones((number & -number) - 1);
	PIN(place); /* clang 19 would multiply before it compares, and the product has no bound */
	if (place >= NCCL_MARKS)
		place = NCCL_MARKS - 1;
	mark = &known->marks[place];
	mark->number = 0; /* no reader takes it for another call's */
	mark->begin_ns = call->begin_ns;
	mark->elements = call->count;
	mark->root = call->root;
	mark->function = call->key.function;
	mark->datatype = call->key.datatype;
	*(volatile __u64 *)&mark->number = number;
}

/* Counts a send or receive of a pair of ranks. */
static __always_inline void count_peer(struct nccl_communicator *known, const struct nccl_call *call)
{
	struct nccl_peer_key where = {
	    .communicator = call->key.communicator, .tgid = call->key.tgid, .peer = call->root};
	struct nccl_peer *peer = bpf_map_lookup_elem(&peers, &where);

	if (!peer) {
		bpf_map_update_elem(&peers, &where, &no_peer, BPF_NOEXIST);
		peer = bpf_map_lookup_elem(&peers, &where);
	}
	if (!peer) {
		known->peers_lost = 1;
	} else if (call->key.function == NCCL_SEND) {
		__sync_fetch_and_add(&peer->sends, 1);
		peer->last_send_ns = call->begin_ns;
	} else {
		__sync_fetch_and_add(&peer->receives, 1);
		peer->last_receive_ns = call->begin_ns;
	}
}

/* What a call on a communicator changes about it. */
static __always_inline void note_call(struct nccl_call *call)
{
	struct nccl_communicator *known = find_communicator(&call->key);
	__u32 function = call->key.function;

	if (!known && call->key.communicator && has_count(function))
		known = new_communicator(call->key.tgid, call->key.communicator);
	if (!known)
		return;
	call->key.nranks = known->nranks;
	call->key.rank = known->rank;
	if (is_collective(function))
		number_call(known, call);
	else if (function == NCCL_SEND || function == NCCL_RECV)
		count_peer(known, call);
}

SEC("uprobe/begin")
int call_begins(void *ctx)
{
	__u64 cookie = has_cookie ? bpf_get_attach_cookie(ctx) : own_cookie;
	__u64 thread = bpf_get_current_pid_tgid();
	struct nccl_frame frame = {.thread = thread, .stack = stack_after(ctx)};
	/* read `active` once: everything counted for a call is in one buffer */
	__u32 buffer = active != 0, number = cookie >> FUNCTION_BITS & NCCL_FILES - 1;
	struct nccl_call call = {
	    .key = {.tgid = thread >> 32, .rank = NCCL_NO_RANK, .datatype = NCCL_NO_DATATYPE}};
	struct nccl_totals *total = totals_of(buffer);
	struct nccl_file *file = bpf_map_lookup_elem(&files, &number);
	struct nccl_call *earlier;

	if (!total || !file || !file->is_live)
		return 0; /* the maps have both buffers, and every file */
	__sync_fetch_and_add(&total->entries, 1);
	call.file = number;
	call.root = NCCL_NO_ROOT;
	call.key.function = cookie;
	frame.function = call.key.function;
	/* the same call seen through another file: it is still in progress */
	earlier = has_returns ? bpf_map_lookup_elem(&running, &frame) : 0;
	if (earlier && earlier->file != call.file) {
		__sync_fetch_and_add(&total->duplicate, 1);
		return 0;
	}
	call.begin_ns = bpf_ktime_get_ns();
	if (has_count(call.key.function)) {
		read_counted(ctx, &call);
		if (is_nested(ctx, &call, thread)) {
			__sync_fetch_and_add(&total->nested, 1);
			return 0;
		}
	} else {
		read_other(ctx, &call);
	}
	note_call(&call);
	count_call(&call.key, call.count, buffer, total);
	if (has_returns)
		bpf_map_update_elem(&running, &frame, &call, BPF_ANY);
	file->last_called_ns = call.begin_ns;
	return 0;
}

/* Stores a communicator that a call made, replacing what was known under its address. */
static __always_inline void learn(const struct nccl_call *call, __u64 communicator, __u32 rank, __s32 device)
{
	struct nccl_communicator *made = new_communicator(call->key.tgid, communicator);

	if (!made)
		return;
	made->nranks = call->nranks;
	made->rank = rank;
	made->device = device;
	made->id = call->id;
	made->parent = call->parent;
	made->is_whole = 1;
}

/* ncclCommInitAll: one communicator per device; rank i is on device i unless a list is given. */
static __always_inline void learn_all(const struct nccl_call *call)
{
	__u64 communicator;
	__s32 device;

	for (__u32 i = 0; i < NCCL_MOST_DEVICES; i++) {
		communicator = read_word(call->out + i * sizeof(__u64));
		if (i >= call->nranks || !communicator)
			break;
		device = i;
		if (call->list)
			bpf_probe_read_user(&device, sizeof(device),
					    (void *)(call->list + i * sizeof(device)));
		learn(call, communicator, i, device);
	}
}

/* NCCL before 2.14 writes the address when the group ends. */
static __always_inline void await_group(const struct nccl_call *call, __u64 thread)
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
	PIN(place);
	if (place >= NCCL_MOST_PENDING)
		return;
	group->asked[place].out = call->out;
	group->asked[place].id = call->id;
	group->asked[place].nranks = call->nranks;
	group->asked[place].rank = call->rank;
	group->count = place + 1;
}

/* A group ended. After an inner group the addresses are still missing. */
static __always_inline void learn_group(__u32 tgid, __u64 thread)
{
	struct pending_group *group = bpf_map_lookup_elem(&pending_groups, &thread);
	struct nccl_call asked = {.key = {.tgid = tgid}};
	__u64 communicator;
	bool learned = false;

	if (!group)
		return;
	for (__u32 i = 0; i < NCCL_MOST_PENDING; i++) {
		if (i >= group->count)
			break;
		communicator = read_word(group->asked[i].out);
		if (communicator) {
			asked.id = group->asked[i].id;
			asked.nranks = group->asked[i].nranks;
			learn(&asked, communicator, group->asked[i].rank, NCCL_NO_DEVICE);
			learned = true;
		}
	}
	if (learned)
		bpf_map_delete_elem(&pending_groups, &thread);
}

/* Stores the answer of ncclCommCount, ncclCommUserRank or ncclCommCuDevice. */
static __always_inline void learn_answer(const struct nccl_call *call)
{
	struct nccl_communicator *known = find_communicator(&call->key);
	__s32 answer;

	if (bpf_probe_read_user(&answer, sizeof(answer), (void *)call->out))
		return;
	if (!known && call->key.communicator)
		known = new_communicator(call->key.tgid, call->key.communicator);
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

/* A communicator made from another one. */
static __always_inline void learn_child(const struct nccl_call *call, __u64 communicator, __u32 function)
{
	struct nccl_communicator *parent = find_communicator(&call->key);
	struct nccl_call made = *call;

	if (function == NCCL_COMM_SPLIT)
		made.nranks = 0; /* not among the arguments */
	if (function == NCCL_COMM_SHRINK)
		made.nranks = parent && parent->nranks ? parent->nranks + call->nranks : 0;
	if (function != NCCL_COMM_GROW)
		made.rank = NCCL_NO_RANK;
	else if (parent && made.rank == KEEPS_RANK)
		made.rank = parent->rank;
	learn(&made, communicator, made.rank, NCCL_NO_DEVICE);
}

/* A communicator ended. */
static __always_inline void forget(const struct nccl_key *key, __u32 function)
{
	struct nccl_communicator_key where = {.communicator = key->communicator, .tgid = key->tgid};
	struct nccl_communicator *known = bpf_map_lookup_elem(&communicators, &where);
	__u32 user, *number;

	if (!known)
		return;
	user = known->user;
	if (known->id) {
		known->ended_by = function;
		bpf_map_update_elem(&departed, &where, known, BPF_ANY);
	}
	bpf_map_delete_elem(&communicators, &where);
	number = bpf_map_lookup_elem(&communicators_of, &user);
	if (number && *number)
		__sync_fetch_and_add(number, -1);
}

/* Updates the known communicators after a call that did not fail. */
static __always_inline void learn_from(const struct nccl_call *call, __u32 function, __u64 thread)
{
	__u64 communicator;

	switch (function) {
	case NCCL_COMM_INIT_RANK:
	case NCCL_COMM_INIT_RANK_CONFIG:
	case NCCL_COMM_INIT_RANK_SCALABLE:
		communicator = read_word(call->out);
		if (communicator)
			learn(call, communicator, call->rank, NCCL_NO_DEVICE);
		else
			await_group(call, thread);
		break;
	case NCCL_COMM_INIT_ALL:
		learn_all(call);
		break;
	case NCCL_COMM_SPLIT:
	case NCCL_COMM_SHRINK:
	case NCCL_COMM_GROW:
		communicator = read_word(call->out);
		if (communicator)
			learn_child(call, communicator, function);
		break;
	case NCCL_COMM_COUNT:
	case NCCL_COMM_USER_RANK:
	case NCCL_COMM_CU_DEVICE:
		learn_answer(call);
		break;
	case NCCL_COMM_DESTROY:
	case NCCL_COMM_ABORT:
		forget(&call->key, function);
		break;
	case NCCL_GROUP_END:
		learn_group(call->key.tgid, thread);
		break;
	}
}

/* The bucket of a latency: its number of bits beyond those of bucket 0. */
static __always_inline __u64 latency_bucket(__u64 ns)
{
	__u64 bits = ns >> NCCL_FIRST_BUCKET_BITS;

	/* all bits below the highest one are set, then counted */
#pragma unroll
	for (int shift = 1; shift < 64; shift *= 2)
		bits |= bits >> shift;
	bits = ones(bits);
	return bits < NCCL_LATENCY_BUCKETS ? bits : NCCL_LATENCY_BUCKETS - 1;
}

/* A collective returned. One that failed was not made, and its number is the next one's. */
static __always_inline void note_return(const struct nccl_call *call, bool failed)
{
	struct nccl_communicator *known = find_communicator(&call->key);

	if (!known || !call->number)
		return;
	if (failed) {
		__sync_fetch_and_add(&known->begun, -1);
		return;
	}
	__sync_fetch_and_add(&known->returned, 1);
	known->last_return_ns = bpf_ktime_get_ns();
}

static __always_inline void count_return(const struct nccl_call *call, __u64 result, __u32 buffer)
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
	struct nccl_frame frame = {.thread = thread, .stack = stack_pointer(ctx), .function = function};
	__u32 buffer = active != 0, result = REGISTER(ctx, 10, 0), reported;
	struct nccl_call *begun = bpf_map_lookup_elem(&running, &frame);
	__u64 counted = result;
	struct nccl_call call;

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
	if (call.number)
		note_return(&call, result != RESULT_SUCCESS && result != RESULT_IN_PROGRESS);
	if (result == RESULT_SUCCESS || result == RESULT_IN_PROGRESS)
		learn_from(&call, function, thread);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
