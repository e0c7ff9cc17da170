"""The program that follows TCP connections by their packets (csrc/tcp_packets.c), and its maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

from xtrace.kernel import abi, constants
from xtrace.kernel.bpf import BATCH_MARGIN, Batch, Map, Program
from xtrace.kernel.collection import Collection
from xtrace.kernel.elf import MapSpec
from xtrace.kernel.objects import load_object
from xtrace.kernel.syscall import ffi
from xtrace.model.flow import signed
from xtrace.model.tcp_path import LAST_WORD, VALUE_WORDS, Missed, RawPath

OBJECT = "tcp_packets.o"
PROGRAM = "follow_tcp"
AT_ONCE = 4096
"""Connections that are read at once, with the hash buckets that they end in: what is known of them takes memory."""
SHARED = ("networks", "excluded_networks", "ports", "datagrams")
"""Maps of the filters."""


class TcpFollower:
    """Follows the connections at all places where a packet program is loaded from now on."""

    def __init__(self, tables: Mapping[str, Map], slots: int, most: int, *, typed: bool) -> None:
        """`tables`: the maps of the packet programs; `most`: connections there is room for; `typed`: with BTF.

        Raises XtraceError if the kernel refuses the program, rather than when it is to be attached.
        """
        self.most = most
        self._slots = slots
        with ExitStack() as opening:
            shared = {name: tables[name] for name in SHARED}
            made = Collection(load_object(OBJECT), self._resize, typed=typed, shared=shared)
            self._collection = opening.enter_context(made)
            made.load(PROGRAM, {"reads_plain": True}, prog_type=constants.PROG_TYPE_SCHED_CLS).close()
            self._owned = opening.pop_all()
        maps = self._collection.maps
        self._paths, self._missed, self._counting = maps["tcp_paths"], maps["tcp_missed"], maps["counting_programs"]
        spec = self._paths.spec
        self._batch = Batch(spec.key_size, spec.value_size, min(most, AT_ONCE) + BATCH_MARGIN)

    def _resize(self, spec: MapSpec) -> MapSpec:
        entries = {"tcp_paths": self.most, "tcp_missed": 2 * self._slots, "counting_programs": 2 * self._slots}
        return spec._replace(max_entries=entries.get(spec.name, spec.max_entries))

    def load(self, place: int, counting: Program, values: Mapping[str, int]) -> Program:
        """Load the program for a place, slot * 2 + egress; it calls `counting` in the end, and keeps it loaded.

        `values`: the constants of the packet program.
        """
        program = self._collection.load(PROGRAM, values, prog_type=constants.PROG_TYPE_SCHED_CLS)
        try:
            self._counting.update(abi.U32.pack(place), abi.U32.pack(counting.fileno()))
        except BaseException:
            program.close()
            raise
        return program

    def read(self) -> Iterator[tuple[memoryview, memoryview, list[int]]]:
        """Yield keys and values, until the next, and the ticks of the last packets, one for each connection."""
        batch = self._batch
        for _ in self._paths.batches(batch, constants.MAP_LOCK):
            keys, values = memoryview(ffi.buffer(batch.keys)), memoryview(ffi.buffer(batch.values))
            used = values[: batch.count * batch.value_size]
            yield keys, used, used.cast("I")[LAST_WORD::VALUE_WORDS].tolist()

    def missed(self) -> list[Missed]:
        """What is of no connection, by place: slot * 2 + egress."""
        return [Missed.of(self._missed.lookup(abi.U32.pack(place)) or b"") for place in range(2 * self._slots)]

    def forget(self, key: bytes, last: int) -> bool:
        """Forget a connection unless a packet came after the tick `last`; return whether it is forgotten."""
        value = self._paths.lookup(key)
        if value is not None and signed(RawPath.unpack(value).last - last) > 0:
            return False
        self._paths.delete(key)
        return True

    def memory(self) -> int:
        """Bytes of kernel memory charged to the maps."""
        return self._collection.memory()

    def close(self) -> None:
        """Release everything."""
        self._owned.close()

    def __enter__(self) -> TcpFollower:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
