"""Calls that began before the probes: what is taken for one on a stack, and when it is given up."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from xtrace.kernel import proc, stacks
from xtrace.kernel.proc import Executable
from xtrace.kernel.symbols import Extent
from xtrace.model.nccl_names import FUNCTIONS
from xtrace.monitors.nccl import earlier as earlier_module
from xtrace.monitors.nccl.earlier import MOST_STACK, Earlier, EarlierCall, EarlierCalls, follows_call, in_process
from xtrace.monitors.nccl.finder import User
from xtrace.monitors.nccl.libraries import Identity, Library

REDUCE, BROADCAST = FUNCTIONS.index("AllReduce"), FUNCTIONS.index("Broadcast")
FILE = Identity(1, 1, 1, 1, 1)
LIBRARY = Library(FILE, "/libnccl.so.2", 7, cast("Any", None), {REDUCE: 0x100})
USER = User(7, 100, "train", None, {FILE: LIBRARY})
TEXT, STACK = 0x7000_0000, 0x9000_0000
CALL = b"\0\0\xe8\1\2\3\4"
"""What precedes a return address: a near call."""
LATE_NS = 10**15
"""Later than all that is about these processes."""


class Played:
    """A process: the words on each thread's stack, and where that ends."""

    def __init__(self) -> None:
        self.stacks: dict[int, list[int]] = {7: []}
        self.pointers: dict[int, int | None] = {}
        self.code = CALL
        self.begun: dict[int, int] = {}

    def threads(self, pid: int) -> dict[int, int]:
        return dict.fromkeys(self.stacks, 100)

    def pointer(self, pid: int, thread: int) -> int | None:
        assert pid == 7
        return self.pointers.get(thread, STACK + thread * 0x1000)

    def read(self, address: int, size: int) -> bytes:
        if address < STACK:
            return self.code[-size:]
        thread, at = divmod(address - STACK, 0x1000)
        return b"".join(word.to_bytes(8, "little") for word in self.stacks[thread])[at : at + size]

    @contextmanager
    def memory(self, pid: int) -> Iterator[Any]:
        yield self


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    made = Played()
    monkeypatch.setattr(stacks, "threads", made.threads)
    monkeypatch.setattr(stacks, "stack_pointer", made.pointer)
    monkeypatch.setattr(stacks, "memory_of", made.memory)
    monkeypatch.setattr(proc, "executable_parts", lambda pid, file: [Executable(TEXT, TEXT + 0x1000, 0)])
    monkeypatch.setattr(
        earlier_module, "find_extents", lambda path: {REDUCE: Extent(0x100, 0x80), BROADCAST: Extent(0x200, 0x80)}
    )
    monkeypatch.setattr(earlier_module, "opened", made.memory)
    monkeypatch.setattr(os, "sysconf", {"SC_CLK_TCK": 100}.__getitem__)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return made


def look(calls: EarlierCalls, played: Played, users: Mapping[int, User] | None = None) -> Mapping[int, Earlier]:
    return calls.update({7: USER} if users is None else users, {FILE: LATE_NS}, lambda: played.begun)


def made() -> EarlierCalls:
    return EarlierCalls(lambda: 1000)


def test_a_return_address_within_a_function_tells_the_call(played: Played) -> None:
    played.stacks[7] = [1, TEXT + 0x110, 2]
    assert look(made(), played) == {7: Earlier((EarlierCall(7, REDUCE, 1000),), is_whole=True)}


def test_the_outermost_function_is_the_one_that_was_called(played: Played) -> None:
    played.stacks[7] = [TEXT + 0x110, TEXT + 0x210]
    assert look(made(), played)[7].calls == (EarlierCall(7, BROADCAST, 1000),)


@pytest.mark.parametrize("word", [TEXT + 0x100, TEXT + 0x181, TEXT + 0x1F0, TEXT, 0], ids=hex)
def test_other_words_are_no_calls(played: Played, word: int) -> None:
    played.stacks[7] = [word]
    assert look(made(), played) == {7: Earlier((), is_whole=True)}


