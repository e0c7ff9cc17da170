"""Flows of all kinds by chance, whether or not a packet could make them."""

from __future__ import annotations

import random

from tests.unit.make import ARP, IPV4, IPV6, LLC, LLDP, RDMA_OVER_ETHERNET
from xtrace.model.flow import (
    EGRESS,
    FRAGMENT,
    HAS_SRC_QPN,
    INNER,
    LATER_FRAGMENT,
    ROCE_V1,
    ROCE_V2,
    TUNNELS,
    FlowKey,
    FlowRecord,
    Interface,
    Origin,
)

ALL_FLAGS = (
    0,
    EGRESS,
    FRAGMENT,
    FRAGMENT | LATER_FRAGMENT,
    ROCE_V1,
    ROCE_V2,
    ROCE_V2 | HAS_SRC_QPN,
    INNER,
    INNER | ROCE_V2,
)
SOME_PROCESS = Origin(41, 4711, 'tr"ain\udcff', "c0ffee")


def some_address(chance: random.Random) -> bytes:
    mapped = bytes(10) + b"\xff\xff"
    prefixes = (bytes(16), mapped, mapped + bytes([chance.randrange(256)]) * 4, b"\xfe\x80" + bytes(6), b"\x20\x01")
    prefix = chance.choice(prefixes)
    return prefix + bytes(chance.choice((0, 0, chance.randrange(256))) for _ in range(16 - len(prefix)))


def some_flow(chance: random.Random) -> FlowRecord:
    ethertype = chance.choice((IPV4, IPV6, IPV4, IPV6, ARP, LLDP, LLC, RDMA_OVER_ETHERNET, chance.randrange(1 << 16)))
    where = FlowKey(
        src=some_address(chance),
        dst=some_address(chance),
        src_port=chance.choice((0, 80, chance.randrange(1 << 16))),
        dst_port=chance.choice((0, 8, 65535, chance.randrange(1 << 16))),
        src_qpn=chance.choice((0, chance.randrange(1 << 24), chance.randrange(1 << 32))),
        vlan_id=chance.choice((0, 0, chance.randrange(4096))) | chance.randrange(len(TUNNELS)) << 12,
        ethertype=ethertype,
        slot=0,
        protocol=chance.choice((0, 1, 6, 17, 58, 132, chance.randrange(256))),
        opcode=chance.randrange(256),
        flags=chance.choice(ALL_FLAGS) & ~EGRESS,
    )
    size = chance.choice((1, 9, 10, 99, 100, 2**32, 2**63, 2**64 - 1))
    times = (chance.randrange(7000), chance.choice((0, 1, 4000, 4999, 86_400_000, 2**32 - 1)))
    marks = chance.choice((0, 1, 2**48 - 1)) | chance.randrange(64) << 48 | chance.randrange(2) << 56
    return FlowRecord(where, chance.randrange(1, 2**64), size, chance.randrange(256), marks, *times)


def some_origin(_: Interface, where: FlowKey) -> Origin:
    """Four kinds, by the opcode."""
    found = (Origin(), Origin(0), SOME_PROCESS, Origin(pid=1, command="x" * 15))
    return found[where.opcode % len(found)]
