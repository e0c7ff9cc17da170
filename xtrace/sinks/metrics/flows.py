"""Mode xdp's snapshots as metrics: flows, interfaces, losses.

Per interval, interface and direction the increments of all flow series, `other` included, and of
unattributed and filtered add up to that of xtrace_interface_*_total, in the raw samples: a series that was
not written in the interval before begins with its old value, 0 when it is new, at this interval's start.
"""

from __future__ import annotations

from collections.abc import Iterator

from xtrace.model.flow import FRAGMENT, HAS_SRC_QPN, KEY, LATER_FRAGMENT, FlowKey, FlowSnapshot, Interface
from xtrace.sinks import MOST_TOTALS, Where
from xtrace.sinks.metrics.exposition import Exposition, label_text
from xtrace.sinks.metrics.series import Counted, Group, Series
from xtrace.sinks.render import address

FLOW_COUNTERS = ("xtrace_network_bytes_total", "xtrace_network_packets_total")
FLOW_GAUGES = ("xtrace_network_flow_bytes", "xtrace_network_flow_packets")
NIC_COUNTERS = ("xtrace_nic_bytes_total", "xtrace_nic_packets_total")
INTERFACE_COUNTERS = ("xtrace_interface_{}_total", "xtrace_unattributed_{}_total", "xtrace_filtered_{}_total")

DESCRIBED = {
    "xtrace_network_bytes_total": "Frame bytes of the flow.",
    "xtrace_network_packets_total": "Packets of the flow.",
    "xtrace_network_flow_bytes": "Frame bytes of the flow in the last interval.",
    "xtrace_network_flow_packets": "Packets of the flow in the last interval.",
    "xtrace_interface_bytes_total": "Frame bytes of all packets that reached the hook.",
    "xtrace_interface_packets_total": "All packets that reached the hook.",
    "xtrace_unattributed_bytes_total": "Frame bytes counted without a flow: the flow table had no room.",
    "xtrace_unattributed_packets_total": "Packets counted without a flow: the flow table had no room.",
    "xtrace_filtered_bytes_total": "Frame bytes that a filter refused.",
    "xtrace_filtered_packets_total": "Packets that a filter refused.",
    "xtrace_nic_bytes_total": "Bytes that the interface counted itself, by its own definition: only to compare.",
    "xtrace_nic_packets_total": "Packets that the interface counted itself, by its own definition: only to compare.",
}
"""Of every metric of this file one line; docs/metrics.md says the same."""

Lines = list[str]


class FlowMetrics:
    """The state of all series between ticks."""

    def __init__(self, most: int, constant: str) -> None:
        self._most = most
        self._constant = f",{constant}" if constant else ""
        self._groups: dict[Where, Group] = {}
        self._tick = 0

    def state(self) -> tuple[int, int]:
        """How many flows have series, and of how many others the counters are kept."""
        groups = self._groups.values()
        return sum(len(group.places) for group in groups), sum(len(group.remembered) for group in groups)

    def write(self, snapshot: FlowSnapshot, into: Exposition) -> None:
        """Count one interval and append its samples."""
        self._tick += 1
        now_ns = snapshot.end_ns - snapshot.wall_offset_ns
        for group in self._groups.values():
            group.begin(now_ns, snapshot.interval_ns)
        members: dict[Where, list[Interface]] = {}
        for interface, counts in snapshot.interfaces:
            where = self._where(interface)
            members.setdefault(where, []).append(interface)
            self._group(where, now_ns).count(counts)
        self._choose(snapshot, members)
        writer = Writer(into, snapshot, self._tick)
        for where, group in self._groups.items():
            group.settle()
            writer.flows(group)
            if where in members:
                writer.interface(group)

    def _choose(self, snapshot: FlowSnapshot, members: dict[Where, list[Interface]]) -> None:
        """Find the flows that have series, and choose others among the rest."""
        table = snapshot.flows
        known: dict[bytes, Series] = {}
        for where, interfaces in members.items():
            for interface in interfaces:
                known.update(self._groups[where].keys(interface.slot))
        packets, size = table.packet_counts, table.byte_counts
        found = set()
        for index, key in enumerate(table.packed_keys()) if known else ():
            series = known.get(key)
            if series is not None:
                series.gained_packets += packets[index]
                series.gained_bytes += size[index]
                found.add(index)
        for where, interfaces in members.items():
            indexes = [table.indexes(interface.slot, interface.direction) for interface in interfaces]
            joined = indexes[0] if len(indexes) == 1 else [index for part in indexes for index in part]
            self._groups[where].choose(table, joined, found)

    def _where(self, interface: Interface) -> Where:
        """Interfaces that come and go for ever share, in the end, one name."""
        where = (interface.name, interface.direction)
        if where not in self._groups and len(self._groups) >= MOST_TOTALS:
            return ("other", interface.direction)
        return where

    def _group(self, where: Where, now_ns: int) -> Group:
        group = self._groups.get(where)
        if group is None:
            own = label_text((("interface", where[0]), ("direction", where[1]))) + self._constant
            group = self._groups[where] = Group(
                most=self._most,
                other=Series(f'{{src_ip="other",dst_ip="other",{own}}}'),
                labels=f"{{{own}}}",
                text_of=lambda key: f"{{{label_text(flow_labels(FlowKey(*KEY.unpack(key))))},{own}}}",
            )
            group.begin(now_ns, 0)
        return group


