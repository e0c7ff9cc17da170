"""Where the running kernel has the members of its TCP sockets, by its own type information (BTF).

From it follow the constants of csrc/tcp_probe.c: which pieces of struct tcp_sock the program keeps. A member that is
missing, or of another size, is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from xtrace.errors import ObjectError, XtraceError
from xtrace.kernel import kernel_types
from xtrace.kernel.btf import Btf, Kind
from xtrace.kernel.syscall import lib

ABSENT = 0xFFFF_FFFF

SOCKET, NET, ALGORITHM, TASK = "tcp_sock", "net", "tcp_congestion_ops", "task_struct"

CONNECTION = ("inet_conn",)
INET = (*CONNECTION, "icsk_inet")
SOCK = (*INET, "sk")
COMMON = (*SOCK, "__sk_common")


class Member(NamedTuple):
    """A member of a struct of the kernel."""

    struct: str
    size: int
    """in bytes"""
    path: tuple[str, ...]
    is_needed: bool = False
    """whether an end cannot be told from another without it"""


FOLLOWED = {
    "at_net": Member(SOCKET, 8, (*COMMON, "skc_net", "net"), is_needed=True),
    "at_netns": Member(NET, 4, ("ns", "inum"), is_needed=True),
    "at_error": Member(SOCKET, 4, (*SOCK, "sk_err")),
    "at_ca_ops": Member(SOCKET, 8, (*CONNECTION, "icsk_ca_ops")),
    "at_ca_name": Member(ALGORITHM, 16, ("name",)),
    "at_owned": Member(SOCKET, 4, (*SOCK, "sk_lock", "owned")),
    "at_flags": Member(TASK, 4, ("flags",)),
}
"""What the program itself looks at, by its constant."""

FAMILY, LOCAL4, REMOTE4, LOCAL_PORT, REMOTE_PORT, LOCAL6, REMOTE6, COOKIE = range(-8, 0)
"""Members that are no enum tcp_value."""

KEPT = {
    FAMILY: Member(SOCKET, 2, (*COMMON, "skc_family"), is_needed=True),
    LOCAL4: Member(SOCKET, 4, (*COMMON, "skc_rcv_saddr"), is_needed=True),
    REMOTE4: Member(SOCKET, 4, (*COMMON, "skc_daddr"), is_needed=True),
    LOCAL_PORT: Member(SOCKET, 2, (*INET, "inet_sport"), is_needed=True),
    REMOTE_PORT: Member(SOCKET, 2, (*COMMON, "skc_dport"), is_needed=True),
    LOCAL6: Member(SOCKET, 16, (*COMMON, "skc_v6_rcv_saddr")),
    REMOTE6: Member(SOCKET, 16, (*COMMON, "skc_v6_daddr")),
    COOKIE: Member(SOCKET, 8, (*COMMON, "skc_cookie")),
    lib.TCP_RETRANSMITTED: Member(SOCKET, 4, ("total_retrans",)),
    lib.TCP_SEGMENTS_SENT: Member(SOCKET, 4, ("segs_out",)),
    lib.TCP_SEGMENTS_RECEIVED: Member(SOCKET, 4, ("segs_in",)),
    lib.TCP_DATA_SENT: Member(SOCKET, 4, ("data_segs_out",)),
    lib.TCP_BYTES_ACKED: Member(SOCKET, 8, ("bytes_acked",)),
    lib.TCP_BYTES_RECEIVED: Member(SOCKET, 8, ("bytes_received",)),
    lib.TCP_BYTES_SENT: Member(SOCKET, 8, ("bytes_sent",)),
    lib.TCP_BYTES_RETRANSMITTED: Member(SOCKET, 8, ("bytes_retrans",)),
    lib.TCP_RTT: Member(SOCKET, 4, ("srtt_us",)),
    lib.TCP_RTT_VARIANCE: Member(SOCKET, 4, ("mdev_us",)),
    lib.TCP_MIN_RTT: Member(SOCKET, 4, ("rtt_min", "s", "v")),
    lib.TCP_TIMEOUTS: Member(SOCKET, 1, (*CONNECTION, "icsk_retransmits")),
    lib.TCP_SEND_MSS: Member(SOCKET, 4, ("mss_cache",)),
    lib.TCP_CWND: Member(SOCKET, 4, ("snd_cwnd",)),
    lib.TCP_DATA_RECEIVED: Member(SOCKET, 4, ("data_segs_in",)),
    lib.TCP_DELIVERED: Member(SOCKET, 4, ("delivered",)),
    lib.TCP_DELIVERED_CE: Member(SOCKET, 4, ("delivered_ce",)),
    lib.TCP_OUT_OF_ORDER: Member(SOCKET, 4, ("rcv_ooopack",)),
    lib.TCP_DUPLICATES: Member(SOCKET, 4, ("dsack_dups",)),
    lib.TCP_REORDERED: Member(SOCKET, 4, ("reord_seen",)),
    lib.TCP_SEND_WINDOW: Member(SOCKET, 4, ("snd_wnd",)),
    lib.TCP_RECEIVE_WINDOW: Member(SOCKET, 4, ("rcv_wnd",)),
    lib.TCP_SSTHRESH: Member(SOCKET, 4, ("snd_ssthresh",)),
}
"""What is kept, the most important first: if there is no room for all, the last ones are left out."""

GAPS = (64, 32, 16, 8, 0)
"""Bytes between two members up to which they are kept in one piece: a read costs as much as many bytes."""


class Layout(NamedTuple):
    """The program's constants, and where in tcp_end.raw each member of KEPT is: offset and size in bytes."""

    constants: dict[str, int]
    places: dict[int, tuple[int, int]]


