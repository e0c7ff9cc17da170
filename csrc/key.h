/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What stands in a flow key's words: one decision for the BPF programs and the shim. */
#pragma once

#include <linux/stddef.h>
#include <linux/types.h>

#include "flow.h"

static __always_inline __u32 tunnel_of(const struct flow_key *key)
{
	return key->flags & FLOW_INNER ? key->vlan_id >> TUNNEL_SHIFT : TUNNEL_NONE;
}

/* Whether the tunnel's number stands in src_qpn. */
static __always_inline int has_number(__u32 tunnel)
{
	return tunnel != TUNNEL_NONE && tunnel < TUNNEL_GRE;
}

static __always_inline __u16 vlan_of(const struct flow_key *key)
{
	return key->vlan_id & TAG_MASK;
}

static __always_inline __u16 inner_vlan_of(const struct flow_key *key)
{
	if (key->flags & FLOW_INNER)
		return key->ethertype & TAG_MASK;
	return (key->vlan_id & ~TAG_MASK) >> (TUNNEL_SHIFT - TAG_LOW_BITS) | key->src_qpn >> QPN_BITS;
}

static __always_inline __u32 src_qpn_of(const struct flow_key *key)
{
	return key->src_qpn & QPN_MASK;
}

/* Into the key of a flow that is no inner one, whose frames have two tags. */
static __always_inline void set_second_tag(struct flow_key *key, __u32 tag)
{
	key->vlan_id |= (tag >> TAG_LOW_BITS) << TUNNEL_SHIFT;
	key->src_qpn |= tag << QPN_BITS;
}
