"""The start of --owners: what cannot be found out is said in one line, and the rest goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from xtrace.errors import XtraceError
from xtrace.kernel import privileges, proc
from xtrace.kernel.cgroups import Cgroups
from xtrace.messages import Say
from xtrace.monitors.owners.names import OwnerNames
from xtrace.monitors.owners.seeding import seed
from xtrace.monitors.owners.translations import Translations

if TYPE_CHECKING:
    from xtrace.monitors.flows.tables import FlowTables
    from xtrace.monitors.owners.probe import OwnerProbe

LOOKING_NEEDS = ("CAP_SYS_PTRACE",)


class Owners(NamedTuple):
    """What the programs do not know of owners."""

    names: OwnerNames
    translations: Translations


@contextmanager
def find_owners(tables: FlowTables, say: Say) -> Iterator[Owners | None]:
    """Let the packet programs that are loaded from now on find out whose their flows are.

    Yields what knows the rest; None if the kernel, or a privilege, does not permit it.
    """
    with ExitStack() as opening:
        try:
            owners = _open(tables, say, opening)
        except XtraceError as error:
            say(f"--owners: {error}: the owners of flows are not known")
            owners = None
        yield owners


def _open(tables: FlowTables, say: Say, opening: ExitStack) -> Owners:
    cgroups = opening.enter_context(Cgroups())
    probe = tables.find_owners(cgroups)
    # after the program is attached: no socket is created in between
    names = OwnerNames(cgroups, knows_kernel=_seed(probe, cgroups, say))
    return Owners(names, Translations(probe.peers, say))


def _seed(probe: OwnerProbe, cgroups: Cgroups, say: Say) -> bool:
    """Give sockets from before their owners, and say what is missing; return whether the kernel's are known then."""
    if not (proc.sees_all() and proc.numbers_as_own()):
        say(
            "--owners: in this PID namespace processes have other numbers than the kernel's (run it with --pid host):"
            " sockets that they opened before the start have no process, only a control group"
        )
        return False
    seeded = seed(probe.creators, cgroups)
    if seeded.unreadable:
        why = " without CAP_SYS_PTRACE" if privileges.missing(LOOKING_NEEDS) else ""
        processes, they = ("1 process", "it") if seeded.unreadable == 1 else (f"{seeded.unreadable} processes", "they")
        say(
            f"--owners: {processes} may not be looked into{why}: sockets that {they} opened before the start"
            " have no process, only a control group"
        )
    return seeded.knows_raw
