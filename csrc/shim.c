/* SPDX-License-Identifier: GPL-3.0-or-later */
#define _GNU_SOURCE /* open_by_handle_at() */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/ethtool.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/landlock.h>
#include <linux/mount.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "flow.h"
#include "nccl.h"
#include "owner.h"
#include "shim.h"

/* Layouts that both sides rely on. */
_Static_assert(sizeof(struct flow_key) == 48, "flow_key is six 64-bit words");
_Static_assert(sizeof(struct flow_counters) == 40, "flow_counters is five 64-bit words");
_Static_assert(sizeof(struct flow_entry) == 96, "flow_entry is one and a half cache lines");
_Static_assert(sizeof(struct index_place) == 64, "index_place is a cache line");
_Static_assert(sizeof(struct recent_flow) == 112, "no padding");
_Static_assert(sizeof(struct claimed) == 64, "claimed is a cache line");
_Static_assert(offsetof(struct recent_flow, counters) == offsetof(struct flow_entry, counters),
	       "recent_flow begins as a flow_entry");
_Static_assert(sizeof(struct interface_counters) == 16 * (3 + TRAFFIC_TYPES), "no padding");

_Static_assert(sizeof(struct nccl_key) == 24, "nccl_key is three 64-bit words");
_Static_assert(sizeof(struct nccl_counters) == 8 * (4 + NCCL_RESULTS + NCCL_LATENCY_BUCKETS) + 16,
	       "no padding");

_Static_assert(sizeof(struct flow_owner) == 48, "256 owners are whole pages");
_Static_assert(sizeof(struct socket_owner) == 56, "no padding");
_Static_assert(sizeof(struct known_flow) == 48, "no padding");

/* Structs of shim.h match the kernel's. */
#define SAME_PLACE(own, field, kernel, its_field)                                                            \
	_Static_assert(offsetof(struct own, field) == offsetof(struct kernel, its_field) &&                  \
			   sizeof(((struct own *)0)->field) == sizeof(((struct kernel *)0)->its_field),      \
		       #own "." #field " is where " #kernel " has it")

SAME_PLACE(xt_prog_info, id, bpf_prog_info, id);
SAME_PLACE(xt_prog_info, name, bpf_prog_info, name);
SAME_PLACE(xt_link_info, ifindex, bpf_link_info, xdp.ifindex);
SAME_PLACE(xt_ethtool_value, data, ethtool_value, data);
SAME_PLACE(xt_ethtool_sset_info, sset_mask, ethtool_sset_info, sset_mask);
SAME_PLACE(xt_ethtool_sset_info, data, ethtool_sset_info, data[0]);
SAME_PLACE(xt_ethtool_gstrings, len, ethtool_gstrings, len);
SAME_PLACE(xt_ethtool_stats, n_stats, ethtool_stats, n_stats);
_Static_assert(sizeof(struct xt_ethtool_gstrings) == offsetof(struct ethtool_gstrings, data), "no padding");
_Static_assert(sizeof(struct xt_ethtool_stats) == offsetof(struct ethtool_stats, data), "no padding");

/* Size of an attribute up to the last field that a command uses: older kernels reject more. */
#define ATTR_SIZE(last) (offsetof(union bpf_attr, last) + sizeof(((union bpf_attr *)0)->last))

const char *xt_version(void)
{
	return XT_VERSION;
}

/* Since Linux 5.2 and 5.6, the same on all machines; missing in older headers. */
#define SYS_FSOPEN 430
#define SYS_FSCONFIG 431
#define SYS_FSMOUNT 432
#define SYS_PIDFD_GETFD 438

static __u64 pointer(const void *address)
{
	return (__u64)(unsigned long)address;
}

static int result(long value)
{
	return value < 0 ? -errno : (int)value;
}

static int sys_bpf(enum bpf_cmd command, union bpf_attr *attr, size_t size)
{
	return result(syscall(SYS_bpf, command, attr, size));
}

int xt_map_create(const struct xt_map_create *request)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_type = request->map_type;
	attr.key_size = request->key_size;
	attr.value_size = request->value_size;
	attr.max_entries = request->max_entries;
	attr.map_flags = request->map_flags;
	attr.inner_map_fd = request->inner_map_fd;
	memcpy(attr.map_name, request->map_name, sizeof(attr.map_name));
	attr.btf_fd = request->btf_fd;
	attr.btf_key_type_id = request->btf_key_type_id;
	attr.btf_value_type_id = request->btf_value_type_id;
	return sys_bpf(BPF_MAP_CREATE, &attr, ATTR_SIZE(btf_value_type_id));
}

