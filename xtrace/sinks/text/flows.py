"""Text of mode xdp: a line per flow, largest first, then a line per interface."""

from __future__ import annotations

import time
from collections.abc import Iterator

from xtrace.model.flow import LATER_FRAGMENT, FlowKey, FlowSnapshot, Interface, InterfaceCounts, Origin, select
from xtrace.model.flow_owners import FlowOwner, How
from xtrace.model.owner_sums import OwnerSum, by_owner
from xtrace.printable import harmless, printable
from xtrace.sinks.flow_lines import FlowLines, Form
from xtrace.sinks.kinds import TextOptions
from xtrace.sinks.render import short_id

PORT_TYPES = frozenset({"TCP", "UDP", "SCTP"})
PROCESS = "pid={pid} {command}"
"""Of a flow, in a line."""


class FlowText:
    """Renders for each interface its flows, the sum of flows not shown, and its counts."""

    def __init__(self, options: TextOptions) -> None:
        self._options = options

    def lines(self, snapshot: FlowSnapshot) -> Iterator[str | bytes]:
        """Yield all lines of one interval: flows some at a time, as bytes."""
        for interface, counts in snapshot.interfaces:
            yield from self._interface_lines(snapshot, interface, counts)

    def totals(self, totals: object) -> tuple[str, ...]:
        """Nothing: lines of words have no totals."""
        return ()

    def _interface_lines(
        self, snapshot: FlowSnapshot, interface: Interface, counts: InterfaceCounts
    ) -> Iterator[str | bytes]:
        with_direction = self._options.with_direction
        direction = f" {interface.direction.in_out}" if with_direction else ""
        if self._options.by_owner:
            sums = by_owner(snapshot, interface, self._options.top or 0)
            flows, other_flows, other = sums.flows, sums.other_flows, sums.other
            yield from (owner_line(each, interface) + f"{direction}\n" for each in sums.shown)
        else:
            selection = select(snapshot, interface, self._options.top or 0, ordered=True)
            flows, other_flows, other = selection.flows, selection.other_flows, selection.other
            yield from FlowLines(snapshot, interface, selection.chosen, words(interface, direction))
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


def words(interface: Interface, direction: str) -> Form:
    """Return `192.168.1.100:80 -> 192.168.1.1:12345 proto=6 packets=10 bytes=1500 [TCP] eth0`, as csrc/words.c does.

    Endpoints of RoCE flows are queue pair number and LID, which is 0 on Ethernet; proto is the opcode:
    `194:0 -> 193:0 proto=8 packets=1000 bytes=65536000 [RoCE_v2 RDMA_WRITE_LAST] ibs8f0 10.0.0.1 -> 10.0.0.2`
    """
    texts = {"interface": harmless(f" {interface.name}"), "direction": direction.encode()}
    return Form(texts, _process, lambda owner: harmless(f" {owner_words(owner)}"), in_words=True)


def _process(origin: Origin) -> bytes:
    return b"" if origin.pid is None else harmless(f" {PROCESS.format(pid=origin.pid, command=origin.command)}")


def owner_line(owned: OwnerSum, interface: Interface) -> str:
    """Return `pid=4711 nginx unit=nginx.service flows=12 packets=100 bytes=15000 eth0`."""
    packets, size = owned.count
    return f"{owner_words(owned.owner)} flows={owned.flows} packets={packets} bytes={size} {interface.name}"


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


def has_message(key: FlowKey) -> bool:
    """Whether the key has type and code of an ICMP message; as in csrc/words.c."""
    return key.traffic_type == "ICMP" and not key.flags & LATER_FRAGMENT


def has_ports(key: FlowKey) -> bool:
    """Whether the key's ports are those of a transport header; as in csrc/words.c."""
    return key.traffic_type in PORT_TYPES and not key.flags & LATER_FRAGMENT
