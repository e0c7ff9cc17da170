// SPDX-License-Identifier: GPL-2.0-or-later
/* Drops one in `one_in` of the TCP packets to one port, at XDP: a link that loses. */
#include <linux/bpf.h>

#include "bpf_helpers.h"

#define PORT_AT (14 + 20 + 2) /* behind Ethernet and IPv4 without options */
#define PROTOCOL_AT (14 + 9)
#define TCP 6

SWITCH(__u32, one_in);
SWITCH(__u16, port);

/* The only element: packets to the port so far. */
struct {
	MAP_UINT(type, BPF_MAP_TYPE_ARRAY);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
	MAP_UINT(max_entries, 1);
} passed SEC(".maps");

SEC("xdp")
int lossy(struct xdp_md *ctx)
{
	unsigned char *start = (unsigned char *)(long)ctx->data, *end = (unsigned char *)(long)ctx->data_end;
	__u32 first = 0;
	__u64 *count;

	if (start + PORT_AT + 2 > end || start[PROTOCOL_AT] != TCP)
		return XDP_PASS;
	if (start[PORT_AT] != port >> 8 || start[PORT_AT + 1] != (port & 0xff))
		return XDP_PASS;
	count = bpf_map_lookup_elem(&passed, &first);
	if (!count)
		return XDP_PASS;
	__sync_fetch_and_add(count, 1);
	return *count % one_in ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
