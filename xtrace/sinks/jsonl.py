"""JSON Lines: one object per line; names and types are docs/output.schema.json."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import orjson

from xtrace.flow import (
    FRAGMENT,
    LATER_FRAGMENT,
    TRAFFIC_TYPES,
    FlowKey,
    FlowRecord,
    FlowSnapshot,
    Interface,
    InterfaceCounts,
    Origin,
    PacketCount,
    select,
)
from xtrace.nccl import NcclSnapshot
from xtrace.rdma import RdmaSnapshot
from xtrace.roce import opcode_name
from xtrace.sinks import FlowSetup, Run, Totals
from xtrace.sinks.identity import Identity
from xtrace.sinks.nccl_json import nccl_records, nccl_setup
from xtrace.sinks.rdma_json import rdma_records
from xtrace.sinks.render import address, tcp_flag_names, timestamp, valid_unicode
from xtrace.sinks.stream import OutputBlocked, OutputStream
from xtrace.snapshot import Snapshot

SCHEMA = 1
LINES_AT_ONCE = 100
"""Records rendered before they are written. orjson leaves some 15 KB behind each line that is kept: few is less."""

Record = dict[str, Any]


class JsonLines:
    """Writes every record of a run to a stream."""

    def __init__(self, stream: OutputStream, identity: Identity, top: int = 0) -> None:
        self._stream = stream
        self._identity = identity.record()
        self._top = top

    def start(self, run: Run) -> None:
        """The `start` record."""
        record: Record = {
            "type": "start",
            "ts": timestamp(time.time_ns()),
            "schema": SCHEMA,
            **self._identity,
            "version": run.version,
            "interval_s": run.interval_s,
            "modes": list(run.modes),
        }
        if run.flows is not None:
            record |= _flow_setup(run.flows)
        if run.nccl is not None:
            record["nccl"] = nccl_setup(run.nccl)
        self._write(record)

    def write(self, snapshot: Snapshot) -> None:
        """All records of one interval."""
        if isinstance(snapshot, FlowSnapshot):
            self._write_all(self._flow_records(snapshot))
        elif isinstance(snapshot, RdmaSnapshot):
            self._write_all(rdma_records(snapshot, self._identity))
        elif isinstance(snapshot, NcclSnapshot):
            self._write_all(nccl_records(snapshot, self._identity))

    def _write_all(self, records: Iterator[Record]) -> None:
        try:
            while lines := [
                orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in islice(records, LINES_AT_ONCE)
            ]:
                self._stream.write(b"".join(lines))
        except OutputBlocked as blocked:
            raise OutputBlocked(blocked.lost + sum(1 for _ in records)) from None

    def flush(self) -> None:
        """Nothing: records are written as they come."""

    def end(self, totals: Totals) -> None:
        """The `end` record."""
        interfaces = []
        for where, total in totals.total.items():
            counts = _loss_fields(total, totals.unattributed[where], totals.filtered[where])
            interfaces.append({"interface": valid_unicode(where[0]), "direction": where[1], **counts})
        record: Record = {
            "type": "end",
            "ts": timestamp(time.time_ns()),
            **self._identity,
            "intervals": totals.intervals,
            "interfaces": interfaces,
        }
        if totals.nccl is not None:
            record["nccl"] = {"calls": totals.nccl.calls, "unattributed_calls": totals.nccl.unattributed}
        self._write(record)

    def _write(self, record: Record) -> None:
        self._stream.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))

    def _flow_records(self, snapshot: FlowSnapshot) -> Iterator[Record]:
        """Per interface its flows, what is left of them, its counts."""
        for interface, counts in snapshot.interfaces:
            common = {
                "ts": timestamp(snapshot.end_ns),
                "interval_s": round((counts.interval_ns or snapshot.interval_ns) / 1e9, 3),
                **self._identity,
                "interface": valid_unicode(interface.name),
                "direction": interface.direction,
            }
            selection = select(snapshot, interface, self._top)
            template, times = flow_template(interface, common), Times(snapshot)
            for flow in selection.shown:
                record = flow_record(flow, template, times)
                if flow.key.is_roce:
                    add_roce(record, flow.key, snapshot.origin(interface, flow.key))
                yield record
            if selection.other_flows:
                packets, size = selection.other
                yield {
                    "type": "other",
                    **common,
                    "flows": selection.other_flows,
                    "packets": packets,
                    "bytes": size,
                }
            yield interface_record(interface, counts, selection.flows, common)


def _flow_setup(setup: FlowSetup) -> Record:
    hooks = [
        {"interface": valid_unicode(i.name), "direction": i.direction, "hook": i.hook, "xdp_mode": i.xdp_mode}
        for i in setup.interfaces
    ]
    return {
        "hooks": hooks,
        "features": list(setup.features),
        "filters": list(setup.filters),
        "max_flows": setup.max_flows,
        "map_memory_bytes": setup.map_memory,
    }


class Times(dict[int, str]):
    """Texts of a snapshot's record times. They are kernel ticks, so most records share theirs."""

    def __init__(self, snapshot: FlowSnapshot) -> None:
        super().__init__()
        self._snapshot = snapshot

    def __missing__(self, record_ns: int) -> str:
        text = self[record_ns] = timestamp(self._snapshot.wall_ns(record_ns))
        return text