def find_layout() -> Layout:
    """Return the layout for this kernel. Raises XtraceError without type information, or without a needed member."""
    try:
        types = kernel_types.load()
    except OSError as error:
        why = "the kernel has no type information (CONFIG_DEBUG_INFO_BTF)"
        raise XtraceError(f"{kernel_types.PATH}: {error.strerror}: {why}") from error
    structs = {name: types.find(Kind.STRUCT, name) for name in (SOCKET, NET, ALGORITHM, TASK)}
    constants = {name: _offset(types, structs, member) for name, member in FOLLOWED.items()}
    kept = {number: _offset(types, structs, member) for number, member in KEPT.items()}
    pieces, places = arrange(
        {number: (offset, KEPT[number].size) for number, offset in kept.items() if offset != ABSENT}
    )
    to = 0
    for number in range(lib.TCP_PIECES):
        at, size = pieces[number] if number < len(pieces) else (0, 0)
        constants |= {f"piece{number}_at": at, f"piece{number}_size": size, f"piece{number}_to": to if size else 0}
        to += size
    return Layout(constants, places)


def _offset(types: Btf, structs: Mapping[str, int | None], member: Member) -> int:
    struct = structs[member.struct]
    try:
        place = types.place(struct, *member.path) if struct is not None else None
    except ObjectError:
        place = None
    if place is not None and place.size == member.size:
        return place.offset
    if member.is_needed:
        raise XtraceError(
            f"{kernel_types.PATH}: struct {member.struct} has no {'.'.join(member.path)} of {member.size} bytes"
        )
    return ABSENT


def arrange(
    members: Mapping[int, tuple[int, int]],
) -> tuple[Sequence[tuple[int, int]], dict[int, tuple[int, int]]]:
    """Return pieces of the struct, offset and size, that there is room for; and where in them the members are.

    `members`: offset and size in the struct, the most important first. The pieces stand one after the other.
    """
    chosen = dict(members)
    while True:
        for gap in GAPS:
            pieces = _pieces(sorted(chosen.values()), gap)
            if len(pieces) <= lib.TCP_PIECES and sum(size for _, size in pieces) <= lib.TCP_RAW_BYTES:
                return pieces, {number: (_placed(pieces, offset), size) for number, (offset, size) in chosen.items()}
        chosen.popitem()


def _pieces(members: Sequence[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    pieces: list[tuple[int, int]] = []
    for offset, size in members:
        if pieces and offset - sum(pieces[-1]) <= gap:
            at, before = pieces[-1]
            pieces[-1] = at, max(before, offset + size - at)
        else:
            pieces.append((offset, size))
    return pieces


def _placed(pieces: Sequence[tuple[int, int]], offset: int) -> int:
    to = 0
    for at, size in pieces:
        if at <= offset < at + size:
            return to + offset - at
        to += size
    raise ValueError(f"offset {offset} is in no piece")
