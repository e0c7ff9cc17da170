"""Sockets from before the run get the processes that hold them; what cannot be looked into is told."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar, cast

import pytest

from xtrace.errors import KernelError, XtraceError
from xtrace.kernel import constants
from xtrace.kernel.elf import MapSpec
from xtrace.kernel.process_sockets import Unreadable
from xtrace.kernel.syscall import lib
from xtrace.model.flow_owners import SOCKET_OWNER
from xtrace.monitors.owners import opening, probe, seeding
from xtrace.monitors.owners.probe import OwnerProbe
from xtrace.monitors.owners.seeding import Seeded, seed


class Copy:
    """A descriptor of a socket of inode `number`."""

    def __init__(self, number: int) -> None:
        self.number = number

    def fileno(self) -> int:
        return 100 + self.number


SOCKETS = {3: {4: 11, 5: 12}, 7: {8: 11, 9: 13}, 9: {}}
"""By process: inodes of its sockets by descriptor; 11 is that of two processes."""
NOT_FOR_US = 8


class Creators:
    """The map of the sockets' owners; a socket has one only once."""

    def __init__(self) -> None:
        self.owners: dict[int, tuple[Any, ...]] = {}
        self.fails: int | None = None

    def update(self, key: bytes, value: bytes, flags: int) -> None:
        assert flags == constants.MAP_NO_EXIST
        number = int.from_bytes(key, "little") - 100
        if self.fails is not None:
            raise KernelError("BPF_MAP_UPDATE_ELEM", self.fails)
        if number in self.owners:
            raise KernelError("BPF_MAP_UPDATE_ELEM", errno.EEXIST)
        self.owners[number] = SOCKET_OWNER.unpack(value)


class Groups:
    """Control groups."""

    def id_of(self, pid: int) -> int:
        return 1000 + pid


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def descriptors(pid: int) -> dict[int, int]:
        if pid == NOT_FOR_US:
            raise Unreadable
        return SOCKETS[pid]

    def copies(pid: int, found: dict[int, int]) -> Iterator[Copy]:
        yield from map(Copy, found.values())

    monkeypatch.setattr("xtrace.kernel.proc.pids", lambda: [9, 7, NOT_FOR_US, 3])
    monkeypatch.setattr("xtrace.kernel.proc.real_uid", lambda pid: None if pid == 7 else 500 + pid)
    monkeypatch.setattr(seeding, "command_of", lambda pid: b"c%d" % pid)
    monkeypatch.setattr(seeding, "socket_descriptors", descriptors)
    monkeypatch.setattr(seeding, "internet_sockets", copies)
    monkeypatch.setattr(seeding, "cookie_of", lambda copy: 0xC0 + copy.number)
    monkeypatch.setattr(seeding, "raw_sockets", lambda: {12})


@pytest.mark.usefixtures("processes")
def test_each_socket_gets_the_lowest_process_that_holds_it() -> None:
    creators = Creators()
    assert seed(cast("Any", creators), cast("Any", Groups())) == Seeded(3, 1, True)
    found = {number: (*owner[:3], owner[3].rstrip(b"\0"), *owner[4:]) for number, owner in creators.owners.items()}
    kind, how = lib.OWNER_SOCKET, lib.OWNER_HELD
    assert found == {
        11: (1003, 3, 503, b"c3", kind, how, 0xC0 + 11),
        12: (1003, 3, 503, b"c3", kind, how, 0xC0 + 12),
        13: (1007, 7, 0, b"c7", kind, how, 0xC0 + 13),
    }


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("raw, knows", [(set[int](), True), ({11, 13}, True), ({11, 14}, False)])
def test_raw_sockets_are_all_known_or_not(raw: set[int], knows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeding, "raw_sockets", lambda: raw)
    assert seed(cast("Any", Creators()), cast("Any", Groups())).knows_raw is knows


@pytest.mark.usefixtures("processes")
def test_an_error_of_the_map_is_none_of_the_sockets() -> None:
    creators = Creators()
    creators.fails = errno.E2BIG
    with pytest.raises(KernelError):
        seed(cast("Any", creators), cast("Any", Groups()))


class Probe:
    """In place of the programs."""

    creators = None
    peers: frozenset[int] = frozenset()


