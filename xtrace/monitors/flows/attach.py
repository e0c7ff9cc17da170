"""Attaching the packet programs to an interface: which hook, what it changes, why not."""

from __future__ import annotations

import errno
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from xtrace.errors import InterfaceError, KernelError
from xtrace.kernel import constants, rtnetlink
from xtrace.kernel.bpf import Link, Program, program_name
from xtrace.kernel.ethtool import takes_vlan_tags_off
from xtrace.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from xtrace.kernel.rtnetlink import LinkInfo, XdpOwner
from xtrace.kernel.syscall import lib
from xtrace.kernel.tc import TcAttachment
from xtrace.messages import Say, message
from xtrace.monitors.flows.tables import FlowTables, Place

log = logging.getLogger(__name__)

LASTING_ERRORS = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ERANGE, errno.ENODEV})
"""What a driver says that will say it again: then asking once more, for its words, attaches nothing."""

XDP_PROGRAM, TC_PROGRAM = "xdp_ingress", "tc_packet"
FLAGS = {"native": constants.XDP_FLAGS_NATIVE, "generic": constants.XDP_FLAGS_GENERIC}
TCX_TYPES = (constants.ATTACH_TYPE_TCX_INGRESS, constants.ATTACH_TYPE_TCX_EGRESS)
"""By whether it is egress."""

LOOPBACK_LINK_TYPE = 772
ETHERNET_LINK_TYPES = (1, LOOPBACK_LINK_TYPE)
"""ARPHRD_ETHER, ARPHRD_LOOPBACK: frames begin with an Ethernet header (linux/if_arp.h)."""
INFINIBAND_LINK_TYPE = 32
"""ARPHRD_INFINIBAND: IPoIB."""
RAW_IP_LINK_TYPES = (512, 519, 65534, 768, 769, 776, 778, 823)
"""ARPHRD_PPP, RAWIP, NONE, TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE: no link layer, mostly IP."""

EFFECTS = {
    "veth": "its peer stops segmentation offload (GSO) while attached; detaching may drop what waits in its queue",
    "bond": "it runs in its members, and no interface can join it that has an XDP program or takes none",
    "tun": "frames are copied into new buffers while attached",
    "virtio_net": "its queues may restart and LRO goes off while attached",
}
"""What native XDP changes, by rtnetlink kind or driver."""

MERGING_KINDS = frozenset({"tun"})
"""Kinds whose drivers give XDP what their sender merged (GSO), also in native mode."""

TC_KINDS = MERGING_KINDS | {"bond"}
"""Kinds on which tc is taken unless XDP is asked for. XDP on a bond runs in its members' drivers, where it sees what
the bond drops, and other members are refused while it is attached (bond_enslave())."""

USUAL_EFFECT = "many NICs restart their queues for a moment; LRO and hardware GRO go off while attached"
GENERIC_EFFECT = "packets are seen after the driver, merged ones (GRO) count once; nothing changes on the NIC"


NOT_TOLD = "XDP is not given what its packets are: they count without addresses; --hook tc sees them"
"""Said where there is no link layer and the driver guarantees nothing."""


class XdpRefused(InterfaceError):
    """XDP cannot be had on an interface; tc may."""

    advice = "try --hook tc or --xdp-mode generic"


class XdpTaken(XdpRefused):
    """Another XDP program is there, in whatever mode."""

    advice = "try --hook tc"


class Attachment(Protocol):
    """A packet program on an interface."""

    stays_when_moved: bool
    """whether it stays attached, out of reach, when its interface moves to another network namespace"""

    def alive(self) -> bool:
        """Whether it still is there: not after the interface has gone."""

    def close(self) -> None:
        """Detach and release."""


@dataclass(frozen=True)
class Choice:
    """What the user asked for."""

    hook: str
    """auto, xdp or tc"""
    xdp_mode: str
    """auto, native or generic"""


@dataclass(frozen=True)
class Attached:
    """How a program was attached, and its owner."""

    attachment: Attachment
    hook: str
    """xdp or tc"""
    xdp_mode: str | None
    """native, generic; None at tc"""
    since_ns: int
    """when it was attached, CLOCK_MONOTONIC"""
    merges: bool = False
    """whether the driver hands merged packets to XDP"""


class LinkAttachment:
    """By BPF_LINK_CREATE: the kernel detaches it with its last descriptor."""

    stays_when_moved = False

    def __init__(self, link: Link) -> None:
        self._link = link

    def alive(self) -> bool:
        """Whether the interface is there."""
        return self._link.ifindex() != 0

    def close(self) -> None:
        """Detach, also where somebody else holds the link, and release."""
        with self._link:
            self._link.detach()


