"""Owners of flows that NAT of this host has translated: those of the same packets where they are not translated.

Both must be watched: the outer interface, and the veth of the container. Which packets are the same is known to
netfilter (kernel/conntrack.py).
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Collection, Sequence

from xtrace.errors import KernelError
from xtrace.kernel import conntrack
from xtrace.kernel.conntrack import NETLINK_NETFILTER, Packet
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.syscall import lib
from xtrace.messages import Say
from xtrace.model.flow import (
    EGRESS,
    FRAGMENT,
    KEY,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    FlowKey,
    FlowTable,
)
from xtrace.model.flow_owners import OWNER

log = logging.getLogger(__name__)

MOST_ASKED = 1000
"""Flows whose translation is asked for in an interval, the largest: some 30 us each."""

LASTING_ERRORS = frozenset({errno.EPERM, errno.EACCES, errno.EINVAL, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP})
"""The kernel answers so whenever it is asked; after others it is asked again in the next interval."""

SLOTS = 256
"""There are no more (struct flow_key)."""
_NOBODY = (lib.OWNER_UNKNOWN, lib.OWNER_NOT_LOCAL)
_SOMEBODY = (lib.OWNER_SOCKET, lib.OWNER_CGROUP)
_WITH_PORTS = (PROTOCOL_TCP, PROTOCOL_UDP)


class Translations:
    """Names the owners of translated flows."""

    def __init__(self, peers: Collection[int], say: Say) -> None:
        """`peers`: the slots of veths whose other end is in another network namespace; may change."""
        self._peers = peers
        self._say = say
        self._fails = False

    def name(self, flows: FlowTable) -> None:
        """Give translated flows that are nobody's the owner of the same packets at a veth. Before sums are made."""
        if self._fails or not self._peers or not conntrack.tracks() or not flows.owners:
            return
        try:
            with NetlinkSocket(NETLINK_NETFILTER) as netlink:
                wanted = self._translated(netlink, flows)
        except KernelError as error:
            if error.errno not in LASTING_ERRORS:
                log.debug("translations of this interval are not known: %s", error)
                return
            self._fails = True
            self._say(f"--owners: {error}: flows that NAT translates have no owners outside their veths")
            return
        if wanted:
            self._copy(flows, wanted)

    def _translated(self, netlink: NetlinkSocket, flows: FlowTable) -> dict[Packet, list[int]]:
        """Return the flows that may have an owner elsewhere, by what they are there: packets to the inner end."""
        wanted: dict[Packet, list[int]] = {}
        for index in self._candidates(flows):
            packet = to_here(_key(flows, index))
            inside = conntrack.beyond(netlink, packet) if packet else None
            if inside is not None and inside != packet:
                wanted.setdefault(inside, []).append(index)
        return wanted

    def _candidates(self, flows: FlowTable) -> Sequence[int]:
        """Return the largest flows that are nobody's, but those at veths: there they are not translated yet."""
        found = flows.owned_as(_NOBODY, set(range(SLOTS)) - set(self._peers))
        return flows.largest(found, MOST_ASKED) if len(found) > MOST_ASKED else found

    def _copy(self, flows: FlowTable, wanted: dict[Packet, list[int]]) -> None:
        """Copy the owners at veths. Where two namespaces have the same addresses and ports, none is certain."""
        owners: dict[Packet, set[bytes]] = {}
        ports = {port for packet in wanted for port in (packet.src_port, packet.dst_port)}
        for index in flows.owned_as(_SOMEBODY, self._peers, ports):
            packet = to_peer(_key(flows, index))
            if packet in wanted:
                owners.setdefault(packet, set()).add(flows.owner(index))
        for packet, found in owners.items():
            if len(found) == 1:
                (owner,) = found
                for index in wanted[packet]:
                    flows.owners[index * OWNER.size : (index + 1) * OWNER.size] = owner


def _key(flows: FlowTable, index: int) -> FlowKey:
    return FlowKey._make(KEY.unpack(flows.packed_key(index)))


def to_here(key: FlowKey) -> Packet | None:
    """Return a flow as packets that enter this host; None if they have no ports."""
    return _packet(key, bool(key.flags & EGRESS))


def to_peer(key: FlowKey) -> Packet | None:
    """Return a flow at a veth as packets to its other end."""
    return _packet(key, not key.flags & EGRESS)


def _packet(key: FlowKey, is_answer: bool) -> Packet | None:
    if key.protocol not in _WITH_PORTS or key.is_roce or key.flags & FRAGMENT:
        return None
    packet = Packet(key.src, key.dst, key.src_port, key.dst_port, key.protocol)
    return packet.answer if is_answer else packet
