"""JSON Lines: one object per line; names and types are docs/output.schema.json."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import orjson

from xtrace.model.flow import TRAFFIC_TYPES, FlowSnapshot, Interface, InterfaceCounts, PacketCount, Selection, select
from xtrace.model.nccl import NcclSnapshot
from xtrace.model.rdma import RdmaSnapshot
from xtrace.model.snapshot import Snapshot
from xtrace.sinks import FlowSetup, Run, Totals
from xtrace.sinks.identity import Identity
from xtrace.sinks.jsonl.flows import FlowLines
from xtrace.sinks.jsonl.nccl import nccl_records, nccl_setup
from xtrace.sinks.jsonl.rdma import rdma_records
from xtrace.sinks.render import timestamp, valid_unicode
from xtrace.sinks.stream import OutputBlocked, OutputStream

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
            self._write_all(self._flow_lines(snapshot))
        elif isinstance(snapshot, RdmaSnapshot):
            self._write_all(rendered(rdma_records(snapshot, self._identity)))
        elif isinstance(snapshot, NcclSnapshot):
            self._write_all(rendered(nccl_records(snapshot, self._identity)))

    def _write_all(self, lines: Iterator[bytes]) -> None:
        try:
            for some in lines:
                self._stream.write(some)
        except OutputBlocked as blocked:
            raise OutputBlocked(blocked.lost + sum(some.count(b"\n") for some in lines)) from None

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

    def _flow_lines(self, snapshot: FlowSnapshot) -> Iterator[bytes]:
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
            yield from FlowLines(snapshot, interface, selection.chosen, common)
            yield from rendered(summary_records(interface, counts, selection, common))


def rendered(records: Iterator[Record]) -> Iterator[bytes]:
    """Each record as a line, some lines at a time."""
    while some := list(islice(records, LINES_AT_ONCE)):
        yield b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in some)


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


def summary_records(
    interface: Interface, counts: InterfaceCounts, selection: Selection, common: Record
) -> Iterator[Record]:
    """What follows an interface's flows: what those add up to that --top left out, and its counts."""
    if selection.other_flows:
        packets, size = selection.other
        yield {"type": "other", **common, "flows": selection.other_flows, "packets": packets, "bytes": size}
    yield interface_record(interface, counts, selection.flows, common)


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
