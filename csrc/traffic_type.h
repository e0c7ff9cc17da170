/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a flow is called, from the fields of its key: one decision for the BPF programs and the shim. */
#pragma once

#include <linux/stddef.h>
#include <linux/types.h>

#include "flow.h"

#define ETHERTYPE_LEAST                                                                                      \
	0x0600 /* what is below, in an Ethernet frame, is a length: of LLC (IEEE 802.3, 3.2.6) */
#define ETHERTYPE_LLC                                                                                        \
	0x0004 /* stands in flow keys for all such lengths; Linux's number for it, ETH_P_802_2 */
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_ROCE_V1 0x8915

#define PROTOCOL_ICMP 1
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_ICMPV6 58
#define PROTOCOL_SCTP 132

/* The same decision, from the same fields, as FlowKey.traffic_type in xtrace/model/flow.py. */
static __always_inline enum traffic_type traffic_type(const struct flow_key *key)
{
	if (key->flags & FLOW_ROCE_V2)
		return TRAFFIC_ROCE_V2;
	if (key->ethertype == ETHERTYPE_ROCE_V1)
		return TRAFFIC_ROCE_V1_IBOE;
	if (key->ethertype == ETHERTYPE_ARP)
		return TRAFFIC_ARP;
	switch (key->protocol) {
	case PROTOCOL_TCP:
		return TRAFFIC_TCP;
	case PROTOCOL_UDP:
		return TRAFFIC_UDP;
	case PROTOCOL_SCTP:
		return TRAFFIC_SCTP;
	case PROTOCOL_ICMP:
	case PROTOCOL_ICMPV6:
		return TRAFFIC_ICMP;
	}
	return TRAFFIC_OTHER;
}
