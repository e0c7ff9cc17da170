/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The only caller of system calls: one function per command. Each fills a zeroed attribute, calls, and
 * returns the result (>= 0) or -errno. No policy, no printing, no retries.
 *
 * Read by shim.c and, as cffi definitions, by build_ffi.py: plain declarations only. Fields are named and
 * documented as in the kernel's include/uapi/linux/bpf.h.
 */
#pragma once

/* The version in pyproject.toml at compile time. */
const char *xt_version(void);

/* bpf(): maps */
struct xt_map_create {
	__u32 map_type;
	__u32 key_size;
	__u32 value_size;
	__u32 max_entries;
	__u32 map_flags;
	__u32 inner_map_fd;
	__u32 btf_fd;
	__u32 btf_key_type_id;
	__u32 btf_value_type_id;
	char map_name[16];
};

int xt_map_create(const struct xt_map_create *request);
int xt_map_lookup(int map_fd, const void *key, void *value);
int xt_map_update(int map_fd, const void *key, const void *value, __u64 flags);
int xt_map_delete(int map_fd, const void *key);
int xt_map_freeze(int map_fd);
/*
 * count: in, capacity in entries; out, entries filled, if the result is 0 or -ENOENT (the last batch);
 * otherwise unchanged.
 */
int xt_map_lookup_batch(int map_fd, void *in_batch, void *out_batch, void *keys, void *values, __u32 *count);
int xt_map_lookup_and_delete_batch(int map_fd, void *in_batch, void *out_batch, void *keys, void *values,
				   __u32 *count);

/* mmap() of a BPF_F_MMAPABLE map from `offset` on, shared, read-write; *address is set on success. */
int xt_map_mmap(int map_fd, size_t length, size_t offset, void **address);
int xt_munmap(void *address, size_t length);
/* One aligned 32-bit store; earlier stores of this thread are visible before it. */
void xt_store_release(__u32 *address, __u32 value);

/* bpf(): programs and BTF */
struct xt_prog_load {
	__u32 prog_type;
	__u32 expected_attach_type;
	__u32 prog_flags;
	__u32 insn_cnt;
	const void *insns;
	const char *license;
	__u32 prog_btf_fd;
	__u32 func_info_rec_size;
	__u32 func_info_cnt;
	__u32 line_info_rec_size;
	__u32 line_info_cnt;
	__u32 log_level;
	__u32 log_size;
	const void *func_info;
	const void *line_info;
	char *log_buf;
	char prog_name[16];
};

int xt_prog_load(const struct xt_prog_load *request);
int xt_btf_load(const void *btf, __u32 size, char *log_buf, __u32 log_size);

struct xt_test_run {
	__u32 prog_fd;
	__u32 flags;
	__u32 repeat;
	__u32 batch_size;
	__u32 data_size_in;
	__u32 ctx_size_in;
	const void *data_in;
	const void *ctx_in;
	void *data_out;
	__u32 data_size_out; /* in: room; out: bytes */
	__u32 retval;	     /* out */
	__u32 duration;	     /* out: nanoseconds per run */
};

int xt_prog_test_run(struct xt_test_run *request);

/* bpf(): links and object information */
int xt_link_create(int prog_fd, int target_ifindex, __u32 attach_type, __u32 flags);
/* Entries or returns of functions of one file, by file offset. All arrays have `count` elements. */
struct xt_uprobes {
	const char *path;
	const __u64 *offsets;
	const __u64 *cookies;
	__u32 count;
	__u32 flags;
};

int xt_link_create_uprobes(int prog_fd, const struct xt_uprobes *request);
int xt_link_detach(int link_fd);
/* BPF_RAW_TRACEPOINT_OPEN; closing the descriptor detaches. */
int xt_raw_tracepoint_open(int prog_fd, const char *name);
/* Filled by xt_obj_get_info(): the start of struct bpf_prog_info, bpf_link_info, up to the last field read.
 */
struct xt_prog_info {
	__u32 type;
	__u32 id;
	__u8 tag[8];
	__u32 jited_prog_len;
	__u32 xlated_prog_len;
	__u64 jited_prog_insns;
	__u64 xlated_prog_insns;
	__u64 load_time;
	__u32 created_by_uid;
	__u32 nr_map_ids;
	__u64 map_ids;
	char name[16];
};

struct xt_link_info {
	__u32 type;
	__u32 id;
	__u32 prog_id;
	__u32 padding;
	__u32 ifindex; /* xdp.ifindex, tcx.ifindex; 0 if the interface is gone */
};

