"""Constants of bpf() against the kernel's own headers, as far as those of this machine have them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from xtrace.kernel import constants

HEADERS = Path("/usr/include/linux")
THEIRS = {
    "MAP_TYPE_ARRAY": "BPF_MAP_TYPE_ARRAY",
    "MAP_TYPE_PROG_ARRAY": "BPF_MAP_TYPE_PROG_ARRAY",
    "MAP_TYPE_PERCPU_ARRAY": "BPF_MAP_TYPE_PERCPU_ARRAY",
    "MAP_TYPE_ARRAY_OF_MAPS": "BPF_MAP_TYPE_ARRAY_OF_MAPS",
    "MAP_TYPE_HASH_OF_MAPS": "BPF_MAP_TYPE_HASH_OF_MAPS",
    "PROG_TYPE_KPROBE": "BPF_PROG_TYPE_KPROBE",
    "PROG_TYPE_SCHED_CLS": "BPF_PROG_TYPE_SCHED_CLS",
    "PROG_TYPE_XDP": "BPF_PROG_TYPE_XDP",
    "PROG_TYPE_CGROUP_SOCK": "BPF_PROG_TYPE_CGROUP_SOCK",
    "PROG_TYPE_RAW_TRACEPOINT": "BPF_PROG_TYPE_RAW_TRACEPOINT",
    "ATTACH_TYPE_CGROUP_SOCK_CREATE": "BPF_CGROUP_INET_SOCK_CREATE",
    "ATTACH_TYPE_XDP": "BPF_XDP",
    "ATTACH_TYPE_TCX_INGRESS": "BPF_TCX_INGRESS",
    "ATTACH_TYPE_TCX_EGRESS": "BPF_TCX_EGRESS",
    "ATTACH_TYPE_UPROBE_MULTI": "BPF_TRACE_UPROBE_MULTI",
    "UPROBE_MULTI_RETURN": "BPF_F_UPROBE_MULTI_RETURN",
    "LINK_BEFORE_ALL": "BPF_F_BEFORE",
    "MAP_READ_ONLY_PROG": "BPF_F_RDONLY_PROG",
    "MAP_MMAPABLE": "BPF_F_MMAPABLE",
    "MAP_NO_EXIST": "BPF_NOEXIST",
    "MAP_LOCK": "BPF_F_LOCK",
    "PROG_HAS_FRAGS": "BPF_F_XDP_HAS_FRAGS",
    "TEST_RUN_LIVE_FRAMES": "BPF_F_TEST_XDP_LIVE_FRAMES",
    "XDP_FLAGS_GENERIC": "XDP_FLAGS_SKB_MODE",
    "XDP_FLAGS_NATIVE": "XDP_FLAGS_DRV_MODE",
}
"""Our name, and the kernel's."""


def declared(text: str) -> dict[str, int]:
    """Name and number of what a header's enums and plain #defines declare."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    found: dict[str, int] = {}
    for name, number in re.findall(r"^#define\s+(\w+)\s+(\(?[0-9xXa-fA-FUL<() ]+)$", text, re.M):
        found[name] = evaluated(number)
    for body in re.findall(r"\benum\s*\w*\s*{([^{}]*)}", text):
        following = 0
        for entry in filter(None, map(str.strip, body.split(","))):
            name, _, number = (part.strip() for part in entry.partition("="))
            value = found.get(number, evaluated(number)) if number else following
            found[name], following = value, value + 1
    return found


def evaluated(number: str) -> int:
    """A literal of C, or one that is shifted; -1 for anything else."""
    literal = re.fullmatch(r"\(*(0x[0-9a-fA-F]+|\d+)[UL]*(?:\s*<<\s*(\d+))?\)*", number.strip())
    return int(literal[1], 0) << int(literal[2] or 0) if literal else -1


def test_constants_are_those_of_the_kernels_headers() -> None:
    if not (HEADERS / "bpf.h").exists():
        pytest.xfail(f"{HEADERS}/bpf.h is not installed")
    theirs = declared((HEADERS / "bpf.h").read_text()) | declared((HEADERS / "if_link.h").read_text())
    known = {ours: theirs[name] for ours, name in THEIRS.items() if name in theirs}
    assert known == {ours: getattr(constants, ours) for ours in known}
    assert len(known) > 15, "headers of Linux 5.10 have that many"


def test_every_constant_is_compared() -> None:
    numbers = {name for name, value in vars(constants).items() if isinstance(value, int)}
    assert numbers - THEIRS.keys() == {"OBJECT_NAME_LENGTH"}
