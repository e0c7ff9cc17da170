"""Refusals of XDP: the reason, the owner of the program in the way, the command that removes it."""

from __future__ import annotations

from xtrace.errors import InterfaceError
from xtrace.kernel.bpf import program_name
from xtrace.kernel.rtnetlink import LinkInfo, XdpOwner
from xtrace.monitors.flows.tables import XDP_PROGRAM

OFF = {"native": "xdpdrv", "generic": "xdpgeneric", "offload": "xdpoffload"}
"""iproute2's words for the modes."""


class XdpRefused(InterfaceError):
    """XDP cannot be attached to an interface; tc possibly can."""

    advice = "try --hook tc or --xdp-mode generic"


class XdpTaken(XdpRefused):
    """Another XDP program is attached, in any mode."""

    advice = "try --hook tc"


def refuse_if_owned(link: LinkInfo) -> None:
    """Raise XdpTaken if another XDP program is attached."""
    if link.xdp is not None:
        number = link.xdp.prog_id
        raise XdpTaken(
            f"{link.name}: XDP program id {number} is already attached ({link.xdp.mode}) and is not replaced:"
            f" {owner_hint(link.name, link.xdp)}"
        )


def owner_hint(name: str, owner: XdpOwner) -> str:
    """How to find its owner: without links, a `kill -9` leaves our own program attached."""
    if program_name(owner.prog_id) == XDP_PROGRAM:
        removes = f"{removal(name, owner.mode)} removes it"
        return f"it belongs to another xtrace-catch, or was left by a killed one: then {removes}"
    return f"`bpftool prog show id {owner.prog_id}` shows what it is"


def removal(name: str, mode: str) -> str:
    """The command that detaches an XDP program."""
    return f"`ip link set dev {name} {OFF.get(mode, 'xdp')} off`"