int xt_map_lookup(int map_fd, const void *key, void *value)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = map_fd;
	attr.key = pointer(key);
	attr.value = pointer(value);
	return sys_bpf(BPF_MAP_LOOKUP_ELEM, &attr, ATTR_SIZE(flags));
}

int xt_map_update(int map_fd, const void *key, const void *value, __u64 flags)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = map_fd;
	attr.key = pointer(key);
	attr.value = pointer(value);
	attr.flags = flags;
	return sys_bpf(BPF_MAP_UPDATE_ELEM, &attr, ATTR_SIZE(flags));
}

int xt_map_delete(int map_fd, const void *key)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = map_fd;
	attr.key = pointer(key);
	return sys_bpf(BPF_MAP_DELETE_ELEM, &attr, ATTR_SIZE(key));
}

int xt_map_freeze(int map_fd)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = map_fd;
	return sys_bpf(BPF_MAP_FREEZE, &attr, ATTR_SIZE(map_fd));
}

static int map_batch(enum bpf_cmd command, int map_fd, void *in_batch, void *out_batch, void *keys,
		     void *values, __u32 *count)
{
	union bpf_attr attr;
	int ret;

	memset(&attr, 0, sizeof(attr));
	attr.batch.map_fd = map_fd;
	attr.batch.in_batch = pointer(in_batch);
	attr.batch.out_batch = pointer(out_batch);
	attr.batch.keys = pointer(keys);
	attr.batch.values = pointer(values);
	attr.batch.count = *count;
	ret = sys_bpf(command, &attr, ATTR_SIZE(batch));
	/* the kernel sets the count on success and with ENOENT; after other errors the call can be repeated
	 * unchanged */
	if (ret == 0 || ret == -ENOENT)
		*count = attr.batch.count;
	return ret;
}

int xt_map_lookup_batch(int map_fd, void *in_batch, void *out_batch, void *keys, void *values, __u32 *count)
{
	return map_batch(BPF_MAP_LOOKUP_BATCH, map_fd, in_batch, out_batch, keys, values, count);
}

int xt_map_lookup_and_delete_batch(int map_fd, void *in_batch, void *out_batch, void *keys, void *values,
				   __u32 *count)
{
	return map_batch(BPF_MAP_LOOKUP_AND_DELETE_BATCH, map_fd, in_batch, out_batch, keys, values, count);
}

int xt_map_mmap(int map_fd, size_t length, size_t offset, void **address)
{
	void *mapped = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, offset);

	if (mapped == MAP_FAILED)
		return -errno;
	*address = mapped;
	return 0;
}

int xt_munmap(void *address, size_t length)
{
	return result(munmap(address, length));
}

void xt_store_release(__u32 *address, __u32 value)
{
	__atomic_store_n(address, value, __ATOMIC_RELEASE);
}

int xt_prog_load(const struct xt_prog_load *request)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.prog_type = request->prog_type;
	attr.insn_cnt = request->insn_cnt;
	attr.insns = pointer(request->insns);
	attr.license = pointer(request->license);
	attr.log_level = request->log_level;
	attr.log_size = request->log_size;
	attr.log_buf = pointer(request->log_buf);
	attr.prog_flags = request->prog_flags;
	memcpy(attr.prog_name, request->prog_name, sizeof(attr.prog_name));
	attr.expected_attach_type = request->expected_attach_type;
	attr.prog_btf_fd = request->prog_btf_fd;
	attr.func_info_rec_size = request->func_info_rec_size;
	attr.func_info = pointer(request->func_info);
	attr.func_info_cnt = request->func_info_cnt;
	attr.line_info_rec_size = request->line_info_rec_size;
	attr.line_info = pointer(request->line_info);
	attr.line_info_cnt = request->line_info_cnt;
	return sys_bpf(BPF_PROG_LOAD, &attr, ATTR_SIZE(line_info_cnt));
}

