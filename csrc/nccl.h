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
	/* that make communicators */
	NCCL_COMM_INIT_RANK,
	NCCL_COMM_INIT_RANK_CONFIG,
	NCCL_COMM_INIT_RANK_SCALABLE,
	NCCL_COMM_INIT_ALL,
	NCCL_COMM_SPLIT,
	NCCL_COMM_SHRINK,
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

/* Unknown rank or device of a communicator. */
#define NCCL_NO_RANK 0xffffffff
#define NCCL_NO_DEVICE -1

/* Results are counted by ncclResult_t (nccl.h): 0 success, 7 in progress; this one and higher ones together.
 */
#define NCCL_OTHER_RESULT 8
#define NCCL_RESULTS 9

/* Bucket 0 counts latencies below 2^10 ns, bucket i those below 2^(10 + i), the last one all others. */
#define NCCL_LATENCY_BUCKETS 32
#define NCCL_FIRST_BUCKET_BITS 10

/* Default capacity of one call table, in keys. */
#define NCCL_MAX_KEYS 8192

/* The most keys of one user and of one process in an interval: nobody can fill a table alone. */
#define NCCL_USER_KEYS 4096
#define NCCL_PROCESS_KEYS 2048

/* The most communicators of one user that are remembered; of others size and rank are unknown. */
#define NCCL_USER_COMMUNICATORS 4096

/* Probed files have numbers below this. */
#define NCCL_FILES 1024

/* The most devices of one ncclCommInitAll that are followed. */
#define NCCL_MOST_DEVICES 32

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

/* What calls revealed about a communicator. */
struct nccl_communicator {
	__u32 nranks; /* 0: unknown */
	__u32 rank;   /* or NCCL_NO_RANK */
	__s32 device; /* CUDA device ordinal, or NCCL_NO_DEVICE */
	__u32 user;   /* real user id */
};
