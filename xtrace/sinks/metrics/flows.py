"""Metrics of mode xdp: flows, interfaces, losses.

In the raw samples, per interval, interface and direction, the increments of all flow series (`other` included) plus
unattributed, filtered and fragments of unknown ports equal the increment of xtrace_interface_*_total: a series without
a sample in the previous interval starts with its old value (0 if new) at the start of this interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xtrace.model.flow import FRAGMENT, KEY, LATER_FRAGMENT, FlowKey, FlowSnapshot, FlowTable, Interface
from xtrace.model.flow_totals import MOST_TOTALS, FlowSetup, Where
from xtrace.sinks.kinds import MetricsOptions
from xtrace.sinks.metrics.grouping import OTHER_OWNERS, RENAMES, OwnerKeys, grouped
from xtrace.sinks.metrics.sample import Labels, Life, Metric, Sample, Values
from xtrace.sinks.metrics.series import Counted, Group, Series
from xtrace.sinks.render import address

BYTES, PACKETS = "xtrace_network_bytes_total", "xtrace_network_packets_total"
FLOW_BYTES, FLOW_PACKETS = "xtrace_network_flow_bytes", "xtrace_network_flow_packets"
NIC_BYTES, NIC_PACKETS = "xtrace_nic_bytes_total", "xtrace_nic_packets_total"
QDISC_DROPS = "xtrace_qdisc_drops_total"
IDLE = {FLOW_BYTES: 0, FLOW_PACKETS: 0}
"""Values of flows that stopped."""

DESCRIBED = {
    BYTES: Metric(
        "counter", "bytes", "Bytes of the flow's frames since its series began, with Ethernet header, without FCS."
    ),
    PACKETS: Metric("counter", "packets", "Packets of the flow since its series began."),
    FLOW_BYTES: Metric("gauge", "bytes", "Bytes of the flow's frames in the last interval."),
    FLOW_PACKETS: Metric("gauge", "packets", "Packets of the flow in the last interval."),
    NIC_BYTES: Metric(
        "counter",
        "bytes",
        "Bytes that the interface's own counter grew by during this run; drivers differ in what they count.",
    ),
    NIC_PACKETS: Metric(
        "counter",
        "packets",
        "Packets that the interface's own counter grew by during this run; drivers differ in what they count.",
    ),
    QDISC_DROPS: Metric(
        "counter", "packets", "Packets that the interface's queue dropped after the egress hook had counted them."
    ),
    "xtrace_interface_bytes_total": Metric(
        "counter", "bytes", "Bytes of all frames that reached the hook, filtered and unattributed ones included."
    ),
    "xtrace_interface_packets_total": Metric(
        "counter", "packets", "All packets that reached the hook, filtered and unattributed ones included."
    ),
    "xtrace_unattributed_bytes_total": Metric(
        "counter", "bytes", "Bytes of frames counted without a flow because the flow table had no room."
    ),
    "xtrace_unattributed_packets_total": Metric(
        "counter", "packets", "Packets counted without a flow because the flow table had no room."
    ),
    "xtrace_filtered_bytes_total": Metric("counter", "bytes", "Bytes of frames that a filter refused."),
    "xtrace_filtered_packets_total": Metric("counter", "packets", "Packets that a filter refused."),
    "xtrace_filtered_fragment_bytes_total": Metric(
        "counter", "bytes", "Bytes of later fragments whose ports a filter asked for, but whose first was not seen."
    ),
    "xtrace_filtered_fragment_packets_total": Metric(
        "counter", "packets", "Later fragments whose ports a filter asked for, but whose first was not seen."
    ),
}
"""In output order."""

OF_CONNECTIONS = frozenset({"src_port", "dst_port", "src_qpn", "dst_qpn"})
"""Labels that series by hosts do not have."""

OTHER_FLOWS: Labels = (("src_ip", "other"), ("dst_ip", "other"))

INTERFACE_COUNTERS = tuple(DESCRIBED)[7:]
"""Bytes and packets of each member of series.Counted."""


class FlowMetrics:
    """State of all flow series between ticks."""

    described = DESCRIBED

    def __init__(self, options: MetricsOptions) -> None:
        self._most = options.max_series
        self._series_by = options.series_by
        self._rename = RENAMES.get(options.series_by)
        self._owners = OwnerKeys() if options.series_by == "owner" else None
        self._has_gauges = options.flow_gauges
        self._drained: tuple[int, int, int] | None = None
        """of the last snapshot: flows, grace period (ns), drain (ns)"""
        self._attached: tuple[int, int] | None = None
        """in the last snapshot: interfaces attached, and selected but not attached"""
        self._groups: dict[Where, Group] = {}
        self._tick = 0

    def state(self) -> tuple[int, int]:
        """Return the number of flows with series and of flows whose counters are remembered."""
        groups = self._groups.values()
        return sum(len(group.places) for group in groups), sum(len(group.remembered) for group in groups)

    def own(self, setup: FlowSetup | None) -> Values:
        """Return the state of the hooks, use of the flow table, duration of the drain, and numbers of series."""
        names = ("xtrace_catch_push_flow_series", "xtrace_catch_push_flow_series_remembered")
        values: dict[str, int | float] = dict(zip(names, self.state(), strict=True))
        if self._attached is not None:
            attached = ("xtrace_catch_interfaces_attached", "xtrace_catch_interfaces_unattached")
            values.update(zip(attached, self._attached, strict=True))
        if setup is not None and self._drained is not None:
            flows, grace_ns, drain_ns = self._drained
            values |= {
                "xtrace_catch_flow_table_flows": flows,
                "xtrace_catch_flow_table_capacity": setup.max_flows,
                "xtrace_catch_grace_period_seconds": grace_ns / 1e9,
                "xtrace_catch_drain_seconds": drain_ns / 1e9,
            }
        return values

    def samples(self, snapshot: FlowSnapshot) -> list[Sample]:
        """Count one interval; return samples of what changed."""
        self._tick += 1
        self._drained = len(snapshot.flows), snapshot.grace_ns, snapshot.drain_ns
        self._attached = snapshot.attached, sum(absent.is_wanted for absent in snapshot.unattached)
        now_ns = snapshot.end_ns - snapshot.wall_offset_ns
        for group in self._groups.values():
            group.begin(now_ns, snapshot.interval_ns)
        members: dict[Where, list[Interface]] = {}
        for interface, counts in snapshot.interfaces:
            where = self._where(interface)
            members.setdefault(where, []).append(interface)
            self._group(where, now_ns).count(counts)
        self._choose(snapshot, members)
        samples: list[Sample] = []
        for where, group in self._groups.items():
            group.settle()
            samples += self._flow_samples(group)
            if where in members:
                samples += self._interface_samples(group)
        return samples

    def _choose(self, snapshot: FlowSnapshot, members: dict[Where, list[Interface]]) -> None:
        """Add to flows that have series, then admit others."""
        table = self._series_table(snapshot)
        known: dict[bytes, Series] = {}
        for where, interfaces in members.items():
            for interface in interfaces:
                known.update(self._groups[where].keys(interface.slot))
        holders = list(map(known.get, table.packed_keys())) if known else [None] * len(table)
        packets, size = table.packet_counts, table.byte_counts
        for index, series in enumerate(holders):
            if series is not None:
                series.gained_packets += packets[index]
                series.gained_bytes += size[index]
        for where, interfaces in members.items():
            indexes = [table.indexes(interface.slot, interface.direction) for interface in interfaces]
            joined = indexes[0] if len(indexes) == 1 else [index for part in indexes for index in part]
            self._groups[where].choose(table, joined, holders)

    def _series_table(self, snapshot: FlowSnapshot) -> FlowTable:
        """Return the flows as series have them: added up by what shares one."""
        flows = snapshot.flows
        if self._owners:
            rows, key = flows.owner_rows().rows, self._owners.key
            names = (key(snapshot.owner_named(row.owner), row.slot, row.egress) for row in rows)
            return grouped(names, (row.packets for row in rows), (row.bytes for row in rows))
        if self._rename:
            return grouped(map(self._rename, flows.packed_keys()), flows.packet_counts, flows.byte_counts)
        return flows

    def _labels(self, key: bytes) -> Iterable[tuple[str, str]]:
        return self._owners.labels(key) if self._owners else series_labels(FlowKey(*KEY.unpack(key)), self._series_by)

    def _where(self, interface: Interface) -> Where:
        """Return the group of an interface; beyond MOST_TOTALS all share the name `other`."""
        where = (interface.name, interface.direction)
        if where not in self._groups and len(self._groups) >= MOST_TOTALS:
            return ("other", interface.direction)
        return where

    def _group(self, where: Where, now_ns: int) -> Group:
        group = self._groups.get(where)
        if group is None:
            own: Labels = (("interface", where[0]), ("direction", where[1]))
            group = self._groups[where] = Group(
                most=self._most,
                other=Series((*(OTHER_OWNERS if self._owners else OTHER_FLOWS), *own)),
                labels=own,
                labels_of=lambda key: (*self._labels(key), *own),
            )
            group.begin(now_ns, 0)
        return group

    def _flow_samples(self, group: Group) -> list[Sample]:
        """Return samples of flows with traffic, one 0 of the gauges of flows that stopped, and the ends of series."""
        tick, last = self._tick, self._tick - 1
        new, stays = tuple.__new__, Life.STAYS  # Sample() takes twice the time, which matters with many flows
        gauges, samples = self._has_gauges, []
        for series in (*group.places.values(), group.other):
            if series.gained_packets:
                before = None if series.written == last else _before(series, BYTES, PACKETS)
                series.written = tick
                values = {BYTES: series.bytes, PACKETS: series.packets}
                if gauges:
                    values[FLOW_BYTES], values[FLOW_PACKETS] = series.gained_bytes, series.gained_packets
                samples.append(new(Sample, (series.labels, values, before, stays)))
            elif gauges and series.written == last:
                samples.append(Sample(series.labels, IDLE, life=stays))
        samples += [
            Sample(series.labels, IDLE if gauges and series.written == last else {}, life=Life.ENDS)
            for series in group.ended
            if not group.holds(series.labels)  # another key with the same labels may continue the series
        ]
        return samples

    def _interface_samples(self, group: Group) -> Iterator[Sample]:
        """Return samples of the hook's and the NIC's counters."""
        last = self._tick - 1
        before = None if group.written == last else _interface_values(group.before)
        group.written = self._tick
        yield Sample(group.labels, _interface_values(group.counted), before)
        if group.nic_is_known:
            nic = group.nic
            before = None if nic.written == last else _before(nic, NIC_BYTES, NIC_PACKETS)
            nic.written = self._tick
            yield Sample(nic.labels, {NIC_BYTES: nic.bytes, NIC_PACKETS: nic.packets}, before)
        if group.queue_is_known:
            queue = group.queue
            before = None if queue.written == last else {QDISC_DROPS: queue.packets - queue.gained_packets}
            queue.written = self._tick
            yield Sample(queue.labels, {QDISC_DROPS: queue.packets}, before)


def _before(series: Series, size: str, packets: str) -> Values:
    """Return a series' counters at the start of the interval."""
    return {size: series.bytes - series.gained_bytes, packets: series.packets - series.gained_packets}


