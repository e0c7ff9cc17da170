"""What the kernel's map of ended sockets says, with a played map; the program that fills it is in tests/kernel."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from xtrace.kernel import abi, constants
from xtrace.kernel.bpf import BATCH_MARGIN, Batch
from xtrace.kernel.elf import MapSpec
from xtrace.kernel.syscall import ffi
from xtrace.model.tcp import END, END_KEY
from xtrace.monitors.tcp import ends
from xtrace.monitors.tcp.ends import EndProbe, room_for
from xtrace.monitors.tcp.offsets import FAMILY


class Ends:
    """A map that is emptied when it is read."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, int, bytes]] = []

    def drain_into(self, batch: Batch) -> int:
        for at, (socket, at_ns, value) in enumerate(self.waiting, batch.count):
            key = END_KEY.pack(socket, at_ns)
            ffi.memmove(batch.keys + at * END_KEY.size, key, END_KEY.size)
            ffi.memmove(batch.values + at * END.size, value.ljust(END.size, b"\0"), END.size)
        taken, self.waiting = len(self.waiting), []
        batch.count += taken
        return taken


class Words:
    """A map of numbers."""

    def __init__(self) -> None:
        self.content: dict[int, bytes] = {}

    def update(self, key: bytes, value: bytes) -> None:
        self.content[int.from_bytes(key, "little")] = value

    def delete(self, key: bytes) -> None:
        del self.content[int.from_bytes(key, "little")]

    def lookup(self, key: bytes) -> bytes | None:
        return self.content.get(int.from_bytes(key, "little"))


class First:
    """In place of the decoder: the first byte of a value."""

    def sample(self, values: memoryview, offset: int) -> Any:
        return values[offset]


class Collection:
    def __init__(self) -> None:
        self.maps: dict[str, Any] = {"ends": Ends(), "namespaces": Words(), "lost": Words()}


@pytest.fixture
def played() -> Collection:
    return Collection()


@pytest.fixture
def probe(played: Collection) -> EndProbe:
    made = EndProbe.__new__(EndProbe)
    made._collection, made._decoder = cast("Any", played), cast("Any", First())
    made._batch, made._lost = Batch(END_KEY.size, END.size, 8), 0
    return made


def test_ends_come_once_in_the_order_of_time_each_with_its_socket(probe: EndProbe, played: Collection) -> None:
    played.maps["ends"].waiting = [(0xA, 30, b"\x03"), (0xB, 10, b"\x01"), (0xC, 20, b"\x02")]
    assert [tuple(end)[:3] for end in probe.drain()] == [(10, 0xB, 1), (20, 0xC, 2), (30, 0xA, 3)]
    assert probe.drain() == []
    played.maps["ends"].waiting = [(0xD, 40, b"\x04")]
    assert [tuple(end)[:3] for end in probe.drain()] == [(40, 0xD, 4)]


def test_what_found_no_room_is_told_by_how_much_it_grew(probe: EndProbe, played: Collection) -> None:
    assert probe.lost() == 0
    for total, grown in ((5, 5), (5, 0), (12, 7)):
        played.maps["lost"].content[0] = abi.U64.pack(total)
        assert probe.lost() == grown


def test_sockets_are_followed_by_the_number_of_their_namespace(probe: EndProbe, played: Collection) -> None:
    probe.follow(4026531840)
    probe.follow(7)
    assert played.maps["namespaces"].content == dict.fromkeys((4026531840, 7), abi.U32.pack(1))
    probe.forget(4026531840)
    assert set(played.maps["namespaces"].content) == {7}


@pytest.mark.parametrize("interval_s, room", [(0.1, 16_384), (4, 16_384), (5.5, 22_528), (16, 65_536), (60, 65_536)])
def test_there_is_room_for_4096_ends_a_second_within_bounds(interval_s: float, room: int) -> None:
    assert room_for(interval_s) == room


def test_the_program_is_loaded_at_both_tracepoints_and_read_by_batches_of_its_structs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[Any] = []

    class Opened:
        def __init__(self, spec: object, resize: Any) -> None:
            sizes = {name: resize(MapSpec(name, 1, 4, 4, max_entries=5)).max_entries for name in ("ends", "lost")}
            done.append((spec, sizes))

        def load(self, name: str, values: object, prog_type: int) -> Any:
            done.append((name, values, prog_type))
            return nullcontext(name)

        def memory(self) -> int:
            return 77

        def __enter__(self) -> Opened:
            return self

        def __exit__(self, *_: object) -> None:
            done.append("released")

    def attach(program: str, point: str) -> Any:
        done.append((program, point))
        return nullcontext()

    layout = SimpleNamespace(places={FAMILY: (0, 2)}, constants={"at": 7})
    monkeypatch.setattr(ends, "find_layout", lambda: layout)
    monkeypatch.setattr("xtrace.kernel.privileges.raise_memlock_limit", lambda: None)
    monkeypatch.setattr(ends, "Collection", Opened)
    monkeypatch.setattr(ends, "load_object", lambda name: name)
    monkeypatch.setattr("xtrace.kernel.tracepoint.attach_raw", attach)
    made = EndProbe(5.5)
    assert done == [
        ("tcp_probe.o", {"ends": 22_528, "lost": 5}),
        ("tcp_ends", {"at": 7}, constants.PROG_TYPE_RAW_TRACEPOINT),
        ("tcp_ends", "tcp_destroy_sock"),
        ("tcp_changes_state", {"at": 7}, constants.PROG_TYPE_RAW_TRACEPOINT),
        ("tcp_changes_state", "inet_sock_set_state"),
    ]
    assert (made._batch.key_size, made._batch.value_size) == (END_KEY.size, END.size)
    assert (made.room, made._batch.capacity, made.memory()) == (22_528, 22_528 + BATCH_MARGIN, 77)
    made.close()
    assert done[-1] == "released"
