"""Recorded RoCE traffic (tests/fixtures/roce) is counted by queue pair and opcode as it was sent."""

from __future__ import annotations

import json
from collections import Counter as Tally
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.counter import Counter
from tests.support import pcap
from xtrace.model.flow import NO_ADDRESS, PacketCount

CAPTURES = Path(__file__).parents[1] / "fixtures" / "roce"
TRUTH: Mapping[str, Any] = json.loads((CAPTURES / "truth.json").read_text())

EVERY_CAPTURE = pytest.mark.parametrize("name", TRUTH)


def frames_of(name: str) -> list[bytes]:
    return [captured.restored() for captured in pcap.read(CAPTURES / f"{name}.pcap")]


def transport_of(frame: bytes) -> bytes:
    """What UDP carries, found by its place in these captures: at most one tag, no IP options or extension headers."""
    begin = 18 if frame[12:14] == b"\x81\x00" else 14
    return frame[begin + (48 if frame[begin] >> 4 == 6 else 28) :]


def by_opcode_and_queue_pair(frames: list[bytes]) -> dict[tuple[int, int], PacketCount]:
    """Packets and bytes, from the base transport headers alone."""
    found: dict[tuple[int, int], PacketCount] = {}
    for frame in frames:
        transport = transport_of(frame)
        key = (transport[0], int.from_bytes(transport[5:8], "big"))
        found[key] = found.get(key, PacketCount(0, 0)) + PacketCount(1, len(frame))
    return found


def opcodes_in_truth(name: str) -> Tally[int]:
    """Packets by opcode, sent and received."""
    packets: Tally[int] = Tally()
    for direction_and_opcode, count in TRUTH[name]["opcodes"].items():
        packets[int(direction_and_opcode.split()[1], 16)] += count
    return packets


@EVERY_CAPTURE
def test_recorded_roce_is_counted_by_opcode_and_queue_pair_as_it_was_sent(counter: Counter, name: str) -> None:
    frames, truth = frames_of(name), TRUTH[name]
    interval = counter.measure(frames)
    by_pair: dict[tuple[int, int], PacketCount] = {}
    by_opcode: Tally[int] = Tally()
    for key, flow in interval.flows.items():
        pair = (key.opcode, key.dst_qpn)
        by_pair[pair] = by_pair.get(pair, PacketCount(0, 0)) + PacketCount(flow.packets, flow.bytes)
        by_opcode[key.opcode] += flow.packets
    assert {key.traffic_type for key in interval.flows} == {"RoCE_v2"}
    assert by_pair == by_opcode_and_queue_pair(frames)
    assert by_opcode == opcodes_in_truth(name)
    assert interval.total == PacketCount(sum(truth["captured"].values()), sum(truth["captured_bytes"].values()))


def test_recorded_roce_is_counted_at_every_hook(hook: Counter) -> None:
    frames = [frame for name in TRUTH for frame in frames_of(name)]
    assert hook.measure(frames).sums == hook.expected(frames)


def test_recorded_datagrams_have_their_source_queue_pair(counter: Counter) -> None:
    """ib_send_bw sends from one queue pair to one."""
    (key,) = counter.measure(frames_of("linux-6.1/send_ud.b")).flows
    frame = frames_of("linux-6.1/send_ud.b")[0]
    assert key.src_qpn == int.from_bytes(transport_of(frame)[17:20], "big") > 0
    assert key.dst_qpn == int.from_bytes(transport_of(frame)[5:8], "big") > 0


def test_recorded_vlan_and_addresses_are_told(counter: Counter) -> None:
    tagged = counter.measure(frames_of("linux-6.1/write_vlan42.b")).flows
    assert {key.vlan_id for key in tagged} == {42}
    six = counter.measure(frames_of("linux-6.1/write_v6gid.b")).flows
    assert {key.ethertype for key in six} == {0x86DD}
    assert all(key.src[:2] == b"\xfe\x80" and key.dst != NO_ADDRESS for key in six)


def test_recorded_roce_has_every_kind_of_connection() -> None:
    opcodes = {int(opcode.split()[1], 16) for truth in TRUTH.values() for opcode in truth["opcodes"]}
    assert {opcode >> 5 for opcode in opcodes} == {0, 1, 3}
    assert len(opcodes) > 20
