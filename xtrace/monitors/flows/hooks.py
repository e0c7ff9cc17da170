"""The choice of hook, and which program an interface gets there first."""

from __future__ import annotations

from typing import NamedTuple

from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.model.words import Direction, Hook, XdpMode
from xtrace.monitors.flows.kinds import PAIR_KINDS, TC_KINDS, link_layer, xdp_layer
from xtrace.monitors.flows.tables import TC_PROGRAM, XDP_PROGRAM, Place, Wanted

AUTO = "auto"


class Choice(NamedTuple):
    """The user's choice of hook and mode. None: whatever suits the interface."""

    hook: Hook | None = None
    xdp_mode: XdpMode | None = None

    @classmethod
    def of(cls, hook: str, xdp_mode: str) -> Choice:
        """The choice made by --hook and --xdp-mode, `auto` included."""
        return cls(None if hook == AUTO else Hook(hook), None if xdp_mode == AUTO else XdpMode(xdp_mode))

    @property
    def is_xdp(self) -> bool:
        """Whether XDP is required, so that tc is no substitute."""
        return self.hook is Hook.XDP or self.xdp_mode is not None


def first_program(link: LinkInfo, slot: int, direction: Direction, choice: Choice, *, frags: bool) -> Wanted:
    """Return the program to attach, and where; if XDP is refused, tc may follow. InterfaceError for unknown frames.

    `frags`: whether XDP programs may take frames with fragments.
    """
    prefers_tc = link.kind in TC_KINDS and not choice.is_xdp
    if direction is Direction.EGRESS or choice.hook is Hook.TC or prefers_tc:
        return TC_PROGRAM, tc_place(link, slot, direction)
    return XDP_PROGRAM, Place(slot, direction, xdp_layer(link), frags)


def tc_place(link: LinkInfo, slot: int, direction: Direction) -> Place:
    """Return where a program at tc is going to be attached."""
    return Place(slot, direction, link_layer(link), peer_netns=peer_netns(link))


def peer_netns(link: LinkInfo) -> int | None:
    """Return the number of the network namespace at the other end of a veth, None if that is this one."""
    return link.peer_netnsid if link.kind in PAIR_KINDS else None