int xt_btf_load(const void *btf, __u32 size, char *log_buf, __u32 log_size)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.btf = pointer(btf);
	attr.btf_size = size;
	attr.btf_log_buf = pointer(log_buf);
	attr.btf_log_size = log_size;
	attr.btf_log_level = log_size ? 1 : 0;
	return sys_bpf(BPF_BTF_LOAD, &attr, ATTR_SIZE(btf_log_level));
}

int xt_prog_test_run(struct xt_test_run *request)
{
	union bpf_attr attr;
	int ret;

	memset(&attr, 0, sizeof(attr));
	attr.test.prog_fd = request->prog_fd;
	attr.test.data_size_in = request->data_size_in;
	attr.test.data_size_out = request->data_size_out;
	attr.test.data_in = pointer(request->data_in);
	attr.test.data_out = pointer(request->data_out);
	attr.test.repeat = request->repeat;
	attr.test.ctx_size_in = request->ctx_size_in;
	attr.test.ctx_in = pointer(request->ctx_in);
	attr.test.flags = request->flags;
	attr.test.batch_size = request->batch_size;
	ret = sys_bpf(BPF_PROG_TEST_RUN, &attr, ATTR_SIZE(test));
	request->data_size_out = attr.test.data_size_out;
	request->retval = attr.test.retval;
	request->duration = attr.test.duration;
	return ret;
}

int xt_link_create(int prog_fd, int target_ifindex, __u32 attach_type, __u32 flags)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.link_create.prog_fd = prog_fd;
	attr.link_create.target_ifindex = target_ifindex;
	attr.link_create.attach_type = attach_type;
	attr.link_create.flags = flags;
	return sys_bpf(BPF_LINK_CREATE, &attr, ATTR_SIZE(link_create.flags));
}

/* The attribute of BPF_LINK_CREATE for attach type 48 (Linux 6.6), missing in older headers. */
struct uprobe_multi_attr {
	__u32 prog_fd;
	__u32 target_fd;
	__u32 attach_type;
	__u32 link_flags;
	__u64 path;
	__u64 offsets;
	__u64 ref_ctr_offsets;
	__u64 cookies;
	__u32 count;
	__u32 flags;
	__u32 pid;
	__u32 padding;
};

#define ATTACH_TYPE_UPROBE_MULTI 48

int xt_link_create_uprobes(int prog_fd, const struct xt_uprobes *request)
{
	struct uprobe_multi_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.prog_fd = prog_fd;
	attr.attach_type = ATTACH_TYPE_UPROBE_MULTI;
	attr.path = pointer(request->path);
	attr.offsets = pointer(request->offsets);
	attr.cookies = pointer(request->cookies);
	attr.count = request->count;
	attr.flags = request->flags;
	return result(syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof(attr)));
}

int xt_link_detach(int link_fd)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.link_detach.link_fd = link_fd;
	return sys_bpf(BPF_LINK_DETACH, &attr, ATTR_SIZE(link_detach));
}

int xt_raw_tracepoint_open(int prog_fd, const char *name)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.raw_tracepoint.name = pointer(name);
	attr.raw_tracepoint.prog_fd = prog_fd;
	return sys_bpf(BPF_RAW_TRACEPOINT_OPEN, &attr, ATTR_SIZE(raw_tracepoint.prog_fd));
}

int xt_obj_get_info(int fd, void *info, __u32 *info_len)
{
	union bpf_attr attr;
	int ret;

	memset(&attr, 0, sizeof(attr));
	attr.info.bpf_fd = fd;
	attr.info.info_len = *info_len;
	attr.info.info = pointer(info);
	ret = sys_bpf(BPF_OBJ_GET_INFO_BY_FD, &attr, ATTR_SIZE(info));
	*info_len = attr.info.info_len;
	return ret;
}

int xt_prog_get_fd_by_id(__u32 id)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.prog_id = id;
	return sys_bpf(BPF_PROG_GET_FD_BY_ID, &attr, ATTR_SIZE(open_flags));
}

int xt_prog_query(__u32 ifindex, __u32 attach_type, __u32 *ids, __u32 *count)
{
	union bpf_attr attr;
	int ret;

	memset(&attr, 0, sizeof(attr));
	attr.query.target_fd = ifindex; /* target_ifindex, the same field, since Linux 6.6 */
	attr.query.attach_type = attach_type;
	attr.query.prog_ids = pointer(ids);
	attr.query.prog_cnt = *count;
	ret = sys_bpf(BPF_PROG_QUERY, &attr, ATTR_SIZE(query));
	*count = attr.query.prog_cnt;
	return ret;
}

