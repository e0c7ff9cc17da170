/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The filters: which packets get into a flow. The others are counted as filtered. */
#pragma once

#include <stdbool.h>

#include "bpf_helpers.h"
#include "flow.h"
#include "parse.h"
#include "switches.h"
#include "traffic_type.h"

struct {
	MAP_UINT(type, BPF_MAP_TYPE_LPM_TRIE);
	MAP_TYPE(key, struct network);
	MAP_TYPE(value, __u8);
	MAP_UINT(max_entries, MAX_NETWORKS);
	MAP_UINT(map_flags, BPF_F_NO_PREALLOC);
} networks SEC(".maps"), excluded_networks SEC(".maps");

/* A bit per port. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
	MAP_UINT(max_entries, 65536 / 64);
} ports SEC(".maps");

static __always_inline bool is_mapped(const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	return !words[0] && !words[1] && words[2] == __builtin_bswap32(0x0000ffff);
}

static __always_inline bool is_in(void *trie, const __u8 *address)
{
	struct network host = {.prefix_length = 32 + 128, .family = is_mapped(address) ? 4 : 6};

	__builtin_memcpy(host.address, address, sizeof(host.address));
	return bpf_map_lookup_elem(trie, &host);
}

/* Whether source or destination is in one of the networks; frames without addresses are in none. */
static __always_inline bool touches(void *trie, const struct flow_key *key)
{
	const __u64 *words = (const __u64 *)key;

	if (!(words[0] | words[1] | words[2] | words[3]))
		return false;
	return is_in(trie, key->src) || is_in(trie, key->dst);
}

static __always_inline bool is_listed(__u16 port)
{
	__u32 index = port / 64;
	__u64 *bits = bpf_map_lookup_elem(&ports, &index);

	return bits && *bits >> port % 64 & 1;
}

/* TCP, UDP and SCTP have ports, except in later fragments, and except RoCE, whose place there is a QPN. */
static __always_inline bool has_port_fields(const struct flow_key *key)
{
	enum traffic_type type = traffic_type(key);

	return (type == TRAFFIC_TCP || type == TRAFFIC_UDP || type == TRAFFIC_SCTP) &&
	       !(key->flags & FLOW_LATER_FRAGMENT);
}

/* Whether the filters let the packet into a flow. */
static __always_inline bool is_wanted(const struct flow_key *key)
{
	bool has_port = has_port_fields(key);

	if (wanted_types && !(wanted_types >> traffic_type(key) & 1))
		return false;
	if (excludes_dns && has_port && (key->src_port == DNS_PORT || key->dst_port == DNS_PORT))
		return false;
	if (has_ports && !(has_port && (is_listed(key->src_port) || is_listed(key->dst_port))))
		return false;
	if (has_networks && !touches(&networks, key))
		return false;
	return !has_excluded_networks || !touches(&excluded_networks, key);
}