class NetlinkXdpAttachment:
    """By rtnetlink, where links are refused. A `kill -9` leaves it attached; see whose()."""

    stays_when_moved = True

    def __init__(self, program: Program, ifindex: int, flags: int) -> None:
        # the program is needed to say what is to be detached
        self._program, self._ifindex, self._flags = program, ifindex, flags
        self._id = program.id()

    def alive(self) -> bool:
        """Whether this very program is there: others can replace it (`ip -force`)."""
        with NetlinkSocket(NETLINK_ROUTE) as netlink:
            link = rtnetlink.link(netlink, self._ifindex)
        if link is None or link.xdp is None:
            return False
        return self._id in (link.xdp.prog_id, link.xdp.native_id, link.xdp.generic_id)

    def close(self) -> None:
        """Detach it, and nothing else that may be there now."""
        with self._program, NetlinkSocket(NETLINK_ROUTE) as netlink:
            try:
                rtnetlink.xdp_detach(netlink, self._ifindex, self._program.fileno(), self._flags)
            except KernelError as error:
                if error.errno != errno.ENODEV:
                    raise
                # deleted, and the program with it; or moved to another namespace, out of reach
                log.debug("ifindex %d: nothing to detach: %s", self._ifindex, error)


def link_layer(link: LinkInfo) -> int:
    """Which header frames of this interface begin with; InterfaceError for those this version cannot read."""
    if link.link_type in ETHERNET_LINK_TYPES:
        return int(lib.LINK_LAYER_ETHERNET)
    if link.link_type == INFINIBAND_LINK_TYPE:
        return int(lib.LINK_LAYER_IPOIB)
    if link.link_type in RAW_IP_LINK_TYPES:
        return int(lib.LINK_LAYER_NONE)
    raise InterfaceError(
        f"{link.name}: frames of link type {link.link_type} are not understood: choose another interface"
    )


def xdp_layer(link: LinkInfo) -> int:
    """The same at XDP, where nothing but the driver says where a packet without a link layer begins, and what it is.

    tun's does: from the first byte, and of the version that this byte says, unless the sender names a protocol
    (tun_get_user() in drivers/net/tun.c).
    """
    layer = link_layer(link)
    if layer == lib.LINK_LAYER_NONE and link.kind == "tun" and not link.names_protocol:
        return int(lib.LINK_LAYER_IP)
    return layer


def effect(link: LinkInfo, mode: str) -> str:
    """What attaching XDP in `mode` changes on this interface, in half a sentence."""
    if mode == "generic":
        return GENERIC_EFFECT
    if link.link_type == LOOPBACK_LINK_TYPE:
        return ""  # it has no native XDP, and says so
    return EFFECTS.get(link.kind) or EFFECTS.get(driver(link.name)) or USUAL_EFFECT


def driver(name: str) -> str:
    """The interface's driver by sysfs; empty for virtual ones."""
    path = Path("/sys/class/net") / name / "device/driver"
    return path.resolve().name if path.exists() else ""


