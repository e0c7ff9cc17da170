"""Names of owners: what the path of a control group tells, and what is not said."""

from __future__ import annotations

from typing import cast

import pytest

from xtrace.kernel.cgroups import Cgroups
from xtrace.kernel.runtime_names import Names
from xtrace.kernel.syscall import lib
from xtrace.model.flow_owners import OWNER, FlowOwner, How
from xtrace.monitors.owners import names as names_module
from xtrace.monitors.owners.names import OwnerNames

ID = "0123456789abcdef" * 4
OTHER_ID = "fedcba9876543210" * 4
POD = "0a1b2c3d-0000-1111-2222-333344445555"


class FakeCgroups:
    """Groups by id, as they are when they are asked for."""

    def __init__(self) -> None:
        self.paths = {1: "/", 7: f"/docker/{ID}"}
        self.asked: list[int] = []

    def path_of(self, number: int) -> str | None:
        self.asked.append(number)
        return self.paths.get(number)


def packed(kind: int, cgroup: int = 7, role: int = 0, command: bytes = b"curl") -> bytes:
    return OWNER.pack(cgroup, 4711, 1000, command, kind, role)


def named(packed_owner: bytes, *, knows_kernel: bool = True) -> FlowOwner:
    return OwnerNames(cast("Cgroups", FakeCgroups()), knows_kernel=knows_kernel).of(packed_owner)


@pytest.mark.parametrize(
    "role, how",
    [(lib.OWNER_CREATED, How.CREATED), (lib.OWNER_LISTENED, How.LISTENED), (lib.OWNER_HELD, How.HELD)],
)
def test_owner_of_a_socket_has_its_process_and_its_place(role: int, how: How) -> None:
    assert named(packed(lib.OWNER_SOCKET, role=role)) == FlowOwner(
        how, pid=4711, uid=1000, command="curl", cgroup=f"/docker/{ID}", container=ID
    )


@pytest.mark.parametrize(
    "kind, how",
    [
        (lib.OWNER_UNKNOWN, How.UNKNOWN),
        (lib.OWNER_LISTENER, How.UNKNOWN),
        (lib.OWNER_NOT_LOCAL, How.NOT_LOCAL),
        (lib.OWNER_KERNEL, How.KERNEL),
    ],
)
def test_what_has_no_process_names_none(kind: int, how: How) -> None:
    assert named(packed(kind, cgroup=0)) == FlowOwner(how)
    # a group is left of a socket that was looked at and not believed
    assert named(packed(kind)) == FlowOwner(how)


def test_group_alone_is_said_but_not_the_root_which_is_anybody_s() -> None:
    assert named(packed(lib.OWNER_CGROUP)) == FlowOwner(How.CGROUP, cgroup=f"/docker/{ID}", container=ID)
    assert named(packed(lib.OWNER_CGROUP, cgroup=1)) == FlowOwner(How.UNKNOWN)


def test_kernel_is_not_said_where_processes_could_not_be_looked_into() -> None:
    assert named(packed(lib.OWNER_KERNEL, cgroup=1), knows_kernel=False) == FlowOwner(How.UNKNOWN)


def test_names_that_files_tell_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "names_of", {ID: Names("web-1", "of/runtime")}.__getitem__)
    monkeypatch.setattr(names_module, "pod_name", {POD: "default/web"}.get)
    cgroups = FakeCgroups()
    cgroups.paths[9] = "/lxc.payload.box"
    assert named(packed(lib.OWNER_SOCKET)).pod_name == "of/runtime"
    cgroups.paths[8] = f"/kubepods/besteffort/pod{POD}/{ID}"
    owner = OwnerNames(cast("Cgroups", cgroups), knows_kernel=True).of(packed(lib.OWNER_SOCKET, cgroup=8))
    assert (owner.container_name, owner.pod_name) == ("web-1", "default/web")
    owner = OwnerNames(cast("Cgroups", cgroups), knows_kernel=True).of(packed(lib.OWNER_SOCKET, cgroup=9))
    assert (owner.container, owner.container_name, owner.name) == (None, "box", "box")


@pytest.mark.parametrize(
    "path, container, name, pod",
    [
        (f"/docker/{ID}/x", ID, "web-1", None),
        (f"/kubepods/pod{POD}/{ID}/user@0.service/x", ID, "web-1", "default/web"),
        (f"/kubepods/pod{POD}/{OTHER_ID}/{ID}", ID, None, "default/web"),
        (f"/docker/{OTHER_ID}/kubepods/pod{POD}/{ID}", ID, None, None),
        (f"/user.slice/user-1000.slice/user@1000.service/app.slice/{ID}", ID, None, None),
        (f"/user.slice/user-1000.slice/user@1000.service/kubepods/pod{POD}", None, None, None),
        ("/user.slice/user-1000.slice/user@1000.service/lxc.payload.db", None, "db", None),
    ],
)
def test_names_of_ids_that_a_container_or_a_user_may_choose_are_not_looked_up(
    path: str, container: str | None, name: str | None, pod: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names_module, "names_of", lambda number: Names({ID: "web-1"}.get(number)))
    monkeypatch.setattr(names_module, "pod_name", {POD: "default/web"}.get)
    cgroups = FakeCgroups()
    cgroups.paths[8] = path
    owner = OwnerNames(cast("Cgroups", cgroups), knows_kernel=True).of(packed(lib.OWNER_SOCKET, cgroup=8))
    assert (owner.container, owner.container_name, owner.pod_name) == (container, name, pod)


def test_group_that_is_removed_keeps_its_name() -> None:
    cgroups = FakeCgroups()
    names = OwnerNames(cast("Cgroups", cgroups), knows_kernel=True)
    assert names.of(packed(lib.OWNER_SOCKET)).container == ID
    del cgroups.paths[7]
    assert names.of(packed(lib.OWNER_SOCKET, command=b"other")).container == ID
    assert cgroups.asked == [7]


def test_command_is_made_safe_to_print() -> None:
    assert named(packed(lib.OWNER_SOCKET, command=b"a\x1b[2J\xff\0rest")).command == "a?[2J?"
