"""Which two flows are the directions of one connection: they become one record (RFC 5103)."""

from __future__ import annotations

from xtrace.kernel import abi
from xtrace.model.flow import EGRESS, INNER, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP, FlowTable

_SRC, _DST, _SRC_PORT, _DST_PORT, _PROTOCOL, _FLAGS = (
    abi.offset("struct flow_key", name) for name in ("src", "dst", "src_port", "dst_port", "protocol", "flags")
)
_AFTER_PORTS = _DST_PORT + 2
_WITH_PORTS = frozenset({PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_SCTP})


def opposite(key: bytes) -> bytes | None:
    """Return the packed key of the other direction; None if nothing says which flow that is.

    Fragments lack the ports, ICMP and RoCE have other things in their place.
    """
    flags = key[_FLAGS]
    if key[_PROTOCOL] not in _WITH_PORTS or flags & ~(EGRESS | INNER):
        return None
    ends = key[_DST:_SRC_PORT] + key[_SRC:_DST] + key[_DST_PORT:_AFTER_PORTS] + key[_SRC_PORT:_DST_PORT]
    return ends + key[_AFTER_PORTS:_FLAGS] + bytes((flags ^ EGRESS,)) + key[_FLAGS + 1 :]


def opposites(table: FlowTable) -> dict[int, int]:
    """Return, by the index of each incoming flow that has an opposite in the table, the index of that."""
    outgoing = {key: index for index, key in enumerate(table.packed_keys()) if key[_FLAGS] & EGRESS}
    if not outgoing:
        return {}
    found = {}
    for index, key in enumerate(table.packed_keys()):
        if not key[_FLAGS] & EGRESS:
            other = outgoing.get(opposite(key) or b"")
            if other is not None:
                found[index] = other
    return found
