"""RoCE flows and queue pairs: whose packets are these, and from which queue pair?

A packet names its destination's queue pair; the source's only in datagrams (DETH). What enters goes to a queue pair
of this host, whose number is unique on its device and which knows its remote one. What leaves goes to a remote queue
pair, whose number is unique on the remote device only: so its local one is known when exactly one points there, and
the flows of the interval have that number at one address only. Where anything else fits, nothing is said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, ip_address

from xtrace.model.flow import HAS_SRC_QPN, UNKNOWN_ORIGIN, FlowKey, FlowRecord, Interface, Origin
from xtrace.model.rdma import PortId, QueuePairRecord
from xtrace.model.words import Direction

UNCONNECTED = frozenset({"RESET", "INIT"})
"""States in which a queue pair takes and sends no packets, and does not know its remote one yet."""

SERVICES = {0: ("RC",), 1: ("UC",), 3: ("UD", "GSI"), 5: ("XRC_INI", "XRC_TGT")}
"""The upper three bits of a BTH opcode -> the queue pairs that take such packets."""


def _packed(address: str) -> bytes:
    """As in a flow's key: IPv4 addresses mapped."""
    parsed = ip_address(address)
    return bytes(10) + b"\xff\xff" + parsed.packed if isinstance(parsed, IPv4Address) else parsed.packed


class RoceOrigins:
    """Queue pairs seen around one interval, to look flows up in."""

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
            # drivers need not say the port of a queue pair: then any of the device's
            known = netdevs.get(pair.id)
            for netdev in (known,) if known else by_device[pair.id.device]:
                self._local[netdev, pair.number].add(pair)
                if pair.remote is not None:
                    self._remote[netdev, pair.remote].add(pair)
        for flow in flows:
            self._destinations[flow.key.dst_qpn].add(flow.key.dst)

    def find(self, interface: Interface, key: FlowKey) -> Origin:
        """What is known for sure of a RoCE flow's origin."""
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
            return _only(self._local[netdev, key.src_qpn], kinds)
        candidates = self._remote[netdev, key.dst_qpn]
        exact = {pair for pair in candidates if pair.remote_address and _packed(pair.remote_address) == key.dst}
        if exact:
            return _only(exact, kinds)
        if len(self._destinations[key.dst_qpn]) > 1:
            return None
        return _only({pair for pair in candidates if pair.remote_address is None}, kinds)


def _only(pairs: Iterable[QueuePairRecord], kinds: tuple[str, ...]) -> QueuePairRecord | None:
    """The one that it must be; its states over time do not make it several."""
    found = {(pair.id.device, pair.number, pair.remote, pair.process): pair for pair in pairs if pair.type in kinds}
    return next(iter(found.values())) if len(found) == 1 else None


def _origin(pair: QueuePairRecord, source: int | None) -> Origin:
    owner = pair.process
    return Origin(source, owner.pid, owner.command or None, owner.container)
