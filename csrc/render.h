/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Flows as JSON Lines: the records "flow" of docs/output.schema.json, straight from what a drain returned.
 * All names come from Python, which has them for everything else, too; here they are put together.
 *
 * Read by render.c and, as cffi definitions, by build_ffi.py: plain declarations only.
 */
#pragma once

/* What numbers are called. */
struct xt_names {
	const char *traffic_types[TRAFFIC_TYPES]; /* by enum traffic_type */
	const char *opcodes[256];		  /* by BTH opcode */
	const char *tcp_flags[256];		  /* by TCP's flags byte */
};

/* Text that is JSON already; it need not end with a 0. */
struct xt_text {
	const char *start;
	size_t length;
};

/* One interface's flows of one interval, and how far they are rendered. */
struct xt_flow_lines {
	const struct flow_key *keys;
	const struct flow_counters *values;
	const __u32 *chosen; /* indexes of the flows to render; NULL: the first `count` */
	__u32 count;
	__u32 next; /* in, out: of `count`, the first that is not rendered yet */

	const struct xt_names *names;
	struct xt_text before; /* the record from its brace up to the direction */
	const char *units;

	/* Nanoseconds. A flow's times plus the first offset are CLOCK_MONOTONIC, plus the second UTC. */
	__s64 record_offset;
	__s64 wall_offset;
	__s64 start; /* the interval, CLOCK_MONOTONIC: a flow's times are taken to be within */
	__s64 end;

	/* Of RoCE flows. */
	__u8 asks_for_origin;	/* stop before each of them with XT_LINES_NEED_ORIGIN, once */
	__u8 has_origin;	/* in, out: that one's is here */
	__s64 src_qpn;		/* its queue pair, if the flow does not tell it; negative: unknown */
	struct xt_text process; /* further fields, each after a comma; or nothing */

	char *out;
	size_t room;
	size_t used; /* in, out */
};

/* Why xt_flow_lines() returned. */
enum xt_lines_result {
	XT_LINES_DONE,
	XT_LINES_FULL, /* another line may not fit into `out`; what is in there is whole lines */
	XT_LINES_NEED_ORIGIN,
};

/* Append one line for each flow from `next` on. */
int xt_flow_lines(struct xt_flow_lines *lines);
/* Bytes that a line needs at most beside `before` and `process`. */
#define XT_LINE_LENGTH 1024
