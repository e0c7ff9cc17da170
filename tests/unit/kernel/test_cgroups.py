"""Where control groups are mounted; their paths and numbers, in a tree of directories in place of one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xtrace.errors import KernelError, XtraceError
from xtrace.kernel import cgroups, syscall
from xtrace.kernel.cgroups import Cgroups, mount_point

HYBRID = (
    "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "31 25 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)
ELSEWHERE = "40 25 0:27 / /mnt/two\\040words rw shared:5 - cgroup2 none rw\n"


def test_the_machine_s_own_mount_goes_before_others(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(ELSEWHERE + HYBRID)
    assert mount_point(mounts) == Path("/sys/fs/cgroup/unified")
    mounts.write_text(ELSEWHERE)
    assert mount_point(mounts) == Path("/mnt/two words")
    mounts.write_text(HYBRID.splitlines()[0] + "\n")
    assert mount_point(mounts) is None


class Kernel:
    """Answers as the shim does: a descriptor, or an errno below 0."""

    def __init__(self, opens: Callable[[int], int]) -> None:
        self._opens = opens

    def xt_open_cgroup(self, root: int, number: int) -> int:
        return self._opens(number)

    def xt_mount_cgroups(self) -> int:
        return -errno.EPERM

    xt_close = staticmethod(os.close)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "tree/system.slice/a.service").mkdir(parents=True)
    monkeypatch.setattr(cgroups, "mount_point", lambda: tmp_path / "tree")
    yield tmp_path / "tree"


@pytest.mark.parametrize("may_open", [True, False])
def test_path_of_a_group_is_that_below_the_mount(tree: Path, monkeypatch: pytest.MonkeyPatch, may_open: bool) -> None:
    service = tree / "system.slice/a.service"
    directories = {path.stat().st_ino: path for path in (tree, service, tree.parent)}

    def opens(number: int) -> int:
        if not may_open:
            return -errno.EPERM
        return os.open(directories[number], os.O_RDONLY) if number in directories else -errno.ESTALE

    with Cgroups() as found:
        monkeypatch.setattr(syscall, "lib", Kernel(opens))
        numbers = [path.stat().st_ino for path in (tree, service, tree.parent)]
        assert [found.path_of(number) for number in numbers] == ["/", "/system.slice/a.service", None]
        assert found.path_of(1) is None
        monkeypatch.undo()


def test_number_of_a_process_s_group_is_that_of_its_directory(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "procfs", lambda: tmp_path / "proc")
    for pid, text in (
        (7, "1:cpu:/x\n0::/system.slice/a.service\n"),
        (8, "0::/\n"),
        (9, "0::/gone\n"),
        (10, "1:cpu:/\n"),
    ):
        (tmp_path / f"proc/{pid}").mkdir(parents=True)
        (tmp_path / f"proc/{pid}/cgroup").write_text(text)
    with Cgroups() as found:
        expected = [(tree / "system.slice/a.service").stat().st_ino, tree.stat().st_ino, 0, 0, 0]
        assert [found.id_of(pid) for pid in (7, 8, 9, 10, 11)] == expected


def test_mount_that_cannot_be_opened_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "mount_point", lambda: tree / "none")
    with pytest.raises(XtraceError, match="none: No such file or directory"):
        Cgroups()


def test_without_a_mount_one_is_made_or_the_privilege_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "mount_point", lambda: None)
    monkeypatch.setattr(syscall, "lib", Kernel(lambda number: 0))
    with pytest.raises(KernelError, match="mounting them needs CAP_SYS_ADMIN"):
        Cgroups()
