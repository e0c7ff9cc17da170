/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <time.h>

#include "line.h"

#define NS_PER_MS 1000000
#define MS_PER_DAY 86400000

/* Exactly `width` digits. */
static void put_digits(struct line *line, unsigned int number, int width)
{
	for (int i = width; i--; number /= 10)
		line->at[i] = '0' + number % 10;
	line->at += width;
}

/* RFC 3339 in UTC with milliseconds. The date is formatted once per day. */
static void put_time(struct line *line, __s64 wall_ns)
{
	__s64 ms = wall_ns / NS_PER_MS;
	__s64 day = ms / MS_PER_DAY;
	unsigned int of_day = ms % MS_PER_DAY;

	if (day != line->day) {
		time_t seconds = ms / 1000;
		struct tm tm;

		gmtime_r(&seconds, &tm);
		strftime(line->date, sizeof(line->date), "%Y-%m-%dT", &tm);
		line->day = day;
	}
	put(line, line->date, sizeof(line->date) - 1);
	put_digits(line, of_day / 3600000, 2);
	*line->at++ = ':';
	put_digits(line, of_day / 60000 % 60, 2);
	*line->at++ = ':';
	put_digits(line, of_day / 1000 % 60, 2);
	*line->at++ = '.';
	put_digits(line, of_day % 1000, 3);
	*line->at++ = 'Z';
}

/* Flow times have the resolution of a kernel tick, and may lie just outside the interval: clamp them. */
static __s64 wall_ns(const struct xt_flow_lines *lines, __u32 tick)
{
	__s64 ns = lines->tick_at + (__s32)(tick - lines->tick) * lines->tick_ns;

	if (ns > lines->end)
		ns = lines->end;
	if (ns < lines->start)
		ns = lines->start;
	return ns + lines->wall_offset;
}

static void put_address_or_null(struct line *line, const __u8 *address, bool known)
{
	if (!known) {
		PUT(line, "null");
		return;
	}
	PUT(line, "\"");
	put_address(line, address);
	PUT(line, "\"");
}

static void put_endpoints(struct line *line, const struct flow_key *key, bool has_ports)
{
	bool known = is_addressed(key) || is_ip(key);

	PUT(line, ",\"src_ip\":");
	put_address_or_null(line, key->src, known);
	PUT(line, ",\"src_port\":");
	put_number(line, has_ports ? key->src_port : 0);
	PUT(line, ",\"dst_ip\":");
	put_address_or_null(line, key->dst, known);
	PUT(line, ",\"dst_port\":");
	put_number(line, has_ports ? key->dst_port : 0);
}

static void put_roce(struct line *line, const struct xt_flow_lines *lines, const struct flow_key *key)
{
	__s64 source = source_of(lines, key);

	PUT(line, ",\"src_qpn\":");
	if (source < 0)
		PUT(line, "null");
	else
		put_number(line, source);
	PUT(line, ",\"dst_qpn\":");
	put_number(line, key->dst_qpn);
	PUT(line, ",\"opcode\":");
	put_number(line, key->opcode);
	PUT(line, ",\"opcode_name\":\"");
	put_name(line, lines->names->opcodes[key->opcode]);
	PUT(line, "\"");
}

/* Of packets with an IP header, or a global route header. */
static void put_traffic_class(struct line *line, const struct flow_counters *counters)
{
	PUT(line, ",\"dscp\":");
	put_number(line, counters->dscp);
	if (counters->dscp_changed)
		PUT(line, ",\"dscp_changed\":true");
	PUT(line, ",\"ecn_ce_packets\":");
	put_number(line, counters->ecn_ce & ECN_CE_COUNT);
}

static void put_tunnel(struct line *line, const struct xt_flow_lines *lines, const struct flow_key *key)
{
	__u32 tunnel = tunnel_of(key);

	if (inner_vlan_of(key)) {
		PUT(line, ",\"inner_vlan\":");
		put_number(line, inner_vlan_of(key));
	}
	if (tunnel == TUNNEL_NONE || tunnel >= TUNNEL_KINDS)
		return;
	PUT(line, ",\"tunnel\":\"");
	put_name(line, lines->names->tunnels[tunnel]);
	PUT(line, "\"");
	if (has_number(tunnel)) {
		PUT(line, ",\"vni\":");
		put_number(line, key->src_qpn);
	}
}

