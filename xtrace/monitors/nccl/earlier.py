"""Calls that began before the probes: found on the stacks of threads that are as old.

Return addresses into NCCL's functions lie on the stack of a thread that is in one of them. They may also be left over
from a call that has ended, in a part of the stack that was reserved again and not written since: so what is found here
is said to be found on a stack, and given up once the process makes a collective that is seen.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from xtrace.errors import ObjectError
from xtrace.kernel import proc, stacks
from xtrace.kernel.proc import Executable
from xtrace.kernel.stacks import Memory
from xtrace.kernel.symbols import Extent
from xtrace.monitors.nccl.finder import User
from xtrace.monitors.nccl.libraries import Identity, find_extents, opened

log = logging.getLogger(__name__)

MOST_STACK = 1 << 16
"""Bytes of a stack that are searched: NCCL's frames are near its end while a thread waits in them."""
WORD = 8
LONGEST_CALL = 7
"""Bytes of an instruction that calls, on x86-64."""

MOST_THREADS = 2048
"""Of one process; of one with more nothing is said."""
UPDATE_NS = 200_000_000
"""How long one update searches; the next one goes on."""


class EarlierCall(NamedTuple):
    """A call in progress that no probe saw begin."""

    thread: int
    function: int
    """enum nccl_function"""
    since_ns: int
    """when it was found, CLOCK_MONOTONIC"""


class Earlier(NamedTuple):
    """What the stacks of a process tell that is older than its probes."""

    calls: tuple[EarlierCall, ...] = ()
    is_whole: bool = False
    """whether all its threads that are as old were searched; one that does not sleep cannot be"""


class Place(NamedTuple):
    """A word on a stack that is a return address."""

    address: int
    value: int


@dataclass
class _Process:
    start_time: int
    unread: set[int] = field(default_factory=set)
    """threads"""
    found: dict[int, tuple[Place, EarlierCall]] = field(default_factory=dict)
    """by thread"""
    begun_ns: int = 0
    """when it was searched first"""


class EarlierCalls:
    """Searches processes that are older than their probes. For one thread."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._processes: dict[int, _Process] = {}
        self._extents: dict[Identity, dict[int, Extent]] = {}

    def update(
        self, users: Mapping[int, User], probed: Mapping[Identity, int], last_begun: Callable[[], Mapping[int, int]]
    ) -> Mapping[int, Earlier]:
        """What is known now, by process. `last_begun`: when processes began their last collective, CLOCK_MONOTONIC."""
        if platform.machine() != "x86_64":  # elsewhere calls look different, and stacks may have signed addresses
            return {}
        until = self._clock() + UPDATE_NS
        self._processes = {pid: one for pid, one in self._processes.items() if self._is_same(users.get(pid), one)}
        for pid, user in users.items():
            if pid not in self._processes and (since := probed_since(user, probed)) is not None:
                self._processes[pid] = self._begin(pid, user, since)
        self._extents = {identity: found for identity, found in self._extents.items() if identity in probed}
        if any(one.found for one in self._processes.values()):
            for pid, when in last_begun().items():
                self._give_up(pid, when)
        for pid, one in self._processes.items():
            if (one.unread or one.found) and self._clock() < until:
                self._look(users[pid], one)
        return {
            pid: Earlier(tuple(call for _, call in one.found.values()), not one.unread)
            for pid, one in self._processes.items()
        }

    def _is_same(self, user: User | None, one: _Process) -> bool:
        return user is not None and user.start_time == one.start_time

    def _begin(self, pid: int, user: User, probed_ns: int) -> _Process:
        """The threads of a process that may be in a call since before `probed_ns` (CLOCK_MONOTONIC)."""
        one = _Process(user.start_time, begun_ns=self._clock())
        suspended_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
        latest = (probed_ns + suspended_ns) * os.sysconf("SC_CLK_TCK") // 1_000_000_000
        if user.start_time <= latest:
            one.unread = {thread for thread, started in stacks.threads(pid).items() if started <= latest}
        return one

    def _give_up(self, pid: int, last_begun_ns: int) -> None:
        """Forget what was found in a process that has begun a collective since."""
        one = self._processes.get(pid)
        if one is not None and last_begun_ns > one.begun_ns:
            one.found.clear()
            one.unread.clear()

    def _look(self, user: User, one: _Process) -> None:
        present = stacks.threads(user.pid).keys()
        one.unread &= present
        one.found = {thread: found for thread, found in one.found.items() if thread in present}
        if len(one.unread) > MOST_THREADS:
            return
        try:
            with stacks.memory_of(user.pid) as memory:
                for thread, (place, _) in list(one.found.items()):
                    if not is_there(user.pid, thread, memory, place):
                        del one.found[thread]
                if one.unread:
                    self._search(user, one, memory)
        except (OSError, ObjectError) as error:
            log.debug("pid %d: stacks: %s", user.pid, error)

    def _search(self, user: User, one: _Process, memory: Memory) -> None:
        functions = Functions(self._functions(user))
        for thread in list(one.unread):
            end = pointer(user.pid, thread)
            if end is None:
                continue
            found = functions.on_stack(memory, end)
            if pointer(user.pid, thread) != end:  # it went on meanwhile
                continue
            one.unread.discard(thread)
            if found is not None:
                place, function = found
                one.found[thread] = place, EarlierCall(thread, function, self._clock())

    def _functions(self, user: User) -> Iterator[tuple[int, int, int]]:
        """Begin and end in the process, and number, of each of NCCL's functions."""
        for identity, library in user.libraries.items():
            if identity not in self._extents:
                with opened(library) as path:
                    self._extents[identity] = find_extents(path)
            parts = proc.executable_parts(user.pid, library.file)
            for function, extent in self._extents[identity].items():
                for part in parts:
                    begin = in_process(part, extent.offset)
                    if begin is not None:
                        yield begin, begin + extent.size, function


