// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Whose flow it is. socket_created keeps with every socket who created it; sockets that a listening one
 * accepts inherit that. find_owner is called by the packet program while a flow has no owner
 * (owner_ask.h): it looks for the flow's socket, and copies what is kept with it.
 *
 * A port is never taken for an owner: only the packet's own socket counts, or the one that the kernel would
 * give the packet to.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>

#include "bpf_helpers.h"
#include "entries.h"
#include "flow.h"
#include "owner.h"
#include "parse.h"

SWITCH(__u8, is_egress);
SWITCH(__u8, has_peer);	   /* a veth whose other end is in another network namespace */
SWITCH(__u32, peer_netns); /* the number that the interface's namespace has for that one */

#define AF_INET 2
#define AF_INET6 10
#define SOCK_RAW 3
#define OWN_NETNS (~0ULL)
#define ROOT_CGROUP 1
#define PACKET_HOST 0 /* linux/if_packet.h: addressed to this host */
#define PACKET_BROADCAST 1
#define PACKET_MULTICAST 2
#define ICMP_ECHO_REPLY 0
#define ICMP_ECHO 8
#define ICMPV6_ECHO 128
#define ICMPV6_ECHO_REPLY 129
#define ICMPV6_FIRST_OF_LINK 130 /* multicast listeners, routers, neighbors: what the kernel itself does */
#define ICMPV6_LAST_OF_LINK 143

struct {
	MAP_UINT(type, BPF_MAP_TYPE_SK_STORAGE);
	MAP_TYPE(key, int);
	MAP_TYPE(value, struct socket_owner);
	MAP_UINT(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
} creators SEC(".maps");

/* The owners of the flows in `flows`, by the same index. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct flow_owner);
	MAP_UINT(max_entries, 2);
	MAP_UINT(map_flags, BPF_F_MMAPABLE);
} owners SEC(".maps");

/* A connection's last packets come when its socket is gone, and what answers pings has no socket to look up.
 */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_LRU_HASH);
	MAP_TYPE(key, struct known_flow);
	MAP_TYPE(value, struct flow_owner);
	MAP_UINT(max_entries, OWNER_MOST_KNOWN);
} known SEC(".maps");

/*
 * Runs in the process that creates a socket. Whatever happens it returns 1: 0 would deny the socket, on the
 * whole machine.
 */
SEC("cgroup/sock_create")
int socket_created(struct bpf_sock *socket)
{
	struct socket_owner *kept = bpf_sk_storage_get(&creators, socket, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!kept)
		return 1;
	kept->owner.cgroup = bpf_get_current_cgroup_id();
	kept->owner.pid = bpf_get_current_pid_tgid() >> 32;
	kept->owner.uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(kept->owner.command, sizeof(kept->owner.command));
	kept->owner.kind = OWNER_SOCKET;
	kept->cookie = bpf_get_socket_cookie(socket);
	return 1;
}

/* The local end of the flow sends what leaves, and what enters from the other end of a veth. */
static __always_inline void name_ends(struct known_flow *ends, const struct flow_key *key, bool is_sender)
{
	__builtin_memset(ends, 0, sizeof(*ends));
	__builtin_memcpy(ends->local, is_sender ? key->src : key->dst, sizeof(ends->local));
	__builtin_memcpy(ends->remote, is_sender ? key->dst : key->src, sizeof(ends->remote));
	if (key->protocol == PROTOCOL_TCP || key->protocol == PROTOCOL_UDP) {
		ends->local_port = is_sender ? key->src_port : key->dst_port;
		ends->remote_port = is_sender ? key->dst_port : key->src_port;
	}
	ends->protocol = key->protocol;
}

