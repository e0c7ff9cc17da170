/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reads inet_diag_msg and tcp_info (uapi/linux/inet_diag.h, tcp.h). In C, as a host may have 50,000 sockets.
 *
 * tcp_info grows from kernel to kernel: it is read by its length, and what it does not have is not known. Its
 * offsets are numbers here, as the build host's header may be older than the running kernel; they never
 * change.
 */
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/types.h>

#include "tcp.h"
#include "tcp_diag.h"

_Static_assert(sizeof(struct inet_diag_msg) == 72, "inet_diag_msg as in uapi/linux/inet_diag.h");
_Static_assert(sizeof(struct tcp_sample) == 64 + 8 * TCP_VALUES + 24, "no padding");

/* Not in the headers of every supported build host. */
#define ATTRIBUTE_INFO 2
#define ATTRIBUTE_CONGESTION 4

struct place {
	__u16 offset;
	__u16 size;
};

/* By enum tcp_value; size 0: not in tcp_info. */
static const struct place places[TCP_VALUES] = {
    [TCP_CA_STATE] = {1, 1},
    [TCP_TIMEOUTS] = {2, 1},
    [TCP_PROBES] = {3, 1},
    [TCP_RTO] = {8, 4},
    [TCP_SEND_MSS] = {16, 4},
    [TCP_UNACKED] = {24, 4},
    [TCP_LOST] = {32, 4},
    [TCP_RTT] = {68, 4},
    [TCP_RTT_VARIANCE] = {72, 4},
    [TCP_SSTHRESH] = {76, 4},
    [TCP_CWND] = {80, 4},
    [TCP_RECEIVER_RTT] = {92, 4},
    [TCP_RETRANSMITTED] = {100, 4},
    [TCP_PACING] = {104, 8},
    [TCP_BYTES_ACKED] = {120, 8},
    [TCP_BYTES_RECEIVED] = {128, 8},
    [TCP_SEGMENTS_SENT] = {136, 4},
    [TCP_SEGMENTS_RECEIVED] = {140, 4},
    [TCP_NOT_SENT] = {144, 4},
    [TCP_MIN_RTT] = {148, 4},
    [TCP_DATA_RECEIVED] = {152, 4},
    [TCP_DATA_SENT] = {156, 4},
    [TCP_DELIVERY_RATE] = {160, 8},
    [TCP_BUSY] = {168, 8},
    [TCP_RECEIVER_LIMITED] = {176, 8},
    [TCP_BUFFER_LIMITED] = {184, 8},
    [TCP_DELIVERED] = {192, 4},
    [TCP_DELIVERED_CE] = {196, 4},
    [TCP_BYTES_SENT] = {200, 8},
    [TCP_BYTES_RETRANSMITTED] = {208, 8},
    [TCP_DUPLICATES] = {216, 4},
    [TCP_REORDERED] = {220, 4},
    [TCP_OUT_OF_ORDER] = {224, 4},
    [TCP_SEND_WINDOW] = {228, 4},
    [TCP_RECEIVE_WINDOW] = {232, 4},
};

/* What moves when anything happens on a connection. */
static const __u8 moving[] = {
    TCP_RETRANSMITTED, TCP_SEGMENTS_SENT,  TCP_SEGMENTS_RECEIVED,
    TCP_BYTES_ACKED,   TCP_BYTES_RECEIVED, TCP_RECEIVER_LIMITED,
    TCP_TIMEOUTS,      TCP_PROBES,	   TCP_UNREAD,
};

static void set(struct tcp_sample *sample, int number, __u64 value)
{
	sample->values[number] = value;
	sample->known |= 1ULL << number;
}

static void read_info(struct tcp_sample *sample, const char *info, size_t length)
{
	__u64 value;
	int i;

	for (i = 0; i < TCP_VALUES; i++) {
		if (!places[i].size || places[i].offset + places[i].size > length)
			continue;
		value = 0;
		memcpy(&value, info + places[i].offset,
		       places[i].size); /* little endian, as all we support */
		set(sample, i, value);
	}
}

static void read_address(__u8 *to, const __be32 *from, int family)
{
	if (family == AF_INET6) {
		memcpy(to, from, 16);
		return;
	}
	memset(to, 0, 10);
	memset(to + 10, 0xff, 2);
	memcpy(to + 12, from, 4);
}

static void read_socket(struct tcp_sample *sample, const struct inet_diag_msg *socket)
{
	memset(sample, 0, sizeof(*sample));
	read_address(sample->local, socket->id.idiag_src, socket->idiag_family);
	read_address(sample->remote, socket->id.idiag_dst, socket->idiag_family);
	sample->local_port = ntohs(socket->id.idiag_sport);
	sample->remote_port = ntohs(socket->id.idiag_dport);
	sample->cookie = socket->id.idiag_cookie[0] | (__u64)socket->id.idiag_cookie[1] << 32;
	sample->event = TCP_DUMPED;
	sample->state = socket->idiag_state;
	sample->uid = socket->idiag_uid;
	set(sample, TCP_UNREAD, socket->idiag_rqueue);
}

/* FNV-1a by words: equal for a socket on which nothing happened. */
static __u64 activity_of(const struct tcp_sample *sample)
{
	__u64 mixed = 0xcbf29ce484222325ULL ^ sample->state;
	size_t i;

	for (i = 0; i < sizeof(moving); i++)
		mixed = (mixed ^ sample->values[moving[i]]) * 0x100000001b3ULL;
	return mixed;
}

/* Returns whether the message has tcp_info, and is whole. */
static int read_message(struct tcp_sample *sample, const char *message, size_t length)
{
	size_t at = sizeof(struct inet_diag_msg), room;
	int has_info = 0;
	struct nlattr attribute;

	if (length < at)
		return 0;
	read_socket(sample, (const struct inet_diag_msg *)message);
	while (at + sizeof(attribute) <= length) {
		memcpy(&attribute, message + at, sizeof(attribute));
		if (attribute.nla_len < sizeof(attribute) || attribute.nla_len > length - at)
			return 0;
		room = attribute.nla_len - sizeof(attribute);
		if (attribute.nla_type == ATTRIBUTE_INFO) {
			read_info(sample, message + at + sizeof(attribute), room);
			has_info = 1;
		} else if (attribute.nla_type == ATTRIBUTE_CONGESTION) {
			room = room < sizeof(sample->congestion) ? room : sizeof(sample->congestion);
			memcpy(sample->congestion, message + at + sizeof(attribute), room);
		}
		at += NLA_ALIGN(attribute.nla_len);
	}
	sample->activity = activity_of(sample);
	return has_info;
}

int xt_tcp_read(const void *datagram, size_t length, __u32 sequence, struct xt_tcp_samples *out)
{
	const char *start = datagram;
	struct nlmsghdr header;
	size_t at = 0;

	while (at + sizeof(header) <= length) {
		memcpy(&header, start + at, sizeof(header));
		if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY || header.nlmsg_seq != sequence)
			break;
		if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > length - at ||
		    out->count == out->room)
			break;
		if (read_message(&out->samples[out->count], start + at + sizeof(header),
				 header.nlmsg_len - sizeof(header)))
			out->count++;
		at += NLMSG_ALIGN(header.nlmsg_len);
	}
	return at < length ? at : length;
}
