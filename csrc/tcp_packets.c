// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * --tcp-packets: follows TCP connections by their packets, whosever sockets they are. follow_tcp is attached
 * in the place of the packet program, which it calls in the end (a tail call): where the option is off, that
 * one is as it is, and costs what it costs.
 *
 * A connection is several numbers that have to agree, and its packets may come on several CPUs: so each has a
 * lock. Nothing is guessed: what cannot be told from the packets has a counter of its own.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "filter.h"
#include "flow.h"
#include "frame.h"
#include "merge.h"
#include "parse.h"
#include "plain.h"
#include "switches.h"
#include "tcp_path.h"

/* Further apart than any window: what is so far off is of something else. */
#define FAR (1 << 30)

/* A packet that closes the window is no further from where its side is. */
#define NEAR (1 << 20)

/*
 * The most that the number in the header may be shifted by to the window (RFC 7323, 2.3). That may have
 * shrunk with more under way: units of 16 kB that are allowed beyond it.
 */
#define LARGEST_SCALE 14
#define UNITS_BEYOND 64

/* After so many ticks, 0.25 to 2.5 s, without a packet in one direction, a side is followed in the other. */
#define QUIET_TICKS 256

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* The packet programs, by slot * 2 + egress. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_PROG_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u32);
	MAP_UINT(max_entries, 2);
} counting_programs SEC(".maps");

struct locked_path {
	struct bpf_spin_lock lock;
	__u32 unused;
	struct tcp_path path;
};

struct {
	MAP_UINT(type, BPF_MAP_TYPE_HASH);
	MAP_TYPE(key, struct tcp_path_key);
	MAP_TYPE(value, struct locked_path);
	MAP_UINT(max_entries, 1);
} tcp_paths SEC(".maps");

/* By slot * 2 + egress. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct tcp_missed);
	MAP_UINT(max_entries, 2);
} tcp_missed SEC(".maps");

/* A connection of which nothing is known; too large for the stack. */
static const volatile struct locked_path blank = {};

/* As far as it is read. */
struct tcp_start {
	struct tcp_header header;
	__be16 window;
};

/* A packet, or what the kernel has merged of several. */
struct segment {
	__u32 sequence;
	__u32 ack;
	__u32 length;  /* bytes of payload */
	__u32 packets; /* on the wire */
	__u32 each;    /* bytes of payload in each of them but the last */
	__u32 tick;
	__u64 now; /* ns; 0: not needed */
	__u16 window;
	__u8 flags;
	__u8 is_high; /* the higher end sent it */
};

static __always_inline struct tcp_missed *missed_here(void)
{
	__u32 index = own_counters / 2;

	return bpf_map_lookup_elem(&tcp_missed, &index);
}

/* On PREEMPT_RT another softirq of this CPU may count, too. */
static __always_inline void count_one(__u64 *counter, __u64 packets)
{
	if (is_realtime)
		__sync_fetch_and_add(counter, packets);
	else
		*counter += packets;
}

/* Where the TCP header stands in the frame. */
struct place {
	__u64 offset;
	__u64 left; /* bytes from there to the end of the packet */
};

/* The walk to a TCP header. False if there is none; the cursor then says whether the frame was cut short. */
static __always_inline bool walk_to_tcp(struct cursor *cursor, struct flow_key *key, bool tagged)
{
	bool transport;

	if (!parse_link_layer(cursor, key, link_layer, tagged) || !join_paths(cursor))
		return false;
	if (key->ethertype == ETHERTYPE_IPV4)
		transport = parse_ipv4(cursor, key);
	else
		transport = key->ethertype == ETHERTYPE_IPV6 && parse_ipv6(cursor, key);
	cursor->left = forget(cursor->unknown, cursor->left);
	return transport && key->protocol == PROTOCOL_TCP && join_paths(cursor);
}