/* As a packet that arrives at the local end would have it. */
static __always_inline __u32 make_tuple(struct bpf_sock_tuple *tuple, const struct known_flow *ends,
					bool is_ipv4)
{
	if (is_ipv4) {
		__builtin_memcpy(&tuple->ipv4.saddr, ends->remote + 12, 4);
		__builtin_memcpy(&tuple->ipv4.daddr, ends->local + 12, 4);
		tuple->ipv4.sport = be16(ends->remote_port);
		tuple->ipv4.dport = be16(ends->local_port);
		return sizeof(tuple->ipv4);
	}
	__builtin_memcpy(tuple->ipv6.saddr, ends->remote, sizeof(ends->remote));
	__builtin_memcpy(tuple->ipv6.daddr, ends->local, sizeof(ends->local));
	tuple->ipv6.sport = be16(ends->remote_port);
	tuple->ipv6.dport = be16(ends->local_port);
	return sizeof(tuple->ipv6);
}

/* Copies what is kept with a socket; returns the cookie that is kept, 0 if nothing is. */
static __always_inline __u64 copy_kept(struct flow_owner *owner, struct bpf_sock *socket, __u64 cookie)
{
	struct socket_owner *kept = bpf_sk_storage_get(&creators, socket, 0, 0);

	if (!kept)
		return 0;
	/* a copy that was inherited has the listening socket's cookie */
	if (cookie && kept->cookie != cookie)
		kept->owner.role = OWNER_LISTENED;
	*owner = kept->owner;
	return kept->cookie;
}

/* How sure a socket that was looked up is the one that gets the flow's packets. */
enum found {
	FOUND_NOTHING,
	FOUND_NAMELESS,	   /* a socket that nothing is kept with */
	FOUND_UNCONNECTED, /* by its own port alone: only if the packet is for its namespace */
	FOUND_LISTENER,	   /* the same, and NAT may yet send the connection elsewhere */
	FOUND_EXACTLY,
};

struct found_socket {
	enum found how;
	__u64 cookie; /* that is kept with it */
};

/* Packets of connections that are not accepted yet are their listening socket's. */
static __always_inline __u64 copy_listener(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 size,
					   __u64 netns, struct flow_owner *owner)
{
	struct bpf_sock *socket = bpf_sk_lookup_tcp(skb, tuple, size, netns, 0);
	__u64 cookie;

	if (!socket)
		return 0;
	cookie = copy_kept(owner, socket, 0);
	bpf_sk_release(socket);
	owner->role = OWNER_LISTENED;
	return cookie;
}

static __always_inline struct found_socket look_up_tcp(struct __sk_buff *skb, struct bpf_sock_tuple *tuple,
						       __u32 size, __u64 netns, struct flow_owner *owner)
{
	struct bpf_sock *socket = bpf_skc_lookup_tcp(skb, tuple, size, netns, 0), *full;
	struct found_socket found = {FOUND_NOTHING, 0};
	__u32 state;

	if (!socket)
		return found;
	state = socket->state;
	full = bpf_sk_fullsock(socket);
	if (full)
		found.cookie = copy_kept(owner, full, 0);
	bpf_sk_release(socket);
	if (state == OWNER_STATE_SYN_RECV)
		found.cookie = copy_listener(skb, tuple, size, netns, owner);
	if (state == OWNER_STATE_LISTEN)
		owner->role = OWNER_LISTENED;
	if (state == OWNER_STATE_TIME_WAIT)
		return found;
	found.how = !found.cookie		  ? FOUND_NAMELESS
		    : state == OWNER_STATE_LISTEN ? FOUND_LISTENER
						  : FOUND_EXACTLY;
	return found;
}

static __always_inline struct found_socket look_up_udp(struct __sk_buff *skb, struct bpf_sock_tuple *tuple,
						       __u32 size, __u64 netns, struct flow_owner *owner)
{
	struct bpf_sock *socket = bpf_sk_lookup_udp(skb, tuple, size, netns, 0);
	struct found_socket found = {FOUND_NOTHING, 0};
	bool is_connected;

	if (!socket)
		return found;
	is_connected = socket->state == OWNER_STATE_ESTABLISHED;
	found.cookie = copy_kept(owner, socket, 0);
	bpf_sk_release(socket);
	found.how = !found.cookie ? FOUND_NAMELESS : is_connected ? FOUND_EXACTLY : FOUND_UNCONNECTED;
	return found;
}

