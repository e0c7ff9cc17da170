/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The kernel's own type information (BTF), as far as a program is to be fitted to the running kernel. It has
 * more than 100,000 types: too many to be read in Python at every start.
 *
 * Read by btf.c and, as cffi definitions, by build_ffi.py: plain declarations only.
 */
#pragma once

/* Kinds of types (BTF_KIND_*, include/uapi/linux/btf.h). */
#define XT_BTF_STRUCT 4
#define XT_BTF_ENUM 6
#define XT_BTF_FUNCTION 12

/* Return the ID of the type of that kind and name; 0 if there is none, or the blob is malformed. */
__u32 xt_btf_type(const void *blob, size_t size, __u32 kind, const char *name);

/* Return where a struct has a member that is no bit field, in bytes; -1 if it has none of that name. */
__s64 xt_btf_member(const void *blob, size_t size, const char *structure, const char *member);

/* Return the value of a constant of an enum, whose values have 32 bits; -1 if it has none of that name. */
__s64 xt_btf_constant(const void *blob, size_t size, const char *enumeration, const char *name);