/* The same of a frame that is not plain. */
static __always_inline bool find_in_other(struct __sk_buff *skb, struct flow_key *key, struct place *place,
					  __u64 unknown)
{
	struct cursor cursor = in_frame((void *)(long)skb->data, (void *)(long)skb->data_end, skb->len);
	__u64 linear = skb->data_end - skb->data, size;
	__u64 before = link_layer == LINK_LAYER_NONE ? forget(unknown, network_offset(skb, linear)) : 0;
	bool found, tagged = skb->vlan_present;
	struct frame_copy *copy;

	cursor.unknown = unknown;
	*key = new_key(removed_tag(skb));
	enter_network(skb, &cursor, key, before);
	found = walk_to_tcp(&cursor, key, tagged);
	if (unlikely(cursor.truncated && linear < copied_bytes() && skb->len > linear)) {
		copy = room_for_copy(skb->len, &size);
		if (copy && !bpf_skb_load_bytes(skb, 0, copy->bytes, size)) {
			cursor = in_copy(copy->bytes, size, skb->len, unknown);
			*key = new_key(removed_tag(skb));
			enter_network(skb, &cursor, key, before);
			found = walk_to_tcp(&cursor, key, tagged);
		}
	}
	place->offset = cursor.offset;
	/* merged packets and jumbograms may be longer than their header can say */
	place->left = cursor.left <= LONGEST_IP_PACKET ? cursor.left : skb->len - cursor.offset;
	return found;
}

/* The same of a plain one. */
static __always_inline void find_in_plain(struct __sk_buff *skb, const struct plain *plain,
					  struct flow_key *key, struct place *place)
{
	const struct plain_ipv4 *ipv4 = plain->frame;
	const struct plain_ipv6 *ipv6 = plain->frame;
	const void *frame = (const void *)(long)skb->data;

	if (plain->is_ipv6) {
		place->offset = (const void *)&ipv6->transport - frame;
		place->left = be16(ipv6->ip.payload_length);
	} else {
		place->offset = (const void *)&ipv4->transport - frame;
		place->left = be16(ipv4->ip.total_length) - sizeof(ipv4->ip);
	}
	*(struct key_words *)key = plain_key(plain, plain->is_ipv6);
}

/* A packet is no longer than its frame, whatever its header says. */
static __always_inline void end_with_frame(const struct __sk_buff *skb, struct place *place)
{
	__u64 room = skb->len - place->offset;

	if (unlikely(place->left > room))
		place->left = room;
}

/* On the wire. */
static __always_inline __u32 packets_in(const struct __sk_buff *skb, __u32 payload)
{
	if (likely(!skb->gso_size) || payload <= skb->gso_size)
		return 1;
	return skb->gso_segs ? skb->gso_segs : (payload + skb->gso_size - 1) / skb->gso_size;
}

/* Reads the header. False if it is not whole, or says more than there is. */
static __always_inline bool read_segment(struct __sk_buff *skb, const struct place *place,
					 struct flow_key *key, struct segment *segment)
{
	struct tcp_start start;
	__u64 header_length;

	if (bpf_skb_load_bytes(skb, place->offset, &start, sizeof(start)))
		return false;
	header_length = (start.header.data_offset >> 4) * 4;
	if (header_length < TCP_LEAST_LENGTH || header_length > place->left)
		return false;
	set_ports(key, &start.header.ports);
	segment->sequence = be32_bytes(start.header.sequence);
	segment->ack = be32_bytes(start.header.acknowledgment);
	segment->window = be16(start.window);
	segment->flags = start.header.flags;
	segment->length = place->left - header_length;
	segment->packets = packets_in(skb, segment->length);
	segment->each = segment->packets == 1 ? segment->length : skb->gso_size;
	return true;
}

/* Names the connection; which of its ends sent the packet. */
static __always_inline bool name_path(struct tcp_path_key *path, const struct flow_key *key, __u32 ifindex)
{
	const __u64 *src = (const __u64 *)key->src, *dst = (const __u64 *)key->dst;
	bool is_high;

	if (src[1] != dst[1])
		is_high = src[1] > dst[1];
	else if (src[0] != dst[0])
		is_high = src[0] > dst[0];
	else
		is_high = key->src_port > key->dst_port;
	__builtin_memcpy(path->low, is_high ? key->dst : key->src, sizeof(path->low));
	__builtin_memcpy(path->high, is_high ? key->src : key->dst, sizeof(path->high));
	path->low_port = is_high ? key->dst_port : key->src_port;
	path->high_port = is_high ? key->src_port : key->dst_port;
	path->ifindex = ifindex;
	path->vlan_id = key->vlan_id;
	return is_high;
}