/* Looks for the socket of the local end, in a network namespace. */
static __always_inline struct found_socket look_up(struct __sk_buff *skb, const struct known_flow *ends,
						   bool is_ipv4, __u64 netns, struct flow_owner *owner)
{
	struct bpf_sock_tuple tuple;
	__u32 size = make_tuple(&tuple, ends, is_ipv4);

	if (ends->protocol == PROTOCOL_TCP)
		return look_up_tcp(skb, &tuple, size, netns, owner);
	return look_up_udp(skb, &tuple, size, netns, owner);
}

/* What the kernel does with a packet that enters. */
enum destination {
	DESTINATION_UNKNOWN,
	DESTINATION_HERE,
	DESTINATION_ELSEWHERE,
};

static __always_inline enum destination find_destination(struct __sk_buff *skb, const struct flow_key *key,
							 bool is_ipv4)
{
	struct bpf_fib_lookup route = {.family = is_ipv4 ? AF_INET : AF_INET6, .ifindex = skb->ifindex};

	if (is_ipv4) {
		__builtin_memcpy(&route.ipv4_src, key->src + 12, 4);
		__builtin_memcpy(&route.ipv4_dst, key->dst + 12, 4);
	} else {
		__builtin_memcpy(route.ipv6_src, key->src, sizeof(key->src));
		__builtin_memcpy(route.ipv6_dst, key->dst, sizeof(key->dst));
	}
	switch (bpf_fib_lookup(skb, &route, sizeof(route), 0)) {
	case BPF_FIB_LKUP_RET_NOT_FWDED: /* local, or to many */
		return skb->pkt_type == PACKET_BROADCAST || skb->pkt_type == PACKET_MULTICAST
			   ? DESTINATION_UNKNOWN
			   : DESTINATION_HERE;
	case BPF_FIB_LKUP_RET_FWD_DISABLED: /* it is dropped if it is not for this host */
		return skb->pkt_type == PACKET_HOST ? DESTINATION_HERE : DESTINATION_UNKNOWN;
	case BPF_FIB_LKUP_RET_SUCCESS:
	case BPF_FIB_LKUP_RET_NO_NEIGH:
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		return DESTINATION_ELSEWHERE;
	}
	return DESTINATION_UNKNOWN;
}

/* Whether there are ports to look a socket up by. */
static __always_inline bool has_ports(const struct flow_key *key)
{
	return (key->protocol == PROTOCOL_TCP || key->protocol == PROTOCOL_UDP) &&
	       !(key->flags & (FLOW_LATER_FRAGMENT | FLOW_ROCE_V1 | FLOW_ROCE_V2 | FLOW_INNER));
}

static __always_inline bool recall(const struct known_flow *ends, struct flow_owner *owner)
{
	struct flow_owner *before = bpf_map_lookup_elem(&known, ends);

	if (before)
		*owner = *before;
	return before;
}

/* Whether nothing more is to be found out about the flow. */
static __always_inline bool remember(const struct known_flow *ends, const struct flow_owner *owner)
{
	bpf_map_update_elem(&known, ends, owner, BPF_ANY);
	return true;
}

/* An address of the namespace at the other end: packets to it are for that one's sockets. */
static __always_inline void name_address(struct known_flow *address, const struct known_flow *ends)
{
	__builtin_memset(address, 0, sizeof(*address));
	__builtin_memcpy(address->local, ends->local, sizeof(address->local));
	address->ifindex = ends->ifindex;
}

/* The socket at the other end of a veth: of its namespace, whose packets enter here. */
static __always_inline bool find_at_peer(struct __sk_buff *skb, const struct flow_key *key, bool is_ipv4,
					 struct flow_owner *owner)
{
	struct known_flow ends, address;
	struct found_socket found;

