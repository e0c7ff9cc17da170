"""The call tables: what is drained and added up, with a played kernel; probes on the real one in tests/nccl."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.unit.fake_kernel import FakeHash, FakeKernel
from xtrace.errors import KernelError, PrivilegeError, VerifierError
from xtrace.kernel import uprobe
from xtrace.kernel.bpf import Fd
from xtrace.kernel.syscall import ffi, lib
from xtrace.model.nccl import (
    COMMUNICATOR,
    COMMUNICATOR_KEY,
    COUNTERS,
    FILE,
    KEY,
    OWNER,
    TOTALS,
    CallKey,
    CallTotals,
    Counters,
)
from xtrace.model.nccl_names import FUNCTIONS
from xtrace.monitors.nccl.calls import CallTables, Known

KEYS = 64
NO_MORE = (0,) * (len(COMMUNICATOR.unpack(bytes(COMMUNICATOR.size))) - 4)
REDUCE = CallKey(0x1000, 7, 8, 3, FUNCTIONS.index("AllReduce"), 7)
SEND = REDUCE._replace(function=FUNCTIONS.index("Send"))
FAIL = (0,) * len(Counters().results)


def counted(calls: int, elements: int = 0, returned: int = 0) -> Counters:
    return Counters(calls, elements, returned, command="python3")


def packed(counters: Counters) -> bytes:
    words = (*counters[:4], *counters.results, *counters.latency)
    return COUNTERS.pack(*words, counters.command.encode())


@dataclass
class Maps:
    """What the kernel's maps hold, and what is done to them."""

    calls: dict[int, dict[CallKey, Counters]] = field(default_factory=lambda: {0: {}, 1: {}})
    totals: dict[int, CallTotals] = field(default_factory=lambda: {0: CallTotals(), 1: CallTotals()})
    communicators: dict[tuple[int, int], tuple[int, int, int, int]] = field(default_factory=dict)
    users: dict[int, int] = field(default_factory=dict)
    last_called: dict[int, int] = field(default_factory=dict)
    drained: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    active: Any = field(default_factory=lambda: ffi.new("__u32 *", 0))
    names: dict[int, str] = field(default_factory=dict)

    def create(self, request: Any) -> int:
        name = ffi.string(request.map_name).decode()
        self.sizes.setdefault(name, request.max_entries)
        return 0

    def mmap(self, fd: int, offset: int, length: int, address: Any) -> int:
        address[0] = self.active
        return 0

    def store(self, address: Any, value: int) -> int:
        address[0] = value
        return 0

    def drain(self, fd: int, *arguments: Any) -> int:
        name = self.names[fd]
        self.drained.append(name)
        buffer = "ab".index(name[-1])
        entries = []
        if name.startswith("calls"):
            entries = [(KEY.pack(*key), packed(counters)) for key, counters in self.calls[buffer].items()]
            self.calls[buffer] = {}
        return FakeHash([entries]).drain(fd, *arguments)

    def lookup(self, fd: int, key: bytes, value: Any) -> int:
        (index,) = struct.unpack("=I", key)
        if self.names[fd] == "totals":
            ffi.memmove(value, TOTALS.pack(*self.totals[index]), TOTALS.size)
            return 0
        assert self.names[fd] == "files"
        if index not in self.last_called:
            return -errno.ENOENT
        ffi.memmove(value, FILE.pack(self.last_called[index], 1), FILE.size)
        return 0

    def update(self, fd: int, key: bytes, value: bytes, flags: int) -> int:
        name = self.names.get(fd)
        if name == "totals":
            (index,) = struct.unpack("=I", key)
            self.totals[index] = CallTotals(*TOTALS.unpack(value))
        if name == "communicators_of":
            self.users[struct.unpack("=I", key)[0]] = struct.unpack("=I", value)[0]
        return 0

    def entries(self, fd: int, in_batch: Any, out_batch: Any, keys: Any, values: Any, count: Any, flags: int) -> int:
        if self.names[fd] == "communicators":
            found = [
                (COMMUNICATOR_KEY.pack(address, pid), COMMUNICATOR.pack(*known, *NO_MORE))
                for (pid, address), known in self.communicators.items()
            ]
        else:
            found = [(struct.pack("=I", user), struct.pack("=I", number)) for user, number in self.users.items()]
        for target, column in ((keys, [key for key, _ in found]), (values, [value for _, value in found])):
            ffi.memmove(target, b"".join(column), sum(map(len, column)))
        count[0] = len(found)
        return -errno.ENOENT

    def delete(self, fd: int, key: bytes) -> int:
        address, pid = COMMUNICATOR_KEY.unpack(key)
        return 0 if self.communicators.pop((pid, address), None) else -errno.ENOENT