/* Forgets the gaps that end at `limit` or before it: of what is below nothing is sure from now on. */
static __always_inline void forget_below(struct tcp_way *way, __u32 limit)
{
	way->sure_from = limit;
#pragma unroll
	for (int i = 0; i < TCP_GAPS; i++) {
		struct tcp_gap *gap = &way->missing[i];

		if (!is_later(gap->end, limit))
			gap->start = gap->end = limit;
		else if (is_later(limit, gap->start))
			gap->start = limit;
	}
}

/* Remembers a gap; if there is no room, it takes that of the lowest one. */
static __always_inline void add_gap(struct tcp_way *way, __u32 start, __u32 end, __u64 unknown)
{
	__u32 lowest = way->missing[0].end;
	__u64 chosen = 0, is_free = 0;

#pragma unroll
	for (int i = 0; i < TCP_GAPS; i++) {
		const struct tcp_gap *gap = &way->missing[i];

		if (gap->start == gap->end) {
			chosen = i;
			is_free = 1;
		} else if (!is_free && is_later(lowest, gap->end)) {
			chosen = i;
			lowest = gap->end;
		}
		chosen = forget(unknown, chosen);
		is_free = forget(unknown, is_free);
	}
	if (!is_free)
		forget_below(way, lowest);
	chosen = forget(unknown, chosen) & (TCP_GAPS - 1);
	PIN(chosen);
	chosen &= TCP_GAPS - 1;
	way->missing[chosen].start = start;
	way->missing[chosen].end = end;
}

/* Takes what was seen now out of the gaps; returns how many bytes that were. */
static __always_inline __u32 fill_gaps(struct tcp_way *way, __u32 start, __u32 end, __u64 unknown)
{
	__u64 filled = 0, split = 0;
	__u32 rest = 0, from, to;

#pragma unroll
	for (int i = 0; i < TCP_GAPS; i++) {
		struct tcp_gap *gap = &way->missing[i];

		from = is_later(start, gap->start) ? start : gap->start;
		to = is_later(gap->end, end) ? end : gap->end;
		if (is_later(to, from)) {
			filled += to - from;
			if (from == gap->start) {
				gap->start = to;
			} else {
				split |= (__u64)(gap->end - to);
				rest = gap->end;
				gap->end = from;
			}
		}
		filled = forget(unknown, filled);
		split = forget(unknown, split);
		rest = forget(unknown, rest);
	}
	if (split)
		add_gap(way, end, rest, unknown);
	return filled;
}

static __always_inline void advance(struct tcp_way *way, __u32 next)
{
	way->next = next;
	if (unlikely(next - way->sure_from > FAR))
		forget_below(way, next - FAR / 2);
}

/* Nothing that was sent before is known. */
static __always_inline void begin_at(struct tcp_way *way, __u32 start, __u32 next)
{
	way->flags |= TCP_WAY_PLACED;
	way->next = next;
	forget_below(way, start);
	/* of gaps from elsewhere it cannot be told where they are */
#pragma unroll
	for (int i = 0; i < TCP_GAPS; i++)
		way->missing[i].start = way->missing[i].end = start;
}

/* How many of a merged packet's packets have so many bytes, but not more than `most`. */
static __always_inline __u32 packets_of(const struct segment *segment, __u32 bytes, __u32 most)
{
	__u32 packets = segment->packets == 1 ? bytes != 0 : (bytes + segment->each - 1) / segment->each;

	return packets < most ? packets : most;
}

/* Payload that begins below what was the highest sequence number. */
static __always_inline void place_below(struct tcp_way *way, const struct segment *segment, __u32 end,
					__u64 unknown)
{
	__u32 start = segment->sequence, left = segment->packets, untold = 0, packets;
	__u32 below = is_later(end, way->next) ? way->next : end;
	__u32 sure_from = is_later(way->sure_from, below) ? below : way->sure_from;
	__u32 filled, again;

	if (is_later(sure_from, start))
		untold = sure_from - start;
	filled = fill_gaps(way, start, below, unknown);
	again = below - start - filled - untold;
	packets = packets_of(segment, again, left);
	left -= packets;
	way->retransmitted_packets += packets;
	way->retransmitted_bytes += again;
	packets = packets_of(segment, filled, left);
	left -= packets;
	way->late_packets += packets;
	way->late_bytes += filled;
	way->untold_packets += packets_of(segment, untold, left);
	way->untold_bytes += untold;
}

