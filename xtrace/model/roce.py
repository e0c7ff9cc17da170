"""Names of the opcodes of the InfiniBand base transport header (IBA 9.2, table 38; CNP: annex A17)."""

from __future__ import annotations

from functools import lru_cache

CNP = 0x81

_SERVICES = {
    0: ("", frozenset(range(0x1E)) - {0x15}),
    1: ("UC_", frozenset(range(0x0C))),
    2: ("RD_", frozenset(range(0x16))),
    3: ("UD_", frozenset({0x04, 0x05})),
    5: ("XRC_", frozenset(range(0x18)) - {0x15}),
}
"""opcode >> 5: prefix and operations. Reliable connections, nearly all traffic, have no prefix."""

_OPERATIONS = {
    0x00: "SEND_FIRST",
    0x01: "SEND_MIDDLE",
    0x02: "SEND_LAST",
    0x03: "SEND_LAST_WITH_IMM",
    0x04: "SEND_ONLY",
    0x05: "SEND_ONLY_WITH_IMM",
    0x06: "RDMA_WRITE_FIRST",
    0x07: "RDMA_WRITE_MIDDLE",
    0x08: "RDMA_WRITE_LAST",
    0x09: "RDMA_WRITE_LAST_WITH_IMM",
    0x0A: "RDMA_WRITE_ONLY",
    0x0B: "RDMA_WRITE_ONLY_WITH_IMM",
    0x0C: "RDMA_READ_REQUEST",
    0x0D: "RDMA_READ_RESPONSE_FIRST",
    0x0E: "RDMA_READ_RESPONSE_MIDDLE",
    0x0F: "RDMA_READ_RESPONSE_LAST",
    0x10: "RDMA_READ_RESPONSE_ONLY",
    0x11: "ACKNOWLEDGE",
    0x12: "ATOMIC_ACKNOWLEDGE",
    0x13: "COMPARE_SWAP",
    0x14: "FETCH_ADD",
    0x15: "RESYNC",
    0x16: "SEND_LAST_WITH_INVALIDATE",
    0x17: "SEND_ONLY_WITH_INVALIDATE",
    0x1C: "FLUSH",
    0x1D: "ATOMIC_WRITE",
}


@lru_cache(maxsize=256)
def opcode_name(opcode: int) -> str:
    """Return `RDMA_WRITE_LAST` for 8, `UD_SEND_ONLY` for 0x64, `CNP`; `0x1f` for an unknown opcode."""
    if opcode == CNP:
        return "CNP"
    prefix, operations = _SERVICES.get(opcode >> 5, ("", frozenset()))
    operation = _OPERATIONS.get(opcode & 0x1F)
    if operation is None or opcode & 0x1F not in operations:
        return f"0x{opcode:02x}"
    return prefix + operation
