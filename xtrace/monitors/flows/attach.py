"""Attaching the packet programs to an interface: at which hook, and what the user reads about it."""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass

from xtrace.errors import InterfaceError, KernelError
from xtrace.kernel import constants, rtnetlink
from xtrace.kernel.attachment import Attachment, LinkAttachment, NetlinkXdpAttachment
from xtrace.kernel.bpf import Program
from xtrace.kernel.ethtool import takes_vlan_tags_off
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.messages import Say, message
from xtrace.model.words import Direction, Hook, XdpMode
from xtrace.monitors.flows.clsact import TcAttachment
from xtrace.monitors.flows.kinds import MERGING_KINDS, TC_KINDS, effect, link_layer
from xtrace.monitors.flows.refusals import XDP_PROGRAM, XdpRefused, XdpTaken, refuse_if_owned, removal
from xtrace.monitors.flows.tables import FlowTables, Place

LASTING_ERRORS = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ERANGE, errno.ENODEV})
"""What a driver says that will say it again: then asking once more, for its words, attaches nothing."""

AUTO = "auto"
TC_PROGRAM = "tc_packet"
FLAGS = {XdpMode.NATIVE: constants.XDP_FLAGS_NATIVE, XdpMode.GENERIC: constants.XDP_FLAGS_GENERIC}
TCX_TYPES = {
    Direction.INGRESS: constants.ATTACH_TYPE_TCX_INGRESS,
    Direction.EGRESS: constants.ATTACH_TYPE_TCX_EGRESS,
}


@dataclass(frozen=True)
class Choice:
    """What the user asked for. None: what is best for the interface."""

    hook: Hook | None = None
    xdp_mode: XdpMode | None = None

    @classmethod
    def of(cls, hook: str, xdp_mode: str) -> Choice:
        """What --hook and --xdp-mode mean, `auto` among them."""
        return cls(None if hook == AUTO else Hook(hook), None if xdp_mode == AUTO else XdpMode(xdp_mode))

    @property
    def is_xdp(self) -> bool:
        """Whether XDP is asked for: then nothing else will do."""
        return self.hook is Hook.XDP or self.xdp_mode is not None


@dataclass(frozen=True)
class Attached:
    """How a program was attached, and its owner."""

    attachment: Attachment
    hook: Hook
    xdp_mode: XdpMode | None
    """None at tc"""
    since_ns: int
    """when it was attached, CLOCK_MONOTONIC"""
    merges: bool = False
    """whether the driver hands merged packets to XDP"""


class Attacher:
    """Attaches packet programs of one set of tables, and tells the user what it does."""

    def __init__(self, netlink: NetlinkSocket, tables: FlowTables, choice: Choice, say: Say) -> None:
        self._netlink = netlink
        self._tables = tables
        self._choice = choice
        self._say = say
        self._told_of_tags = False

    def attach(self, link: LinkInfo, slot: int, direction: Direction) -> Attached:
        """Attach for one direction. Raises InterfaceError or KernelError; nothing is ever replaced."""
        layer = link_layer(link)
        choice = self._choice
        prefers_tc = link.kind in TC_KINDS and not choice.is_xdp
        if direction is Direction.EGRESS or choice.hook is Hook.TC or prefers_tc:
            return self._tc(link, Place(slot, direction, layer))
        place = Place(slot, direction, layer, self._tables.features.frags)
        mode = choice.xdp_mode or XdpMode.NATIVE
        try:
            return self._xdp(link, place, mode)
        except XdpRefused as refusal:
            if choice.is_xdp:
                advice = XdpTaken.advice if mode is XdpMode.GENERIC else refusal.advice
                raise InterfaceError(f"{refusal}; {advice}") from refusal
            self._say(f"{refusal}; taking tc ingress instead")
            return self._tc(link, Place(slot, direction, layer))

    def _xdp(self, link: LinkInfo, place: Place, mode: XdpMode) -> Attached:
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
        attached = Attached(attachment, Hook.XDP, mode, time.monotonic_ns(), link.kind in MERGING_KINDS)
        details = f"{mode}, frags" if place.frags else mode
        self._say(message("XDP program loaded on {}", link.name) + f" ({details})")
        self._tell_of_tags(link)
        return attached

    def _tell_of_tags(self, link: LinkInfo) -> None:
        """Say once that what the NIC takes off is invisible at XDP."""
        if not self._told_of_tags and takes_vlan_tags_off(link.name):
            self._told_of_tags = True
            self._say(
                f"{link.name}: VLAN tags that it takes off (rxvlan offload) are not seen at XDP; --hook tc sees them"
            )

    def _xdp_attachment(self, program: Program, link: LinkInfo, mode: XdpMode) -> Attachment:
        if not self._tables.features.links:
            attachment = NetlinkXdpAttachment(program, link.index, FLAGS[mode])
            try:
                attachment.attach(self._netlink)
            except KernelError as error:
                raise XdpRefused(f"{link.name}: {mode} XDP refused: {error.detail or error}") from error
            return attachment
        try:
            by_link = LinkAttachment.attach(program, link.index, constants.ATTACH_TYPE_XDP, FLAGS[mode])
        except KernelError as error:
            reason = self._reason(link, program, mode, error)
            raise XdpRefused(f"{link.name}: {mode} XDP refused: {reason}") from error
        program.close()
        return by_link

    def _reason(self, link: LinkInfo, program: Program, mode: XdpMode, error: KernelError) -> str:
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
            removed = f"{removal(link.name, mode)} removes it"
            raise InterfaceError(f"{link.name}: an XDP program stays attached: {failure}: {removed}") from error
        return str(error)

    def _tc(self, link: LinkInfo, place: Place) -> Attached:
        direction = place.direction
        with self._tables.load(TC_PROGRAM, place) as program:
            attachment: Attachment
            try:
                if self._tables.features.tcx:
                    attach_type, first = TCX_TYPES[direction], constants.LINK_BEFORE_ALL
                    attachment, how = LinkAttachment.attach(program, link.index, attach_type, first), "tcx"
                else:
                    attachment = TcAttachment.attach(self._netlink, link.index, direction, program.fileno())
                    how = "clsact"
            except KernelError as error:
                raise InterfaceError(f"{link.name}: tc {direction} refused: {error}") from error
        attached = Attached(attachment, Hook.TC, None, time.monotonic_ns())
        self._say(message("tc program loaded on {}", link.name) + f" ({direction}, {how})")
        return attached