static __always_inline void count_data(struct tcp_way *way, const struct segment *segment)
{
	way->data_packets += segment->packets;
	way->bytes += segment->length;
}

static __always_inline void count_untold(struct tcp_way *way, const struct segment *segment)
{
	count_data(way, segment);
	way->untold_packets += segment->packets;
	way->untold_bytes += segment->length;
}

/*
 * Whether what a side sends stands where the other one cannot take it: behind its window, as large as that
 * may be. Not known without acknowledgments.
 */
static __always_inline bool is_astray(const struct tcp_way *way, const struct tcp_way *back,
				      const struct segment *segment)
{
	__s32 ahead = segment->sequence - way->next;
	__u32 reach = back->ack + ((__u32)(back->window + UNITS_BEYOND) << LARGEST_SCALE);

	if (likely(!ahead) || !(way->flags & TCP_WAY_PLACED))
		return false;
	if (ahead > FAR || ahead < -FAR)
		return true;
	return ahead > 0 && back->flags & TCP_WAY_HAS_ACK && is_later(segment->sequence, reach);
}

/* A single one may be anybody's. If the next one follows it, the side goes on there: it was lost sight of. */
static __always_inline void follow_astray(struct tcp_way *way, const struct segment *segment)
{
	__u32 end = segment->sequence + segment->length;

	if (segment->length) {
		count_untold(way, segment);
		if (segment->sequence == way->astray)
			begin_at(way, segment->sequence, end);
	}
	way->astray = end;
}

static __always_inline void place_data(struct tcp_way *way, const struct segment *segment, __u64 unknown)
{
	__u32 start = segment->sequence, end = start + segment->length;
	__s32 ahead = start - way->next;

	count_data(way, segment);
	if (unlikely(!(way->flags & TCP_WAY_PLACED))) {
		begin_at(way, start, end);
		return;
	}
	if (unlikely(ahead < 0)) {
		place_below(way, segment, end, unknown);
		if (!is_later(end, way->next))
			return;
	} else if (unlikely(ahead)) {
		way->gaps++;
		add_gap(way, way->next, start, unknown);
	}
	advance(way, end);
}

/* The end of what a side sends is a sequence number, too. */
static __always_inline void place_fin(struct tcp_way *way, const struct segment *segment, __u64 unknown)
{
	__u32 at = segment->sequence + segment->length;
	__s32 ahead = at - way->next;

	if (way->flags & TCP_WAY_HAS_FIN) {
		way->retransmitted_packets += !segment->length && ahead == -1;
		return;
	}
	if (way->flags & TCP_WAY_PLACED && ahead < 0)
		return; /* the side has sent more than that */
	way->flags |= TCP_WAY_HAS_FIN;
	way->fins++;
	if (!(way->flags & TCP_WAY_PLACED)) {
		begin_at(way, at, at + 1);
	} else {
		if (ahead) {
			way->gaps++;
			add_gap(way, way->next, at, unknown);
		}
		advance(way, at + 1);
	}
}

/* The tick is read before the lock is taken: it may be that of a packet before. */
static __always_inline void open_window(struct tcp_way *way, __u32 tick)
{
	if (way->flags & TCP_WAY_CLOSED && is_later(tick, way->closed_since))
		way->closed_ticks += tick - way->closed_since;
	way->flags &= ~TCP_WAY_CLOSED;
}

/* Whether no more data can come: nobody waits for a window then. */
static __always_inline bool is_over(const struct tcp_path *path)
{
	return path->has_ended || path->ways[0].flags & path->ways[1].flags & TCP_WAY_HAS_FIN;
}

/* Whether a packet stands where its side is, and not merely somewhere: the other one would not look at it. */
static __always_inline bool is_near(const struct tcp_way *way, const struct segment *segment)
{
	__s32 ahead = segment->sequence - way->next;

	return !(way->flags & TCP_WAY_PLACED) || (ahead >= -NEAR && ahead <= NEAR);
}

