"""The ends of TCP sockets, kept by a program at the kernel's tracepoints until they are read.

An end is written once and never changed, so that reading and deleting a live map loses none: there is one buffer.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from struct import Struct
from typing import NamedTuple

from xtrace.kernel import abi, constants, privileges, tracepoint
from xtrace.kernel.bpf import BATCH_MARGIN, Batch
from xtrace.kernel.collection import Collection
from xtrace.kernel.elf import MapSpec
from xtrace.kernel.objects import load_object
from xtrace.kernel.sock_diag import AF_INET6
from xtrace.kernel.syscall import ffi, lib
from xtrace.model.tcp import END, END_KEY, Closer, Sample, name_of
from xtrace.monitors.tcp.offsets import (
    COOKIE,
    FAMILY,
    LOCAL4,
    LOCAL6,
    LOCAL_PORT,
    REMOTE4,
    REMOTE6,
    REMOTE_PORT,
    find_layout,
)
from xtrace.printable import own_name

OBJECT = "tcp_probe.o"
PROGRAMS = {"tcp_ends": "tcp_destroy_sock", "tcp_changes_state": "inet_sock_set_state"}
"""Program -> its tracepoint."""

ENDS_PER_S = 4096
"""Ends per second of the interval that there is room for."""
FEWEST_ENDS, MOST_ENDS = lib.TCP_MAX_ENDS, 4 * lib.TCP_MAX_ENDS


LETTERS = {1: "B", 2: "H", 4: "I", 8: "Q"}
"""Sizes in bytes -> struct's letters."""
AS_BYTES = frozenset({LOCAL4, REMOTE4, LOCAL6, REMOTE6, LOCAL_PORT, REMOTE_PORT})
"""In network order."""
MAPPED = bytes(10) + b"\xff\xff"


class End(NamedTuple):
    """A socket's end."""

    at_ns: int
    """CLOCK_MONOTONIC"""
    socket: int
    """address of the socket, which later ones may have too"""
    sample: Sample
    closer: Closer | None = None


class Decoder:
    """Reads struct tcp_end: pieces of the kernel's own struct, in which the members of KEPT have these places."""

    def __init__(self, places: Mapping[int, tuple[int, int]]) -> None:
        """`places`: offset and size in bytes."""
        form, end = ["="], 0
        self._order = sorted(places, key=places.__getitem__)
        for number in self._order:
            offset, size = places[number]
            form.append(f"{offset - end}x{LETTERS.get(size, f'{size}s') if number not in AS_BYTES else f'{size}s'}")
            end = offset + size
        self._raw = Struct("".join(form))
        self._known = sum(1 << number for number in places if number >= 0)

    def sample(self, packed: memoryview, offset: int) -> Sample:
        """Return the sample of an end."""
        netns, event, state, error, congestion, _, _, raw = END.unpack_from(packed, offset)
        found = dict(zip(self._order, self._raw.unpack_from(raw), strict=True))
        is_ipv6 = found[FAMILY] == AF_INET6 and LOCAL6 in found and REMOTE6 in found
        values = [found.get(number, 0) for number in range(lib.TCP_VALUES)]
        # scaled as tcp_get_info() does (net/ipv4/tcp.c)
        values[lib.TCP_RTT] >>= 3
        values[lib.TCP_RTT_VARIANCE] >>= 2
        return Sample(
            found[LOCAL6] if is_ipv6 else MAPPED + found[LOCAL4],
            found[REMOTE6] if is_ipv6 else MAPPED + found[REMOTE4],
            int.from_bytes(found[LOCAL_PORT], "big"),
            int.from_bytes(found[REMOTE_PORT], "big"),
            netns,
            found.get(COOKIE, 0),
            self._known,
            tuple(values),
            name_of(congestion),
            event,
            state,
            error,
            0,
        )


def closer_of(packed: memoryview, offset: int) -> Closer | None:
    """Return who closed the connection of an end."""
    *_, pid, command, _ = END.unpack_from(packed, offset)
    return Closer(pid, own_name(command.split(b"\0", 1)[0])) if pid else None


def room_for(interval_s: float) -> int:
    """How many ends are kept until the interval is over."""
    return min(max(int(ENDS_PER_S * interval_s), FEWEST_ENDS), MOST_ENDS)


class EndProbe:
    """Sees every TCP socket of the namespaces given to follow() end, from its creation on."""

    sees_others = True
    """whether these may be other namespaces than the tool's own"""

    def __init__(self, interval_s: float) -> None:
        """Raises XtraceError: no type information, a privilege missing, a program refused."""
        layout = find_layout()
        self._decoder = Decoder(layout.places)
        privileges.raise_memlock_limit()
        self.room = room_for(interval_s)
        self._batch = Batch(END_KEY.size, END.size, self.room + BATCH_MARGIN)
        self._lost = 0
        with ExitStack() as opening:
            self._collection = opening.enter_context(Collection(load_object(OBJECT), self._resize))
            for name, point in PROGRAMS.items():
                with self._collection.load(
                    name, layout.constants, prog_type=constants.PROG_TYPE_RAW_TRACEPOINT
                ) as program:
                    opening.enter_context(tracepoint.attach_raw(program, point))
            self._owned = opening.pop_all()

    def _resize(self, spec: MapSpec) -> MapSpec:
        return spec._replace(max_entries=self.room) if spec.name == "ends" else spec

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
            at = index * END.size
            ends.append(End(at_ns, socket, self._decoder.sample(values, at), closer_of(values, at)))
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
