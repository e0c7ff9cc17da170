"""Flows in shared memory, with played maps: each once, whoever counted it, and the memory empty afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from tests.unit.make import flow, key, pack_entry
from xtrace.errors import KernelError
from xtrace.kernel.bpf import RunResult
from xtrace.kernel.syscall import ffi, lib
from xtrace.model.flow import ENTRY, FlowRecord
from xtrace.model.flow_owners import OWNER
from xtrace.monitors.flows import stores
from xtrace.monitors.flows.plan import Plan
from xtrace.monitors.flows.stores import MappedFlows, Recent

PLAN = Plan(max_flows=300, slots=1, cpus=3, recent_cpus=2)


class Memory:
    """The pages of all maps, by the map's name; what is mapped and not unmapped again."""

    def __init__(self) -> None:
        self.pages = {
            "flows": ffi.new("char[]", 2 * PLAN.table_entries * ENTRY.size),
            "claims": ffi.new("char[]", 2 * ffi.sizeof("struct claimed")),
            "recent": ffi.new("char[]", 4 * lib.RECENT_FLOWS * ffi.sizeof("struct recent_flow")),
            "owners": ffi.new("char[]", 2 * PLAN.table_entries * OWNER.size),
        }
        self.mapped: list[str] = []

    def put(self, buffer: int, flows: Sequence[FlowRecord], pids: Sequence[int] = (), unused: int = 0) -> None:
        """Flows of a buffer as a program leaves them, with the processes that own them."""
        ffi.memmove(self._at("flows", buffer, ENTRY.size), b"".join(map(pack_entry, flows)), len(flows) * ENTRY.size)
        owners = b"".join(OWNER.pack(0, pid, 0, b"", lib.OWNER_SOCKET, 0) for pid in pids)
        ffi.memmove(self._at("owners", buffer, OWNER.size), owners, len(owners))
        claimed = ffi.cast("struct claimed *", self.pages["claims"])
        claimed[buffer].entries, claimed[buffer].unused = len(flows), unused

    def see_again(self, buffer: int, cpu: int, entry: int, where: Any, packets: int) -> None:
        """A CPU has counted more of an entry, counted from 1, in its own place."""
        recent = ffi.cast("struct recent_flow *", self.pages["recent"])
        place = recent[(cpu * 2 + buffer) * lib.RECENT_FLOWS + 1]
        ffi.memmove(ffi.addressof(place, "key"), pack_entry(flow(where)), ffi.sizeof("struct flow_key"))
        place.entry, place.counters.packets, place.counters.bytes = entry, packets, 100 * packets

    def _at(self, name: str, buffer: int, size: int) -> Any:
        return self.pages[name] + buffer * PLAN.table_entries * size

    def is_free(self) -> bool:
        """Whether a program may take all entries, which it then writes, and all places of CPUs."""
        return not any(any(bytes(ffi.buffer(self.pages[name]))) for name in ("claims", "recent", "owners"))


