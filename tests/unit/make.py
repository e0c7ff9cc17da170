"""Flows, tables and snapshots for tests, written as a user would say them."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, ip_address

from xtrace.kernel.features import Features
from xtrace.model.flow import (
    ENTRY,
    HAS_SRC_QPN,
    ROCE_V1,
    ROCE_V2,
    FlowKey,
    FlowRecord,
    FlowSnapshot,
    FlowTable,
    Interface,
    InterfaceCounts,
    PacketCount,
    TickClock,
    Window,
)
from xtrace.model.flow_owners import OWNER
from xtrace.model.words import XdpMode

IPV4, ARP, IPV6, LLC, LLDP, RDMA_OVER_ETHERNET = 0x0800, 0x0806, 0x86DD, 0x0004, 0x88CC, 0x8915
TCP, UDP, ICMP, ICMPV6, SCTP, GRE = 6, 17, 1, 58, 132, 47

NS = 1_000_000_000
BOOT = 1_767_225_600 * NS
"""Wall clock when the monotonic clock of these tests stood at 0: 2026-01-01T00:00:00Z."""

TICK = 1_000_000
TICKS = TickClock(0, 0, TICK)
"""A kernel tick of a millisecond, which stood at 0 when the monotonic clock did."""

ETH0 = Interface("eth0", slot=0, xdp_mode=XdpMode.NATIVE)


def features(**changes: bool) -> Features:
    """All a new kernel has, without PREEMPT_RT and without type information, and what is told."""
    usual = {"btf": False, "frags": True, "links": True, "tcx": True, "percpu_batch": True}
    usual |= {"cmpxchg": True, "realtime": False}
    return Features(**{**usual, "ipsec": True, **changes})


def packed(address: str) -> bytes:
    """16 bytes; IPv4 mapped; nothing for the empty text."""
    if not address:
        return bytes(16)
    parsed = ip_address(address)
    return bytes(10) + b"\xff\xff" + parsed.packed if isinstance(parsed, IPv4Address) else parsed.packed


def key(
    src: str = "192.168.1.100",
    dst: str = "192.168.1.1",
    ports: tuple[int, int] = (80, 12345),
    protocol: int = TCP,
    *,
    ethertype: int | None = None,
    slot: int = 0,
    flags: int = 0,
    vlan_id: int = 0,
) -> FlowKey:
    """A flow's key; the ethertype follows from the address unless told."""
    if ethertype is None:
        ethertype = IPV6 if ":" in src else IPV4
    return FlowKey(packed(src), packed(dst), *ports, 0, vlan_id, ethertype, slot, protocol, 0, flags)


def roce(
    opcode: int = 8,
    dst_qpn: int = 193,
    src_qpn: int | None = None,
    *,
    src: str = "10.0.0.1",
    dst: str = "10.0.0.2",
    version: int = 2,
    slot: int = 0,
    vlan_id: int = 0,
) -> FlowKey:
    """The key of RoCE packets; without `src_qpn` they did not tell their source."""
    where = key(src, dst, (dst_qpn & 0xFFFF, dst_qpn >> 16), UDP, slot=slot, vlan_id=vlan_id, flags=ROCE_V2)
    if version == 1:
        where = where._replace(ethertype=RDMA_OVER_ETHERNET, protocol=0, flags=ROCE_V1)
    if src_qpn is not None:
        where = where._replace(src_qpn=src_qpn, flags=where.flags | HAS_SRC_QPN)
    return where._replace(opcode=opcode)


def flow(
    where: FlowKey | None = None,
    packets: int = 10,
    size: int = 1500,
    *,
    first_ns: int = 1 * NS,
    last_ns: int = 2 * NS,
    tcp_flags: int = 0,
    dscp: int = 0,
    dscp_changed: bool = False,
    ecn_ce: int = 0,
) -> FlowRecord:
    """A flow's record; times are of TICKS."""
    marks = ecn_ce | dscp << 48 | dscp_changed << 56
    return FlowRecord(
        where or key(), packets, size, tcp_flags, marks, first_ns // TICK % 2**32, last_ns // TICK % 2**32
    )


def pack_entry(record: FlowRecord) -> bytes:
    """The record as struct flow_entry."""
    return ENTRY.pack(*record.key, *record[1:], 0, 0)


def table(flows: Sequence[FlowRecord], room: int = 3) -> FlowTable:
    """The flows as the kernel hands them over, with `room` entries of rubbish behind them."""
    entries = b"".join(pack_entry(record) for record in flows) + b"\xaa" * room * ENTRY.size
    return FlowTable(memoryview(entries), len(flows))


class Pieces:
    """Flows of which so many are at hand at once."""

    def __init__(self, entries: memoryview, owners: memoryview, length: int) -> None:
        self._entries, self._owners, self._length = entries, owners, length
        self.open: list[int] = []
        """the first of the windows that are not closed"""
        self.was_whole = False

    def window(self, index: int) -> Window:
        first = index - index % self._length
        self.open.append(first)
        size, owned = self._length * ENTRY.size, self._length * OWNER.size
        entries, owners = self._entries[first * ENTRY.size :][:size], self._owners[first * OWNER.size :][:owned]
        return Window(first, entries, owners, lambda: self.open.remove(first))

    def all_entries(self) -> memoryview:
        self.was_whole = True
        return self._entries

    def all_owners(self) -> memoryview:
        return self._owners


def counts_of(
    flows: Sequence[FlowRecord],
    unattributed: tuple[PacketCount, ...] | None = None,
    filtered: PacketCount | None = None,
) -> InterfaceCounts:
    """The counts of an interface that carried these flows, and what else is told."""
    counts = InterfaceCounts(filtered=filtered or PacketCount(0, 0))
    if unattributed is not None:
        counts = InterfaceCounts(filtered=counts.filtered, unattributed=unattributed)
    shown = PacketCount(sum(f.packets for f in flows), sum(f.bytes for f in flows))
    return InterfaceCounts(shown + counts.filtered + counts.unattributed_total, counts.filtered, counts.unattributed)


def snapshot(
    flows: Sequence[FlowRecord] = (),
    interfaces: Sequence[tuple[Interface, InterfaceCounts]] | None = None,
    *,
    start_ns: int = 0,
    end_ns: int = 5 * NS,
    clock: TickClock | None = None,
) -> FlowSnapshot:
    """An interval from `start_ns` to `end_ns` of the monotonic clock; by default all flows are eth0's."""
    return FlowSnapshot(
        end_ns=BOOT + end_ns,
        interval_ns=end_ns - start_ns,
        start_monotonic_ns=start_ns,
        clock=clock or TICKS,
        wall_offset_ns=BOOT,
        flows=table(flows),
        interfaces=tuple(interfaces) if interfaces is not None else ((ETH0, counts_of(flows)),),
    )
