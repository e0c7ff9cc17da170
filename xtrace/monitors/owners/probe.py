"""The programs that find out whose flows are (csrc/owner_probe.c), and what they share with user space."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from xtrace.kernel import abi, constants
from xtrace.kernel.bpf import Map, Program
from xtrace.kernel.cgroups import Cgroups
from xtrace.kernel.collection import Collection
from xtrace.kernel.elf import MapSpec
from xtrace.kernel.objects import load_object

OBJECT = "owner_probe.o"
PROGRAMS = "owner_programs"
"""The packet programs' map of the programs that they call."""
SHARED = ("flows",)


class OwnerProbe:
    """Notes the creator of every socket from now on, and asks for the owners of flows."""

    def __init__(self, tables: Mapping[str, Map], entries: int, cgroups: Cgroups) -> None:
        """`tables`: the maps of the packet programs; `entries`: of their flows. Raises XtraceError."""
        self._programs = tables[PROGRAMS]
        self._entries = entries
        self.peers: set[int] = set()
        """slots of veths whose other end is in another network namespace"""
        with ExitStack() as opening:
            shared = {name: tables[name] for name in SHARED}
            self._collection = opening.enter_context(Collection(load_object(OBJECT), self._resize, shared=shared))
            with self._collection.load(
                "socket_created",
                {},
                prog_type=constants.PROG_TYPE_CGROUP_SOCK,
                attach_type=constants.ATTACH_TYPE_CGROUP_SOCK_CREATE,
            ) as program:
                opening.enter_context(cgroups.attach_socket_program(program))
            self._owned = opening.pop_all()

    def _resize(self, spec: MapSpec) -> MapSpec:
        return spec._replace(max_entries=self._entries) if spec.name == "owners" else spec

    @property
    def owners(self) -> Map:
        """Owners by flow: the same index as the flows'."""
        return self._collection.maps["owners"]

    @property
    def creators(self) -> Map:
        """What is kept with sockets, by descriptor: struct socket_owner."""
        return self._collection.maps["creators"]

    def load(self, egress: int, peer_netns: int | None) -> Program:
        """Load what is asked in one direction. `peer_netns`: the number of the namespace behind a veth."""
        values = {"is_egress": egress, "has_peer": peer_netns is not None, "peer_netns": peer_netns or 0}
        return self._collection.load("find_owner", values, prog_type=constants.PROG_TYPE_SCHED_CLS)

    def watch(self, slot: int, egress: int, peer_netns: int | None) -> None:
        """Answer what the packet program of a place asks."""
        (self.peers.discard if peer_netns is None else self.peers.add)(slot)
        with self.load(egress, peer_netns) as program:
            self._programs.update(abi.U32.pack(slot * 2 + egress), abi.U32.pack(program.fileno()))

    def memory(self) -> int:
        """Bytes of kernel memory charged to the maps; not what is kept with sockets."""
        return self._collection.memory()

    def close(self) -> None:
        """Detach, and release everything."""
        self._owned.close()

    def __enter__(self) -> OwnerProbe:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
