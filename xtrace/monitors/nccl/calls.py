"""The two call tables and the probes that fill them.

The promise is that of the flow tables (monitors/flows/tables.py): every call in exactly one interval.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

from xtrace.errors import KernelError, PrivilegeError, VerifierError
from xtrace.kernel import abi, constants, uprobe
from xtrace.kernel.bpf import BATCH_MARGIN, Batch, Fd, Program
from xtrace.kernel.collection import Collection
from xtrace.kernel.elf import MapSpec
from xtrace.kernel.objects import load_object
from xtrace.kernel.syscall import ffi, lib
from xtrace.model.nccl import (
    CALL,
    COMMUNICATOR_KEY,
    COUNTERS,
    FILE,
    FRAME,
    KEY,
    OWNER,
    PEER,
    PEER_KEY,
    TOTALS,
    CallKey,
    CallTotals,
    Counters,
    Frame,
    PeerCalls,
    Running,
    State,
)
from xtrace.monitors.buffers import Ended, Switch, Table

log = logging.getLogger(__name__)

OBJECT = "nccl_probe.o"
BEGIN, RETURN = "call_begins", "call_returns"
FUNCTION_BITS = 8
"""The low bits of a probe's cookie; the file's number is above them."""

RUNNING_PER_CPU = 512
"""Capacity for calls in progress: an LRU map may reserve up to 128 free entries per CPU."""
LEAST_RUNNING = 16384

SHARES = 32
"""A user has this part of a table for itself once everybody's keys are taken ..."""
RESERVED = 8
"""... and so many users do; so the table is larger by that."""


class Known(NamedTuple):
    """What calls revealed about a communicator."""

    nranks: int | None
    rank: int | None
    device: int | None

    @classmethod
    def of(cls, state: State) -> Known:
        """The same with None for what is not known."""
        return cls(
            state.nranks or None,
            None if state.rank == lib.NCCL_NO_RANK else state.rank,
            None if state.device == lib.NCCL_NO_DEVICE else state.device,
        )


@dataclass(frozen=True)
class TakenCalls:
    """The drained counts of one interval."""

    end_monotonic_ns: int
    calls: Mapping[CallKey, Counters]
    totals: CallTotals


