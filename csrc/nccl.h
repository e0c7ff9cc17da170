/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The contract between the NCCL probes and user space: which functions are watched, and what is counted
 * for their calls. Read by csrc/nccl_probe.c, csrc/shim.c and, as cffi definitions, by build_ffi.py; so
 * it holds plain structs, enums and integer defines only, and its reader provides __u8 ... __u64.
 */
#pragma once

/* Functions of NCCL's interface, in the order of the names in xtrace/model/nccl.py. */
enum nccl_function {
	/* with a count and a datatype */
	NCCL_ALL_REDUCE,
	NCCL_BROADCAST,
	NCCL_BCAST,
	NCCL_REDUCE,
	NCCL_ALL_GATHER,
	NCCL_REDUCE_SCATTER,
	NCCL_ALL_TO_ALL,
	NCCL_GATHER,
	NCCL_SCATTER,
	NCCL_SEND,
	NCCL_RECV,
	/* the same with a last argument more, in the order of those above */
	NCCL_ALL_REDUCE_CONFIG,
	NCCL_BROADCAST_CONFIG,
	NCCL_REDUCE_CONFIG,
	NCCL_ALL_GATHER_CONFIG,
	NCCL_REDUCE_SCATTER_CONFIG,
	NCCL_ALL_TO_ALL_CONFIG,
	NCCL_GATHER_CONFIG,
	NCCL_SCATTER_CONFIG,
	/* one-sided; the last with a count */
	NCCL_PUT_SIGNAL,
	/* on a communicator, without a count */
	NCCL_SIGNAL,
	NCCL_WAIT_SIGNAL,
	/* that make communicators */
	NCCL_COMM_INIT_RANK,
	NCCL_COMM_INIT_RANK_CONFIG,
	NCCL_COMM_INIT_RANK_SCALABLE,
	NCCL_COMM_INIT_ALL,
	NCCL_COMM_SPLIT,
	NCCL_COMM_SHRINK,
	NCCL_COMM_GROW,
	/* that describe one */
	NCCL_COMM_COUNT,
	NCCL_COMM_USER_RANK,
	NCCL_COMM_CU_DEVICE,
	NCCL_COMM_GET_ASYNC_ERROR,
	/* that end one */
	NCCL_COMM_FINALIZE,
	NCCL_COMM_DESTROY,
	NCCL_COMM_ABORT,
	/* without any */
	NCCL_GROUP_START,
	NCCL_GROUP_END,
	NCCL_FUNCTIONS,
};

/* A call's datatype where the function has none. */
#define NCCL_NO_DATATYPE 255

/* Bytes of ncclUniqueId. */
#define NCCL_UNIQUE_ID_BYTES 128

/* Unknown rank or device of a communicator. */
#define NCCL_NO_RANK 0xffffffff
#define NCCL_NO_DEVICE -1

/* Results are counted by ncclResult_t (nccl.h): 0 success, 7 in progress, 8 timeout; this one and higher ones
 * together.
 */
#define NCCL_OTHER_RESULT 9
#define NCCL_RESULTS 10

/* Bucket 0 counts latencies below 2^10 ns, bucket i those below 2^(10 + i), the last one all others. */
#define NCCL_LATENCY_BUCKETS 32
#define NCCL_FIRST_BUCKET_BITS 10

/* Default capacity of one call table, in keys. */
#define NCCL_MAX_KEYS 8192
#define NCCL_LEAST_KEYS 256
#define NCCL_MOST_KEYS 262144

/* The most keys of one user and of one process in an interval: nobody can fill a table alone. */
#define NCCL_USER_KEYS 4096
#define NCCL_PROCESS_KEYS 2048

/* The most communicators of one user that are remembered; of others size and rank are unknown. */
#define NCCL_USER_COMMUNICATORS 4096

/* Probed files have numbers below this. */
#define NCCL_FILES 1024

/* The most devices of one ncclCommInitAll that are followed. */
#define NCCL_MOST_DEVICES 32

/* Calls of a communicator whose number, begin and arguments are kept: the last one for each number of zero
 * bits that a call's number ends in, the last of these for all higher ones.
 */
#define NCCL_MARKS 16

/* Communicators that were ended, until user space has read how far they got. */
#define NCCL_MAX_DEPARTED 1024

/* Pairs of ranks whose sends and receives are counted. */
#define NCCL_MAX_PEERS 16384

/* A call without root or peer. */
#define NCCL_NO_ROOT 0xffffffff

/* The most communicators per thread and group whose address NCCL writes only when the group ends. */
#define NCCL_MOST_PENDING 16

/*
 * What is counted together. Three 64-bit words without padding. Size and rank of the communicator are
 * part of the key, so that two communicators which use the same address are not mixed.
 */