def test_the_last_instruction_of_a_function_may_be_a_call(played: Played) -> None:
    played.stacks[7] = [TEXT + 0x180]
    assert look(made(), played)[7].calls


def test_a_word_after_another_instruction_is_no_return_address(played: Played) -> None:
    played.stacks[7], played.code = [TEXT + 0x110], b"\x90" * 7
    assert look(made(), played)[7].calls == ()


@pytest.mark.parametrize(
    "code, expected",
    [
        (b"\0\0\xe8\0\0\0\0", True),
        (b"\0\0\0\0\0\xff\xd0", True),  # call *%rax
        (b"\0\0\0\0\xff\x50\x08", True),  # call *8(%rax)
        (b"\0\xff\x15\0\0\0\0", True),  # call *0(%rip)
        (b"\0\0\0\0\0\xff\xe0", False),  # jmp *%rax
        (b"\0\xe8\0\0\0\0\0", False),
        (b"\xe8\0\0\0\0", False),
        (b"", False),
    ],
)
def test_calls_are_known_by_their_opcodes(code: bytes, expected: bool) -> None:
    assert follows_call(code) is expected


def test_a_thread_that_runs_is_looked_at_again(played: Played) -> None:
    played.stacks[7], played.pointers[7] = [TEXT + 0x110], None
    calls = made()
    assert look(calls, played) == {7: Earlier((), is_whole=False)}
    del played.pointers[7]
    assert look(calls, played)[7].calls


def test_a_call_that_has_returned_is_no_longer_there(played: Played) -> None:
    played.stacks[7] = [TEXT + 0x110, 5]
    calls = made()
    assert look(calls, played)[7].calls
    played.pointers[7] = STACK + 7 * 0x1000 + 8  # above the address
    assert look(calls, played) == {7: Earlier((), is_whole=True)}


def test_an_address_that_was_overwritten_is_no_longer_there(played: Played) -> None:
    played.stacks[7] = [TEXT + 0x110]
    calls = made()
    assert look(calls, played)[7].calls
    played.stacks[7] = [6]
    assert look(calls, played)[7].calls == ()


def test_a_process_that_begins_a_collective_is_in_no_earlier_call(played: Played) -> None:
    played.stacks[7] = [TEXT + 0x110]
    calls = made()
    look(calls, played)
    played.begun[7] = 1000
    assert look(calls, played)[7].calls
    played.begun[7] = 1001
    assert look(calls, played) == {7: Earlier((), is_whole=True)}


def test_threads_and_processes_younger_than_the_probes_are_not_searched(played: Played) -> None:
    played.stacks[7] = [TEXT + 0x110]
    assert made().update({7: USER}, {FILE: -LATE_NS}, dict)[7].calls == ()


def test_another_process_with_the_same_number_is_searched_anew(played: Played) -> None:
    played.stacks[7] = [TEXT + 0x110]
    calls = made()
    look(calls, played)
    played.stacks[7] = []
    assert look(calls, played, {7: User(7, 101, "other", None, {FILE: LIBRARY})})[7].calls == ()
    assert look(calls, played, {}) == {}


def test_a_process_is_not_searched_before_all_its_libraries_are_probed(played: Played) -> None:
    other = USER.libraries | {Identity(2, 2, 2, 2, 2): LIBRARY}
    assert look(made(), played, {7: User(7, 100, "train", None, other)}) == {}


def test_a_function_is_where_its_part_of_the_file_is_mapped() -> None:
    part = Executable(0x5000, 0x6000, 0x1000)
    assert [in_process(part, offset) for offset in (0xFFF, 0x1000, 0x1FFF, 0x2000)] == [None, 0x5000, 0x5FFF, None]