static __always_inline void note_window(const struct tcp_path *path, struct tcp_way *way,
					const struct segment *segment)
{
	way->window = segment->window;
	if (likely(segment->window)) {
		open_window(way, segment->tick);
		return;
	}
	way->zero_windows += segment->packets;
	if (is_over(path) || !is_near(way, segment))
		return;
	if (!(way->flags & TCP_WAY_CLOSED))
		way->closed_since = segment->tick;
	way->flags |= TCP_WAY_CLOSED;
}

static __always_inline void note_ack(struct tcp_way *way, const struct segment *segment)
{
	if (!(way->flags & TCP_WAY_HAS_ACK) || is_later(segment->ack, way->ack))
		way->ack = segment->ack;
	way->flags |= TCP_WAY_HAS_ACK;
}

/* Whether it acknowledges once more what it did before, with more under way. */
static __always_inline bool is_duplicate_ack(const struct tcp_way *way, const struct tcp_way *back,
					     const struct segment *segment)
{
	return !segment->length && segment->flags & TCP_ACK && way->flags & TCP_WAY_HAS_ACK &&
	       segment->ack == way->ack && segment->window == way->window && back->flags & TCP_WAY_PLACED &&
	       is_later(back->next, segment->ack);
}

/*
 * A packet that repeats the last byte, or stands there without any, asks for an answer: that the other side
 * is alive, or that its window is open again. If the byte was not acknowledged, it may be sent again.
 */
static __always_inline bool is_probe(struct tcp_way *way, const struct tcp_way *back,
				     const struct segment *segment)
{
	if (likely(segment->length > 1 || segment->sequence != way->next - 1) || segment->flags & TCP_FIN ||
	    way->flags & TCP_WAY_HAS_FIN || !(way->flags & TCP_WAY_PLACED))
		return false;
	if (!(back->flags & TCP_WAY_HAS_ACK)) {
		/* without the other side it may be either */
		if (!segment->length)
			return false;
		count_untold(way, segment);
		return true;
	}
	if (is_later(way->next, back->ack) && !(segment->length && back->flags & TCP_WAY_CLOSED))
		return false;
	way->probes++;
	return true;
}

/*
 * A SYN of a connection that is not known yet; or the second one where both sides open it (simultaneous
 * open), where it is not known which of them was answered.
 */
static __always_inline void begin(struct tcp_path *path, struct tcp_way *way, struct tcp_way *back,
				  const struct segment *segment)
{
	bool is_answer = segment->flags & TCP_ACK;
	bool is_second =
	    !path->has_ended && path->handshake == TCP_HANDSHAKE_SYN && back->flags & TCP_WAY_HAS_SYN;

	open_window(way, segment->tick);
	path->has_ended = 0;
	way->flags = TCP_WAY_HAS_SYN;
	way->syn = segment->sequence;
	way->syns++;
	begin_at(way, segment->sequence, segment->sequence + 1);
	if (is_answer) {
		if (path->handshake == TCP_HANDSHAKE_SYN && path->syn_ns && segment->ack == back->syn + 1)
			path->server_ns = segment->now - path->syn_ns;
		path->handshake = TCP_HANDSHAKE_ANSWERED;
		path->unanswered = 0;
		path->answer_ns = segment->now;
		path->opener = segment->is_high ? TCP_OPENER_LOW : TCP_OPENER_HIGH;
		return;
	}
	if (is_second) {
		path->syn_ns = 0;
		return;
	}
	open_window(back, segment->tick);
	back->flags = 0;
	path->opened++;
	path->unanswered = 1;
	path->opener = segment->is_high ? TCP_OPENER_HIGH : TCP_OPENER_LOW;
	path->handshake = TCP_HANDSHAKE_SYN;
	path->syn_ns = segment->now;
	path->server_ns = path->client_ns = 0;
}

/* Whether both sides are in the middle of a connection, where they do not believe a SYN (RFC 5961, 4.2). */
static __always_inline bool is_established(const struct tcp_path *path, const struct tcp_way *way,
					   const struct tcp_way *back)
{
	return (path->handshake == TCP_HANDSHAKE_DONE || path->handshake == TCP_HANDSHAKE_UNSEEN) &&
	       !is_over(path) && way->flags & TCP_WAY_PLACED && back->flags & TCP_WAY_HAS_ACK &&
	       back->flags & TCP_WAY_PLACED;
}

