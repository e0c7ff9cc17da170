"""Lines of flows, rendered in C (csrc/render.c, csrc/words.c) directly from the drained buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from typing import Any, NamedTuple

from xtrace.kernel.syscall import ffi, lib
from xtrace.model.flow import TUNNELS, FlowSnapshot, FlowTable, Interface, Origin, Window
from xtrace.model.flow_owners import FlowOwner
from xtrace.model.roce import opcode_name
from xtrace.model.traffic_types import TRAFFIC_TYPES
from xtrace.sinks.render import tcp_flag_names

ROOM = 1 << 16
"""Bytes rendered at once, not counting the texts that are the same in all lines."""
NO_QPN = -1


class Form(NamedTuple):
    """What lines are made of besides the flow itself."""

    texts: Mapping[str, bytes]
    """the same in all lines, by field of struct xt_flow_lines"""
    process: Callable[[Origin], bytes]
    """what is said of this host's process of a RoCE flow; nothing if it is unknown"""
    owner: Callable[[FlowOwner], bytes]
    """what is said of an owner; never nothing"""
    in_words: bool = False
    """instead of JSON"""


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
    """Renders the chosen flows of one interface.

    `chosen` are indexes into the snapshot's table, which must not change until all lines are rendered.
    """

    def __init__(self, snapshot: FlowSnapshot, interface: Interface, chosen: Sequence[int], form: Form) -> None:
        self._snapshot = snapshot
        self._interface = interface
        self._form = form
        self._table, chosen = snapshot.flows.in_order(chosen)
        # pointers in cffi structs do not keep their targets alive
        self._texts = {field: ffi.from_buffer(text) for field, text in form.texts.items()}
        self._chosen = self._table.chosen(chosen)
        self._out = ffi.new("char[]", ROOM + sum(map(len, form.texts.values())))
        self._lines = ffi.new(
            "struct xt_flow_lines *",
            {
                "chosen": self._chosen,
                "count": len(chosen),
                "names": _names()[0],
                "in_words": form.in_words,
                **{field: {"start": text, "length": len(text)} for field, text in self._texts.items()},
                "tick": snapshot.clock.tick,
                "tick_at": snapshot.clock.monotonic_ns,
                "tick_ns": snapshot.clock.tick_ns,
                "wall_offset": snapshot.wall_offset_ns,
                "start": snapshot.start_monotonic_ns,
                "end": snapshot.end_ns - snapshot.wall_offset_ns,
                "needs_origin": snapshot.find_origin is not None,
                "out": self._out,
                "room": len(self._out),
            },
        )

    def __iter__(self) -> Iterator[bytes]:
        """Yield whole lines, some at a time."""
        lines = self._lines
        with ExitStack() as opened:
            while (result := lib.xt_flow_lines(lines)) != lib.XT_LINES_DONE or lines.used:
                if result == lib.XT_LINES_NEED_ENTRIES:
                    opened.close()
                    self._set_window(opened.enter_context(self._table.window(self._next)))
                elif result == lib.XT_LINES_NEED_ORIGIN:
                    self._set_origin()
                elif result == lib.XT_LINES_NEED_OWNER:
                    self._set_owner()
                else:
                    yield ffi.buffer(self._out, lines.used)[:]
                    lines.used = 0

    @property
    def _next(self) -> int:
        """The index of the flow that is the next."""
        lines = self._lines
        return int(lines.chosen[lines.next] if lines.chosen else lines.next)

    def _set_window(self, window: Window) -> None:
        """Have these flows at hand."""
        self._window, lines = window, self._lines
        lines.entries, lines.first, lines.at_hand = window.pieces()
        if self._snapshot.name_owner:
            lines.owners = ffi.from_buffer("struct flow_owner[]", window.owners)

    def _set_origin(self) -> None:
        """Look up the origin of the next flow, a RoCE flow."""
        lines = self._lines
        origin = self._snapshot.origin(self._interface, self._window.record(self._next).key)
        process = self._form.process(origin)
        self._process = ffi.from_buffer(process)
        lines.src_qpn = NO_QPN if origin.src_qpn is None else origin.src_qpn
        lines.process.start, lines.process.length = self._process, len(process)
        lines.has_origin = 1

    def _set_owner(self) -> None:
        """Name the owner of the next flow."""
        lines = self._lines
        fields = self._form.owner(self._snapshot.owner_named(bytes(ffi.buffer(ffi.addressof(lines, "owner")))))
        self._owner = ffi.from_buffer(fields)
        lines.owner_fields.start, lines.owner_fields.length = self._owner, len(fields)


def flow_details(table: FlowTable, index: int, *, has_message: bool) -> str:
    """Return what applies to one flow only, `frag vlan=7`; `has_message`: with type and code of ICMP."""
    out = ffi.new("char[]", lib.XT_LINE_LENGTH)
    flow = ffi.from_buffer("struct flow_entry[]", table.entries) + index
    length = lib.xt_flow_details(flow, _names()[0], has_message, out)
    return bytes(ffi.buffer(out, length)).decode().lstrip(" ")