class CallTables:
    """Owns the maps that all probes share, and their programs."""

    def __init__(self, max_keys: int = lib.NCCL_MAX_KEYS) -> None:
        self.multi = uprobe.has_multi()
        """one link per file and end of the functions, instead of an event per place"""
        self.has_returns = uprobe.has_returns()
        """whether functions are probed where they return, too"""
        self.max_keys = max_keys
        self._programs: dict[str, Program] = {}
        self._user_share = max_keys // SHARES
        self._entries = max_keys + RESERVED * self._user_share
        self._batch = Batch(KEY.size, COUNTERS.size, self._entries + BATCH_MARGIN)
        self._owned_keys = Batch(OWNER.size, abi.U32.size, self._entries + BATCH_MARGIN)
        with ExitStack() as opening:
            self._collection = opening.enter_context(Collection(load_object(OBJECT), self._resize))
            self._maps = self._collection.maps
            self._tables: tuple[Table, Table] = self._maps["calls_a"], self._maps["calls_b"]
            self._owners: tuple[Table, Table] = self._maps["owners_a"], self._maps["owners_b"]
            self._switch = opening.enter_context(Switch(self._maps))
            self._owned = opening.pop_all()

    def _resize(self, spec: MapSpec) -> MapSpec:
        if spec.name in ("calls_a", "calls_b"):
            return spec._replace(max_entries=self._entries)
        if spec.name in ("owners_a", "owners_b"):
            return spec._replace(max_entries=2 * self._entries + 1)
        if spec.name in ("running", "bcasts"):
            return spec._replace(max_entries=max(LEAST_RUNNING, RUNNING_PER_CPU * (os.cpu_count() or 1)))
        return spec

    def close(self) -> None:
        """Release all maps and programs; probes belong to the callers of attach()."""
        self._owned.close()

    def __enter__(self) -> CallTables:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def memory(self) -> int:
        """Bytes of kernel memory charged to the maps, from fdinfo."""
        return self._collection.memory()

    def attach(self, path: str, offsets: Mapping[int, int], file_number: int) -> ExitStack:
        """Probe functions (enum nccl_function) at their file offsets; closing the result detaches.

        Return probes are attached first: every counted call then has its return seen. Calls are counted once all
        probes are attached, and until the first is detached.
        Raises KernelError, or PrivilegeError naming the missing capability.
        """
        with ExitStack() as probes:
            try:
                for name in (RETURN, BEGIN) if self.has_returns else (BEGIN,):
                    cookies = {file_number << FUNCTION_BITS | function: at for function, at in offsets.items()}
                    for probe in self._attach(name, path, cookies):
                        probes.push(probe)
                self._set_live(file_number, True)
                probes.callback(self._set_live, file_number, False)
            except KernelError as error:
                if error.errno in (errno.EPERM, errno.EACCES) and not isinstance(error, VerifierError):
                    needs = "uprobes need CAP_PERFMON, on some kernels CAP_SYS_ADMIN: run with sudo or grant them"
                    raise PrivilegeError(f"{error}: {needs}") from error
                raise
            return probes.pop_all()

    def _set_live(self, file_number: int, live: bool) -> None:
        self._maps["files"].update(abi.U32.pack(file_number), FILE.pack(0, live))

    def _attach(self, name: str, path: str, places: Mapping[int, int]) -> Iterator[Fd]:
        """Attach one program at file offsets, keyed by cookie: by one multi link, or an event and a load each."""
        at_return = name == RETURN
        if self.multi:
            program = self._program(name)
            yield uprobe.attach_multi(program, path, list(places.values()), list(places), at_return=at_return)
            return
        for cookie, offset in places.items():
            with self._load(name, cookie) as program:  # the event keeps it
                yield uprobe.attach_event(program, path, offset, at_return=at_return)

    def _program(self, name: str) -> Program:
        """The program that reads attach cookies, loaded once."""
        if name not in self._programs:
            self._programs[name] = self._owned.enter_context(self._load(name))
        return self._programs[name]

    def _load(self, name: str, cookie: int = 0) -> Program:
        values = {
            "is_arm64": platform.machine() == "aarch64",
            "has_returns": self.has_returns,
            "has_cookie": self.multi,
            "common_keys": self.max_keys,
            "user_share": self._user_share,
            "own_cookie": cookie,
        }
        attach_type = constants.ATTACH_TYPE_UPROBE_MULTI if self.multi else 0
        return self._collection.load(name, values, prog_type=constants.PROG_TYPE_KPROBE, attach_type=attach_type)

    def flip(self) -> Ended:
        """End the interval of the active buffer; collect() reads what it left.

        The last interval ends so as well: what is called while probes are being detached belongs to no interval.
        """
        return self._switch.flip()

    def collect(self, interval: Ended) -> TakenCalls:
        """Empty the buffers of an interval that has ended, before the next one ends."""
        calls: dict[CallKey, Counters] = {}
        totals = CallTotals()
        for buffer in interval.buffers:
            self._batch.count = 0
            self._tables[buffer].drain_into(self._batch)
            keys, values = ffi.buffer(self._batch.keys), memoryview(ffi.buffer(self._batch.values))
            for at in range(self._batch.count):
                key = CallKey(*KEY.unpack_from(keys, at * KEY.size))
                counters = Counters.unpack(values, at * COUNTERS.size)
                calls[key] = counters
            totals += self._take_totals(buffer)
            self._owned_keys.count = 0
            self._owners[buffer].drain_into(self._owned_keys)
        check_sum(calls, totals)
        return TakenCalls(interval.monotonic_ns, calls, totals)

    def _take_totals(self, buffer: int) -> CallTotals:
        index = abi.U32.pack(buffer)
        totals = CallTotals(*TOTALS.unpack(self._maps["totals"].lookup(index) or bytes(TOTALS.size)))
        self._maps["totals"].update(index, bytes(TOTALS.size))
        return totals

    def states(self) -> dict[tuple[int, int], State]:
        """The communicators known now, by process id and address."""
        found = {}
        for key, value in self._maps["communicators"].entries():
            address, pid = COMMUNICATOR_KEY.unpack(key)
            found[pid, address] = State.unpack(value)
        return found

    def take_departed(self) -> dict[tuple[int, int], State]:
        """Those with a name that were ended since this was last called, as they were then."""
        found = {}
        for key, value in self._maps["departed"].entries():
            address, pid = COMMUNICATOR_KEY.unpack(key)
            found[pid, address] = State.unpack(value)
            self._maps["departed"].delete(key)
        return found

    def last_begun(self) -> dict[int, int]:
        """When each process began its last collective, CLOCK_MONOTONIC."""
        found: dict[int, int] = {}
        for (pid, _), state in self.states().items():
            found[pid] = max(found.get(pid, 0), state.last_begin_ns)
        return found

    def running(self) -> dict[Frame, Running]:
        """The calls in progress; some of threads that were killed in a call are among them."""
        found = {}
        for key, value in self._maps["running"].entries():
            found[Frame(*FRAME.unpack(key))] = Running(*CALL.unpack(value))
        return found

    def forget_running(self, frame: Frame) -> None:
        """Remove a call whose thread is gone."""
        self._maps["running"].delete(FRAME.pack(*frame))

    def peers(self) -> dict[tuple[int, int], dict[int, PeerCalls]]:
        """Sends and receives by process id and communicator's address, then by the other rank."""
        found: dict[tuple[int, int], dict[int, PeerCalls]] = {}
        for key, value in self._maps["peers"].entries():
            address, pid, peer = PEER_KEY.unpack(key)
            found.setdefault((pid, address), {})[peer] = PeerCalls(*PEER.unpack(value))
        return found

    def forget_peers(self, pid: int, address: int, peers: Iterable[int]) -> None:
        """Remove the sends and receives on a communicator that ended."""
        for peer in peers:
            self._maps["peers"].delete(PEER_KEY.pack(address, pid, peer))

    def recount_communicators(self) -> None:
        """Count each user's communicators anew, if one has many: an LRU map evicts some without counting that."""
        of_user = self._maps["communicators_of"]
        numbers = list(of_user.entries())
        if all(abi.U32.unpack(number)[0] < lib.NCCL_USER_COMMUNICATORS // 2 for _, number in numbers):
            return
        counts = Counter(State.unpack(value).user for _, value in self._maps["communicators"].entries())
        for key, _ in numbers:
            of_user.update(key, abi.U32.pack(counts[abi.U32.unpack(key)[0]]))

    def last_called_ns(self, file_number: int) -> int:
        """CLOCK_MONOTONIC of the last call into a file, 0 before the first."""
        found = self._maps["files"].lookup(abi.U32.pack(file_number)) or bytes(FILE.size)
        return int(FILE.unpack(found)[0])

    def forget(self, pid: int, address: int) -> None:
        """Remove a communicator of an ended process: its pid and addresses may be reused."""
        self._maps["communicators"].delete(COMMUNICATOR_KEY.pack(address, pid))

    def forget_process(self, pid: int) -> None:
        """Remove all communicators of an ended process."""
        for owner, address in self.states():
            if owner == pid:
                self.forget(owner, address)


def check_sum(calls: Mapping[CallKey, Counters], totals: CallTotals) -> None:
    """Check the promise in every interval; log an error if the sums differ."""
    counted = sum(counters.calls for counters in calls.values())
    counted += totals.nested + totals.duplicate + totals.unattributed
    if counted != totals.entries:
        log.error("NCCL calls do not add up: %d missing", totals.entries - counted)
