"""Gives up privileges, in all threads: capabilities, new privileges by execve(), files by Landlock."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable
from errno import ENOSYS, EOPNOTSUPP
from pathlib import Path

from xtrace.errors import KernelError
from xtrace.kernel import features, syscall
from xtrace.kernel.privileges import CAPABILITIES
from xtrace.kernel.syscall import call, close, try_call

WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3
REMOVE_FILE, MAKE_DIR, MAKE_REG, TRUNCATE = 1 << 5, 1 << 7, 1 << 8, 1 << 14
"""include/uapi/linux/landlock.h, LANDLOCK_ACCESS_FS_*"""
KNOWN_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""Version of the interface -> how many rights it knows; all are forbidden but where they are allowed."""
NEWEST_RIGHTS = 16

READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | REMOVE_FILE | MAKE_DIR | MAKE_REG | TRUNCATE

NO_LANDLOCK = {
    ENOSYS: "the kernel has no Landlock (Linux 5.13)",
    EOPNOTSUPP: "Landlock is off: boot with lsm=landlock,...",
}


def become(user: int, group: int, groups: Collection[int]) -> None:
    """Become another user with these groups, and keep the capabilities. Raises KernelError.

    To be called while there is one thread: the kernel changes only that.
    """
    listed = syscall.ffi.new("__u32[]", list(groups))
    call(f"becoming user {user}", syscall.lib.xt_become, user, group, listed, len(groups))


def confine(keep: Collection[str], ruleset: int | None) -> None:
    """Keep only these capabilities, of those held, and what the ruleset allows. Raises KernelError.

    Takes over the descriptor: threads that the kernel does not let answer now need it when it does.
    """
    bits = sum(1 << CAPABILITIES[name] for name in keep)
    late = 1
    try:
        late = call("confining threads", syscall.lib.xt_confine, -1 if ruleset is None else ruleset, bits)
    finally:
        if not late and ruleset is not None:
            close(ruleset)


def why_no_landlock() -> str | None:
    """Return why this kernel cannot enforce Landlock; None if it can."""
    if features.switched_off("landlock"):
        return f"{features.SWITCH} names it"
    version = try_call(syscall.lib.xt_landlock_version)
    return None if version > 0 else NO_LANDLOCK.get(-version, f"landlock_create_ruleset(): {os.strerror(-version)}")


def landlock(readable: Iterable[Path], writable: Iterable[Path]) -> int:
    """Return a ruleset, which allows to read and to write beneath these directories, if they exist, and nothing else.

    What is readable may also be a file, as long as it is that one. Raises KernelError.
    """
    version = try_call(syscall.lib.xt_landlock_version)
    handled = (1 << KNOWN_RIGHTS.get(version, NEWEST_RIGHTS)) - 1
    ruleset = call("landlock_create_ruleset()", syscall.lib.xt_landlock_create, handled)
    try:
        for rights, directories in ((READ, readable), (WRITE, writable)):
            for directory in directories:
                _allow(ruleset, directory, rights & handled)
    except KernelError:
        close(ruleset)
        raise
    return ruleset


def _allow(ruleset: int, place: Path, rights: int) -> None:
    try:
        opened = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what may be made there later cannot be read then
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            rights &= READ_FILE  # the kernel takes no others for a file
        call(f"landlock_add_rule({place})", syscall.lib.xt_landlock_allow, ruleset, opened, rights)
    finally:
        os.close(opened)
