"""Text: a line per flow, largest first, then a line per interface."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice

from xtrace.flow import FRAGMENT, FlowRecord, Interface, Snapshot, select
from xtrace.sinks import Run, Totals
from xtrace.sinks.render import address
from xtrace.sinks.stream import OutputBlocked, OutputStream

LINES_AT_ONCE = 1000
PORT_TYPES = frozenset({"TCP", "UDP", "SCTP"})


class Text:
    """Writes every snapshot of a run to a stream, in local time."""

    def __init__(self, stream: OutputStream, top: int = 0) -> None:
        self._stream = stream
        self._top = top

    def start(self, run: Run) -> None:
        """Nothing: what starts is said on stderr."""

    def write(self, snapshot: Snapshot) -> None:
        """The flows and the line of each interface."""
        lines = self._lines(snapshot)
        try:
            while some := list(islice(lines, LINES_AT_ONCE)):
                # interface names are bytes, and go out as they came
                self._stream.write("".join(some).encode("utf-8", "surrogateescape"))
        except OutputBlocked as blocked:
            raise OutputBlocked(blocked.lost + sum(1 for _ in lines)) from None

    def _lines(self, snapshot: Snapshot) -> Iterator[str]:
        clock = time.strftime("%H:%M:%S", time.localtime(snapshot.end_ns / 1e9))
        for interface, counts in snapshot.interfaces:
            selection = select(snapshot, interface, self._top, ordered=True)
            for flow in selection.shown:
                yield flow_line(flow, interface) + "\n"
            if selection.other_flows:
                packets, size = selection.other
                yield f"other flows={selection.other_flows} packets={packets} bytes={size} {interface.name}\n"
            yield (
                f"{interface.name} {clock} {snapshot.interval_ns / 1e9:.1f}s flows={selection.flows}"
                f" packets={counts.total.packets} bytes={counts.total.bytes}"
                f" unattributed={counts.unattributed_total.packets} filtered={counts.filtered.packets}\n"
            )

    def end(self, totals: Totals) -> None:
        """Nothing: the last interval's lines are the last."""


def flow_line(flow: FlowRecord, interface: Interface) -> str:
    """`192.168.1.100:80 -> 192.168.1.1:12345 proto=6 packets=10 bytes=1500 [TCP] eth0`"""
    key = flow.key
    traffic_type = key.traffic_type
    # only the first fragment of a packet has ports
    ports = traffic_type in PORT_TYPES and (not key.flags & FRAGMENT or key.src_port or key.dst_port)
    source = _endpoint(key.src, key.src_port if ports else None) if key.is_ip else "-"
    destination = _endpoint(key.dst, key.dst_port if ports else None) if key.is_ip else "-"
    line = (
        f"{source} -> {destination} proto={key.protocol} packets={flow.packets} bytes={flow.bytes}"
        f" [{traffic_type}] {interface.name}"
    )
    if traffic_type == "ICMP":
        line += f" type={key.src_port} code={key.dst_port}"
    if key.flags & FRAGMENT:
        line += " frag"
    if not key.is_ip:
        line += f" ethertype=0x{key.ethertype:04x}"
    return line


def _endpoint(packed: bytes, port: int | None) -> str:
    text = address(packed)
    if ":" in text:
        text = f"[{text}]"
    return text if port is None else f"{text}:{port}"
