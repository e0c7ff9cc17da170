"""The start of mode xdp: all that the kernel has to verify is on its way before the rest of the tool is imported.

Imports only what that needs; each module more is waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from typing import NamedTuple

from xtrace.kernel import features, privileges, rtnetlink
from xtrace.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from xtrace.kernel.rtnetlink import LinkEvents
from xtrace.model.filters import Filters
from xtrace.model.words import Direction
from xtrace.monitors.flows.hooks import Choice, first_program
from xtrace.monitors.flows.interfaces import Selection
from xtrace.monitors.flows.kinds import layers
from xtrace.monitors.flows.plan import Plan
from xtrace.monitors.flows.tables import XDP_PROGRAM, FlowTables, Wanted

OPEN_SLOTS = 64
"""Interfaces monitored at once through `any` and globs, in addition to those named."""

MOST_SLOTS = 256
"""A slot is a byte of the flow key."""


class XdpOptions(NamedTuple):
    """The options of mode xdp."""

    selection: Selection
    choice: Choice
    directions: tuple[Direction, ...] = (Direction.INGRESS,)
    max_flows: int = 65536
    filters: Filters = Filters()
    promiscuous: bool = False
    owners: bool = False
    tcp_packets: bool = False


class XdpStart:
    """Owns sockets, maps and the programs that are being loaded; nothing is attached yet."""

    def __init__(self, options: XdpOptions) -> None:
        """Raises PrivilegeError, KernelError; what is wrong with a program is raised where it is attached."""
        privileges.require(privileges.XDP_NEEDS, "mode xdp")
        if options.promiscuous:
            privileges.require(privileges.PROMISCUOUS_NEEDS, "--promiscuous")
        privileges.raise_memlock_limit()
        self.options = options
        selection = options.selection
        with ExitStack() as opening:
            # notifications first, so that no change is missed while attaching to the first interfaces
            self.events = opening.enter_context(LinkEvents())
            self.netlink = opening.enter_context(NetlinkSocket(NETLINK_ROUTE))
            self.features = features.probe()
            named = 2 * len(selection.names)
            self.slots = min(named + OPEN_SLOTS if selection.is_open else named, MOST_SLOTS)
            plan = Plan.make(options.max_flows, self.slots)
            # with owners only once it is known whether they can be found: the programs depend on it
            expected = () if options.owners else self.first_programs()
            self.tables = FlowTables(plan, self.features, options.filters, expected)
            opening.callback(self.tables.close)
            self._opened = opening.pop_all()

    def first_programs(self) -> Iterator[Wanted]:
        """Yield the programs that the interfaces will ask for, unless they change or refuse one."""
        chosen = (link for link in rtnetlink.links(self.netlink) if self.options.selection.takes(link))
        supported = (link for link in chosen if layers(link) is not None)  # the others take no slot
        for slot, link in enumerate(islice(supported, self.slots)):
            for direction in self.options.directions:
                wanted = first_program(link, slot, direction, self.options.choice, frags=self.features.frags)
                if wanted[0] != XDP_PROGRAM or link.xdp is None:
                    yield wanted

    def close(self) -> None:
        """Release everything."""
        self._opened.close()
