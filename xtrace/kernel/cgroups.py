"""Control groups of version 2: programs attached to them, and the path of an id.

The id of a control group is the inode number of its directory, and its file handle (fs/kernfs/mount.c).
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from xtrace.errors import KernelError, XtraceError
from xtrace.kernel import constants, syscall
from xtrace.kernel.bpf import Fd, Link, Program
from xtrace.kernel.paths import procfs, sysfs

MOUNTS = Path("/proc/self/mountinfo")


def mount_point(mounts: Path = MOUNTS) -> Path | None:
    """Return where they are mounted, the machine's own below sysfs() first; None if they are not."""
    found = []
    for line in mounts.read_text(errors="surrogateescape").splitlines():
        own, _, filesystem = line.partition(" - ")
        if filesystem.startswith("cgroup2 "):
            found.append(Path(os.fsdecode(_unescaped(own.split()[4]))))
    return next((path for path in found if path.is_relative_to(sysfs())), found[0] if found else None)


def _unescaped(path: str) -> bytes:
    """Blanks and the like are octal in mountinfo (proc(5))."""
    first, *rest = os.fsencode(path).split(b"\\")
    return first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in rest)


class Cgroups:
    """Owns a descriptor of the root directory."""

    def __init__(self) -> None:
        """Open the mount; where there is none, as below `ip netns exec`, make one that nobody sees.

        Raises XtraceError.
        """
        mount = mount_point()
        self._mount = mount or Path("/")
        if mount is None:
            self._root = _own_mount()
            return
        try:
            # a handle is opened relative to it, for which O_PATH is not enough
            self._root = Fd(os.open(mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            raise XtraceError(f"{mount}: {error.strerror}") from error

    def attach_socket_program(self, program: Program) -> Link:
        """Run a program for every socket that a process creates. Raises KernelError."""
        return Link.attach(program, self._root.fileno(), constants.ATTACH_TYPE_CGROUP_SOCK_CREATE, 0)

    def path_of(self, number: int) -> str | None:
        """Return a group's path, `/` for the root; None once it is removed."""
        result = syscall.try_call(syscall.lib.xt_open_cgroup, self._root.fileno(), number)
        if result == -errno.EPERM:  # without CAP_DAC_READ_SEARCH
            return self._search(number)
        if result < 0:
            return None
        with Fd(result):
            target = Path(f"/proc/self/fd/{result}").readlink()
        return _absolute(target.relative_to(self._mount)) if target.is_relative_to(self._mount) else None

    def _search(self, number: int) -> str | None:
        for directory, _, _, descriptor in os.fwalk(".", dir_fd=self._root.fileno()):
            if os.fstat(descriptor).st_ino == number:
                return _absolute(Path(directory))
        return None

    def id_of(self, pid: int) -> int:
        """Return the id of a process's group; 0 if it is gone, or in a group that is not below the root."""
        try:
            lines = (procfs() / str(pid) / "cgroup").read_text(errors="surrogateescape").splitlines()
            own = next((line[3:] for line in lines if line.startswith("0::")), None)
            return os.stat(own.lstrip("/") or ".", dir_fd=self._root.fileno()).st_ino if own else 0
        except OSError:
            return 0

    def close(self) -> None:
        """Release the descriptor, and with it a mount of its own."""
        self._root.close()

    def __enter__(self) -> Cgroups:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _own_mount() -> Fd:
    result = syscall.try_call(syscall.lib.xt_mount_cgroups)
    if result < 0:
        why = "control groups of version 2 are not mounted, and mounting them needs CAP_SYS_ADMIN"
        raise KernelError("fsopen(cgroup2)", -result, why if result == -errno.EPERM else "")
    return Fd(result)


def _absolute(path: Path) -> str:
    return "/" if path == Path() else f"/{path}"
