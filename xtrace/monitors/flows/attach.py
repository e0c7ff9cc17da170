"""Attaching the packet programs to an interface: the choice of hook, and its messages."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import NamedTuple

from xtrace.errors import InterfaceError, KernelError
from xtrace.kernel import constants, rtnetlink
from xtrace.kernel.attachment import Attachment, LinkAttachment, NetlinkXdpAttachment, Together
from xtrace.kernel.bpf import Program
from xtrace.kernel.ethtool import takes_vlan_tags_off
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.kernel.syscall import lib
from xtrace.messages import message
from xtrace.model.words import Direction, Hook, XdpMode
from xtrace.monitors.flows.clsact import TcAttachment
from xtrace.monitors.flows.hooks import Choice, first_program, tc_place
from xtrace.monitors.flows.kinds import MERGING_KINDS, UNKNOWN_PACKETS, effect
from xtrace.monitors.flows.refusals import XdpRefused, XdpTaken, refuse_if_owned, removal
from xtrace.monitors.flows.tables import BESIDE_XDP, TC_PROGRAM, XDP_PROGRAM, FlowTables, Place

LASTING_ERRORS = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ERANGE, errno.ENODEV})
"""Errors that a driver returns every time: repeating the request for the text of the refusal attaches nothing."""

FLAGS = {XdpMode.NATIVE: constants.XDP_FLAGS_NATIVE, XdpMode.GENERIC: constants.XDP_FLAGS_GENERIC}
TCX_TYPES = {
    Direction.INGRESS: constants.ATTACH_TYPE_TCX_INGRESS,
    Direction.EGRESS: constants.ATTACH_TYPE_TCX_EGRESS,
}


class Attached(NamedTuple):
    """An attached program: where, how and since when."""

    attachment: Attachment
    hook: Hook
    xdp_mode: XdpMode | None
    """None at tc"""
    since_ns: int
    """when it was attached, CLOCK_MONOTONIC"""
    merges: bool = False
    """whether the driver passes merged packets to XDP"""
    how: str = ""
    """`native, frags`; `tcx`"""
    remarks: tuple[str, ...] = ()
    """what is special about it, each as half a sentence"""


def loaded(name: str, attached: Mapping[Direction, Attached], remarks: Iterable[str] = ()) -> str:
    """Return the one line about an interface: its programs, then what is special: `remarks`, after their own."""
    at_xdp = [each for each in attached.values() if each.hook is Hook.XDP]
    programs = [message("XDP program loaded on {}", name) + f" ({each.how})" for each in at_xdp]
    at_tc = {direction: each for direction, each in attached.items() if each.hook is Hook.TC}
    if at_tc:
        how = next(iter(at_tc.values())).how
        programs.append(message("tc program loaded on {}", name) + f" ({' and '.join(at_tc)}, {how})")
    special = [remark for each in attached.values() for remark in each.remarks]
    return ": ".join(filter(None, [", ".join(programs), "; ".join([*special, *remarks])]))


class Attacher:
    """Attaches the packet programs of one set of tables."""

    def __init__(self, netlink: NetlinkSocket, tables: FlowTables, choice: Choice) -> None:
        self._netlink = netlink
        self._tables = tables
        self._choice = choice
        self._tags_reported = False

    def attach(self, link: LinkInfo, slot: int, direction: Direction) -> Attached:
        """Attach for one direction, never replacing anything. Raises InterfaceError or KernelError."""
        choice = self._choice
        program, place = first_program(link, slot, direction, choice, frags=self._tables.features.frags)
        if program == TC_PROGRAM:
            return self._tc(link, place)
        mode = choice.xdp_mode or XdpMode.NATIVE
        try:
            return self._xdp(link, place, mode)
        except XdpRefused as refusal:
            if choice.is_xdp:
                advice = XdpTaken.advice if mode is XdpMode.GENERIC else refusal.advice
                raise InterfaceError(f"{refusal}; {advice}") from refusal
            reason = str(refusal).removeprefix(f"{link.name}: ")
        try:
            attached = self._tc(link, tc_place(link, slot, direction))
        except InterfaceError as error:
            raise InterfaceError(f"{error}; before that, {reason}") from error
        return attached._replace(remarks=(reason,))

    def _xdp(self, link: LinkInfo, place: Place, mode: XdpMode) -> Attached:
        refuse_if_owned(link)
        with ExitStack() as opening:
            # first, so that no packet is counted before its owner can be asked for
            beside = self._beside_xdp(link, place.slot)
            if beside is not None:
                opening.callback(beside.close)
            # the attachment keeps the program alive; without a link it also needs the descriptor
            program = self._tables.load(XDP_PROGRAM, place)
            opening.callback(program.close)
            attachment = self._xdp_attachment(program, link, mode)
            opening.pop_all()
        if beside is not None:
            attachment = Together(attachment, beside)
        remarks = [effect(link, mode), self._stripped_tags(link)]
        if place.link_layer == lib.LINK_LAYER_NONE:
            remarks.append(UNKNOWN_PACKETS)
        return Attached(
            attachment,
            Hook.XDP,
            mode,
            time.monotonic_ns(),
            link.kind in MERGING_KINDS,
            f"{mode}, frags" if place.frags else mode,
            tuple(filter(None, remarks)),
        )

    def _beside_xdp(self, link: LinkInfo, slot: int) -> Attachment | None:
        """With --owners, attach at tc what asks for the owners of flows that XDP counts."""
        if self._tables.owner_probe is None:
            return None
        hides_tags = takes_vlan_tags_off(link.name) is not False
        place = tc_place(link, slot, Direction.INGRESS)._replace(hides_tags=hides_tags)
        return self._at_tc(link, place, BESIDE_XDP)[0]

    def _stripped_tags(self, link: LinkInfo) -> str:
        """Return once that stripped VLAN tags are not visible at XDP."""
        if self._tags_reported or not takes_vlan_tags_off(link.name):
            return ""
        self._tags_reported = True
        return "VLAN tags stripped by the NIC (rxvlan offload) are not visible at XDP, but with --hook tc"

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
        """The kernel's reason. BPF_LINK_CREATE returns only a number; rtnetlink adds a text to the same refusal."""
        now = rtnetlink.link(self._netlink, link.index)
        if now is None:
            raise InterfaceError(f"{link.name}: the interface disappeared while attaching") from error
        if error.errno in (errno.EBUSY, errno.EEXIST):
            refuse_if_owned(now)
        if error.errno not in LASTING_ERRORS:
            return str(error)
        try:
            rtnetlink.xdp_attach(self._netlink, link.index, program.fileno(), FLAGS[mode])
        except KernelError as answer:
            return str(answer.detail or answer)
        # accepted what it refused a moment ago: undo it, and keep to the first answer
        try:
            rtnetlink.xdp_detach(self._netlink, link.index, program.fileno(), FLAGS[mode])
        except KernelError as failure:
            removed = f"{removal(link.name, mode)} removes it"
            raise InterfaceError(f"{link.name}: an XDP program stays attached: {failure}: {removed}") from error
        return str(error)

    def _tc(self, link: LinkInfo, place: Place) -> Attached:
        attachment, how = self._at_tc(link, place, TC_PROGRAM)
        return Attached(attachment, Hook.TC, None, time.monotonic_ns(), how=how)

    def _at_tc(self, link: LinkInfo, place: Place, name: str) -> tuple[Attachment, str]:
        """Attach a program at tc; also returns by what."""
        direction = place.direction
        with self._tables.load(name, place) as program:
            try:
                if self._tables.features.tcx:
                    attach_type, first = TCX_TYPES[direction], constants.LINK_BEFORE_ALL
                    return LinkAttachment.attach(program, link.index, attach_type, first), "tcx"
                return TcAttachment.attach(self._netlink, link.index, direction, program.fileno()), "clsact"
            except KernelError as error:
                raise InterfaceError(f"{link.name}: tc {direction} refused: {error}") from error