/*
 * A SYN in the middle of a connection, whose end was not seen if it is answered. False if it is no such
 * answer.
 */
static __always_inline bool is_answered(struct tcp_path *path, struct tcp_way *way, struct tcp_way *back,
					const struct segment *segment)
{
	if (!(segment->flags & TCP_ACK)) {
		way->astray = segment->sequence + 1;
		return false;
	}
	if (segment->ack != back->astray)
		return false;
	open_window(back, segment->tick);
	back->flags = TCP_WAY_HAS_SYN;
	back->syn = segment->ack - 1;
	begin_at(back, back->syn, segment->ack);
	path->opened++;
	path->server_ns = path->client_ns = 0;
	return true;
}

static __always_inline void follow_syn(struct tcp_path *path, struct tcp_way *way, struct tcp_way *back,
				       const struct segment *segment)
{
	bool is_answer = segment->flags & TCP_ACK;

	if (is_established(path, way, back) &&
	    !(way->flags & TCP_WAY_HAS_SYN && way->syn == segment->sequence) &&
	    !is_answered(path, way, back, segment)) {
		way->syns++;
		return;
	}
	if (is_answer && way->flags & TCP_WAY_HAS_SYN && !(way->flags & TCP_WAY_HAS_ACK) &&
	    way->syn == segment->sequence && !path->has_ended) {
		/* of a simultaneous open: the side has said so before, without an acknowledgment */
		path->handshake = TCP_HANDSHAKE_DONE;
		path->unanswered = 0;
	} else if (way->flags & TCP_WAY_HAS_SYN && way->syn == segment->sequence && !path->has_ended) {
		way->repeated_syns++;
		/* it cannot be told which of them is answered */
		if (is_answer)
			path->answer_ns = 0;
		else
			path->syn_ns = 0;
		path->unanswered += !is_answer && path->handshake == TCP_HANDSHAKE_SYN;
	} else {
		begin(path, way, back, segment);
	}
	if (segment->length)
		place_data(way,
			   &(struct segment){.sequence = segment->sequence + 1,
					     .length = segment->length,
					     .packets = segment->packets,
					     .each = segment->each},
			   segment->now);
	if (is_answer)
		note_ack(way, segment);
}

/* Whether a segment acknowledges the opener's SYN, or what the opener sent since. */
static __always_inline bool acknowledges_syn(const struct tcp_way *opener, const struct segment *segment)
{
	return segment->ack - opener->syn - 1 < opener->next - opener->syn;
}

/*
 * Whether the other side may believe a reset, as far as packets tell. The first answer to a SYN has to
 * acknowledge it. Others have to stand at what the other side expects next (RFC 5961, 3.2): that is what it
 * acknowledged last, or what was sent since, as far as that was seen; else what its window has. If nothing of
 * either is known, there is nothing to judge by.
 */
static __always_inline bool is_credible(const struct tcp_path *path, const struct tcp_way *way,
					const struct tcp_way *back, const struct segment *segment,
					bool by_opener)
{
	__u32 first = back->flags & TCP_WAY_HAS_ACK ? back->ack : way->next;
	__u32 last = way->flags & TCP_WAY_PLACED ? way->next : first + back->window;
	__u32 at = segment->sequence;

	if (path->handshake == TCP_HANDSHAKE_SYN && !by_opener && !way->flags)
		return segment->flags & TCP_ACK && acknowledges_syn(back, segment);
	if (!(back->flags & TCP_WAY_HAS_ACK) && !(way->flags & TCP_WAY_PLACED))
		return true;
	return at == first || at == last || (is_later(at, first) && is_later(last, at));
}

static __always_inline void follow_reset(struct tcp_path *path, struct tcp_way *way, struct tcp_way *back,
					 const struct segment *segment)
{
	bool by_opener = path->opener == (segment->is_high ? TCP_OPENER_HIGH : TCP_OPENER_LOW);

	way->resets++;
	if (!is_credible(path, way, back, segment, by_opener))
		return;
	path->refused += path->handshake == TCP_HANDSHAKE_SYN && !by_opener;
	path->handshake = TCP_HANDSHAKE_UNSEEN;
	path->unanswered = 0;
	path->has_ended = 1;
	open_window(way, segment->tick);
	open_window(back, segment->tick);
}

