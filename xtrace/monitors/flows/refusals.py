"""XDP that is refused: why, whose program is in the way, what removes it."""

from __future__ import annotations

from xtrace.errors import InterfaceError
from xtrace.kernel.bpf import program_name
from xtrace.kernel.rtnetlink import LinkInfo, XdpOwner

XDP_PROGRAM = "xdp_ingress"

OFF = {"native": "xdpdrv", "generic": "xdpgeneric", "offload": "xdpoffload"}
"""iproute2's words for the modes."""


class XdpRefused(InterfaceError):
    """XDP cannot be had on an interface; tc may."""

    advice = "try --hook tc or --xdp-mode generic"


class XdpTaken(XdpRefused):
    """Another XDP program is there, in whatever mode."""

    advice = "try --hook tc"


def refuse_if_owned(link: LinkInfo) -> None:
    """Raise XdpTaken where another XDP program is attached."""
    if link.xdp is not None:
        number = link.xdp.prog_id
        raise XdpTaken(
            f"{link.name}: XDP program id {number} is attached there ({link.xdp.mode}), and is not replaced:"
            f" {whose(link.name, link.xdp)}"
        )


def whose(name: str, owner: XdpOwner) -> str:
    """Where to look for its owner: a program of ours without a link may have been left by a `kill -9`."""
    if program_name(owner.prog_id) == XDP_PROGRAM:
        return f"another xtrace-catch runs, or was killed and left it: then {removal(name, owner.mode)} removes it"
    return f"`bpftool prog show id {owner.prog_id}` tells what it is"


def removal(name: str, mode: str) -> str:
    """The command that detaches an XDP program."""
    return f"`ip link set dev {name} {OFF.get(mode, 'xdp')} off`"
