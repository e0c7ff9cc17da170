/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Flows as lines of words: `10.0.0.1:80 -> 10.0.0.2:1234 proto=6 packets=10 bytes=1500 [TCP] eth0` */
#include "line.h"

/* Whether the key's ports are those of a transport header. */
static bool has_ports(const struct flow_key *key)
{
	enum traffic_type type = traffic_type(key);

	return (type == TRAFFIC_TCP || type == TRAFFIC_UDP || type == TRAFFIC_SCTP) &&
	       !(key->flags & FLOW_LATER_FRAGMENT);
}

/* IPv6 in brackets. */
static void put_endpoint(struct line *line, const struct flow_key *key, const __u8 *address, __u16 port)
{
	bool brackets = !is_mapped_ipv4(address);

	if (!is_addressed(key) && !is_ip(key)) {
		PUT(line, "-");
		return;
	}
	if (brackets)
		PUT(line, "[");
	put_address(line, address);
	if (brackets)
		PUT(line, "]");
	if (has_ports(key)) {
		PUT(line, ":");
		put_number(line, port);
	}
}

static void put_ethertype(struct line *line, __u16 ethertype)
{
	if (ethertype == ETHERTYPE_LLC) {
		PUT(line, " LLC");
		return;
	}
	PUT(line, " ethertype=0x");
	for (int shift = 12; shift >= 0; shift -= 4)
		*line->at++ = "0123456789abcdef"[ethertype >> shift & 0xf];
}

static void put_tunnel(struct line *line, const struct xt_names *names, const struct flow_key *key)
{
	__u32 tunnel = tunnel_of(key);

	if (tunnel == TUNNEL_NONE || tunnel >= TUNNEL_KINDS)
		return;
	PUT(line, " ");
	put_name(line, names->tunnels[tunnel]);
	if (has_number(tunnel)) {
		PUT(line, " vni=");
		put_number(line, key->src_qpn);
	}
}

static void put_traffic_class(struct line *line, const struct flow_counters *counters)
{
	if (counters->dscp || counters->dscp_changed) {
		PUT(line, " dscp=");
		put_number(line, counters->dscp);
		if (counters->dscp_changed)
			PUT(line, ",changed");
	}
	if (counters->ecn_ce & ECN_CE_COUNT) {
		PUT(line, " ecn_ce=");
		put_number(line, counters->ecn_ce & ECN_CE_COUNT);
	}
}

static void put_message(struct line *line, const struct flow_key *key)
{
	if (traffic_type(key) != TRAFFIC_ICMP || key->flags & FLOW_LATER_FRAGMENT)
		return;
	PUT(line, " type=");
	put_number(line, key->src_port);
	PUT(line, " code=");
	put_number(line, key->dst_port);
}

/* What does not apply to every flow, besides the message of ICMP. */
static void put_details(struct line *line, const struct xt_names *names, const struct flow_entry *entry)
{
	const struct flow_key *key = &entry->key;

	if (key->flags & FLOW_FRAGMENT)
		PUT(line, " frag");
	if (vlan_of(key)) {
		PUT(line, " vlan=");
		put_number(line, vlan_of(key));
	}
	if (inner_vlan_of(key)) {
		PUT(line, " inner_vlan=");
		put_number(line, inner_vlan_of(key));
	}
	put_tunnel(line, names, key);
	put_traffic_class(line, &entry->counters);
	if (!is_ip(key) && !is_roce(key))
		put_ethertype(line, key->ethertype);
}

static void put_counts(struct line *line, const struct flow_counters *counters)
{
	PUT(line, " packets=");
	put_number(line, counters->packets);
	PUT(line, " bytes=");
	put_number(line, counters->bytes);
	PUT(line, " [");
}

/* Endpoints are queue pair number and LID, which is 0 on Ethernet; proto is the opcode. */
static void put_roce(struct line *line, const struct xt_flow_lines *lines, const struct flow_entry *entry)
{
	const struct flow_key *key = &entry->key;
	__s64 source = source_of(lines, key);

	if (source < 0)
		PUT(line, "?");
	else
		put_number(line, source);
	PUT(line, ":0 -> ");
	put_number(line, key->dst_qpn);
	PUT(line, ":0 proto=");
	put_number(line, key->opcode);
	put_counts(line, &entry->counters);
	put_name(line, lines->names->traffic_types[traffic_type(key)]);
	PUT(line, " ");
	put_name(line, lines->names->opcodes[key->opcode]);
	PUT(line, "]");
	put_text(line, &lines->interface);
	PUT(line, " ");
	put_address(line, key->src);
	PUT(line, " -> ");
	put_address(line, key->dst);
}

static void put_other(struct line *line, const struct xt_flow_lines *lines, const struct flow_entry *entry)
{
	const struct flow_key *key = &entry->key;

	put_endpoint(line, key, key->src, key->src_port);
	PUT(line, " -> ");
	put_endpoint(line, key, key->dst, key->dst_port);
	PUT(line, " proto=");
	put_number(line, key->protocol);
	put_counts(line, &entry->counters);
	put_name(line, lines->names->traffic_types[traffic_type(key)]);
	PUT(line, "]");
	put_text(line, &lines->interface);
}

void put_words(struct line *line, const struct xt_flow_lines *lines, const struct flow_entry *entry)
{
	if (is_roce(&entry->key))
		put_roce(line, lines, entry);
	else
		put_other(line, lines, entry);
	put_message(line, &entry->key);
	put_details(line, lines->names, entry);
	put_text(line, &lines->direction);
}

size_t xt_flow_details(const struct flow_entry *entry, const struct xt_names *names, int has_message,
		       char *out)
{
	struct line line = {.at = out};

	if (has_message)
		put_message(&line, &entry->key);
	put_details(&line, names, entry);
	return line.at - out;
}