@pytest.fixture(params=[True, False], ids=["multi links", "events"])
def multi(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def maps(kernel: FakeKernel) -> Maps:
    made = Maps()
    kernel.answer("xt_map_create", made.create)
    kernel.answer("xt_map_mmap", made.mmap)
    kernel.answer("xt_store_release", made.store)
    kernel.answer("xt_map_lookup_and_delete_batch", made.drain)
    kernel.answer("xt_map_lookup", made.lookup)
    kernel.answer("xt_map_update", made.update)
    kernel.answer("xt_map_lookup_batch", made.entries)
    kernel.answer("xt_map_delete", made.delete)
    return made


@pytest.fixture
def tables(maps: Maps, multi: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[CallTables]:
    monkeypatch.setattr(uprobe, "has_multi", lambda: multi)
    monkeypatch.setattr(uprobe, "has_returns", lambda: True)
    with CallTables(KEYS) as made:
        maps.names = {bpf_map.fileno(): name for name, bpf_map in made._maps.items()}
        yield made


def test_every_interval_has_the_calls_of_its_own_buffer(maps: Maps, tables: CallTables) -> None:
    maps.calls[0] = {REDUCE: counted(3, 30)}
    maps.calls[1] = {SEND: counted(5, 50)}
    maps.totals = {0: CallTotals(entries=3), 1: CallTotals(entries=7, nested=1, duplicate=1)}
    first = tables.collect(tables.flip())
    assert (dict(first.calls), first.totals) == ({REDUCE: counted(3, 30)}, CallTotals(entries=3))
    second = tables.collect(tables.flip())
    assert (dict(second.calls), second.totals) == ({SEND: counted(5, 50)}, CallTotals(7, 1, 1))
    assert tables.collect(tables.flip()).totals == CallTotals(), "they were zeroed when they were read"
    assert tables.collect(tables.flip()).totals == CallTotals()
    assert maps.drained[:4] == ["calls_a", "owners_a", "calls_b", "owners_b"]


def test_calls_that_are_missing_are_said(maps: Maps, tables: CallTables, caplog: pytest.LogCaptureFixture) -> None:
    maps.calls[0], maps.totals[0] = {REDUCE: counted(3)}, CallTotals(entries=5)
    tables.collect(tables.flip())
    assert caplog.messages == ["NCCL calls do not add up: 2 missing"]


def test_each_user_has_a_part_of_the_table_that_is_larger_by_eight_of_them(maps: Maps, tables: CallTables) -> None:
    entries = KEYS + 8 * (KEYS // 32)
    assert (maps.sizes["calls_a"], maps.sizes["calls_b"]) == (entries, entries)
    assert (maps.sizes["owners_a"], maps.sizes["owners_b"]) == (2 * entries + 1, 2 * entries + 1)


@pytest.mark.parametrize("cpus, running", [(1, 16384), (32, 16384), (64, 32768), (None, 16384)])
def test_room_for_running_calls_grows_with_the_cpus(
    maps: Maps, monkeypatch: pytest.MonkeyPatch, cpus: int | None, running: int
) -> None:
    """An LRU map keeps up to 128 free entries for each CPU."""
    monkeypatch.setattr(uprobe, "has_multi", lambda: True)
    monkeypatch.setattr(uprobe, "has_returns", lambda: True)
    monkeypatch.setattr("os.cpu_count", lambda: cpus)
    CallTables(KEYS).close()
    assert (maps.sizes["running"], maps.sizes["bcasts"]) == (running, running)


def test_communicators_have_what_is_known_of_them(maps: Maps, tables: CallTables) -> None:
    unknown = (0, lib.NCCL_NO_RANK, lib.NCCL_NO_DEVICE, 0)
    maps.communicators = {(7, 0x1000): (8, 3, 6, 0), (7, 0x2000): unknown, (9, 0x1000): (2, 0, 0, 0)}
    assert {where: Known.of(state) for where, state in tables.states().items()} == {
        (7, 0x1000): Known(8, 3, 6),
        (7, 0x2000): Known(None, None, None),
        (9, 0x1000): Known(2, 0, 0),
    }
    tables.forget(7, 0x2000)
    assert set(maps.communicators) == {(7, 0x1000), (9, 0x1000)}
    tables.forget_process(7)
    assert set(maps.communicators) == {(9, 0x1000)}
    tables.forget_process(7)


@pytest.mark.parametrize("most, recounted", [(-1, False), (0, True), (1, True)])
def test_communicators_of_a_user_are_counted_anew_once_they_are_half_of_what_one_may_have(
    maps: Maps, tables: CallTables, most: int, recounted: bool
) -> None:
    half = lib.NCCL_USER_COMMUNICATORS // 2
    maps.users = {0: 5, 1000: half + most}
    maps.communicators = {(pid, 0x1000): (2, 0, 0, 1000 * (pid > 2)) for pid in range(1, 6)}
    tables.recount_communicators()
    assert maps.users == ({0: 2, 1000: 3} if recounted else {0: 5, 1000: half + most})


def test_time_of_a_files_last_call_is_0_before_the_first(maps: Maps, tables: CallTables) -> None:
    maps.last_called = {3: 123_456_789_012}
    assert (tables.last_called_ns(3), tables.last_called_ns(4)) == (123_456_789_012, 0)


Attach = Callable[..., Fd]


@pytest.fixture
def probes(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, list[int], list[int]]]:
    """Which ends of which functions were probed: at return, offsets, cookies."""
    done: list[tuple[bool, list[int], list[int]]] = []

    def multi_link(program: object, path: str, offsets: list[int], cookies: list[int], *, at_return: bool) -> Fd:
        done.append((at_return, offsets, cookies))
        kernel.open.add(2000 + len(done))
        return Fd(2000 + len(done))

    def event(program: object, path: str, offset: int, *, at_return: bool) -> Fd:
        return multi_link(program, path, [offset], [], at_return=at_return)

    monkeypatch.setattr(uprobe, "attach_multi", multi_link)
    monkeypatch.setattr(uprobe, "attach_event", event)
    return done


def test_both_ends_of_every_function_are_probed_returns_first(
    tables: CallTables, multi: bool, probes: list[tuple[bool, list[int], list[int]]], kernel: FakeKernel
) -> None:
    before = set(kernel.open)
    with tables.attach("/libnccl.so.2", {0: 64, 9: 128}, file_number=5):
        if multi:
            cookies = [5 << 8 | 0, 5 << 8 | 9]
            assert probes == [(True, [64, 128], cookies), (False, [64, 128], cookies)]
        else:
            assert probes == [(True, [64], []), (True, [128], []), (False, [64], []), (False, [128], [])]
    left = kernel.open - before
    assert len(left) == 2 * multi, "programs that read cookies are kept for the next file"


@pytest.mark.parametrize(
    "error, expected",
    [
        (KernelError("BPF_LINK_CREATE(x)", errno.EPERM), PrivilegeError),
        (KernelError("BPF_LINK_CREATE(x)", errno.EACCES), PrivilegeError),
        (KernelError("BPF_LINK_CREATE(x)", errno.EINVAL), KernelError),
        (VerifierError("BPF_PROG_LOAD(x)", errno.EACCES, "log"), VerifierError),
    ],
)
def test_missing_capability_is_named_where_it_is_the_reason(
    tables: CallTables, monkeypatch: pytest.MonkeyPatch, error: KernelError, expected: type[Exception]
) -> None:
    def refuse(*_: object, **__: object) -> Fd:
        raise error

    monkeypatch.setattr(uprobe, "attach_multi", refuse)
    monkeypatch.setattr(uprobe, "attach_event", refuse)
    with pytest.raises(expected) as caught:
        tables.attach("/libnccl.so.2", {0: 64}, 1)
    assert type(caught.value) is expected
    assert ("CAP_PERFMON" in str(caught.value)) is (expected is PrivilegeError)


def test_programs_are_loaded_for_the_way_they_are_attached(
    tables: CallTables, multi: bool, probes: list[tuple[bool, list[int], list[int]]], kernel: FakeKernel
) -> None:
    requests: list[tuple[int, int]] = []

    def load(request: Any) -> int:
        requests.append((request.prog_type, request.expected_attach_type))
        return 0

    kernel.answer("xt_prog_load", load)
    with tables.attach("/libnccl.so.2", {0: 64}, 1):
        kprobe, uprobe_multi = 2, 48  # BPF_PROG_TYPE_KPROBE, BPF_TRACE_UPROBE_MULTI of uapi/linux/bpf.h
        assert requests == [(kprobe, uprobe_multi if multi else 0)] * 2


def test_sizes_of_owners_are_those_of_the_kernel_side() -> None:
    assert OWNER.size == ffi.sizeof("struct nccl_owner")