static __always_inline void end_side(struct tcp_path *path, struct tcp_way *way, struct tcp_way *back,
				     const struct segment *segment, __u64 unknown)
{
	place_fin(way, segment, unknown);
	if (is_over(path)) {
		open_window(way, segment->tick);
		open_window(back, segment->tick);
	}
}

/* The opener's answer to the SYN-ACK: with data it may have waited for these. */
static __always_inline void end_handshake(struct tcp_path *path, const struct tcp_way *back,
					  const struct segment *segment)
{
	if (!segment->length && !(segment->flags & TCP_FIN) && segment->ack == back->syn + 1 &&
	    path->answer_ns && segment->now)
		path->client_ns = segment->now - path->answer_ns;
	path->handshake = TCP_HANDSHAKE_DONE;
}

static __always_inline void follow_usual(struct tcp_path *path, struct tcp_way *way, struct tcp_way *back,
					 const struct segment *segment, __u64 unknown)
{
	bool by_opener = path->opener == (segment->is_high ? TCP_OPENER_HIGH : TCP_OPENER_LOW);

	if (unlikely(path->handshake == TCP_HANDSHAKE_ANSWERED) && by_opener && segment->flags & TCP_ACK)
		end_handshake(path, back, segment);
	if (unlikely(path->handshake == TCP_HANDSHAKE_SYN) && segment->flags & TCP_ACK &&
	    (by_opener || acknowledges_syn(back, segment))) {
		/* it was answered, which did not come this way */
		path->handshake = TCP_HANDSHAKE_DONE;
		path->unanswered = 0;
	}
	if (segment->length || segment->flags & TCP_FIN) {
		if (unlikely(is_astray(way, back, segment))) {
			follow_astray(way, segment);
			return;
		}
	}
	if (!is_probe(way, back, segment)) {
		if (is_duplicate_ack(way, back, segment) && !(segment->flags & TCP_FIN))
			way->duplicate_acks++;
		if (segment->length)
			place_data(way, segment, unknown);
		if (segment->flags & TCP_FIN)
			end_side(path, way, back, segment, unknown);
	}
	if (segment->flags & TCP_ACK)
		note_ack(way, segment);
	note_window(path, way, segment);
}

/*
 * Whether a side's packet is to be followed in this direction. Some pass an interface twice: they are
 * followed where the first one was seen, for as long as packets come there.
 */
static __always_inline bool is_first_pass(struct tcp_way *way, __u32 tick)
{
	if (unlikely(way->hook != 1 + is_egress)) {
		if (way->hook && !is_later(tick, way->seen + QUIET_TICKS))
			return false;
		way->hook = 1 + is_egress;
	}
	way->seen = tick;
	return true;
}

/* Follows one packet. False if it has passed before. */
static __always_inline bool follow(struct tcp_path *path, const struct segment *segment, __u64 unknown)
{
	__u64 own = segment->is_high ? sizeof(struct tcp_way) : 0, other = sizeof(struct tcp_way) - own;
	struct tcp_way *way = (void *)path->ways + own, *back = (void *)path->ways + other;

	if (!is_first_pass(way, segment->tick))
		return false;
	way->packets += segment->packets;
	path->last = segment->tick;
	path->slot = interface_slot;
	if (segment->flags & TCP_RST)
		follow_reset(path, way, back, segment);
	else if (segment->flags & TCP_SYN)
		follow_syn(path, way, back, segment);
	else
		follow_usual(path, way, back, segment, unknown);
	return true;
}

static __always_inline struct locked_path *find_path(const struct tcp_path_key *key)
{
	struct locked_path *found = bpf_map_lookup_elem(&tcp_paths, key);

	if (likely(found))
		return found;
	bpf_map_update_elem(&tcp_paths, key, (const void *)&blank, BPF_NOEXIST);
	return bpf_map_lookup_elem(&tcp_paths, key);
}

static __always_inline void follow_segment(struct __sk_buff *skb, const struct flow_key *key,
					   struct segment *segment, __u64 unknown)
{
	struct tcp_path_key name;
	struct tcp_missed *missed;
	struct locked_path *found;
	bool is_first;