struct nccl_key {
	__u64 communicator; /* its address in the process; 0 where the function has none */
	__u32 tgid;	    /* process id, as the initial pid namespace has it */
	__u32 nranks;	    /* 0: unknown */
	__u32 rank;	    /* or NCCL_NO_RANK */
	__u8 function;	    /* enum nccl_function */
	__u8 datatype;	    /* ncclDataType_t, or NCCL_NO_DATATYPE */
	__u16 padding;
};

/*
 * Counters of one interval. Calls and elements belong to the interval in which the call began, the others
 * to that in which it returned.
 */
struct nccl_counters {
	__u64 calls;
	__u64 elements; /* sum of the count arguments */
	__u64 returned;
	__u64 latency_ns; /* sum over the returned calls */
	__u64 results[NCCL_RESULTS];
	__u64 latency[NCCL_LATENCY_BUCKETS];
	char command[16]; /* name of the first thread that called; not of the process */
};

/*
 * Per buffer, over all processes. In every interval
 *	sum over keys of calls + nested + duplicate + unattributed == entries
 */
struct nccl_totals {
	__u64 entries;		     /* runs of an entry probe */
	__u64 nested;		     /* ncclBroadcast called by ncclBcast: one call, seen twice */
	__u64 duplicate;	     /* one call seen through two files that are one (overlayfs) */
	__u64 unattributed;	     /* calls that did not fit the table */
	__u64 unattributed_elements; /* theirs */
	__u64 unattributed_returns;  /* returns that did not fit the table */
};

/* Whose keys are counted in a buffer: everybody's, a user's, a process's. */
enum nccl_owner_kind {
	NCCL_EVERYBODY,
	NCCL_USER,
	NCCL_PROCESS,
};

struct nccl_owner {
	__u32 kind; /* enum nccl_owner_kind */
	__u32 id;   /* real user id or process id, as the initial namespaces have it; 0 for everybody */
};

struct nccl_communicator_key {
	__u64 communicator;
	__u32 tgid;
	__u32 padding;
};

/* A call on a communicator, by its number: 1 is the first one that was seen. */
struct nccl_mark {
	__u64 number;
	__u64 begin_ns; /* CLOCK_MONOTONIC */
	__u64 elements;
	__u32 root;    /* or NCCL_NO_ROOT */
	__u8 function; /* enum nccl_function */
	__u8 datatype;
	__u16 padding;
};

/* What calls revealed about a communicator. */
struct nccl_communicator {
	__u32 nranks; /* 0: unknown */
	__u32 rank;   /* or NCCL_NO_RANK */
	__s32 device; /* CUDA device ordinal, or NCCL_NO_DEVICE */
	__u32 user;   /* real user id */
	__u64 id;     /* the same on all ranks; 0: unknown */
	__u64 parent; /* id of the one that it was made from, 0: none, or unknown */
	__u64 begun;  /* collectives since it is known; sends and receives are counted by peer */
	__u64 returned;
	__u64 last_begin_ns; /* CLOCK_MONOTONIC, of the collectives; 0: none */
	__u64 last_return_ns;
	__u32 children; /* made from it so far */
	__u8 is_whole; /* whether it was made under the probes: its calls have the same number on all ranks */
	__u8 peers_lost; /* whether there was no room to count a send or receive */
	__u8 ended_by; /* enum nccl_function: what ended it; NCCL_ALL_REDUCE, which ends none: nothing has */
	__u8 padding;
	struct nccl_mark marks[NCCL_MARKS];
};

/* Sends and receives of one rank, by the other rank. */
struct nccl_peer_key {
	__u64 communicator;
	__u32 tgid;
	__u32 peer;
};

struct nccl_peer {
	__u64 sends;
	__u64 receives;
	__u64 last_send_ns; /* CLOCK_MONOTONIC */
	__u64 last_receive_ns;
};

/* A call in progress is one frame of one thread's stack; functions that jump into another share the frame. */
struct nccl_frame {
	__u64 thread; /* process id above thread id */
	__u64 stack;  /* the stack pointer after the return */
	__u64 function;
};

struct nccl_call {
	struct nccl_key key;
	__u64 begin_ns;
	__u64 out; /* address of what the function is to write */
	__u64 list;
	__u64 count;
	__u64 id;     /* of the communicator that the function makes */
	__u64 parent; /* id of the one that it is made from */
	__u64 number; /* of a collective on its communicator; 0: unknown */
	__u32 nranks;
	__u32 rank;
	__u32 root; /* or peer, or NCCL_NO_ROOT */
	__u32 file;
};

/* A probed file. Calls are counted while it is live: it becomes so at once, when all its probes are there. */
struct nccl_file {
	__u64 last_called_ns; /* CLOCK_MONOTONIC */
	__u32 is_live;
	__u32 padding;
};
