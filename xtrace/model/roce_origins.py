"""Joins RoCE flows to queue pairs: source queue pair and process of a flow.

A packet names its destination queue pair; its source queue pair only in datagrams (DETH). An ingress packet goes to a
queue pair of this host, which has a unique number on its device and knows its remote. An egress packet goes to a
remote queue pair, which has a unique number on the remote device only: the local one is known if exactly one points
there, and the flows of the interval have that number at only one address. If several match, the origin is unknown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, ip_address

from xtrace.model.flow import HAS_SRC_QPN, UNKNOWN_ORIGIN, FlowKey, FlowRecord, Interface, Origin
from xtrace.model.rdma import PortId, QueuePairRecord
from xtrace.model.words import Direction

UNCONNECTED = frozenset({"RESET", "INIT"})
"""States in which a queue pair neither receives nor sends packets, and does not know its remote yet."""

SERVICES = {0: ("RC",), 1: ("UC",), 3: ("UD", "GSI"), 5: ("XRC_INI", "XRC_TGT")}
"""Upper three bits of a BTH opcode -> types of queue pairs that receive such packets."""


def _packed(address: str) -> bytes:
    """Return an address as in a flow key, IPv4 mapped."""
    parsed = ip_address(address)
    return bytes(10) + b"\xff\xff" + parsed.packed if isinstance(parsed, IPv4Address) else parsed.packed


class RoceOrigins:
    """Queue pairs seen around one interval, in which flows are looked up."""

    def __init__(
        self, pairs: Iterable[QueuePairRecord], netdevs: Mapping[PortId, str], flows: Iterable[FlowRecord] = ()
    ) -> None:
        """`netdevs`: the interface of each port. `flows`: the interval's RoCE flows."""
        self._local: defaultdict[tuple[str, int], set[QueuePairRecord]] = defaultdict(set)
        self._remote: defaultdict[tuple[str, int], set[QueuePairRecord]] = defaultdict(set)
        self._destinations: defaultdict[int, set[bytes]] = defaultdict(set)
        by_device: defaultdict[str, set[str]] = defaultdict(set)
        for port, netdev in netdevs.items():
            by_device[port.device].add(netdev)
        for pair in pairs:
            if pair.state in UNCONNECTED:
                continue
            # some drivers do not report a queue pair's port: then it may be any port of the device
            known = netdevs.get(pair.id)
            for netdev in (known,) if known else by_device[pair.id.device]:
                self._local[netdev, pair.number].add(pair)
                if pair.remote is not None:
                    self._remote[netdev, pair.remote].add(pair)
        for flow in flows:
            self._destinations[flow.key.dst_qpn].add(flow.key.dst)

    def find(self, interface: Interface, key: FlowKey) -> Origin:
        """Return the origin of a RoCE flow, as far as it is certain."""
        service = key.opcode >> 5
        kinds = SERVICES.get(service, ())
        if interface.direction is Direction.EGRESS:
            pair = self._sender(interface.name, key, kinds)
            return UNKNOWN_ORIGIN if pair is None else _origin(pair, pair.number)
        pair = _only(self._local[interface.name, key.dst_qpn], kinds)
        if pair is None:
            return UNKNOWN_ORIGIN
        elsewhere = pair.remote_address is not None and _packed(pair.remote_address) != key.src
        return UNKNOWN_ORIGIN if elsewhere else _origin(pair, pair.remote)

    def _sender(self, netdev: str, key: FlowKey, kinds: tuple[str, ...]) -> QueuePairRecord | None:
        if key.flags & HAS_SRC_QPN:
            return _only(self._local[netdev, key.source_qpn or 0], kinds)
        candidates = self._remote[netdev, key.dst_qpn]
        exact = {pair for pair in candidates if pair.remote_address and _packed(pair.remote_address) == key.dst}
        if exact:
            return _only(exact, kinds)
        if len(self._destinations[key.dst_qpn]) > 1:
            return None
        return _only({pair for pair in candidates if pair.remote_address is None}, kinds)


def _only(pairs: Iterable[QueuePairRecord], kinds: tuple[str, ...]) -> QueuePairRecord | None:
    """Return the only match, None if there are several; one queue pair in several states is one match."""
    found = {(pair.id.device, pair.number, pair.remote, pair.process): pair for pair in pairs if pair.type in kinds}
    return next(iter(found.values())) if len(found) == 1 else None


def _origin(pair: QueuePairRecord, source: int | None) -> Origin:
    owner = pair.process
    return Origin(source, owner.pid, owner.command or None, owner.container)
