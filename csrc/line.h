/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What render.c writes lines with, and words.c. Flows are told apart as in FlowKey of xtrace/model/flow.py.
 */
#pragma once

#include <arpa/inet.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "flow.h"
#include "key.h"
#include "owner.h"
#include "render.h"
#include "traffic_type.h"

/* The next byte to write. All texts are bounded (XT_LINE_LENGTH), so room is checked once per line. */
struct line {
	char *at;
	__s64 day; /* of `date`, in days since the epoch */
	char date[sizeof("YYYY-MM-DDT")];
};

static inline void put(struct line *line, const char *text, size_t length)
{
	memcpy(line->at, text, length);
	line->at += length;
}

#define PUT(line, literal) put(line, literal, sizeof(literal) - 1)

static inline void put_text(struct line *line, const struct xt_text *text)
{
	if (text->length) /* else there may be no start */
		put(line, text->start, text->length);
}

static inline void put_name(struct line *line, const char *name)
{
	put(line, name, strlen(name));
}

static inline void put_number(struct line *line, __u64 number)
{
	char digits[20];
	char *first = digits + sizeof(digits);

	do
		*--first = '0' + number % 10;
	while (number /= 10);
	put(line, first, digits + sizeof(digits) - first);
}

static inline bool is_mapped_ipv4(const __u8 *address)
{
	static const __u8 prefix[12] = {[10] = 0xff, [11] = 0xff};

	return !memcmp(address, prefix, sizeof(prefix));
}

static inline void put_address(struct line *line, const __u8 *address)
{
	if (!is_mapped_ipv4(address)) {
		inet_ntop(AF_INET6, address, line->at, INET6_ADDRSTRLEN);
		line->at += strlen(line->at);
		return;
	}
	for (int i = 12; i < 16; i++) {
		if (i > 12)
			*line->at++ = '.';
		put_number(line, address[i]);
	}
}

static inline bool is_zero(const __u8 *address)
{
	static const __u8 zero[16];

	return !memcmp(address, zero, sizeof(zero));
}

/* has_addresses except for IP. */
static inline bool is_addressed(const struct flow_key *key)
{
	return !is_zero(key->src) || !is_zero(key->dst);
}

static inline bool is_ip(const struct flow_key *key)
{
	return key->flags & FLOW_INNER ||
	       ((key->ethertype == ETHERTYPE_IPV4 || key->ethertype == ETHERTYPE_IPV6) &&
		(key->protocol || is_addressed(key)));
}

static inline bool is_roce(const struct flow_key *key)
{
	return key->flags & (FLOW_ROCE_V1 | FLOW_ROCE_V2);
}

/* The source's queue pair of a RoCE flow: from its packets, else from its origin; negative: unknown. */
static inline __s64 source_of(const struct xt_flow_lines *lines, const struct flow_key *key)
{
	if (key->flags & FLOW_HAS_SRC_QPN)
		return src_qpn_of(key);
	return lines->has_origin ? lines->src_qpn : -1;
}

/* Append the words of a flow (words.c). */
void put_words(struct line *line, const struct xt_flow_lines *lines, const struct flow_entry *entry);
