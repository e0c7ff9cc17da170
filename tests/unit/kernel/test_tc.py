"""The clsact qdisc and its filters against a played kernel: recorded and composed answers."""

from __future__ import annotations

import errno
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.kernel.test_rtnetlink import FakeKernel, ack, dump, failure, message, recorded, u32
from xtrace.errors import KernelError
from xtrace.kernel import netlink, syscall, tc
from xtrace.kernel.netlink import NetlinkSocket, pack_attribute, pack_nested, parse_attributes
from xtrace.kernel.tc import ETH_P_ALL, Parent, TcFilter

IF = 7
PROGRAM = 12
TOKEN = "0123456789abcdef"
INGRESS, EGRESS = Parent.INGRESS, Parent.EGRESS
ALL = b"\x00\x03"
"""ETH_P_ALL in network byte order."""

Play = Callable[..., tuple[FakeKernel, NetlinkSocket]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """play(answer, ...) -> (kernel, socket)."""

    def start(*played: list[bytes]) -> tuple[FakeKernel, NetlinkSocket]:
        kernel = FakeKernel(*played)
        monkeypatch.setattr(syscall, "lib", kernel)
        return kernel, NetlinkSocket(netlink.NETLINK_ROUTE)

    return start


def head(priority: int, protocol: bytes = ALL, kind: str = "bpf") -> bytes:
    """What the kernel sends before the filters of a priority."""
    return entry(priority, handle=0, protocol=protocol, kind=kind)


def entry(
    priority: int, *options: bytes, handle: int = 1, protocol: bytes = ALL, kind: str = "bpf", parent: Parent = INGRESS
) -> bytes:
    info = priority << 16 | int(struct.unpack("=H", protocol)[0])
    body = struct.pack("=B3xiIII", 0, IF, handle, parent, info)
    body += pack_attribute(tc.TCA_KIND, kind.encode() + b"\0") + pack_attribute(tc.TCA_CHAIN, u32(0))
    return message(tc.RTM_NEWTFILTER, body + (pack_nested(tc.TCA_OPTIONS, *options) if handle else b""))


def named(priority: int, name: str, handle: int = 1) -> list[bytes]:
    """A filter with its head."""
    return [head(priority), entry(priority, pack_attribute(tc.TCA_BPF_NAME, name.encode() + b"\0"), handle=handle)]


def handle_of(token: str) -> int:
    return int(token, 16) % tc.MAX_HANDLE + 1


def own(token: str, priority: int = 1) -> list[bytes]:
    """The filter of the attachment that got this token."""
    return named(priority, f"xtrace-catch:{token}", handle_of(token))


def sent_types(kernel: FakeKernel) -> list[int]:
    return [int(struct.unpack_from("=H", request, 4)[0]) for request in kernel.sent]


def header(request: bytes) -> tuple[Any, ...]:
    """Flags besides REQUEST and ACK; ifindex, handle, parent, priority, protocol of a sent request."""
    flags = struct.unpack_from("=H", request, 6)[0] & ~(netlink.NLM_F_REQUEST | netlink.NLM_F_ACK)
    _, ifindex, handle, parent, info = struct.unpack_from("=B3xiIII", request, 16)
    return flags, ifindex, handle, parent, info >> 16, struct.pack("=H", info & 0xFFFF)


def sent_attributes(request: bytes) -> dict[int, bytes]:
    return parse_attributes(request[36:])


# The qdisc


def test_clsact_is_created_where_nothing_is(play: Play) -> None:
    kernel, socket = play([ack()])
    tc.ensure_clsact(socket, IF)
    assert sent_types(kernel) == [tc.RTM_NEWQDISC]
    assert header(kernel.sent[0]) == (0x600, IF, 0xFFFF0000, 0xFFFFFFF1, 0, b"\0\0")
    assert sent_attributes(kernel.sent[0]) == {tc.TCA_KIND: b"clsact\0"}


def test_clsact_that_is_there_is_fine(play: Play) -> None:
    _, socket = play(recorded("tc-refused_qdisc"), recorded("tc-qdiscs"))
    tc.ensure_clsact(socket, 3)


def test_an_ingress_qdisc_is_refused_by_name_with_the_kernels_reason(play: Play) -> None:
    kernel, socket = play(recorded("tc-refused_qdisc"), recorded("tc-qdiscs"))
    caught = failure(tc.ensure_clsact, socket, 2)
    assert caught.errno == errno.EEXIST
    assert caught.detail.startswith(
        "Exclusivity flag on, cannot modify; a qdisc of kind ingress is in the place of clsact"
    )
    assert "`tc qdisc del dev ... ingress`" in caught.detail
    assert sent_types(kernel) == [tc.RTM_NEWQDISC, tc.RTM_GETQDISC]


def test_a_qdisc_that_went_meanwhile_leaves_the_kernels_answer(play: Play) -> None:
    _, socket = play(recorded("tc-refused_qdisc"), recorded("tc-qdiscs"))
    assert failure(tc.ensure_clsact, socket, 4).detail == "Exclusivity flag on, cannot modify"


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENODEV, errno.ENOENT])
def test_other_refusals_of_the_qdisc_are_kernel_errors(play: Play, number: int) -> None:
    kernel, socket = play([ack(-number)])
    caught = failure(tc.ensure_clsact, socket, IF)
    assert (caught.call, caught.errno) == (f"RTM_NEWQDISC(clsact on interface {IF})", number)
    assert len(kernel.sent) == 1