	name_ends(&ends, key, !is_egress);
	ends.ifindex = skb->ifindex;
	name_address(&address, &ends);
	found = look_up(skb, &ends, is_ipv4, peer_netns, owner);
	/* the packet still has the socket that sent it: if it is this one, its address is one of that
	 * namespace */
	if (found.how == FOUND_UNCONNECTED && !is_egress && found.cookie == bpf_get_socket_cookie(skb))
		found.how = FOUND_EXACTLY;
	if (found.how == FOUND_EXACTLY) {
		if (!bpf_map_lookup_elem(&known, &address))
			remember(&address, owner);
		return remember(&ends, owner);
	}
	if (found.how == FOUND_NOTHING)
		return recall(&ends, owner);
	if (found.how == FOUND_UNCONNECTED && bpf_map_lookup_elem(&known, &address))
		return remember(&ends, owner);
	owner->kind = found.how == FOUND_LISTENER ? OWNER_LISTENER : OWNER_UNKNOWN;
	return found.how == FOUND_UNCONNECTED && recall(&ends, owner);
}

/* What came of looking in this namespace. */
enum answer {
	ANSWER_NONE,  /* no socket here */
	ANSWER_LATER, /* a socket, but nothing that is certain */
	ANSWER_FINAL,
};

/* The socket of this namespace that the kernel is going to give the packet to. */
static __always_inline enum answer find_receiver(struct __sk_buff *skb, const struct flow_key *key,
						 bool is_ipv4, enum destination destination,
						 struct flow_owner *owner)
{
	struct known_flow ends;
	enum found found;

	name_ends(&ends, key, false);
	ends.ifindex = skb->ifindex;
	found = look_up(skb, &ends, is_ipv4, OWN_NETNS, owner).how;
	if (found == FOUND_EXACTLY || (found == FOUND_UNCONNECTED && destination == DESTINATION_HERE)) {
		remember(&ends, owner);
		return ANSWER_FINAL;
	}
	if ((found == FOUND_NOTHING || found == FOUND_NAMELESS) && recall(&ends, owner))
		return ANSWER_FINAL;
	/* of sockets that have a port alone, none may be meant */
	owner->kind =
	    found == FOUND_LISTENER && destination == DESTINATION_HERE ? OWNER_LISTENER : OWNER_UNKNOWN;
	return owner->kind == OWNER_LISTENER || found == FOUND_NAMELESS ? ANSWER_LATER : ANSWER_NONE;
}

/* ICMP has no ports. The kernel answers what it is asked, and gives answers to who asked. */
static __always_inline bool find_pinger(struct __sk_buff *skb, const struct flow_key *key,
					struct flow_owner *owner)
{
	bool is_v6 = key->protocol == PROTOCOL_ICMPV6;
	struct known_flow ends;

	if (key->src_port == (is_v6 ? ICMPV6_ECHO_REPLY : ICMP_ECHO_REPLY)) {
		name_ends(&ends, key, false);
		ends.ifindex = skb->ifindex;
		return recall(&ends, owner);
	}
	if (key->src_port != (is_v6 ? ICMPV6_ECHO : ICMP_ECHO) &&
	    !(is_v6 && key->src_port >= ICMPV6_FIRST_OF_LINK && key->src_port <= ICMPV6_LAST_OF_LINK))
		return false;
	owner->kind = OWNER_KERNEL;
	return true;
}

static __always_inline bool find_of_entering(struct __sk_buff *skb, const struct flow_key *key, bool is_ipv4,
					     struct flow_owner *owner)
{
	enum destination destination = find_destination(skb, key, is_ipv4);

	enum answer answer = ANSWER_NONE;

	if (has_ports(key)) {
		answer = find_receiver(skb, key, is_ipv4, destination, owner);
		if (has_peer && answer == ANSWER_NONE)
			answer = find_at_peer(skb, key, is_ipv4, owner) ? ANSWER_FINAL : ANSWER_NONE;
	}
	if (answer == ANSWER_FINAL)
		return true;
	if (destination == DESTINATION_HERE &&
	    (key->protocol == PROTOCOL_ICMP || key->protocol == PROTOCOL_ICMPV6))
		return find_pinger(skb, key, owner);
	if (destination == DESTINATION_ELSEWHERE && owner->kind == OWNER_UNKNOWN && answer == ANSWER_NONE)
		owner->kind = OWNER_NOT_LOCAL;
	return false;
}