int xt_perf_event_open_uprobe(__u32 type, __u64 config, const char *path, __u64 offset)
{
	struct perf_event_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.size = sizeof(attr);
	attr.type = type;
	attr.config = config;
	attr.uprobe_path = pointer(path);
	attr.probe_offset = offset;
	/* all processes; programs run on all CPUs, whichever one is given */
	return result(syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC));
}

/* Not inlined, and not without effect: calls of it are to be seen. */
static __attribute__((noinline)) void filtered_call(void)
{
	asm volatile("" ::: "memory");
}

__u64 xt_filtered_call_address(void)
{
	return (__u64)(unsigned long)filtered_call;
}

/* From here on the process may do nothing but exit. */
static int confine(void)
{
	struct sock_filter rules[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog filter = {.len = sizeof(rules) / sizeof(rules[0]), .filter = rules};

	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
}

/* clone(), not fork(): what libraries do in new processes is of no use in this one. */
int xt_filtered_child(void)
{
	int status, pid = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid < 0)
		return -errno;
	if (!pid) {
		if (confine() < 0)
			syscall(SYS_exit_group, 1);
		filtered_call();
		syscall(SYS_exit_group, 0);
	}
	while (waitpid(pid, &status, __WALL) < 0)
		if (errno != EINTR)
			return -errno;
	return status;
}

int xt_perf_event_set_bpf(int event_fd, int prog_fd)
{
	return result(ioctl(event_fd, PERF_EVENT_IOC_SET_BPF, prog_fd));
}

int xt_timerfd(__u64 period_ns)
{
	struct itimerspec period;
	int fd, ret;

	memset(&period, 0, sizeof(period));
	period.it_interval.tv_sec = period_ns / 1000000000;
	period.it_interval.tv_nsec = period_ns % 1000000000;
	period.it_value = period.it_interval;
	fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (timerfd_settime(fd, 0, &period, NULL) < 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

int xt_signalfd(__u64 signals)
{
	return result(syscall(SYS_signalfd4, -1, &signals, sizeof(signals), SFD_CLOEXEC | SFD_NONBLOCK));
}

int xt_promiscuous(int ifindex)
{
	struct packet_mreq membership;
	int fd, ret;

	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	memset(&membership, 0, sizeof(membership));
	membership.mr_ifindex = ifindex;
	membership.mr_type = PACKET_MR_PROMISC;
	if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership, sizeof(membership)) < 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

int xt_netlink_open(int protocol, __u32 groups)
{
	struct sockaddr_nl address;
	int fd, one = 1, ret;

	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	if (fd < 0)
		return -errno;
	/* extended acks, and acks without the request; both are optional, so ignore errors */
	setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof(one));
	setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one));
	memset(&address, 0, sizeof(address));
	address.nl_family = AF_NETLINK;
	address.nl_groups = groups;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

int xt_netlink_room(int fd, int bytes)
{
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) == 0)
		return 0;
	return result(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)));
}

int xt_netlink_send(int fd, const void *message, size_t length)
{
	struct sockaddr_nl kernel;

	memset(&kernel, 0, sizeof(kernel));
	kernel.nl_family = AF_NETLINK;
	return result(sendto(fd, message, length, 0, (struct sockaddr *)&kernel, sizeof(kernel)));
}

int xt_netlink_recv(int fd, void *buffer, size_t length, int flags)
{
	return result(recv(fd, buffer, length, flags));
}

/*
 * A copy of `length` bytes that ends where a page begins that nobody may touch. Whoever writes beyond it gets
 * EFAULT, the kernel as well. NULL, and errno: there is no memory for it.
 */
static char *guarded_copy(const void *bytes, size_t length, size_t page, size_t room)
{
	char *memory;

	memory = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return NULL;
	if (mprotect(memory + room, page, PROT_NONE) < 0) {
		munmap(memory, room + page);
		return NULL;
	}
	memcpy(memory + room - length, bytes, length);
	return memory;
}

/*
 * For some commands the kernel writes as much as the driver has at that moment, whatever the size it was
 * given (until 7b07be1ff1cb, "ethtool: Avoid overflowing userspace buffer on stats query"). The buffer
 * therefore ends at a page that cannot be written.
 */