class Attacher:
    """Attaches packet programs of one set of tables, and tells the user what it does."""

    def __init__(self, netlink: NetlinkSocket, tables: FlowTables, choice: Choice, say: Say) -> None:
        self._netlink = netlink
        self._tables = tables
        self._choice = choice
        self._say = say
        self._told_of_tags = False

    def attach(self, link: LinkInfo, slot: int, egress: bool) -> Attached:
        """Attach for one direction. Raises InterfaceError or KernelError; nothing is ever replaced."""
        layer = link_layer(link)
        wants_xdp = self._choice.hook == "xdp" or self._choice.xdp_mode != "auto"
        if egress or self._choice.hook == "tc" or (link.kind in TC_KINDS and not wants_xdp):
            return self._tc(link, Place(slot, egress, layer))
        place = Place(slot, False, xdp_layer(link), self._tables.features.frags)
        mode = self._choice.xdp_mode
        try:
            return self._xdp(link, place, "native" if mode == "auto" else mode)
        except XdpRefused as refusal:
            if wants_xdp:
                advice = XdpTaken.advice if mode == "generic" else refusal.advice
                raise InterfaceError(f"{refusal}; {advice}") from refusal
            self._say(f"{refusal}; taking tc ingress instead")
            return self._tc(link, Place(slot, False, layer))

    def _xdp(self, link: LinkInfo, place: Place, mode: str) -> Attached:
        refuse_if_owned(link)
        if changes := effect(link, mode):
            self._say(f"attaching {mode} XDP to {link.name}: {changes}")
        # the attachment keeps the program alive; its descriptor is needed only where there is no link
        program = self._tables.load(XDP_PROGRAM, place)
        try:
            attachment = self._xdp_attachment(program, link, mode)
        except BaseException:
            program.close()
            raise
        attached = Attached(attachment, "xdp", mode, time.monotonic_ns(), link.kind in MERGING_KINDS)
        details = f"{mode}, frags" if place.frags else mode
        self._say(message("XDP program loaded on {}", link.name) + f" ({details})")
        self._tell_of_tags(link)
        if place.link_layer == lib.LINK_LAYER_NONE:
            self._say(f"{link.name}: {NOT_TOLD}")
        return attached

    def _tell_of_tags(self, link: LinkInfo) -> None:
        """Say once that what the NIC takes off is invisible at XDP."""
        if not self._told_of_tags and takes_vlan_tags_off(link.name):
            self._told_of_tags = True
            self._say(
                f"{link.name}: VLAN tags that it takes off (rxvlan offload) are not seen at XDP; --hook tc sees them"
            )

    def _xdp_attachment(self, program: Program, link: LinkInfo, mode: str) -> Attachment:
        if not self._tables.features.links:
            attachment = NetlinkXdpAttachment(program, link.index, FLAGS[mode])
            try:
                rtnetlink.xdp_attach(self._netlink, link.index, program.fileno(), FLAGS[mode])
            except KernelError as error:
                raise XdpRefused(f"{link.name}: {mode} XDP refused: {error.detail or error}") from error
            return attachment
        try:
            bpf_link = Link.attach(program, link.index, constants.ATTACH_TYPE_XDP, FLAGS[mode])
        except KernelError as error:
            reason = self._reason(link, program, mode, error)
            raise XdpRefused(f"{link.name}: {mode} XDP refused: {reason}") from error
        program.close()
        return LinkAttachment(bpf_link)

    def _reason(self, link: LinkInfo, program: Program, mode: str, error: KernelError) -> str:
        """The kernel's own words. BPF_LINK_CREATE returns a number only; rtnetlink adds a text to the same refusal."""
        now = rtnetlink.link(self._netlink, link.index)
        if now is None:
            raise InterfaceError(f"{link.name}: the interface vanished while attaching") from error
        if error.errno in (errno.EBUSY, errno.EEXIST):
            refuse_if_owned(now)
        if error.errno not in LASTING_ERRORS:
            return str(error)
        try:
            rtnetlink.xdp_attach(self._netlink, link.index, program.fileno(), FLAGS[mode])
        except KernelError as answer:
            return str(answer.detail or answer)
        # it took what it refused a moment ago: undo, and leave it at the first answer
        try:
            rtnetlink.xdp_detach(self._netlink, link.index, program.fileno(), FLAGS[mode])
        except KernelError as failure:
            removed = f"`ip link set dev {link.name} {OFF[mode]} off` removes it"
            raise InterfaceError(f"{link.name}: an XDP program stays attached: {failure}: {removed}") from error
        return str(error)

    def _tc(self, link: LinkInfo, place: Place) -> Attached:
        direction = "egress" if place.egress else "ingress"
        with self._tables.load(TC_PROGRAM, place) as program:
            try:
                attachment: Attachment
                if self._tables.features.tcx:
                    attach_type = TCX_TYPES[place.egress]
                    bpf_link = Link.attach(program, link.index, attach_type, constants.LINK_BEFORE_ALL)
                    attachment, how = LinkAttachment(bpf_link), "tcx"
                else:
                    attachment = TcAttachment.attach(self._netlink, link.index, place.egress, program.fileno())
                    how = "clsact"
            except KernelError as error:
                raise InterfaceError(f"{link.name}: tc {direction} refused: {error}") from error
        attached = Attached(attachment, "tc", None, time.monotonic_ns())
        self._say(message("tc program loaded on {}", link.name) + f" ({direction}, {how})")
        return attached


def refuse_if_owned(link: LinkInfo) -> None:
    """Raise XdpTaken where another XDP program is attached."""
    if link.xdp is not None:
        number = link.xdp.prog_id
        raise XdpTaken(
            f"{link.name}: XDP program id {number} is attached there ({link.xdp.mode}), and is not replaced:"
            f" {whose(link.name, link.xdp)}"
        )


OFF = {"native": "xdpdrv", "generic": "xdpgeneric", "offload": "xdpoffload"}
"""iproute2's words for the modes."""


def whose(name: str, owner: XdpOwner) -> str:
    """Where to look for its owner: a program of ours without a link may have been left by a `kill -9`."""
    if program_name(owner.prog_id) == XDP_PROGRAM:
        removed = f"`ip link set dev {name} {OFF.get(owner.mode, 'xdp')} off`"
        return f"another xtrace-catch runs, or was killed and left it: then {removed} removes it"
    return f"`bpftool prog show id {owner.prog_id}` tells what it is"
