"""The ends of TCP sockets, kept by a program at the kernel's tracepoints until they are read.

An end is written once and never changed, so that reading and deleting a live map loses none: there is one buffer.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

from xtrace.kernel import abi, constants, privileges, tracepoint
from xtrace.kernel.bpf import BATCH_MARGIN, Batch
from xtrace.kernel.collection import Collection
from xtrace.kernel.elf import MapSpec
from xtrace.kernel.objects import load_object
from xtrace.kernel.syscall import ffi, lib
from xtrace.model.tcp import END_KEY, SAMPLE, Sample
from xtrace.monitors.tcp.offsets import find_offsets

OBJECT = "tcp_probe.o"
PROGRAMS = {"tcp_ends": "tcp_destroy_sock", "tcp_changes_state": "inet_sock_set_state"}
"""Program -> its tracepoint."""

ENDS_PER_S = 4096
"""Ends per second of the interval that there is room for."""
FEWEST_ENDS, MOST_ENDS = lib.TCP_MAX_ENDS, 4 * lib.TCP_MAX_ENDS


class End(NamedTuple):
    """A socket's end."""

    at_ns: int
    """CLOCK_MONOTONIC"""
    socket: int
    """address of the socket, which later ones may have too"""
    sample: Sample


class EndProbe:
    """Sees every TCP socket of the namespaces given to follow() end, from its creation on."""

    def __init__(self, interval_s: float) -> None:
        """Raises XtraceError: no type information, a privilege missing, a program refused."""
        offsets = find_offsets()
        privileges.raise_memlock_limit()
        self.room = min(max(int(ENDS_PER_S * interval_s), FEWEST_ENDS), MOST_ENDS)
        self._batch = Batch(END_KEY.size, SAMPLE.size, self.room + BATCH_MARGIN)
        self._lost = 0
        with ExitStack() as opening:
            self._collection = opening.enter_context(Collection(load_object(OBJECT), self._resize))
            for name, point in PROGRAMS.items():
                with self._collection.load(name, offsets, prog_type=constants.PROG_TYPE_RAW_TRACEPOINT) as program:
                    opening.enter_context(tracepoint.attach_raw(program, point))
            self._owned = opening.pop_all()

    def _resize(self, spec: MapSpec) -> MapSpec:
        return replace(spec, max_entries=self.room) if spec.name == "ends" else spec

    def follow(self, netns: int) -> None:
        """Keep the ends of sockets in a namespace (its inode number), too."""
        self._collection.maps["namespaces"].update(abi.U32.pack(netns), abi.U32.pack(1))

    def forget(self, netns: int) -> None:
        """Keep those of a namespace no longer."""
        self._collection.maps["namespaces"].delete(abi.U32.pack(netns))

    def drain(self) -> list[End]:
        """Return what ended since the last call, in the order of time."""
        self._batch.count = 0
        self._collection.maps["ends"].drain_into(self._batch)
        keys, values = ffi.buffer(self._batch.keys), memoryview(ffi.buffer(self._batch.values))
        ends = []
        for index in range(self._batch.count):
            socket, at_ns = END_KEY.unpack_from(keys, index * END_KEY.size)
            ends.append(End(at_ns, socket, Sample.unpack(values, index * SAMPLE.size)))
        ends.sort(key=lambda end: end.at_ns)
        return ends

    def lost(self) -> int:
        """Return how many ends found no room since the last call."""
        (total,) = abi.U64.unpack(self._collection.maps["lost"].lookup(abi.U32.pack(0)) or bytes(8))
        before, self._lost = self._lost, total
        return int(total - before)

    def memory(self) -> int:
        """Bytes of kernel memory charged to the maps."""
        return self._collection.memory()

    def close(self) -> None:
        """Detach, and release everything."""
        self._owned.close()
