"""Lines of flows as C writes them, against the same said word by word in Python."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from tests.unit.make import ETH0, LLC, flow, key, snapshot
from tests.unit.some import some_flow, some_origin
from xtrace.kernel.syscall import lib
from xtrace.model.flow import (
    FRAGMENT,
    HAS_SRC_QPN,
    INNER,
    LATER_FRAGMENT,
    ROCE_V2,
    TUNNELS,
    FlowKey,
    FlowRecord,
    FlowSnapshot,
    Interface,
    Origin,
)
from xtrace.model.roce import opcode_name
from xtrace.model.words import Direction
from xtrace.sinks.flow_lines import FlowLines, flow_details
from xtrace.sinks.text.flows import words


def lines_of(interval: FlowSnapshot, direction: str = "") -> list[str]:
    chosen = interval.flows.indexes(ETH0.slot, Direction.INGRESS)
    whole = b"".join(FlowLines(interval, ETH0, chosen, words(ETH0, direction)))
    assert whole.endswith(b"\n")
    return whole.decode("utf-8", "surrogateescape").splitlines()


def address(packed: bytes) -> str:
    read = IPv6Address(packed)
    return str(read.ipv4_mapped or read)


def end(where: FlowKey, packed: bytes, port: int) -> str:
    if not where.has_addresses:
        return "-"
    text = address(packed) if ":" not in address(packed) else f"[{address(packed)}]"
    has_port = where.traffic_type in ("TCP", "UDP", "SCTP") and not where.flags & LATER_FRAGMENT
    return f"{text}:{port}" if has_port else text


def details(record: FlowRecord) -> list[str]:
    where, found = record.key, []
    if where.traffic_type == "ICMP" and not where.flags & LATER_FRAGMENT:
        found.append(f"type={where.src_port} code={where.dst_port}")
    found += ["frag"] if where.flags & FRAGMENT else []
    found += [f"vlan={where.vlan}"] if where.vlan else []
    found += [f"inner_vlan={where.inner_vlan}"] if where.inner_vlan else []
    found += [where.tunnel] if where.tunnel else []
    found += [f"vni={where.vni}"] if where.vni is not None else []
    if record.dscp or record.dscp_changed:
        found.append(f"dscp={record.dscp}{',changed' if record.dscp_changed else ''}")
    found += [f"ecn_ce={record.ecn_ce_packets}"] if record.ecn_ce_packets else []
    if not where.is_ip and not where.is_roce:
        found.append("LLC" if where.ethertype == LLC else f"ethertype=0x{where.ethertype:04x}")
    return found


def expected(record: FlowRecord, interval: FlowSnapshot, direction: str = "") -> str:
    where, counts = record.key, f"packets={record.packets} bytes={record.bytes}"
    origin = interval.origin(ETH0, where) if where.is_roce else Origin()
    if where.is_roce:
        source = "?" if origin.src_qpn is None else origin.src_qpn
        told = [f"{source}:0 -> {where.dst_qpn}:0 proto={where.opcode} {counts}"]
        told += [
            f"[{where.traffic_type} {opcode_name(where.opcode)}] eth0 {address(where.src)} -> {address(where.dst)}"
        ]
    else:
        told = [f"{end(where, where.src, where.src_port)} -> {end(where, where.dst, where.dst_port)}"]
        told += [f"proto={where.protocol} {counts} [{where.traffic_type}] eth0"]
    told += details(record)
    told += [direction] if direction else []
    told += [] if origin.pid is None else [f"pid={origin.pid} {origin.command}"]
    return " ".join(told)


@pytest.mark.parametrize("direction", ["", "in"])
@pytest.mark.parametrize("find_origin", [None, some_origin])
@pytest.mark.parametrize("seed", range(10))
def test_every_line_says_what_its_flow_is(seed: int, find_origin: Callable[..., Origin] | None, direction: str) -> None:
    chance = random.Random(seed)
    flows = [some_flow(chance) for _ in range(500)]
    interval = replace(snapshot(flows), find_origin=find_origin)
    found = lines_of(interval, f" {direction}" if direction else "")
    assert found == [expected(record, interval, direction) for record in flows]


def test_details_are_those_of_the_line_with_the_message_of_icmp_or_without() -> None:
    chance = random.Random(1)
    interval = snapshot([some_flow(chance) for _ in range(500)])
    for index, record in enumerate(interval.flows):
        said = details(record)
        assert flow_details(interval.flows, index, has_message=True) == " ".join(said)
        rest = [word for word in said if not word.startswith("type=")]
        assert flow_details(interval.flows, index, has_message=False) == " ".join(rest)


def test_longest_line_fits_into_what_is_kept_free_for_it() -> None:
    longest = max(range(256), key=lambda opcode: len(opcode_name(opcode)))
    digits = key("1111:1111:1111:1111:1111:1111:255.255.255.255", "::", (65535, 65535), vlan_id=4095)
    other = digits._replace(src=b"\xfd" * 16, dst=b"\xfd" * 16, flags=FRAGMENT, src_qpn=2**32 - 1, vlan_id=65535)
    rocev2 = other._replace(opcode=longest, flags=ROCE_V2 | FRAGMENT | HAS_SRC_QPN, ethertype=65535)
    tunnel = TUNNELS.index("geneve") << 12 | 4095
    inner = rocev2._replace(vlan_id=tunnel, ethertype=0x6FFF, flags=ROCE_V2 | FRAGMENT | INNER)
    for where in (other, rocev2, inner):
        (line,) = lines_of(snapshot([FlowRecord(where, 2**64 - 1, 2**64 - 1, 255, 2**57 - 1, 0, 0)]))
        assert len(line) < lib.XT_LINE_LENGTH


def test_names_in_a_line_do_not_act_on_a_terminal() -> None:
    wild = Interface("e\x1b]0;x\x07", 0)
    process = Origin(1, 4711, "a\nb\udcff")
    interval = replace(snapshot([flow(key()._replace(flags=ROCE_V2))]), find_origin=lambda *_: process)
    (line,) = b"".join(FlowLines(interval, wild, range(1), words(wild, ""))).splitlines()
    assert b"] e?]0;x? " in line
    assert line.endswith(b" pid=4711 a?b\xff")
