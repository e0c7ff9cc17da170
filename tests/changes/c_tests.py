"""Which tests concern a change to a C file: of the built file that it is part of first, then of the others, in turn.

Nothing records which lines of C a test runs, so these are tables. Test files are in order, the quick ones first: a
change that is noticed ends them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def files(folder: str, *names: str) -> tuple[str, ...]:
    """Test files of a folder of tests/."""
    return tuple(f"tests/{folder}/test_{name}.py" for name in names)


PARSING = files("kernel", "roce", "frames", "tc", "inner", "fuzz", "frags", "tc_frags")
NESTED = files("kernel", "tc", "inner", "merged", "fuzz")
COUNTING = files("kernel", "order", "beside_xdp", "intervals", "counting", "failing_drain")
HASH_MAPS, NO_HASH_MAPS = ("-k", "hash"), ("-k", "not hash")
"""Variants of the packet programs, which are of one object or the other."""
PLAIN = files("kernel", "plain", "frames")
FILTERS = files("kernel", "filters", "frags")
PACKETS = files("kernel", "order", "roce", "frames", "tc", "inner", "frags", "tc_frags", "fuzz", "merged")
LINES = (*files("unit/sinks/text", "flows"), *files("unit/sinks/jsonl", "flows"), *files("unit/sinks", "owned_flows"))
SYSTEM_CALLS = ("tests/unit/kernel", *files("kernel", "loader", "tcp_probe", "intervals", "nccl_probe"))

HASH = "xtrace/xdp_monitor_hash.o"
OTHERWISE_WITH_HASH_MAPS = {f"csrc/{name}.h" for name in ("count", "flow_hash", "merge", "buffers")}
"""What does something else in that object than in xdp_monitor.o."""

OF_THE_FILE: dict[str, Sequence[str]] = {
    **dict.fromkeys(("csrc/parse.h", "csrc/frame.h"), PACKETS),
    "csrc/xdp_monitor.c": (*PACKETS, *files("kernel", "plain"), *COUNTING, *NO_HASH_MAPS),
    **dict.fromkeys(("csrc/tunnel.h", "csrc/nested.h"), NESTED),
    "csrc/plain.h": PLAIN,
    "csrc/filter.h": FILTERS,
    "csrc/key.h": (*FILTERS, *LINES),
    "csrc/traffic_type.h": files("kernel", "traffic_type", "frames"),
    "csrc/decrypted.h": (*files("kernel", "tc"), *files("netns", "ipsec")),
    **dict.fromkeys(("csrc/owner_ask.h", "csrc/owner_beside.h"), files("netns", "owners")),
    "csrc/owner_probe.c": (*files("kernel", "owner_probe"), *files("netns", "owners")),
    "csrc/drain.c": (
        *files("unit/model", "flow", "flow_owners", "windows"),
        *files("unit/monitors/flows", "tables", "stores"),
        *files("kernel", "order", "intervals", "counting"),
    ),
    **dict.fromkeys(("csrc/render.c", "csrc/words.c", "csrc/line.h"), (*LINES, *files("kernel", "traffic_type"))),
    "csrc/tcp_diag.c": (*files("unit/kernel", "sock_diag"), "tests/unit/monitors/tcp", *files("kernel", "tcp_probe")),
    "csrc/btf.c": (*files("unit/kernel", "btf", "features"), "tests/unit/monitors/tcp", *files("kernel", "tcp_probe")),
    "csrc/confine.c": (*files("unit/kernel", "confinement"), *files("netns", "confinement")),
    "csrc/guardian.c": (*files("unit/kernel", "guardian"), *files("unit/sinks/live", "terminal")),
    "csrc/password.c": files("unit/sinks/listen", "passwords", "web_config"),
}
"""Of the first built file that it is part of."""

OF_THE_PART: dict[str, Sequence[str]] = {
    "xtrace/xdp_monitor.o": (*COUNTING, *NO_HASH_MAPS),
    "xtrace/owner_probe.o": files("kernel", "owner_probe"),
    "xtrace/tcp_packets.o": files("kernel", "tcp_packets"),
    "xtrace/tcp_probe.o": (*files("kernel", "tcp_probe"), *files("netns", "tcp")),
    "xtrace/nccl_probe.o": (
        *files("kernel", "nccl_probe"),
        *files("nccl", "returns", "communicators", "edges", "tables", "counting"),
    ),
    "xtrace/_native.abi3.so": SYSTEM_CALLS,
    HASH: (*COUNTING, *HASH_MAPS),
}
"""Of every other; their order is that of the parts of a file."""


@dataclass(frozen=True)
class Stage:
    """A built file, and the tests that use it."""

    part: str
    tests: Sequence[str]


def stages(path: str, parts: set[str]) -> list[Stage]:
    """What to build and to test, one after the other until something is noticed."""
    if path == "csrc/table_hash.h":
        return [Stage(HASH, OF_THE_PART[HASH])]
    ordered = [part for part in OF_THE_PART if part in parts and (part != HASH or path in OTHERWISE_WITH_HASH_MAPS)]
    first = [Stage(part, OF_THE_FILE.get(path, OF_THE_PART[part])) for part in ordered[:1]]
    return first + [Stage(part, OF_THE_PART[part]) for part in ordered[1:]]