	segment->is_high = name_path(&name, key, skb->ifindex);
	found = find_path(&name);
	if (!found) {
		missed = missed_here();
		if (missed)
			count_one(&missed->no_room, segment->packets);
		return;
	}
	segment->tick = bpf_jiffies64();
	segment->now = 0;
	/* reading the clock costs as much as all the rest */
	if (unlikely(segment->flags & TCP_SYN || found->path.handshake == TCP_HANDSHAKE_ANSWERED))
		segment->now = bpf_ktime_get_ns();
	bpf_spin_lock(&found->lock);
	is_first = follow(&found->path, segment, unknown);
	bpf_spin_unlock(&found->lock);
	if (unlikely(!is_first)) {
		missed = missed_here();
		if (missed)
			count_one(&missed->second_pass, segment->packets);
	}
}

/*
 * Prepares a packet without a whole header for the filters. False if they cannot be asked: which later
 * fragments have a wanted port only the packet program knows.
 */
static __always_inline bool can_judge_unread(struct __sk_buff *skb, const struct place *place,
					     struct flow_key *key, bool found)
{
	struct ports_header ports;

	if (key->flags & FLOW_LATER_FRAGMENT)
		found = false;
	if (found && place->left >= sizeof(ports) &&
	    !bpf_skb_load_bytes(skb, place->offset, &ports, sizeof(ports)))
		set_ports(key, &ports);
	if (key->flags & FLOW_LATER_FRAGMENT && (has_ports || excludes_dns))
		return false;
	key->flags &= ~FLOW_FRAGMENT;
	return true;
}

static __always_inline void count_unread(const struct __sk_buff *skb, const struct place *place)
{
	struct tcp_missed *missed = missed_here();

	if (missed)
		count_one(&missed->unread, packets_in(skb, skb->len - place->offset - TCP_LEAST_LENGTH));
}

/* Finds the TCP header. False if there is none, or not as far as the ports. */
static __always_inline bool find_tcp(struct __sk_buff *skb, struct flow_key *key, struct place *place,
				     __u64 unknown)
{
	struct plain plain;

	if (!read_plain(&plain, (void *)(long)skb->data, (void *)(long)skb->data_end, skb->vlan_present,
			removed_tag(skb)))
		return find_in_other(skb, key, place, unknown);
	if (plain_protocol(&plain) != PROTOCOL_TCP) {
		key->protocol = 0;
		return false;
	}
	find_in_plain(skb, &plain, key, place);
	return true;
}

/* Looks at a frame; what the filters refuse is not followed. */
static __always_inline void look_at(struct __sk_buff *skb)
{
	__u64 unknown = link_layer == LINK_LAYER_NONE ? bpf_jiffies64() : skb->data_end - skb->data;
	struct flow_entry packet;
	struct segment segment;
	struct place place;
	bool found, is_whole;

	if (is_own_copy(skb))
		return;
	found = find_tcp(skb, &packet.key, &place, unknown);
	if (packet.key.protocol != PROTOCOL_TCP)
		return;
	forget_key(&packet.key, unknown);
	place.offset = forget(unknown, place.offset);
	place.left = forget(unknown, place.left);
	end_with_frame(skb, &place);
	is_whole =
	    found && !(packet.key.flags & FLOW_FRAGMENT) && read_segment(skb, &place, &packet.key, &segment);
	if (unlikely(!is_whole)) {
		segment = (struct segment){}; /* the compiler may copy it before it looks at is_whole */
		if (!can_judge_unread(skb, &place, &packet.key, found))
			return;
	}
	if (judge(&packet, 0) != VERDICT_WANTED)
		return;
	if (likely(is_whole))
		follow_segment(skb, &packet.key, &segment, unknown);
	else
		count_unread(skb, &place);
}

/* Behind a tail call that failed. */
static __always_inline void count_lost_call(void)
{
	struct tcp_missed *missed = missed_here();

	if (missed)
		count_one(&missed->uncounted, 1);
}

SEC("tc")
int follow_tcp(struct __sk_buff *skb)
{
	look_at(skb);
	bpf_tail_call(skb, &counting_programs, own_counters / 2);
	count_lost_call();
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "GPL";