def _interface_values(counted: Counted) -> Values:
    values = (value for count in counted for value in (count.bytes, count.packets))
    return dict(zip(INTERFACE_COUNTERS, values, strict=True))


def series_labels(key: FlowKey, series_by: str) -> Iterator[tuple[str, str]]:
    """Yield the labels of a series: those of a flow, without ports and queue pairs in series by hosts."""
    return (label for label in flow_labels(key) if series_by != "hosts" or label[0] not in OF_CONNECTIONS)


def flow_labels(key: FlowKey) -> Iterator[tuple[str, str]]:
    """Yield a flow's labels without its interface; values as in its JSON record."""
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
        if key.source_qpn is not None:
            yield "src_qpn", str(key.source_qpn)
        yield "dst_qpn", str(key.dst_qpn)
        yield "opcode", str(key.opcode)
    elif traffic_type == "ICMP" and not key.flags & LATER_FRAGMENT:
        yield "icmp_type", str(key.src_port)
        yield "icmp_code", str(key.dst_port)
    if key.vlan:
        yield "vlan", str(key.vlan)
    if key.inner_vlan:
        yield "inner_vlan", str(key.inner_vlan)
    if key.tunnel:
        yield "tunnel", key.tunnel
    if key.vni is not None:
        yield "vni", str(key.vni)
    if key.flags & FRAGMENT:
        yield "fragment", "later" if key.flags & LATER_FRAGMENT else "first"