def test_stacks_are_searched_up_to_a_limit(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_STACK == 64 << 10
    read: list[int] = []

    def note(address: int, size: int) -> bytes:
        read.append(size)
        return bytes(size)

    monkeypatch.setattr(played, "read", note)
    look(made(), played)
    assert read == [MOST_STACK]


def test_a_call_of_another_thread_further_up_its_stack_is_found_and_kept(played: Played) -> None:
    played.stacks = {7: [1], 8: [1, 2, 3, TEXT + 0x110, 4]}
    calls = made()
    for _ in range(2):
        assert look(calls, played) == {7: Earlier((EarlierCall(8, REDUCE, 1000),), is_whole=True)}
    played.stacks[8] = [5, 6, 7, TEXT + 0x110, 8]
    assert look(calls, played)[7].calls
    played.stacks[8] = [5, 6, 7, 8, TEXT + 0x110]
    assert look(calls, played)[7].calls == ()


def test_a_process_gives_up_its_calls_beside_one_that_has_none(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    played.stacks[7] = [TEXT + 0x110]
    calls = made()
    users = {7: USER, 9: User(9, 100, "other", None, {FILE: LIBRARY})}
    monkeypatch.setattr(stacks, "threads", lambda pid: {7: 100} if pid == 7 else {})
    assert look(calls, played, users)[7].calls
    played.begun[7] = 1001
    assert look(calls, played, users)[7].calls == ()


@pytest.mark.parametrize("started, found", [(100, True), (101, False)])
@pytest.mark.parametrize("what", ["process", "thread"])
def test_what_started_in_the_tick_of_the_probes_or_before_is_searched(
    played: Played, monkeypatch: pytest.MonkeyPatch, what: str, started: int, found: bool
) -> None:
    """Starts are counted in ticks since the machine was started, with the time in which it was suspended."""
    monotonic, suspended, tick = 400_000_000, 600_000_000, 10_000_000
    clocks = SimpleNamespace(
        monotonic_ns=lambda: monotonic, clock_gettime_ns=lambda clock: monotonic + suspended, CLOCK_BOOTTIME=7
    )
    monkeypatch.setattr(earlier_module, "time", clocks)
    monkeypatch.setattr(stacks, "threads", lambda pid: {7: started if what == "thread" else 100})
    played.stacks[7] = [TEXT + 0x110]
    user = User(7, started if what == "process" else 100, "train", None, {FILE: LIBRARY})
    earlier = made().update({7: user}, {FILE: monotonic + tick - 1}, dict)
    assert bool(earlier[7].calls) is found


def test_functions_of_a_file_are_looked_up_once_while_it_is_probed(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def extents(path: str) -> dict[int, Extent]:
        looked.append(path)
        return {REDUCE: Extent(0x100, 0x80)}

    monkeypatch.setattr(earlier_module, "find_extents", extents)
    played.stacks = {7: [TEXT + 0x110], 8: []}
    played.pointers[8] = None
    calls = made()
    look(calls, played)
    look(calls, played)
    assert len(looked) == 1
    calls.update({}, {}, dict)
    look(calls, played)
    assert len(looked) == 2


def test_a_process_counts_as_probed_when_its_last_library_is(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    played.stacks[7] = [TEXT + 0x110]
    second = Identity(2, 2, 2, 2, 2)
    users = {7: User(7, 100, "train", None, {FILE: LIBRARY, second: LIBRARY})}
    for probed in ({FILE: LATE_NS, second: -LATE_NS}, {FILE: -LATE_NS, second: LATE_NS}):
        assert made().update(users, probed, dict)[7].calls


def test_a_process_in_which_nothing_is_left_to_find_is_left_alone(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []

    @contextmanager
    def note(pid: int) -> Iterator[Any]:
        opened.append(pid)
        yield played

    monkeypatch.setattr(stacks, "memory_of", note)
    calls = made()
    for _ in range(3):
        assert look(calls, played)[7].is_whole
    assert opened == [7]
