"""Text of mode xdp: a line per flow, largest first, then a line per interface."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from xtrace.model.flow import (
    ETHERTYPE_LLC,
    FRAGMENT,
    LATER_FRAGMENT,
    UNKNOWN_ORIGIN,
    FlowKey,
    FlowRecord,
    FlowSnapshot,
    Interface,
    InterfaceCounts,
    Origin,
    select,
)
from xtrace.model.flow_owners import FlowOwner, How
from xtrace.model.icmp import icmp_name
from xtrace.model.owner_sums import OwnerSum, by_owner
from xtrace.model.roce import opcode_name
from xtrace.printable import printable
from xtrace.sinks.kinds import TextOptions
from xtrace.sinks.render import address, short_id

PORT_TYPES = frozenset({"TCP", "UDP", "SCTP"})
PROCESS = "pid={pid} {command}"
"""Of a flow, in a line."""


class FlowText:
    """Renders for each interface its flows, the sum of flows not shown, and its counts."""

    def __init__(self, options: TextOptions) -> None:
        self._options = options

    def lines(self, snapshot: FlowSnapshot) -> Iterator[str]:
        """Yield all lines of one interval."""
        for interface, counts in snapshot.interfaces:
            yield from self._interface_lines(snapshot, interface, counts)

    def totals(self, totals: object) -> tuple[str, ...]:
        """Nothing: lines of words have no totals."""
        return ()

    def _interface_lines(self, snapshot: FlowSnapshot, interface: Interface, counts: InterfaceCounts) -> Iterator[str]:
        with_direction = self._options.with_direction
        direction = f" {interface.direction.in_out}" if with_direction else ""
        if self._options.by_owner:
            sums = by_owner(snapshot, interface, self._options.top or 0)
            flows, other_flows, other = sums.flows, sums.other_flows, sums.other
            yield from (owner_line(each, interface) + f"{direction}\n" for each in sums.shown)
        else:
            selection = select(snapshot, interface, self._options.top or 0, ordered=True)
            flows, other_flows, other = selection.flows, selection.other_flows, selection.other
            yield from self._flow_lines(snapshot, interface, selection.chosen)
        if other_flows:
            (packets, size), left = other, other_flows
            yield f"other flows={left} packets={packets} bytes={size} {interface.name}{direction}\n"
        fragments = counts.filtered_fragments.packets
        undecided = f" filtered_fragments={fragments}" if fragments else ""
        clock = time.strftime("%H:%M:%S", time.localtime(snapshot.end_ns / 1e9))
        seconds = (counts.interval_ns or snapshot.interval_ns) / 1e9
        yield (
            f"{interface.name} {clock} {seconds:.1f}s flows={flows}"
            f" packets={counts.total.packets} bytes={counts.total.bytes}"
            f" unattributed={counts.unattributed_total.packets}"
            f" filtered={counts.filtered.packets}{undecided}{direction}\n"
        )

    def _flow_lines(self, snapshot: FlowSnapshot, interface: Interface, chosen: Sequence[int]) -> Iterator[str]:
        for index in chosen:
            flow, owner = snapshot.flows[index], snapshot.owner(index)
            origin = snapshot.origin(interface, flow.key) if flow.key.is_roce else UNKNOWN_ORIGIN
            line = flow_line(flow, interface, self._options.with_direction, origin)
            yield f"{line} {owner_words(owner)}\n" if owner and origin.pid is None else f"{line}\n"


def owner_line(owned: OwnerSum, interface: Interface) -> str:
    """Return `pid=4711 nginx unit=nginx.service flows=12 packets=100 bytes=15000 eth0`."""
    packets, size = owned.count
    return f"{owner_words(owned.owner)} flows={owned.flows} packets={packets} bytes={size} {interface.name}"


def flow_line(
    flow: FlowRecord, interface: Interface, with_direction: bool = False, origin: Origin = UNKNOWN_ORIGIN
) -> str:
    """Return `192.168.1.100:80 -> 192.168.1.1:12345 proto=6 packets=10 bytes=1500 [TCP] eth0`."""
    key = flow.key
    if key.is_roce:
        line = _roce_line(flow, interface, origin)
    else:
        line = (
            f"{_endpoint(key, key.src, key.src_port)} -> {_endpoint(key, key.dst, key.dst_port)}"
            f" proto={key.protocol} packets={flow.packets} bytes={flow.bytes} [{key.traffic_type}] {interface.name}"
        )
    line += "".join(f" {detail}" for detail in flow_details(flow))
    line += f" {interface.direction.in_out}" if with_direction else ""
    return line if origin.pid is None else f"{line} pid={origin.pid} {origin.command}"


def owner_words(owner: FlowOwner, process: str = PROCESS) -> str:
    """Return `pid=4711 nginx unit=nginx.service`, and container or pod where there is one; or why not."""
    words = [] if owner.pid is None else [process.format(pid=owner.pid, command=owner.command)]
    if owner.how is How.LISTENED:
        words[0] += " (listener)"
    if owner.container or owner.container_name:
        words.append(f"container={owner.container_name or short_id(owner.container or '')}")
    if owner.pod or owner.pod_name:
        words.append(f"pod={owner.pod_name or owner.pod}")
    if owner.unit and not owner.container:
        words.append(f"unit={owner.unit}")
    if not words and owner.cgroup:
        words.append(f"cgroup={owner.cgroup}")
    return printable(" ".join(words)) if words else f"owner={owner.how}"


def _roce_line(flow: FlowRecord, interface: Interface, origin: Origin) -> str:
    """`194:0 -> 193:0 proto=8 packets=1000 bytes=65536000 [RoCE_v2 RDMA_WRITE_LAST] ibs8f0 10.0.0.1 -> 10.0.0.2`

    Endpoints are queue pair number and LID, which is 0 on Ethernet; proto is the opcode.
    """
    key = flow.key
    source = "?" if origin.src_qpn is None else origin.src_qpn
    return (
        f"{source}:0 -> {key.dst_qpn}:0 proto={key.opcode} packets={flow.packets} bytes={flow.bytes}"
        f" [{key.traffic_type} {opcode_name(key.opcode)}] {interface.name} {address(key.src)} -> {address(key.dst)}"
    )


def flow_details(flow: FlowRecord, *, is_named: bool = False) -> Iterator[str]:
    """Yield the details that apply, appended to the line. `is_named`: ICMP messages by name, for people."""
    key = flow.key
    if key.traffic_type == "ICMP" and not key.flags & LATER_FRAGMENT:
        type_, code = key.src_port, key.dst_port
        yield icmp_name(key.protocol, type_, code) if is_named else f"type={type_} code={code}"
    if key.flags & FRAGMENT:
        yield "frag"
    if key.vlan:
        yield f"vlan={key.vlan}"
    if key.inner_vlan:
        yield f"inner_vlan={key.inner_vlan}"
    if key.tunnel:
        yield key.tunnel if key.vni is None else f"{key.tunnel} vni={key.vni}"
    if flow.dscp or flow.dscp_changed:
        yield f"dscp={flow.dscp}" + ",changed" * flow.dscp_changed
    if flow.ecn_ce_packets:
        yield f"ecn_ce={flow.ecn_ce_packets}"
    if not key.is_ip and not key.is_roce:
        yield "LLC" if key.ethertype == ETHERTYPE_LLC else f"ethertype=0x{key.ethertype:04x}"


def has_ports(key: FlowKey) -> bool:
    """Whether the key's ports are those of a transport header."""
    return key.traffic_type in PORT_TYPES and not key.flags & LATER_FRAGMENT


def _endpoint(key: FlowKey, packed: bytes, port: int) -> str:
    if not key.has_addresses:
        return "-"
    text = address(packed)
    if ":" in text:
        text = f"[{text}]"
    return f"{text}:{port}" if has_ports(key) else text
