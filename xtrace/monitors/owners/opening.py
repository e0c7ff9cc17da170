"""The start of --owners: what cannot be found out is said in one line, and the rest goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from xtrace.errors import XtraceError
from xtrace.kernel import privileges, proc
from xtrace.kernel.cgroups import Cgroups
from xtrace.messages import Say
from xtrace.monitors.owners.names import OwnerNames
from xtrace.monitors.owners.seeding import seed

if TYPE_CHECKING:
    from xtrace.monitors.flows.tables import FlowTables

LOOKING_NEEDS = ("CAP_SYS_PTRACE",)


@contextmanager
def find_owners(tables: FlowTables, say: Say) -> Iterator[OwnerNames | None]:
    """Let the packet programs that are loaded from now on find out whose their flows are.

    Yields what names the owners; None if the kernel, or a privilege, does not permit it.
    """
    with ExitStack() as opening:
        try:
            names = _open(tables, say, opening)
        except XtraceError as error:
            say(f"--owners: {error}: the owners of flows are not known")
            names = None
        yield names


def _open(tables: FlowTables, say: Say, opening: ExitStack) -> OwnerNames:
    cgroups = opening.enter_context(Cgroups())
    probe = tables.find_owners(cgroups)
    if not (proc.sees_all() and proc.numbers_as_own()):
        say(
            "--owners: in this PID namespace processes have other numbers than the kernel's (run it with --pid host):"
            " sockets that they opened before the start have no process, only a control group"
        )
        return OwnerNames(cgroups, knows_kernel=False)
    # after the program is attached: no socket is created in between
    seeded = seed(probe.creators, cgroups)
    if seeded.unreadable:
        why = " without CAP_SYS_PTRACE" if privileges.missing(LOOKING_NEEDS) else ""
        say(
            f"--owners: {seeded.unreadable} processes may not be looked into{why}: sockets that they opened before the"
            " start have no process, only a control group"
        )
    return OwnerNames(cgroups, knows_kernel=seeded.knows_raw)
