// SPDX-License-Identifier: GPL-3.0-or-later
/* Looks types up in a BTF blob (Documentation/bpf/btf.rst). Nothing is believed: every size is checked. */
#include <linux/btf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "btf.h"

_Static_assert(XT_BTF_STRUCT == BTF_KIND_STRUCT && XT_BTF_ENUM == BTF_KIND_ENUM, "kinds");

#define DECL_TAG_KIND 17 /* newer than some build hosts' headers, as is the next */
#define ENUM64_KIND 19
#define DEEPEST 4 /* structs in structs */

/* A blob's types and names. */
struct types {
	const char *start, *end;
	const char *strings;
	__u32 strings_size;
};

/* One type, and the elements behind its header. */
struct found {
	__u32 id; /* 0: none */
	__u32 kind;
	__u32 elements;
	bool has_bit_fields;
	const char *element;
};

static bool open_blob(const void *blob, size_t size, struct types *types)
{
	const struct btf_header *header = blob;
	const char *sections;

	if (size < sizeof(*header) || header->magic != BTF_MAGIC || header->hdr_len > size)
		return false;
	sections = (const char *)blob + header->hdr_len;
	size -= header->hdr_len;
	if (header->type_off > size || header->type_len > size - header->type_off || header->str_off > size ||
	    header->str_len > size - header->str_off || !header->str_len)
		return false;
	types->start = sections + header->type_off;
	types->end = types->start + header->type_len;
	types->strings = sections + header->str_off;
	types->strings_size = header->str_len;
	return !types->strings[types->strings_size - 1];
}

/* Bytes behind a type's header, by its kind and number of elements; -1 if the kind is not known. */
static __s64 trailing(__u32 kind, __u32 elements)
{
	switch (kind) {
	case BTF_KIND_INT:
	case BTF_KIND_VAR:
	case DECL_TAG_KIND:
		return 4;
	case BTF_KIND_ARRAY:
		return 12;
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
	case BTF_KIND_DATASEC:
	case ENUM64_KIND:
		return 12 * (__s64)elements;
	case BTF_KIND_ENUM:
	case BTF_KIND_FUNC_PROTO:
		return 8 * (__s64)elements;
	}
	return kind && kind < ENUM64_KIND ? 0 : -1;
}

static bool is_named(const struct types *types, __u32 offset, const char *name)
{
	return offset < types->strings_size && !strcmp(types->strings + offset, name);
}

/* The first type of that kind and name; with `name` NULL that of that ID, whatever it is. */
static struct found find(const struct types *types, __u32 wanted, const char *name)
{
	const char *at = types->start;
	struct found none = {};

	for (__u32 id = 1; (size_t)(types->end - at) >= sizeof(struct btf_type); id++) {
		const struct btf_type *type = (const void *)at;
		__u32 kind = type->info >> 24 & 0x1f, elements = type->info & 0xffff;
		__s64 rest = trailing(kind, elements);

		at += sizeof(*type);
		if (rest < 0 || rest > types->end - at)
			return none;
		if (name ? kind == wanted && is_named(types, type->name_off, name) : id == wanted)
			return (struct found){id, kind, elements, type->info >> 31, at};
		at += rest;
	}
	return none;
}

__u32 xt_btf_type(const void *blob, size_t size, __u32 kind, const char *name)
{
	struct types types;

	return open_blob(blob, size, &types) ? find(&types, kind, name).id : 0;
}

/* Where a struct or union has a member, in bits; looks into members without a name, too. */
static __s64 member_bits(const struct types *types, struct found in, const char *name, int depth)
{
	bool is_composite = in.kind == BTF_KIND_STRUCT || in.kind == BTF_KIND_UNION;
	__s64 inner;

	for (__u32 i = 0; is_composite && depth && i < in.elements; i++) {
		const struct btf_member *one = (const struct btf_member *)in.element + i;
		__u32 bits = in.has_bit_fields ? one->offset & 0xffffff : one->offset;

		if (is_named(types, one->name_off, name))
			return in.has_bit_fields && one->offset >> 24 ? -1 : bits;
		if (!is_named(types, one->name_off, ""))
			continue;
		inner = member_bits(types, find(types, one->type, NULL), name, depth - 1);
		if (inner >= 0)
			return bits + inner;
	}
	return -1;
}

__s64 xt_btf_member(const void *blob, size_t size, const char *structure, const char *member)
{
	struct types types;
	__s64 bits;

	if (!open_blob(blob, size, &types))
		return -1;
	bits = member_bits(&types, find(&types, BTF_KIND_STRUCT, structure), member, DEEPEST);
	return bits < 0 || bits % 8 ? -1 : bits / 8;
}

__s64 xt_btf_constant(const void *blob, size_t size, const char *enumeration, const char *name)
{
	struct found found;
	struct types types;

	if (!open_blob(blob, size, &types))
		return -1;
	found = find(&types, BTF_KIND_ENUM, enumeration);
	for (__u32 i = 0; i < found.elements; i++) {
		const struct btf_enum *one = (const struct btf_enum *)found.element + i;

		if (is_named(&types, one->name_off, name))
			return (__u32)one->val;
	}
	return -1;
}