/* Fields that do not apply to every flow. */
static void put_details(struct line *line, const struct xt_flow_lines *lines, const struct flow_key *key,
			const struct flow_counters *counters, enum traffic_type type)
{
	if (type == TRAFFIC_TCP) {
		PUT(line, ",\"tcp_flags\":\"");
		put_name(line, lines->names->tcp_flags[counters->tcp_flags & 0xff]);
		PUT(line, "\"");
	}
	if (type == TRAFFIC_ICMP && !(key->flags & FLOW_LATER_FRAGMENT)) {
		PUT(line, ",\"icmp_type\":");
		put_number(line, key->src_port);
		PUT(line, ",\"icmp_code\":");
		put_number(line, key->dst_port);
	}
	if (is_ip(key) || is_roce(key))
		put_traffic_class(line, counters);
	if (!is_ip(key)) {
		PUT(line, ",\"ethertype\":");
		put_number(line, key->ethertype);
	}
	if (vlan_of(key)) {
		PUT(line, ",\"vlan\":");
		put_number(line, vlan_of(key));
	}
	put_tunnel(line, lines, key);
	if (key->flags & FLOW_FRAGMENT)
		PUT(line, ",\"fragment\":true");
	if (is_roce(key))
		put_roce(line, lines, key);
}

static void put_record(struct line *line, const struct xt_flow_lines *lines, const struct flow_entry *entry)
{
	const struct flow_key *key = &entry->key;
	const struct flow_counters *counters = &entry->counters;
	enum traffic_type type = traffic_type(key);
	bool has_ports = type != TRAFFIC_ICMP && !is_roce(key);

	put_text(line, &lines->before);
	put_endpoints(line, key, has_ports);
	PUT(line, ",\"protocol\":");
	if (is_ip(key))
		put_number(line, key->protocol);
	else
		PUT(line, "null");
	PUT(line, ",\"traffic_type\":\"");
	put_name(line, lines->names->traffic_types[type]);
	PUT(line, "\",\"packets\":");
	put_number(line, counters->packets);
	PUT(line, ",\"bytes\":");
	put_number(line, counters->bytes);
	PUT(line, ",\"units\":\"");
	put_text(line, &lines->units);
	PUT(line, "\",\"first_seen\":\"");
	put_time(line, wall_ns(lines, counters->first));
	PUT(line, "\",\"last_seen\":\"");
	put_time(line, wall_ns(lines, counters->last));
	PUT(line, "\"");
	put_details(line, lines, key, counters, type);
}

static void put_flow(struct line *line, const struct xt_flow_lines *lines, const struct flow_entry *entry)
{
	bool has_process = lines->has_origin && lines->process.length;

	if (lines->in_words)
		put_words(line, lines, entry);
	else
		put_record(line, lines, entry);
	if (has_process) /* a queue pair's process is the owner */
		put_text(line, &lines->process);
	else
		put_text(line, &lines->owner_fields);
	if (!lines->in_words)
		PUT(line, "}");
	PUT(line, "\n");
}

/* Whether the fields of this owner are at hand; else they are asked for. */
static bool has_owner(struct xt_flow_lines *lines, const struct flow_owner *owner)
{
	if (lines->owner_fields.length && !memcmp(&lines->owner, owner, sizeof(*owner)))
		return true;
	lines->owner = *owner;
	lines->owner_fields.length = 0;
	return false;
}

int xt_flow_lines(struct xt_flow_lines *lines)
{
	struct line line = {.at = lines->out + lines->used, .day = -1};
	enum xt_lines_result result = XT_LINES_DONE;

	for (; lines->next < lines->count; lines->next++) {
		__u32 index = lines->chosen ? lines->chosen[lines->next] : lines->next;
		const struct flow_entry *entry;
		size_t needed;

		index -= lines->first;
		if (index >= lines->at_hand) {
			result = XT_LINES_NEED_ENTRIES;
			break;
		}
		entry = &lines->entries[index];
		if (lines->owners && !has_owner(lines, &lines->owners[index])) {
			result = XT_LINES_NEED_OWNER;
			break;
		}
		needed = XT_LINE_LENGTH + lines->before.length + lines->interface.length +
			 lines->direction.length + lines->process.length + lines->owner_fields.length;
		if (lines->room - (line.at - lines->out) < needed) {
			result = XT_LINES_FULL;
			break;
		}
		if (lines->needs_origin && is_roce(&entry->key) && !lines->has_origin) {
			result = XT_LINES_NEED_ORIGIN;
			break;
		}
		put_flow(&line, lines, entry);
		lines->has_origin = 0;
	}
	lines->used = line.at - lines->out;
	return result;
}