class Functions:
    """NCCL's functions in the address space of a process."""

    def __init__(self, functions: Iterator[tuple[int, int, int]]) -> None:
        self._functions = sorted(functions)
        self._begins = [begin for begin, _, _ in self._functions]
        self._least = min(self._begins, default=0)
        self._most = max((end for _, end, _ in self._functions), default=0)

    def on_stack(self, memory: Memory, end: int) -> tuple[Place, int] | None:
        """The outermost return address into one of the functions, and which. `end`: the stack pointer."""
        data = memory.read(end, MOST_STACK)
        words: Sequence[int] = memoryview(data[: len(data) // WORD * WORD]).cast("Q").tolist()
        for index in range(len(words) - 1, -1, -1):
            value = words[index]
            if not self._least < value <= self._most:
                continue
            function = self._function(value)
            if function is not None and follows_call(memory.read(value - LONGEST_CALL, LONGEST_CALL)):
                return Place(end + index * WORD, value), function
        return None

    def _function(self, value: int) -> int | None:
        begin, end, function = self._functions[bisect_right(self._begins, value - 1) - 1]
        return function if begin < value <= end else None


def follows_call(code: bytes) -> bool:
    """Whether these bytes end in a call, near, direct or indirect (opcodes E8 and FF /2)."""
    if len(code) < LONGEST_CALL:
        return False
    if code[-5] == 0xE8:
        return True
    return any(code[-size] == 0xFF and code[1 - size] >> 3 & 7 == 2 for size in (2, 3, 4, 6, 7))


def in_process(part: Executable, offset: int) -> int | None:
    """The address of a place in a file, if this part of it is mapped there."""
    within = offset - part.offset
    return part.start + within if 0 <= within < part.end - part.start else None


def pointer(pid: int, thread: int) -> int | None:
    """The stack pointer of a thread that sleeps; None if it runs, or is gone."""
    try:
        return stacks.stack_pointer(pid, thread)
    except (OSError, ValueError):
        return None


def is_there(pid: int, thread: int, memory: Memory, place: Place) -> bool:
    """Whether a return address is still on the stack of its thread, as far as can be seen now."""
    end = pointer(pid, thread)
    if end is not None and end > place.address:
        return False
    return memory.read(place.address, WORD) == place.value.to_bytes(WORD, "little")


def probed_since(user: User, probed: Mapping[Identity, int]) -> int | None:
    """Since when all its libraries are probed; None if one is not."""
    since = [probed.get(file) for file in user.libraries]
    known = [when for when in since if when is not None]
    return max(known) if since and len(known) == len(since) else None