class Writer:
    """Appends one tick's samples."""

    def __init__(self, into: Exposition, snapshot: FlowSnapshot, tick: int) -> None:
        end_ms = snapshot.end_ns // 1_000_000
        self._start, self._end = str((snapshot.end_ns - snapshot.interval_ns) // 1_000_000), str(end_ms)
        self._tick = tick
        self._counters = [into.metric(name, "counter", DESCRIBED[name]) for name in FLOW_COUNTERS]
        self._gauges = [into.metric(name, "gauge", DESCRIBED[name]) for name in FLOW_GAUGES]
        self._nic = [into.metric(name, "counter", DESCRIBED[name]) for name in NIC_COUNTERS]
        names = [pattern.format(unit) for pattern in INTERFACE_COUNTERS for unit in ("bytes", "packets")]
        self._interface = [into.metric(name, "counter", DESCRIBED[name]) for name in names]

    def flows(self, group: Group) -> None:
        """Those that gained; of those that no longer do, one 0 of the gauges."""
        end, (size, packets) = self._end, self._gauges
        for series in (*group.places.values(), group.other, *group.ended):
            labels = series.labels
            if series.gained_packets:
                self._count(series, self._counters)
                size.append(f"{labels} {series.gained_bytes} {end}")
                packets.append(f"{labels} {series.gained_packets} {end}")
            elif series.written == self._tick - 1:
                size.append(f"{labels} 0 {end}")
                packets.append(f"{labels} 0 {end}")

    def _count(self, series: Series, counters: list[Lines]) -> None:
        """Bytes and packets so far; before them what they were, where the interval before was not written."""
        labels, (size, packets) = series.labels, counters
        if series.written != self._tick - 1:
            size.append(f"{labels} {series.bytes - series.gained_bytes} {self._start}")
            packets.append(f"{labels} {series.packets - series.gained_packets} {self._start}")
        size.append(f"{labels} {series.bytes} {self._end}")
        packets.append(f"{labels} {series.packets} {self._end}")
        series.written = self._tick

    def interface(self, group: Group) -> None:
        """The counters of the interface."""
        if group.written != self._tick - 1:
            self._append(group, group.before, self._start)
        self._append(group, group.counted, self._end)
        group.written = self._tick
        if group.nic_is_known:
            self._count(group.nic, self._nic)

    def _append(self, group: Group, counted: Counted, at: str) -> None:
        values = [value for count in counted for value in (count.bytes, count.packets)]
        for lines, value in zip(self._interface, values, strict=True):
            lines.append(f"{group.labels} {value} {at}")


def flow_labels(key: FlowKey) -> Iterator[tuple[str, str]]:
    """What names a flow beside its interface; the same values as in its JSON record."""
    traffic_type = key.traffic_type
    if key.has_addresses:
        yield "src_ip", address(key.src)
        yield "dst_ip", address(key.dst)
    no_ports = key.is_roce or traffic_type == "ICMP"
    yield "src_port", "0" if no_ports else str(key.src_port)
    yield "dst_port", "0" if no_ports else str(key.dst_port)
    if key.is_ip:
        yield "protocol", str(key.protocol)
    else:
        yield "ethertype", str(key.ethertype)
    yield "traffic_type", traffic_type
    if key.is_roce:
        if key.flags & HAS_SRC_QPN:
            yield "src_qpn", str(key.src_qpn)
        yield "dst_qpn", str(key.dst_qpn)
        yield "opcode", str(key.opcode)
    elif traffic_type == "ICMP" and not key.flags & LATER_FRAGMENT:
        yield "icmp_type", str(key.src_port)
        yield "icmp_code", str(key.dst_port)
    if key.vlan_id:
        yield "vlan", str(key.vlan_id)
    if key.flags & FRAGMENT:
        yield "fragment", "later" if key.flags & LATER_FRAGMENT else "first"
