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
/* Add what other CPUs than the owners counted to the entries, and set it to 0. */
void xt_add_foreign(struct flow_entry *entries, __u32 count, struct packet_count *foreign);
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
 * there are. `sums` has room for `count` of them; `places` are zero, a power of two, more than `count`.
 * `numbers` gets of each flow the number of its sum. `owners`: by the same index as the entries; NULL: there
 * are none.
 */
__u32 xt_sum_owners(const struct flow_entry *entries, const struct flow_owner *owners, __u32 count,
		    struct owner_sum *sums, __u32 *numbers, __u32 *index, __u32 places);

/* Entries from what a hash table's batch returned. */
void xt_from_batch(struct flow_entry *entries, const struct flow_key *keys,
		   const struct flow_counters *values, __u32 count);

void xt_clear(void *memory, size_t size);