# Filters


def test_recorded_filters_are_described_completely(play: Play) -> None:
    _, socket = play(recorded("tc-filters"))
    name = f"xtrace-catch:{TOKEN}"
    assert tc.filters(socket, 3, INGRESS) == [
        TcFilter(3, INGRESS, 1, ETH_P_ALL, 1, "bpf"),
        TcFilter(3, INGRESS, 2, ETH_P_ALL, handle_of(TOKEN), "bpf", name),
        TcFilter(3, INGRESS, 3, 0x0800, 0x80000000, "u32"),
        TcFilter(3, INGRESS, 3, 0x0800, 0x80000800, "u32"),
    ]


@pytest.mark.parametrize("parent", [0xFFFFFFF2, 0xFFFFFFF3])
def test_filters_are_asked_for_by_direction_in_the_chain_where_packets_begin(play: Play, parent: int) -> None:
    kernel, socket = play(dump())
    assert tc.filters(socket, IF, Parent(parent)) == []
    assert header(kernel.sent[0]) == (netlink.NLM_F_DUMP, IF, 0, parent, 0, b"\0\0")
    assert sent_attributes(kernel.sent[0]) == {tc.TCA_CHAIN: u32(0)}


def test_options_of_other_kinds_are_not_taken_for_those_of_bpf(play: Play) -> None:
    u32_options = [pack_attribute(tc.TCA_BPF_FLAGS, b"1"), pack_attribute(tc.TCA_BPF_NAME, b"name\0")]
    _, socket = play(dump(entry(1, *u32_options, kind="u32")))
    assert tc.filters(socket, IF, INGRESS) == [TcFilter(IF, INGRESS, 1, ETH_P_ALL, 1, "u32")]


def test_damaged_options_are_an_error(play: Play) -> None:
    _, socket = play(dump(entry(1, b"\x09\x00\x07\x00abc")))
    assert failure(tc.filters, socket, IF, INGRESS).errno == errno.EBADMSG


def test_recorded_filters_cut_at_any_length_are_an_error(play: Play) -> None:
    whole = recorded("tc-filters")
    for length in range(1, len(whole[0])):
        _, socket = play([whole[0][:length], *whole[1:]])
        try:
            found = tc.filters(socket, 3, INGRESS)
        except KernelError as error:
            assert error.errno == errno.EBADMSG
        else:
            assert len(found) < 4  # cut between two messages


def test_random_damage_to_filters_is_a_kernel_error_or_an_answer(play: Play) -> None:
    randomness, outcomes = random.Random(3), {"answer": 0, "error": 0}
    for _ in range(2000):
        datagrams = [bytearray(datagram) for datagram in recorded("tc-filters")]
        for _ in range(randomness.randint(1, 6)):
            datagrams[0][randomness.randrange(len(datagrams[0]))] = randomness.randrange(256)
        _, socket = play(*[[bytes(datagram) for datagram in datagrams]] * 5)
        try:
            tc.filters(socket, 3, INGRESS)
        except KernelError:
            outcomes["error"] += 1
        else:
            outcomes["answer"] += 1
    assert min(outcomes.values()) > 300, outcomes


def qdisc(ifindex: int, parent: int, kind: str, drops: int | None, handle: int = 0x10000) -> bytes:
    """One qdisc of a dump; `drops` None: without statistics."""
    body = struct.pack("=B3xiIII", 0, ifindex, handle, parent, 0) + pack_attribute(tc.TCA_KIND, kind.encode() + b"\0")
    if drops is not None:
        queue = pack_attribute(tc.TCA_STATS_QUEUE, struct.pack("=5I", 1, 2, drops, 4, 5))
        body += pack_nested(tc.TCA_STATS2, pack_attribute(1, bytes(16)), queue)
    return message(tc.RTM_NEWQDISC, body)


def test_root_qdiscs_are_listed_with_their_drops_and_children_are_not(play: Play) -> None:
    _, socket = play(
        dump(
            qdisc(1, tc.TC_H_ROOT, "noqueue", 0, handle=0),
            qdisc(IF, tc.TC_H_ROOT, "htb", 17),
            qdisc(IF, 0x10001, "pfifo", 16),
            qdisc(IF, tc.TC_H_CLSACT, "clsact", 3, handle=tc.CLSACT_HANDLE),
            qdisc(9, tc.TC_H_ROOT, "mq", 0, handle=0),
            qdisc(10, tc.TC_H_ROOT, "odd", None),
        )
    )
    assert tc.root_qdiscs(socket) == {1: (tc.NO_QUEUE, 0, 0), IF: ("htb", 0x10000, 17), 9: ("mq", 0, 0)}


def test_qdisc_cut_short_is_an_error(play: Play) -> None:
    _, socket = play(dump(message(tc.RTM_NEWQDISC, b"\0" * 8)))
    assert failure(tc.root_qdiscs, socket).errno == errno.EBADMSG