class Named:
    """A map."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def spec(self) -> Named:
        """What it was made from, as far as it is asked for that."""
        return self


class Complete:
    """In place of the program complete_entries, which tests/kernel/ tries: which entries it was run for."""

    name = "complete_entries"

    def __init__(self, left_out: int = 0) -> None:
        self.runs: list[tuple[int, int, int]] = []
        self._left_out = left_out

    def test_run(self, frame: bytes, repeat: int) -> RunResult:
        told = ffi.new("struct completion *")
        ffi.memmove(told, frame, len(frame))
        self.runs.append((told.buffer, told.end, repeat))
        told.next = told.end - self._left_out
        return RunResult(0, bytes(ffi.buffer(told)), 0)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    made = Memory()

    class Shared:
        """In place of SharedMemory: a part of the pages."""

        def __init__(self, bpf_map: Named, length: int, offset: int = 0) -> None:
            self._name, self._length = bpf_map.name, length
            self.address = made.pages[bpf_map.name] + offset
            made.mapped.append(bpf_map.name)

        def view(self) -> memoryview:
            return memoryview(ffi.buffer(self.address, self._length))

        def clear(self) -> None:
            lib.xt_clear(self.address, self._length)

        def close(self) -> None:
            made.mapped.remove(self._name)

        def __enter__(self) -> Shared:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

    monkeypatch.setattr(stores, "SharedMemory", Shared)
    return made


def opened(complete: Complete | None = None) -> MappedFlows:
    maps = {name: Named(name) for name in ("flows", "claims", "recent")}
    return MappedFlows(cast("Any", maps), PLAN, cast("Any", complete or Complete()))


def shown(table: Any) -> list[tuple[int, int, int]]:
    """Port, packets and bytes of each flow."""
    return [(record.key.src_port, record.packets, record.bytes) for record in table]


def of(port: int, packets: int = 1, size: int = 100) -> FlowRecord:
    return flow(key(ports=(port, 443)), packets, size)


def test_flows_of_a_buffer_are_complete_and_leave_it_free(memory: Memory) -> None:
    """What was counted in the table and by two CPUs adds up."""
    made = opened()
    flows = [of(1), of(2, 2, 200), of(3, 3, 300)]
    memory.put(1, flows)
    memory.see_again(1, 0, 2, flows[1].key, packets=5)
    memory.see_again(1, 1, 3, flows[2].key, packets=6)
    assert shown(made.collect([1])) == [(1, 1, 100), (2, 7, 700), (3, 9, 900)]
    made.reuse(1)
    assert memory.is_free()
    made.reuse(1)
    assert shown(made.collect([1])) == []
    made.close()
    assert memory.mapped == []


def test_the_other_buffer_is_left_alone(memory: Memory) -> None:
    made = opened()
    memory.put(0, [of(1)])
    memory.put(1, [of(2)])
    memory.see_again(0, 0, 1, of(1).key, packets=5)
    assert shown(made.collect([1])) == [(2, 1, 100)]
    made.reuse(1)
    assert shown(made.collect([0])) == [(1, 6, 600)]


def test_entries_that_were_taken_for_nothing_are_no_flows(memory: Memory) -> None:
    made = opened()
    memory.put(0, [of(1), of(2, packets=0, size=0), of(3)], unused=1)
    assert shown(made.collect([0])) == [(1, 1, 100), (3, 1, 100)]


@pytest.mark.parametrize("entries", [1, lib.COMPLETED_AT_ONCE, lib.COMPLETED_AT_ONCE + 1])
def test_the_program_completes_all_entries_of_the_buffer_once(memory: Memory, entries: int) -> None:
    complete = Complete()
    made = opened(complete)
    memory.put(1, [of(port) for port in range(1, entries + 1)])
    made.collect([1])
    made.collect([1])
    assert complete.runs == [(1, entries, 1 if entries <= lib.COMPLETED_AT_ONCE else 2)]
    made.reuse(1)
    made.collect([1])
    assert len(complete.runs) == 1, "there is nothing to complete"


def test_flows_that_were_not_completed_are_an_error(memory: Memory) -> None:
    """They lack what was counted in the index."""
    made = opened(Complete(left_out=1))
    memory.put(0, [of(1), of(2)])
    with pytest.raises(KernelError, match="program complete_entries: 1 of 2 flows completed: EIO"):
        made.collect([0])


def test_gaps_are_closed_across_windows(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "WINDOW", 3)
    made = opened()
    unused = {1, 2, 4, 9}
    flows = [of(port, packets=int(port not in unused)) for port in range(1, 12)]
    memory.put(0, flows, unused=len(unused))
    assert sorted(shown(made.collect([0]))) == [(port, 1, 100) for port in range(1, 12) if port not in unused]
    assert set(memory.mapped) <= {"claims", "recent", "flows"}
    made.close()
    assert memory.mapped == []


def test_no_more_flows_are_there_than_there_is_room_for(memory: Memory) -> None:
    """Programs go on counting those that found none."""
    made = opened()
    memory.put(0, [of(port) for port in range(1, PLAN.max_flows + 1)])
    ffi.cast("struct claimed *", memory.pages["claims"])[0].entries = PLAN.max_flows + 9
    assert len(made.collect([0])) == PLAN.max_flows


def test_at_the_end_both_buffers_are_one_table_in_memory_of_its_own(memory: Memory) -> None:
    made = opened()
    memory.put(0, [of(1), of(2)])
    memory.put(1, [of(2, 5, 500), of(3)])
    table = made.collect([0, 1])
    assert shown(table) == [(1, 1, 100), (2, 6, 600), (3, 1, 100)]
    assert memory.is_free(), "nothing is left to be counted again"
    made.close()
    assert shown(table)[0] == (1, 1, 100)


@pytest.mark.parametrize("buffers", [[1], [0, 1]])
def test_owners_stand_beside_their_flows(memory: Memory, buffers: list[int]) -> None:
    made = opened()
    made.owners = cast("Any", Named("owners"))
    memory.put(0, [of(9)], [90])
    memory.put(1, [of(1), of(2, packets=0, size=0), of(3)], [10, 20, 30], unused=1)
    table = made.collect(buffers)
    owners = {table[index].key.src_port: OWNER.unpack(table.owner(index))[1] for index in range(len(table))}
    assert owners == {1: 10, 3: 30} | ({9: 90} if 0 in buffers else {})
    made.close()
    assert memory.mapped == []


def test_a_plan_without_recent_flows_has_none(memory: Memory) -> None:
    made = Recent(cast("Any", Named("recent")), Plan(300, 1, 3, recent_cpus=0))
    assert (made.places, list(made.of(0)), memory.mapped) == (0, [], [])
    made.close()
    both = Recent(cast("Any", Named("recent")), PLAN)
    assert both.places == 2 * lib.RECENT_FLOWS
    places = [ffi.cast("char *", place) - memory.pages["recent"] for place in both.of(1)]
    block = lib.RECENT_FLOWS * ffi.sizeof("struct recent_flow")
    assert places == [block, 3 * block]
