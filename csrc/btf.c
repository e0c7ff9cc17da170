// SPDX-License-Identifier: GPL-3.0-or-later
/* Finds types in a BTF blob (Documentation/bpf/btf.rst). Nothing is believed: every size is checked. */
#include <linux/btf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <string.h>

#include "btf.h"

#define DECL_TAG_KIND 17 /* newer than some build hosts' headers, as is the next */
#define ENUM64_KIND 19

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

static struct btf_type type_at(const struct xt_btf *btf, __u32 position)
{
	struct btf_type type;

	memcpy(&type, btf->blob + position, sizeof(type));
	return type;
}

static __u32 kind_of(const struct btf_type *type)
{
	return type->info >> 24 & 0x1f;
}

bool xt_btf_find_types(struct xt_btf *btf)
{
	__u32 at = btf->types;

	btf->positions[0] = 0;
	btf->count = 1;
	while (at < btf->types_end) {
		__u32 room = btf->types_end - at;
		struct btf_type type;
		__s64 rest;

		btf->positions[btf->count++] = at;
		if (room < sizeof(type))
			return false;
		type = type_at(btf, at);
		rest = trailing(kind_of(&type), type.info & 0xffff);
		if (rest < 0 || rest > room - (__s64)sizeof(type))
			return false;
		at += sizeof(type) + rest;
	}
	return true;
}

/* Whether the string there, which may lack an end, is `name`. */
static bool is_named(const struct xt_btf *btf, __u32 offset, const char *name, size_t length)
{
	__u32 room = btf->strings_end - btf->strings;

	return offset < room && room - offset > length &&
	       !memcmp(btf->blob + btf->strings + offset, name, length + 1);
}

__u32 xt_btf_type(const struct xt_btf *btf, __u32 kind, const char *name)
{
	size_t length = strlen(name);

	for (__u32 id = 1; id < btf->count; id++) {
		struct btf_type type = type_at(btf, btf->positions[id]);

		if (kind_of(&type) == kind && is_named(btf, type.name_off, name, length))
			return id;
	}
	return 0;
}
