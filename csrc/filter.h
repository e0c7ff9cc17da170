/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The filters: which packets get into a flow. The others are counted as filtered, or as fragments of unknown
 * ports. */
#pragma once

#include <stdbool.h>

#include "bpf_helpers.h"
#include "flow.h"
#include "key.h"
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

/*
 * Filters by port need the first fragment of a datagram: what they said of it holds for the later ones. The
 * key is that of the flow, with what the fragments do not share taken out and the datagram's number in it;
 * the value, when the first one came, by now_ns(), twice that and 1 if it was wanted.
 */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_TYPE(key, struct flow_key);
	MAP_TYPE(value, __u64);
	MAP_UINT(max_entries, FRAGMENTED_DATAGRAMS);
} datagrams SEC(".maps");

/* How long the fragments of a datagram may take: what Linux waits for them (net.ipv4.ipfrag_time). */
#define FRAGMENT_TIME_NS 30000000000ULL

/* What becomes of a packet. */
enum verdict {
	VERDICT_WANTED,
	VERDICT_FILTERED,
	VERDICT_UNKNOWN_FRAGMENT, /* a later one, whose first was not seen */
};

static __always_inline bool has_wanted_ports(const struct flow_key *key)
{
	bool has_port = has_port_fields(key);

	if (excludes_dns && has_port && (key->src_port == DNS_PORT || key->dst_port == DNS_PORT))
		return false;
	return !has_ports || (has_port && (is_listed(key->src_port) || is_listed(key->dst_port)));
}

/* Whether a fragment is of a datagram whose first one may have ports. */
static __always_inline bool is_of_datagram(const struct flow_key *key)
{
	return key->flags & FLOW_FRAGMENT &&
	       (key->protocol == PROTOCOL_TCP || key->protocol == PROTOCOL_UDP ||
		key->protocol == PROTOCOL_SCTP || is_extension(key->protocol));
}

/* Makes a flow's key that of a datagram, with its number where ports were. */
static __always_inline void name_datagram(struct flow_key *key, __u32 id)
{
	if (!has_number(tunnel_of(key)))
		key->src_qpn = 0;
	key->dst_qpn = id;
	key->opcode = 0;
	key->flags &= FLOW_EGRESS | FLOW_INNER;
	/* of IPv6 the later fragments may lack it */
	if (!is_mapped(key->src))
		key->protocol = 0;
}

/* What --port and --exclude-dns say. The key is another one meanwhile: the programs' stack has no room for
 * two. */
static __always_inline enum verdict judge_ports(struct flow_entry *packet, __u32 id)
{
	__u64 *words = (__u64 *)&packet->key, fourth = words[4], fifth = words[5];
	__u64 now = packet->counters.first_ns << 1 | has_wanted_ports(&packet->key), *first;
	enum verdict verdict = now & 1 ? VERDICT_WANTED : VERDICT_FILTERED;
	bool is_later = packet->key.flags & FLOW_LATER_FRAGMENT;

	if (likely(!is_of_datagram(&packet->key)))
		return verdict;
	name_datagram(&packet->key, id);
	if (is_later) {
		first = bpf_map_lookup_elem(&datagrams, &packet->key);
		if (!first || (now >> 1) - (*first >> 1) > FRAGMENT_TIME_NS)
			verdict = VERDICT_UNKNOWN_FRAGMENT;
		else
			verdict = *first & 1 ? VERDICT_WANTED : VERDICT_FILTERED;
	} else {
		bpf_map_update_elem(&datagrams, &packet->key, &now, BPF_ANY);
	}
	words[4] = fourth;
	words[5] = fifth;
	return verdict;
}

/* What the filters say of a packet; `id` is that of the datagram, if it is a fragment. */
static __always_inline enum verdict judge(struct flow_entry *packet, __u32 id)
{
	const struct flow_key *key = &packet->key;
	enum verdict by_ports = VERDICT_WANTED;

	/* first: later fragments are not of RoCE's type, and need the verdict on their first even so */
	if (has_ports || excludes_dns)
		by_ports = judge_ports(packet, id);
	if (wanted_types && !(wanted_types >> traffic_type(key) & 1))
		return VERDICT_FILTERED;
	if (has_networks && !touches(&networks, key))
		return VERDICT_FILTERED;
	if (has_excluded_networks && touches(&excluded_networks, key))
		return VERDICT_FILTERED;
	return by_ports;
}
