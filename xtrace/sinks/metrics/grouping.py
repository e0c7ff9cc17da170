"""Which flows share a series (--series-by): packed keys are renamed, and flows of equal names added up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct

from xtrace.kernel import abi
from xtrace.kernel.syscall import lib
from xtrace.model.flow import (
    COUNTERS,
    HAS_SRC_QPN,
    PROTOCOL_ICMP,
    PROTOCOL_ICMPV6,
    PROTOCOL_SCTP,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    ROCE_V1,
    ROCE_V2,
    FlowTable,
)

Rename = Callable[[bytes], bytes]

_SRC_PORT, _DST_PORT, _SRC_QPN, _PROTOCOL, _FLAGS = (
    abi.offset("struct flow_key", name) for name in ("src_port", "dst_port", "src_qpn", "protocol", "flags")
)
_PORT = Struct("=H")
_NO_PORT = bytes(2)
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


def grouped(table: FlowTable, rename: Rename) -> FlowTable:
    """Return the flows by their series' keys, with packets and bytes added up, without times and flags."""
    sums: dict[bytes, list[int]] = {}
    for key, packets, size in zip(table.packed_keys(), table.packet_counts, table.byte_counts, strict=True):
        name = rename(key)
        entry = sums.get(name)
        if entry is None:
            sums[name] = [packets, size]
        else:
            entry[0] += packets
            entry[1] += size
    values = b"".join(COUNTERS.pack(packets, size, 0, 0, 0) for packets, size in sums.values())
    return FlowTable(memoryview(b"".join(sums)), memoryview(values), len(sums))
