"""The program that notes who creates sockets: what it keeps, and that it denies nobody a socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from tests.kernel.counter import present
from xtrace.kernel.bpf import Fd
from xtrace.kernel.cgroups import Cgroups
from xtrace.kernel.objects import load_object
from xtrace.kernel.process_sockets import cookie_of
from xtrace.kernel.syscall import lib
from xtrace.model.flow_owners import SOCKET_OWNER
from xtrace.monitors.flows.plan import Plan
from xtrace.monitors.flows.tables import FlowTables
from xtrace.monitors.owners.probe import OBJECT, OwnerProbe
from xtrace.monitors.owners.seeding import seed

SLOT, CALL, EXIT = 8, 0x85, 0x95
JUMP_CLASSES = (5, 6)
RETURN_ONE = bytes.fromhex("b400000001000000")
"""w0 = 1"""
FAMILIES = (socket.AF_INET, socket.AF_INET6)
TYPES = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW)


@pytest.fixture
def opened() -> Iterator[tuple[OwnerProbe, Cgroups]]:
    if not present().cmpxchg:
        pytest.xfail("this kernel has no compare-and-swap in BPF")
    with ExitStack() as opening:
        cgroups = opening.enter_context(Cgroups())
        tables = opening.enter_context(closing(FlowTables(Plan.make(16), present())))
        yield tables.find_owners(cgroups), cgroups


def kept(probe: OwnerProbe, of: socket.socket) -> tuple[int, ...] | None:
    """What is kept with a socket: control group, process, user, command, kind, role, cookie."""
    value = probe.creators.lookup(of.fileno().to_bytes(4, "little"))
    return SOCKET_OWNER.unpack(value) if value is not None else None


def cookie(of: socket.socket) -> int:
    with Fd(os.dup(of.fileno())) as copy:
        return cookie_of(copy)


def test_creator_is_kept_with_every_kind_of_socket(opened: tuple[OwnerProbe, Cgroups]) -> None:
    probe, cgroups = opened
    for family in FAMILIES:
        for kind in TYPES:
            protocol = socket.IPPROTO_ICMP if kind == socket.SOCK_RAW else 0
            with socket.socket(family, kind, protocol) as created:
                owner = kept(probe, created)
                assert owner is not None
                group, pid, uid, _, what, role, own_cookie = owner
                assert (group, pid, uid) == (cgroups.id_of(os.getpid()), os.getpid(), os.getuid())
                assert (what, role, own_cookie) == (lib.OWNER_SOCKET, lib.OWNER_CREATED, cookie(created))


def test_accepted_socket_inherits_what_is_kept_with_the_listening_one(opened: tuple[OwnerProbe, Cgroups]) -> None:
    probe, _ = opened
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert kept(probe, accepted) == kept(probe, listener) is not None
        assert cookie(accepted) != cookie(listener)


def test_sockets_from_before_are_held_by_who_has_them_open() -> None:
    if not present().cmpxchg:
        pytest.xfail("this kernel has no compare-and-swap in BPF")
    with (
        socket.socket() as before,
        Cgroups() as cgroups,
        closing(FlowTables(Plan.make(16), present())) as tables,
    ):
        probe = tables.find_owners(cgroups)
        assert kept(probe, before) is None
        with socket.socket() as after:
            created = kept(probe, after)
            assert seed(probe.creators, cgroups).sockets >= 1
            assert kept(probe, after) == created, "who created it stays"
        owner = kept(probe, before)
        assert owner is not None
        assert owner[1:3] == (os.getpid(), os.getuid())
        assert owner[4:] == (lib.OWNER_SOCKET, lib.OWNER_HELD, cookie(before))


def test_program_returns_one_on_every_path() -> None:
    """0 would deny every process of the machine its sockets. The instructions have one end, which sets the result."""
    code = load_object(OBJECT).programs["socket_created"].instructions
    slots = [code[at : at + SLOT] for at in range(0, len(code), SLOT)]
    assert [place for place, slot in enumerate(slots) if slot[0] == EXIT] == [len(slots) - 1]
    assert slots[-2] == RETURN_ONE
    jumps = [place + 1 + int.from_bytes(slot[2:4], "little", signed=True) for place, slot in jumping(slots)]
    assert jumps and max(jumps) <= len(slots) - 2, "a jump past the instruction that sets the result"


def jumping(slots: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """The jumps among instructions, with their places."""
    for place, slot in enumerate(slots):
        if slot[0] & 7 in JUMP_CLASSES and slot[0] not in (CALL, EXIT):
            yield place, slot