int xt_obj_get_info(int fd, void *info, __u32 *info_len);
int xt_prog_get_fd_by_id(__u32 id);
/* `count`: room in `ids` before, programs attached after. */
int xt_prog_query(__u32 ifindex, __u32 attach_type, __u32 *ids, __u32 *count);

/*
 * perf_event_open(): a probe at one offset of a file, for all processes. `type` is that of the uprobe PMU,
 * `config` its flags. xt_perf_event_set_bpf() sets its program (PERF_EVENT_IOC_SET_BPF).
 */
int xt_perf_event_open_uprobe(__u32 type, __u64 config, const char *path, __u64 offset);
int xt_perf_event_set_bpf(int event_fd, int prog_fd);
/*
 * What return probes do to a process that a seccomp filter confines: a child that may only exit calls the
 * function at xt_filtered_call_address(), on which a probe may be. Returns the child's status as wait(2)
 * has it: 0 if it survived, XT_NO_FILTER if it could not be confined.
 */
#define XT_NO_FILTER 256
__u64 xt_filtered_call_address(void);
int xt_filtered_child(void);

/* A timer that makes the descriptor readable every `period_ns`, on CLOCK_MONOTONIC. */
int xt_timerfd(__u64 period_ns);

/* A descriptor from which signals are read that the caller blocks; one bit per signal, from SIGHUP on. */
int xt_signalfd(__u64 signals);

/*
 * Put an interface into promiscuous mode while the descriptor is open: a packet socket without protocol,
 * which receives nothing, and its membership (packet(7), PACKET_MR_PROMISC). Other holders keep theirs.
 */
int xt_promiscuous(int ifindex);

/*
 * netlink: open and bind a raw socket; let more bytes wait in it, with CAP_NET_ADMIN more than the limit;
 * send one datagram to the kernel; receive one (-EAGAIN: none yet).
 */
int xt_netlink_open(int protocol, __u32 groups);
int xt_netlink_room(int fd, int bytes);
int xt_netlink_send(int fd, const void *message, size_t length);
int xt_netlink_recv(int fd, void *buffer, size_t length, int flags);

struct xt_ethtool_value {
	__u32 cmd;
	__u32 data;
};

struct xt_ethtool_sset_info { /* of one set of strings */
	__u32 cmd;
	__u32 reserved;
	__u64 sset_mask;
	__u32 data; /* number of strings, if sset_mask still has a bit set */
	__u32 padding;
};

struct xt_ethtool_gstrings { /* followed by the strings */
	__u32 cmd;
	__u32 string_set;
	__u32 len; /* in strings */
};

struct xt_ethtool_stats { /* followed by n_stats 64-bit values */
	__u32 cmd;
	__u32 n_stats;
};

/*
 * ioctl(SIOCETHTOOL) about an interface. `request` begins with an ETHTOOL_* command; the answer replaces its
 * `length` bytes. Returns -EFAULT if the answer is longer: nothing is written beyond `length`, and `request`
 * is unchanged.
 */
int xt_ethtool(const char *interface, void *request, size_t length);

/* The calling thread moves to the network namespace of a descriptor of /proc/PID/ns/net. */
int xt_setns_net(int fd);

/* Descriptors of a process, and a copy of one of its descriptors (Linux 5.6), with close-on-exec. */
int xt_pidfd_open(int pid);
int xt_pidfd_getfd(int pidfd, int fd);

/* Mount control groups of version 2 where nobody sees it: a descriptor of the root directory (Linux 5.2). */
int xt_mount_cgroups(void);
/* Where a control group is: a descriptor (O_PATH) of its directory, by its id; `mount_fd` is on the same
 * mount. */
int xt_open_cgroup(int mount_fd, __u64 id);

/*
 * What the calling thread may still do, and what it starts. xt_become(): another user, with its groups and
 * all capabilities that the thread has; to be called before there is a second thread. xt_keep_capabilities():
 * of those it has, these bits (capabilities(7)). Landlock (landlock(7)): the version of its interface; a
 * ruleset that forbids these accesses, but for those allowed beneath a directory; its enforcement.
 */
int xt_become(__u32 user, __u32 group, const __u32 *groups, int count);
int xt_no_new_privileges(void);
int xt_keep_capabilities(__u64 capabilities);
int xt_landlock_version(void);
int xt_landlock_create(__u64 handled);
int xt_landlock_allow(int ruleset_fd, int directory_fd, __u64 access);
int xt_landlock_restrict(int ruleset_fd);

int xt_close(int fd);