@pytest.mark.parametrize(
    "sees_all, numbers_as_own, seeded, missing, knows, said",
    [
        (True, True, Seeded(5, 0, True), (), True, []),
        (True, True, Seeded(5, 2, False), (), False, ["--owners: 2 processes may not be looked into: sockets"]),
        (True, True, Seeded(5, 1, False), (), False, ["--owners: 1 process may not be looked into: sockets that it"]),
        (
            *(True, True, Seeded(5, 2, True), ("CAP_SYS_PTRACE",), True),
            ["--owners: 2 processes may not be looked into without CAP_SYS_PTRACE: sockets"],
        ),
        (False, True, Seeded(5, 0, True), (), False, ["--owners: in this PID namespace processes have other numbers"]),
        (True, False, Seeded(5, 0, True), (), False, ["--owners: in this PID namespace processes have other numbers"]),
    ],
)
def test_what_is_missing_of_earlier_sockets_is_said(
    sees_all: bool,
    numbers_as_own: bool,
    seeded: Seeded,
    missing: tuple[str, ...],
    knows: bool,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("xtrace.kernel.proc.sees_all", lambda: sees_all)
    monkeypatch.setattr("xtrace.kernel.proc.numbers_as_own", lambda: numbers_as_own)
    monkeypatch.setattr(opening, "seed", lambda creators, cgroups: seeded)
    monkeypatch.setattr(
        "xtrace.kernel.privileges.missing", lambda wanted: missing if wanted == ("CAP_SYS_PTRACE",) else ()
    )
    lines: list[str] = []
    assert opening._seed(cast("Any", Probe()), cast("Any", Groups()), lines.append) is knows
    assert [line[: len(begin)] for line, begin in zip(lines, said, strict=True)] == said


def test_a_kernel_that_permits_none_of_it_is_told_and_the_run_goes_on() -> None:
    class Tables:
        def find_owners(self, cgroups: object) -> None:
            raise XtraceError("needs compare-and-swap in BPF (Linux 5.12)")

    lines: list[str] = []
    with opening.find_owners(cast("Any", Tables()), lines.append) as owners:
        assert owners is None
    (line,) = lines
    assert line.startswith("--owners: ") and line.endswith(": the owners of flows are not known")


class Program:
    """A loaded program."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = False

    def fileno(self) -> int:
        return self.number

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


def test_a_place_is_answered_by_a_program_of_its_own() -> None:
    """The packet programs call what stands at twice the slot, one further for egress."""
    loaded: list[tuple[str, dict[str, int]]] = []
    updates: list[tuple[int, int]] = []

    class Collection:
        def load(self, name: str, values: dict[str, int], prog_type: int) -> Program:
            assert prog_type == constants.PROG_TYPE_SCHED_CLS
            loaded.append((name, values))
            return Program(50 + len(loaded))

    class Programs:
        def update(self, key: bytes, value: bytes) -> None:
            updates.append((int.from_bytes(key, "little"), int.from_bytes(value, "little")))

    made = OwnerProbe.__new__(OwnerProbe)
    made._collection, made._programs, made.peers = cast("Any", Collection()), cast("Any", Programs()), set()
    made.watch(3, 0, None)
    made.watch(4, 1, 4026531840)
    assert (updates, made.peers) == ([(6, 51), (9, 52)], {4})
    assert loaded == [
        ("find_owner", {"is_egress": 0, "has_peer": False, "peer_netns": 0}),
        ("find_owner", {"is_egress": 1, "has_peer": True, "peer_netns": 4026531840}),
    ]
    made.watch(4, 0, None)
    assert made.peers == set(), "the other end has moved"


def test_what_the_programs_do_not_know_is_found_out_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tables:
        def find_owners(self, cgroups: object) -> Probe:
            assert cgroups == "groups"
            return Probe()

    monkeypatch.setattr(opening, "Cgroups", lambda: nullcontext("groups"))
    monkeypatch.setattr(opening, "_seed", lambda probe, cgroups, say: cgroups == "groups")
    monkeypatch.setattr(opening, "OwnerNames", lambda cgroups, knows_kernel: ("names", cgroups, knows_kernel))
    monkeypatch.setattr(opening, "Translations", lambda peers, say: ("translations", peers, say))
    lines: list[str] = []
    say = lines.append
    with opening.find_owners(cast("Any", Tables()), say) as owners:
        assert owners is not None and tuple(owners) == (("names", "groups", True), ("translations", Probe.peers, say))
    assert lines == []


def test_the_programs_are_released_with_what_they_are_attached_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The maps have the size of the flow tables, and the flows are those of the packet programs."""
    done: list[Any] = []

    class Collection:
        maps: ClassVar[dict[str, str]] = {"owners": "map of owners", "creators": "map of creators"}

        def __init__(self, spec: object, resize: Any, shared: dict[str, Any]) -> None:
            entries = {name: resize(MapSpec(name, 1, 4, 4, max_entries=5)).max_entries for name in ("owners", "other")}
            done.append((spec, entries, shared))

        def load(self, name: str, values: dict[str, int], prog_type: int, attach_type: int) -> Program:
            done.append((name, values, prog_type, attach_type))
            return Program(9)

        def memory(self) -> int:
            return 77

        def __enter__(self) -> Collection:
            return self

        def __exit__(self, *_: object) -> None:
            done.append("released")

    class Attaching:
        @contextmanager
        def attach_socket_program(self, program: Program) -> Iterator[None]:
            done.append(("attached", program.number, program.closed))
            yield
            done.append("detached")

    monkeypatch.setattr(probe, "Collection", Collection)
    monkeypatch.setattr(probe, "load_object", lambda name: name)
    tables = {"flows": "flows", "owner_programs": "programs", "index": "index"}
    with OwnerProbe(cast("Any", tables), 600, cast("Any", Attaching())) as made:
        assert done == [
            ("owner_probe.o", {"owners": 600, "other": 5}, {"flows": "flows"}),
            (
                *("socket_created", {}, constants.PROG_TYPE_CGROUP_SOCK),
                constants.ATTACH_TYPE_CGROUP_SOCK_CREATE,
            ),
            ("attached", 9, False),
        ]
        assert (str(made.owners), str(made.creators)) == ("map of owners", "map of creators")
        assert (str(made._programs), made.peers, made.memory()) == ("programs", set(), 77)
        done.clear()
    assert done == ["detached", "released"]