int xt_ethtool(const char *interface, void *request, size_t length)
{
	size_t page = sysconf(_SC_PAGESIZE), room = (length + page - 1) / page * page;
	struct ifreq ifreq;
	char *memory;
	int fd, ret;

	memset(&ifreq, 0, sizeof(ifreq));
	if (strlen(interface) >= sizeof(ifreq.ifr_name))
		return -ENODEV;
	strcpy(ifreq.ifr_name, interface);
	memory = guarded_copy(request, length, page, room);
	if (!memory)
		return -errno;
	ifreq.ifr_data = memory + room - length;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ret = fd < 0 ? -errno : result(ioctl(fd, SIOCETHTOOL, &ifreq));
	if (fd >= 0)
		close(fd);
	if (ret >= 0)
		memcpy(request, memory + room - length, length);
	munmap(memory, room + page);
	return ret;
}

int xt_setns_net(int fd)
{
	return result(syscall(SYS_setns, fd, CLONE_NEWNET));
}

int xt_pidfd_open(int pid)
{
	return result(syscall(SYS_pidfd_open, pid, 0));
}

int xt_pidfd_getfd(int pidfd, int fd)
{
	return result(syscall(SYS_PIDFD_GETFD, pidfd, fd, 0));
}

int xt_mount_cgroups(void)
{
	int filesystem, mount, ret;

	filesystem = syscall(SYS_FSOPEN, "cgroup2", FSOPEN_CLOEXEC);
	if (filesystem < 0)
		return -errno;
	ret = result(syscall(SYS_FSCONFIG, filesystem, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	if (ret >= 0)
		ret = result(syscall(SYS_FSMOUNT, filesystem, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY));
	close(filesystem);
	if (ret < 0)
		return ret;
	/* handles are not opened relative to this descriptor, which is O_PATH */
	mount = ret;
	ret = result(openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	close(mount);
	return ret;
}

#define FILEID_KERNFS 0xfe /* linux/exportfs.h */

int xt_open_cgroup(int mount_fd, __u64 id)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + sizeof(id)];
	} named;

	memset(&named, 0, sizeof(named));
	named.handle.handle_bytes = sizeof(id);
	named.handle.handle_type = FILEID_KERNFS;
	memcpy(named.handle.f_handle, &id, sizeof(id));
	return result(open_by_handle_at(mount_fd, &named.handle, O_PATH | O_CLOEXEC));
}

int xt_become(__u32 user, __u32 group, const __u32 *groups, int count)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, sets) || prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) ||
	    syscall(SYS_setgroups, count, groups) || syscall(SYS_setresgid, group, group, group) ||
	    syscall(SYS_setresuid, user, user, user))
		return -errno;
	/* permitted are those kept, effective is none: leaving user 0 has cleared them */
	return result(syscall(SYS_capset, &header, sets));
}

int xt_no_new_privileges(void)
{
	return result(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

int xt_keep_capabilities(__u64 capabilities)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
	int ret = result(syscall(SYS_capget, &header, sets));

	for (int i = 0; !ret && i < _LINUX_CAPABILITY_U32S_3; i++) {
		sets[i].permitted &= (__u32)(capabilities >> (32 * i));
		sets[i].effective &= sets[i].permitted;
		sets[i].inheritable = 0; /* and with it the ambient set */
	}
	return ret ? ret : result(syscall(SYS_capset, &header, sets));
}

int xt_landlock_version(void)
{
	return result(syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION));
}

int xt_landlock_create(__u64 handled)
{
	struct landlock_ruleset_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.handled_access_fs = handled;
	return result(syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0));
}

int xt_landlock_allow(int ruleset_fd, int directory_fd, __u64 access)
{
	struct landlock_path_beneath_attr attr = {.allowed_access = access, .parent_fd = directory_fd};

	return result(syscall(SYS_landlock_add_rule, ruleset_fd, LANDLOCK_RULE_PATH_BENEATH, &attr, 0));
}

int xt_landlock_restrict(int ruleset_fd)
{
	return result(syscall(SYS_landlock_restrict_self, ruleset_fd, 0));
}

int xt_close(int fd)
{
	return result(close(fd));
}
