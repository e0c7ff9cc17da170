"""Which flows share a series (--series-by): packed keys are renamed, and flows of equal names added up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from struct import Struct

from xtrace.kernel import abi
from xtrace.kernel.syscall import lib
from xtrace.model.flow import (
    ENTRY,
    HAS_SRC_QPN,
    KEY,
    PROTOCOL_ICMP,
    PROTOCOL_ICMPV6,
    PROTOCOL_SCTP,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    ROCE_V1,
    ROCE_V2,
    SLOT_OFFSET,
    FlowTable,
)
from xtrace.model.flow_owners import FlowOwner
from xtrace.printable import printable
from xtrace.sinks.metrics.sample import Labels

Rename = Callable[[bytes], bytes]

_SRC_PORT, _DST_PORT, _SRC_QPN, _PROTOCOL, _FLAGS = (
    abi.offset("struct flow_key", name) for name in ("src_port", "dst_port", "src_qpn", "protocol", "flags")
)
_PORT = Struct("=H")
_NAMED = Struct(f"={KEY.size}sQQ{ENTRY.size - KEY.size - 2 * abi.U64.size}x")
"""struct flow_entry by packed key, packets and bytes; the rest is 0."""
_OWNER_KEY = Struct(f"=Q{SLOT_OFFSET - abi.U64.size}xB{_FLAGS - SLOT_OFFSET - 1}xB{KEY.size - _FLAGS - 1}x")
"""struct flow_key with a number instead of addresses, slot and flags."""
_NO_PORT = bytes(2)
MOST_OWNERS = 1 << 16
"""Sets of labels, so that memory stays bounded where commands never repeat; others share one."""
_WITH_PORTS = frozenset({PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_SCTP})
_ICMP = frozenset({PROTOCOL_ICMP, PROTOCOL_ICMPV6})


def without_client_port(key: bytes) -> bytes:
    """Return the key with the higher of two ports 0: the lower one is taken for the service's. Equal ones stay."""
    if key[_PROTOCOL] not in _WITH_PORTS or key[_FLAGS] & (ROCE_V1 | ROCE_V2):
        return key
    (src,), (dst,) = _PORT.unpack_from(key, _SRC_PORT), _PORT.unpack_from(key, _DST_PORT)
    if src == dst:
        return key
    client = _SRC_PORT if src > dst else _DST_PORT
    return key[:client] + _NO_PORT + key[client + 2 :]


def without_ports(key: bytes) -> bytes:
    """Return the key without ports and queue pairs; ICMP keeps its type and code, which stand in their place."""
    flags = key[_FLAGS]
    if key[_PROTOCOL] in _ICMP and not flags & (ROCE_V1 | ROCE_V2):
        return key
    if flags & HAS_SRC_QPN:  # else the words have nothing of a queue pair: see struct flow_key
        (word,) = abi.U32.unpack_from(key, _SRC_QPN)
        key = key[:_SRC_QPN] + abi.U32.pack(word & ~lib.QPN_MASK) + key[_SRC_QPN + 4 :]
    zeroed = key[:_SRC_PORT] + _NO_PORT + _NO_PORT + key[_SRC_PORT + 4 :]
    return zeroed[:_FLAGS] + bytes([flags & ~HAS_SRC_QPN]) + zeroed[_FLAGS + 1 :]


RENAMES: Mapping[str, Rename] = {"service": without_client_port, "hosts": without_ports}
"""By the values of --series-by, but for `flow`."""


class OwnerKeys:
    """Keys that stand for owners: instead of addresses they hold the number of a set of labels."""

    def __init__(self) -> None:
        self._numbers: dict[Labels, int] = {}
        self._labels: list[Labels] = []

    def key(self, owner: FlowOwner, slot: int, egress: int) -> bytes:
        """Return the key of an owner's flows at an interface, `egress`: FLOW_EGRESS or 0."""
        labels = owner_labels(owner)
        number = self._numbers.get(labels)
        if number is None:
            if len(self._labels) >= MOST_OWNERS:
                labels = MORE_OWNERS
            number = self._numbers.setdefault(labels, len(self._labels))
            if number == len(self._labels):
                self._labels.append(labels)
        return _OWNER_KEY.pack(number, slot, egress)

    def labels(self, key: bytes) -> Labels:
        """Return the labels that a key stands for."""
        return self._labels[int.from_bytes(key[: abi.U64.size], sys.byteorder)]


OTHER_OWNERS: Labels = (("owner", "other"),)
"""Of the series of all that have none of their own."""
MORE_OWNERS: Labels = (("owner", "more"),)
"""Of those beyond MOST_OWNERS."""


def owner_labels(owner: FlowOwner) -> Labels:
    """Return where a process runs and its command; of what is no process's, why."""
    named = (
        ("owner", None if owner.pid is not None else str(owner.how)),
        ("container", owner.container_name or owner.container),
        ("pod", owner.pod_name or owner.pod),
        ("unit", None if owner.container else owner.unit),
        ("command", owner.command),
    )
    return tuple((name, printable(value)) for name, value in named if value)


def grouped(names: Iterable[bytes], packets: Iterable[int], sizes: Iterable[int]) -> FlowTable:
    """Return flows by their series' keys, with packets and bytes added up, without times and flags.

    `names`: these keys, by the same index as packets and bytes.
    """
    sums: dict[bytes, list[int]] = {}
    for name, count, size in zip(names, packets, sizes, strict=True):
        entry = sums.get(name)
        if entry is None:
            sums[name] = [count, size]
        else:
            entry[0] += count
            entry[1] += size
    entries = b"".join(_NAMED.pack(name, count, size) for name, (count, size) in sums.items())
    return FlowTable(memoryview(entries), len(sums))
