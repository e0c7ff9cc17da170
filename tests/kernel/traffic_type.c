/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Takes a struct flow_key for a frame; its verdict is what traffic_type() says of it. */
#include "bpf_helpers.h"
#include "parse.h"

SEC("xdp/traffic_type") int type_of_key(struct xdp_md *ctx)
{
	struct cursor cursor = in_frame((void *)(long)ctx->data, (void *)(long)ctx->data_end, 0);
	struct flow_key *key = take(&cursor, sizeof(*key));

	return key ? (int)traffic_type(key) : TRAFFIC_TYPES;
}

char LICENSE[] SEC("license") = "GPL";
