"""At tc, frames of which only the beginning is linear data: real ones, sent over lo.

BPF_PROG_TEST_RUN makes none before Linux 6.19. A packet socket does: with a struct virtio_net_hdr it says how much of a
frame longer than a page is to be linear (packet_alloc_skb() in net/packet/af_packet.c).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.cases import GROUPS
from tests.kernel.counter import TC, Counter, counting, present
from tests.kernel.reference import parse
from xtrace.kernel import constants
from xtrace.kernel.bpf import Link
from xtrace.model.words import Direction

LOOPBACK = 1
"""lo's index in every network namespace"""

SOL_PACKET, PACKET_VNET_HDR = 263, 15
VIRTIO_NET_HEADER = struct.Struct("=BBHHHH")
LONGER_THAN_A_PAGE = 5000
COPIED = 192
"""Bytes of a frame that are looked at where its headers are not linear."""

LINEAR = [14, 15, 18, 33, 34, 38, 42, 47, 48, 54, 60, 74, 100, 191, 192, 1000]


@pytest.fixture(scope="module")
def any_leaving() -> Iterator[Counter]:
    if not present().tcx:
        pytest.skip("this kernel attaches no tc program by a link (Linux 6.6)")
    if not int(Path("/sys/class/net/lo/flags").read_text(), 16) & 1:
        pytest.skip("lo is down")
    with (
        counting(program=TC, direction=Direction.EGRESS) as counter,
        Link.attach(counter.program, LOOPBACK, constants.ATTACH_TYPE_TCX_EGRESS, 0),
    ):
        yield counter


@pytest.fixture
def leaving(any_leaving: Counter) -> Counter:
    """The program, attached where frames leave by lo."""
    any_leaving.tables.collect(any_leaving.tables.flip())
    return any_leaving


@pytest.fixture
def sender() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
        opened.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        opened.bind(("lo", 0))
        yield opened


def is_known_from_the_copy(frame: bytes) -> bool:
    return parse(frame) == parse(frame[:COPIED])


def long_frames(group: str) -> list[bytes]:
    padded = [case.frame.ljust(LONGER_THAN_A_PAGE, b"\0") for case in GROUPS[group]]
    return [frame for frame in padded if is_known_from_the_copy(frame)]


@pytest.mark.parametrize("group", GROUPS)
def test_frame_is_counted_under_its_flow_however_little_of_it_is_linear(
    leaving: Counter, sender: socket.socket, group: str
) -> None:
    frames = long_frames(group)
    for frame in frames:
        for linear in LINEAR:
            assert sender.send(VIRTIO_NET_HEADER.pack(0, 0, linear, 0, 0, 0) + frame) > len(frame)
    sums = leaving.expected(frame for frame in frames for _ in LINEAR)
    found = leaving.take().sums
    assert {key: found.get(key) for key in sums} == sums
    assert sums
