/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What user space does with the flow tables of a buffer that no program writes to any more: memory in, memory
 * out, no system calls.
 *
 * Read by drain.c and, as cffi definitions, by build_ffi.py: plain declarations only.
 */
#pragma once

/* Add what a CPU's RECENT_FLOWS hold to their entries, by number, and empty their places. */
void xt_add_recent(struct flow_entry *entries, __u32 count, struct recent_flow *recent);
/* Add what the owners of flows counted in the `places` of an index to their entries, and empty these places.
 */
void xt_add_owned(struct flow_entry *entries, __u32 count, struct index_place *index, __u32 places);
/* Move those that hold something to `entries`, and empty their places. Returns how many. */
__u32 xt_take_recent(struct flow_entry *entries, struct recent_flow *recent);

/*
 * Drop entries without packets, keeping the order; returns how many are left. `owners`, by the same index, go
 * with them; NULL: there are none.
 */
__u32 xt_drop_unused(struct flow_entry *entries, struct flow_owner *owners, __u32 count);
/*
 * Add up entries with the same key, so that every flow occurs once, where it occurred first; returns how many
 * are left. `places` are zero, a power of two, more than `count`. `owners` as above: of two, the one that is
 * known better stays.
 */
__u32 xt_merge_flows(struct flow_entry *entries, struct flow_owner *owners, __u32 count, __u32 *index,
		     __u32 places);

/* A flow by its size. */
struct ranked_flow {
	__u64 bytes;
	__u32 index;
	__u32 padding;
};

/*
 * Find the `room` largest of some flows, in order; of those with equal bytes the first. `chosen`: indexes of
 * these flows, ascending; NULL: the first `count`. `largest` gets indexes, fewer than room if there are not
 * as many. `ranked` has the same room.
 */
void xt_largest(const struct flow_entry *entries, const __u32 *chosen, __u32 count, __u32 room,
		struct ranked_flow *ranked, __u32 *largest);

/* Flows to find: TCP and UDP, with an owner of some kinds, at some slots, whose ports both are among some. */
struct flow_search {
	__u32 kinds;	   /* bit i: enum owner_kind i */
	__u8 slots[256];   /* by slot: 0 if not wanted */
	__u8 ports[65536]; /* the same by port */
};

/* `found` gets the indexes of such flows, ascending, and has room for `count`. Returns how many. */
__u32 xt_find_flows(const struct flow_entry *entries, const struct flow_owner *owners, __u32 count,
		    const struct flow_search *search, __u32 *found);

/* What one owner's flows carried across an interface in one direction. */
struct owner_sum {
	struct flow_owner owner; /* of zeros where owners are not known */
	__u64 flows;
	__u64 packets;
	__u64 bytes;
	__u8 slot;
	__u8 egress; /* FLOW_EGRESS, or 0 */
	__u8 padding[6];
};

/*
 * Add up flows by interface, direction and owner, in the order in which these occur; returns how many sums
 * there are. What is left of a socket in an owner that is none of it is no difference. `sums` has room for
 * `count` of them; `places` are zero, a power of two, more than `count`. `numbers` gets of each flow the
 * number of its sum. `owners`: by the same index as the entries; NULL: there are none.
 */
__u32 xt_sum_owners(const struct flow_entry *entries, const struct flow_owner *owners, __u32 count,
		    struct owner_sum *sums, __u32 *numbers, __u32 *index, __u32 places);

/* What one owner's flows carried everywhere. */
struct owner_rank {
	__u64 bytes;
	__u32 last;	  /* the number of the last of its sums */
	__u32 is_process; /* OWNER_SOCKET */
};

/*
 * Rank the owners that have sums: those that are no processes, then processes, the largest first. Returns how
 * many there are. `ranks` has room for `count`; `before` gets of each sum the number + 1 of the one before it
 * that has the same owner, 0 if there is none; `places` as above.
 */
__u32 xt_rank_owners(const struct owner_sum *sums, __u32 count, struct owner_rank *ranks, __u32 *before,
		     __u32 *index, __u32 places);
/* The number + 1 of the last of an owner's sums, 0 if it has none. `index`: made by xt_rank_owners(). */
__u32 xt_find_owner(const struct owner_sum *sums, const struct flow_owner *owner, const __u32 *index,
		    __u32 places);
/* Add up the sums of some ranks by place: 2 * slot + egress, of which there are 512. */
void xt_sum_places(const struct owner_sum *sums, const __u32 *before, const struct owner_rank *ranks,
		   __u32 count, struct owner_sum *at);

/* Entries from what a hash table's batch returned. */
void xt_from_batch(struct flow_entry *entries, const struct flow_key *keys,
		   const struct flow_counters *values, __u32 count);

void xt_clear(void *memory, size_t size);