/* The socket that sent the packet, as long as it is still with it; one of the kernel's is the last resort. */
static __always_inline bool copy_sender(struct __sk_buff *skb, const struct known_flow *ends,
					struct flow_owner *owner)
{
	struct bpf_sock *socket = skb->sk;

	if (!socket)
		return false;
	socket = bpf_sk_fullsock(socket);
	if (!socket)
		return false;
	if (copy_kept(owner, socket, bpf_get_socket_cookie(skb)))
		return remember(ends, owner);
	owner->cgroup = bpf_skb_cgroup_id(skb);
	if (socket->type != SOCK_RAW || owner->cgroup != ROOT_CGROUP) {
		owner->kind = OWNER_CGROUP;
		return remember(ends, owner);
	}
	/* what ends a connection after its socket's end is the kernel's */
	if (ends->protocol == PROTOCOL_TCP && recall(ends, owner))
		return true;
	owner->kind = OWNER_KERNEL;
	return true;
}

/* The socket that sent a packet without one: it accepts a connection, or is gone. */
static __always_inline enum answer find_sender(struct __sk_buff *skb, struct known_flow *ends, bool is_ipv4,
					       struct flow_owner *owner)
{
	enum found found = look_up(skb, ends, is_ipv4, OWN_NETNS, owner).how;

	if (found == FOUND_EXACTLY) {
		remember(ends, owner);
		return ANSWER_FINAL;
	}
	if ((found == FOUND_NOTHING || found == FOUND_NAMELESS) && recall(ends, owner))
		return ANSWER_FINAL;
	owner->kind = OWNER_UNKNOWN;
	return found == FOUND_NAMELESS ? ANSWER_LATER : ANSWER_NONE;
}

static __always_inline bool find_of_leaving(struct __sk_buff *skb, const struct flow_key *key, bool is_ipv4,
					    struct flow_owner *owner)
{
	enum answer answer = ANSWER_NONE;
	struct known_flow ends;

	name_ends(&ends, key, true);
	ends.ifindex = skb->ifindex;
	if (copy_sender(skb, &ends, owner))
		return true;
	if (has_ports(key)) {
		answer = find_sender(skb, &ends, is_ipv4, owner);
		if (has_peer && answer == ANSWER_NONE && find_at_peer(skb, key, is_ipv4, owner))
			answer = ANSWER_FINAL;
	}
	if (answer == ANSWER_FINAL)
		return true;
	/* where nothing of this host sent it, it entered somewhere before */
	if (skb->ingress_ifindex && owner->kind == OWNER_UNKNOWN && answer == ANSWER_NONE)
		owner->kind = OWNER_NOT_LOCAL;
	return false;
}

SEC("tc")
int find_owner(struct __sk_buff *skb)
{
	__u32 place = skb->cb[0];
	struct flow_entry *entry = bpf_map_lookup_elem(&flows, &place);
	struct flow_owner *owner = bpf_map_lookup_elem(&owners, &place);
	bool found, is_ipv4;

	if (!entry || !owner)
		return TC_ACT_UNSPEC;
	if (entry->key.ethertype == ETHERTYPE_ARP) {
		owner->kind = OWNER_KERNEL;
		entry->asked = OWNER_FOUND;
		return TC_ACT_UNSPEC;
	}
	is_ipv4 = entry->key.ethertype == ETHERTYPE_IPV4;
	if (is_egress)
		found = find_of_leaving(skb, &entry->key, is_ipv4, owner);
	else
		found = find_of_entering(skb, &entry->key, is_ipv4, owner);
	if (found)
		entry->asked = OWNER_FOUND;
	return TC_ACT_UNSPEC; /* TCX_NEXT */
}

char LICENSE[] SEC("license") = "GPL";
