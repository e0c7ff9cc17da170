"""Constants of the kernel's bpf() interface (include/uapi/linux/bpf.h, linux/if_link.h)."""

MAP_TYPE_ARRAY = 2
MAP_TYPE_PROG_ARRAY = 3
MAP_TYPE_PERCPU_ARRAY = 6
MAP_TYPE_ARRAY_OF_MAPS = 12
MAP_TYPE_HASH_OF_MAPS = 13

PROG_TYPE_KPROBE = 2
"""Also for uprobes."""
PROG_TYPE_SCHED_CLS = 3
PROG_TYPE_XDP = 6
PROG_TYPE_CGROUP_SOCK = 9
PROG_TYPE_RAW_TRACEPOINT = 17
ATTACH_TYPE_CGROUP_SOCK_CREATE = 2
"""BPF_CGROUP_INET_SOCK_CREATE"""
ATTACH_TYPE_XDP = 37
ATTACH_TYPE_TCX_INGRESS = 46
ATTACH_TYPE_TCX_EGRESS = 47
ATTACH_TYPE_UPROBE_MULTI = 48

UPROBE_MULTI_RETURN = 1
"""BPF_F_UPROBE_MULTI_RETURN: probe the functions' returns (Linux 6.6)."""

LINK_BEFORE_ALL = 1 << 3
"""BPF_F_BEFORE without a program: first in the list of an interface's TCX programs (Linux 6.6)."""

MAP_READ_ONLY_PROG = 0x80
"""BPF_F_RDONLY_PROG: read-only for programs."""
MAP_MMAPABLE = 0x400
MAP_NO_EXIST = 1
"""BPF_NOEXIST: an update only adds."""
MAP_LOCK = 4
"""BPF_F_LOCK: a value is read under the lock in it."""

PROG_HAS_FRAGS = 0x20
"""BPF_F_XDP_HAS_FRAGS: the program handles frames with fragments (Linux 5.18)."""

TEST_RUN_LIVE_FRAMES = 2
"""BPF_F_TEST_XDP_LIVE_FRAMES: the program's verdict is carried out (Linux 5.18)."""

XDP_FLAGS_GENERIC = 1 << 1
"""XDP_FLAGS_SKB_MODE"""
XDP_FLAGS_NATIVE = 1 << 2
"""XDP_FLAGS_DRV_MODE"""

OBJECT_NAME_LENGTH = 15
"""BPF_OBJ_NAME_LEN less the terminating zero."""
