"""Attaching the packet program to an interface: which mode, what it changes, why not."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xtrace.errors import InterfaceError, KernelError
from xtrace.kernel import constants, rtnetlink
from xtrace.kernel.bpf import Program, XdpLink
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.rtnetlink import LinkInfo

log = logging.getLogger(__name__)

FLAGS = {"native": constants.XDP_FLAGS_NATIVE, "generic": constants.XDP_FLAGS_GENERIC}

EFFECTS = {
    "veth": "its peer stops segmentation offload (GSO) while attached",
    "tun": "frames are copied into new buffers while attached",
    "virtio_net": "its queues may restart and LRO goes off while attached",
}
"""What native XDP changes, by rtnetlink kind or driver."""

USUAL_EFFECT = "many NICs restart their queues for a moment; LRO and hardware GRO go off while attached"
GENERIC_EFFECT = "packets are seen after the driver, merged ones (GRO) count once; nothing changes on the NIC"


@dataclass(frozen=True)
class Attachment:
    """The packet program on one interface."""

    link: XdpLink
    mode: str
    """`native` or `generic`"""
    frags: bool

    def close(self) -> None:
        """Detach, wait for the kernel to have done so, release."""
        self.link.detach()
        self.link.close()


def effect(link: LinkInfo, mode: str) -> str:
    """What attaching in `mode` changes on this interface, in half a sentence."""
    if mode == "generic":
        return GENERIC_EFFECT
    return EFFECTS.get(link.kind) or EFFECTS.get(driver(link.name)) or USUAL_EFFECT


def driver(name: str) -> str:
    """The interface's driver by sysfs; empty for virtual ones."""
    path = Path("/sys/class/net") / name / "device/driver"
    return path.resolve().name if path.exists() else ""


def attach(
    netlink: NetlinkSocket, link: LinkInfo, program: Program, mode: str, frags: bool, say: Callable[[str], None]
) -> Attachment:
    """Attach in `mode` (`auto`: native, else generic). `say` is told beforehand what changes.

    Another XDP program is never replaced: InterfaceError names it, as it names what else refused.
    """
    refuse_if_owned(link)
    refusal = ""
    for candidate in ("native", "generic") if mode == "auto" else (mode,):
        say(f"attaching {candidate} XDP to {link.name}: {effect(link, candidate)}")
        try:
            return Attachment(XdpLink.attach(program, link.index, FLAGS[candidate]), candidate, frags)
        except KernelError as error:
            refusal = _reason(netlink, link, program, candidate, error)
        if mode == "auto" and candidate == "native":
            say(f"native XDP refused on {link.name}: {refusal}; using generic XDP, which costs more per packet")
    raise InterfaceError(f"{link.name}: {mode} XDP refused: {refusal}; {_advice(mode)}")


def _advice(mode: str) -> str:
    return "try --xdp-mode generic" if mode == "native" else "another interface may take it, see -l"


def refuse_if_owned(link: LinkInfo) -> None:
    """Raise InterfaceError where another XDP program is attached."""
    if link.xdp is not None:
        raise InterfaceError(
            f"{link.name}: XDP program id {link.xdp.prog_id} is attached there ({link.xdp.mode}), and is not replaced:"
            f" `bpftool prog show id {link.xdp.prog_id}` tells what it is; stop its owner, or choose another interface"
        )


def _reason(netlink: NetlinkSocket, link: LinkInfo, program: Program, mode: str, error: KernelError) -> str:
    """The kernel's own words. BPF_LINK_CREATE returns a number only; rtnetlink adds a text to the same refusal."""
    now = rtnetlink.link(netlink, link.index)
    if now is None:
        raise InterfaceError(f"{link.name}: the interface vanished while attaching") from error
    if error.errno in (errno.EBUSY, errno.EEXIST):
        refuse_if_owned(now)
    if error.errno == errno.EPERM:
        raise error
    flags = FLAGS[mode]
    try:
        rtnetlink.xdp_attach(netlink, link.index, program.fileno(), flags)
    except KernelError as answer:
        return str(answer.detail or answer)
    # it took what it refused a moment ago: undo, and leave it at the first answer
    rtnetlink.xdp_detach(netlink, link.index, program.fileno(), flags)
    return str(error)