def flow_template(interface: Interface, common: Record) -> Record:
    """What all flow records of an interface and interval share, in the order of the fields."""
    absent = ("src_ip", "src_port", "dst_ip", "dst_port", "protocol", "traffic_type", "packets", "bytes")
    return {"type": "flow", **common, **dict.fromkeys(absent), "units": interface.units}


def flow_record(flow: FlowRecord, template: Record, times: Times) -> Record:
    """One flow; fields that do not apply to its protocol are absent. Copying the template is what is fast here."""
    key, packets, size, first_ns, last_ns, _ = flow
    traffic_type = key.traffic_type
    record = template.copy()
    if key.has_addresses:
        record["src_ip"], record["dst_ip"] = address(key.src), address(key.dst)
    if key.is_ip:
        record["protocol"] = key.protocol
    else:
        record["ethertype"] = key.ethertype
    record["src_port"], record["dst_port"] = key.src_port, key.dst_port
    record["traffic_type"] = traffic_type
    record["packets"], record["bytes"] = packets, size
    record["first_seen"], record["last_seen"] = times[first_ns], times[last_ns]
    if traffic_type == "TCP":
        record["tcp_flags"] = tcp_flag_names(flow.tcp_flags)
    elif traffic_type == "ICMP":
        record["src_port"] = record["dst_port"] = 0
        if not key.flags & LATER_FRAGMENT:
            record["icmp_type"], record["icmp_code"] = key.src_port, key.dst_port
    if key.vlan_id:
        record["vlan"] = key.vlan_id
    if key.flags & FRAGMENT:
        record["fragment"] = True
    return record


def add_roce(record: Record, key: FlowKey, origin: Origin) -> None:
    """Queue pairs instead of ports; the source's, and the process, where they are known."""
    record["src_port"] = record["dst_port"] = 0
    record["src_qpn"] = origin.src_qpn
    record["dst_qpn"] = key.dst_qpn
    record["opcode"], record["opcode_name"] = key.opcode, opcode_name(key.opcode)
    if origin.pid is not None:
        record["pid"], record["command"] = origin.pid, valid_unicode(origin.command or "")
        record["container"] = origin.container


def interface_record(interface: Interface, counts: InterfaceCounts, flows: int, common: Record) -> Record:
    """One interface and direction; sum over its flows + unattributed + filtered == packets, bytes."""
    unattributed = [
        {"traffic_type": name, "packets": count.packets, "bytes": count.bytes}
        for name, count in zip(TRAFFIC_TYPES, counts.unattributed, strict=True)
        if count.packets
    ]
    return {
        "type": "interface",
        **common,
        **_loss_fields(counts.total, counts.unattributed_total, counts.filtered),
        "flows": flows,
        "unattributed": unattributed,
        "units": interface.units,
        "nic_packets": counts.nic.packets if counts.nic else None,
        "nic_bytes": counts.nic.bytes if counts.nic else None,
        "hook": interface.hook,
        "xdp_mode": interface.xdp_mode,
    }


def _loss_fields(total: PacketCount, unattributed: PacketCount, filtered: PacketCount) -> Record:
    return {
        "packets": total.packets,
        "bytes": total.bytes,
        "unattributed_packets": unattributed.packets,
        "unattributed_bytes": unattributed.bytes,
        "filtered_packets": filtered.packets,
        "filtered_bytes": filtered.bytes,
    }
