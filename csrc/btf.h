/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Finds the types of a BTF blob. What they say is read in Python (xtrace/kernel/btf.py); the kernel's own
 * blob has more than 100,000, too many to be walked through there.
 *
 * Read by btf.c and, as cffi definitions, by build_ffi.py: plain declarations only.
 */
#pragma once

/* The types and names of a blob, whose owner keeps it. Offsets are bytes from the blob's start. */
struct xt_btf {
	const char *blob;
	__u32 types, types_end;
	__u32 strings, strings_end;
	__u32 *positions; /* of each type's header, by its ID, 0 being void; room for any number of them */
	__u32 count;	  /* of those */
};

/*
 * Find the positions of all types. Return false at the first that is malformed, of a kind that is not known,
 * or extends beyond the end; the last position is its own then.
 */
_Bool xt_btf_find_types(struct xt_btf *btf);

/* Return the ID of the first type of that kind (BTF_KIND_*) and name; 0 if there is none. */
__u32 xt_btf_type(const struct xt_btf *btf, __u32 kind, const char *name);
