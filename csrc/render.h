/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Flows as JSON Lines, records "flow" of docs/output.schema.json, or as lines of words for people, directly
 * from drained buffers. All names come from Python, which needs them elsewhere too.
 *
 * Read by render.c, words.c and, as cffi definitions, by build_ffi.py: plain declarations only.
 */
#pragma once

/* Names of numbers. */
struct xt_names {
	const char *traffic_types[TRAFFIC_TYPES]; /* by enum traffic_type */
	const char *tunnels[TUNNEL_KINDS];	  /* by enum tunnel */
	const char *opcodes[256];		  /* by BTH opcode */
	const char *tcp_flags[256];		  /* by TCP's flags byte */
};

/* Rendered already, not NUL-terminated. */
struct xt_text {
	const char *start;
	size_t length;
};

/* The flows of one interface in one interval, and how far they are rendered. */
struct xt_flow_lines {
	const struct flow_entry *entries; /* those at hand */
	__u32 first;			  /* the index of the first of them */
	__u32 at_hand;			  /* how many they are */
	const __u32 *chosen;		  /* indexes of the flows to render; NULL: the first `count` */
	__u32 count;
	__u32 next; /* in, out: the first of `count` not yet rendered */

	const struct xt_names *names;
	__u8 in_words; /* instead of JSON */

	/* In JSON. */
	struct xt_text before; /* the record from its brace up to the direction */
	struct xt_text units;

	/* In words, with a space before each. */
	struct xt_text interface;
	struct xt_text direction; /* empty where only one is watched */

	/* Nanoseconds. A flow's first and last tick are set against one whose time is known. */
	__u32 tick;
	__s64 tick_at;	   /* CLOCK_MONOTONIC then */
	__s64 tick_ns;	   /* from one tick to the next */
	__s64 wall_offset; /* to add to CLOCK_MONOTONIC for UTC */
	__s64 start;	   /* of the interval, CLOCK_MONOTONIC; a flow's times are clamped to it */
	__s64 end;

	/* For RoCE flows. */
	__u8 needs_origin;	/* return XT_LINES_NEED_ORIGIN once before each of them */
	__u8 has_origin;	/* in, out: the next two are those of flow `next` */
	__s64 src_qpn;		/* its queue pair, if the key has none; negative: unknown */
	struct xt_text process; /* further fields or words, each with what separates them; or empty */

	/* With owners. */
	const struct flow_owner *owners; /* by the same index as the entries; NULL: there are none */
	struct flow_owner owner;	 /* in, out: the one that owner_fields are of */
	struct xt_text owner_fields;	 /* or words, each with what separates them */

	char *out;
	size_t room;
	size_t used; /* in, out */
};

/* Why xt_flow_lines() returned. */
enum xt_lines_result {
	XT_LINES_DONE,
	XT_LINES_NEED_ENTRIES, /* flow `next` is not at hand */
	XT_LINES_FULL,	       /* the next line may not fit into `out`, which holds whole lines */
	XT_LINES_NEED_ORIGIN,
	XT_LINES_NEED_OWNER, /* the fields of `owner`, which is that of flow `next` now */
};

/* Append one line for each flow, starting at `next`. */
int xt_flow_lines(struct xt_flow_lines *lines);
/*
 * The words of a flow that do not apply to every one, with a space before each, to `out`, which has room for
 * XT_LINE_LENGTH; returns their length. `has_message`: with type and code of ICMP.
 */
size_t xt_flow_details(const struct flow_entry *entry, const struct xt_names *names, int has_message,
		       char *out);
/* Upper bound of a line's length without the texts in struct xt_flow_lines. */
#define XT_LINE_LENGTH 1024
