"""Flow records as JSON Lines, rendered in C (csrc/render.c) directly from the drained buffers."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import Any

import orjson

from xtrace.kernel.syscall import ffi, lib
from xtrace.model.flow import TRAFFIC_TYPES, TUNNELS, FlowSnapshot, Interface, Origin
from xtrace.model.flow_owners import UNKNOWN_OWNER, FlowOwner
from xtrace.model.roce import opcode_name
from xtrace.sinks.render import tcp_flag_names, valid_unicode

ROOM = 1 << 16
"""Bytes rendered at once, not counting the fields that are the same in all lines."""
NO_QPN = -1


@cache
def _names() -> tuple[Any, list[Any]]:
    """Return struct xt_names and the strings it points to."""
    values = {
        "traffic_types": TRAFFIC_TYPES,
        "tunnels": TUNNELS,
        "opcodes": [opcode_name(opcode) for opcode in range(256)],
        "tcp_flags": [tcp_flag_names(flags) for flags in range(256)],
    }
    strings = {field: [ffi.new("char[]", name.encode()) for name in names] for field, names in values.items()}
    return ffi.new("struct xt_names *", strings), list(strings.values())


class FlowLines:
    """Renders the chosen flows of one interface, each as a line that begins with the fields of `common`.

    `chosen` are indexes into the snapshot's table, which must not change until all lines are rendered.
    """

    def __init__(
        self, snapshot: FlowSnapshot, interface: Interface, chosen: Sequence[int], common: dict[str, Any]
    ) -> None:
        self._snapshot = snapshot
        self._interface = interface
        table = snapshot.flows
        before = ffi.from_buffer(orjson.dumps({"type": "flow", **common})[:-1])
        indexes = ffi.NULL if chosen == range(len(table)) else ffi.from_buffer("__u32[]", array("I", chosen))
        units = ffi.new("char[]", interface.units.encode())
        self._kept = before, indexes, units  # pointers in cffi structs do not keep their targets alive
        self._out = ffi.new("char[]", ROOM + len(before))
        self._lines = ffi.new(
            "struct xt_flow_lines *",
            {
                "entries": ffi.from_buffer("struct flow_entry[]", table.entries),
                "chosen": indexes,
                "count": len(chosen),
                "names": _names()[0],
                "before": {"start": before, "length": len(before)},
                "units": units,
                "tick": snapshot.clock.tick,
                "tick_at": snapshot.clock.monotonic_ns,
                "tick_ns": snapshot.clock.tick_ns,
                "wall_offset": snapshot.wall_offset_ns,
                "start": snapshot.start_monotonic_ns,
                "end": snapshot.end_ns - snapshot.wall_offset_ns,
                "needs_origin": snapshot.find_origin is not None,
                "owners": ffi.from_buffer("struct flow_owner[]", table.owners) if snapshot.name_owner else ffi.NULL,
                "out": self._out,
                "room": len(self._out),
            },
        )

    def __iter__(self) -> Iterator[bytes]:
        """Yield whole lines, some at a time."""
        lines = self._lines
        while (result := lib.xt_flow_lines(lines)) != lib.XT_LINES_DONE or lines.used:
            if result == lib.XT_LINES_NEED_ORIGIN:
                self._set_origin()
                continue
            if result == lib.XT_LINES_NEED_OWNER:
                self._set_owner()
                continue
            yield ffi.buffer(self._out, lines.used)[:]
            lines.used = 0

    def _set_origin(self) -> None:
        """Look up the origin of the next flow, a RoCE flow."""
        lines = self._lines
        index = lines.chosen[lines.next] if lines.chosen else lines.next
        origin = self._snapshot.origin(self._interface, self._snapshot.flows[index].key)
        process = _process(origin)
        self._process = ffi.from_buffer(process)
        lines.src_qpn = NO_QPN if origin.src_qpn is None else origin.src_qpn
        lines.process.start, lines.process.length = self._process, len(process)
        lines.has_origin = 1

    def _set_owner(self) -> None:
        """Name the owner of the next flow."""
        lines = self._lines
        index = lines.chosen[lines.next] if lines.chosen else lines.next
        fields = owner_fields(self._snapshot.owner(index) or UNKNOWN_OWNER)
        self._owner = ffi.from_buffer(fields)
        lines.owner_fields.start, lines.owner_fields.length = self._owner, len(fields)


MOST_OWNERS = 1 << 14


def owner_record(owner: FlowOwner) -> dict[str, Any]:
    """Return the fields of an owner, those that are known."""
    fields = {
        "owner": owner.how,
        "pid": owner.pid,
        "command": owner.command,
        "uid": owner.uid,
        "cgroup": None if owner.cgroup is None else valid_unicode(owner.cgroup),
        "container": owner.container,
        "container_name": owner.container_name,
        "pod": owner.pod,
        "pod_name": owner.pod_name,
        "unit": None if owner.unit is None else valid_unicode(owner.unit),
    }
    return {name: value for name, value in fields.items() if value is not None}


@lru_cache(MOST_OWNERS)
def owner_fields(owner: FlowOwner) -> bytes:
    """Return the same with a leading comma."""
    return b"," + orjson.dumps(owner_record(owner))[1:-1]


def _process(origin: Origin) -> bytes:
    """Return the fields of this host's process with a leading comma; empty if it is unknown."""
    if origin.pid is None:
        return b""
    command = valid_unicode(origin.command or "")
    return b"," + orjson.dumps({"pid": origin.pid, "command": command, "container": origin.container})[1:-1]
