"""From the snapshots of mode xdp to IPFIX records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from xtrace.model.flow import (
    EGRESS,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    INNER,
    ROCE_V2,
    FlowKey,
    FlowRecord,
    FlowSnapshot,
    InterfaceCounts,
)
from xtrace.sinks.ipfix.biflows import opposites
from xtrace.sinks.ipfix.elements import (
    EXPORTING,
    FILTERING,
    INTERFACE,
    IPV4,
    IPV4_BOTH,
    IPV4_ICMP,
    IPV6,
    IPV6_BOTH,
    IPV6_ICMP,
    METERING,
    NO_ADDRESSES,
    Template,
)
from xtrace.sinks.ipfix.message import DOMAIN, Record
from xtrace.sinks.render import MAPPED

ROCE_PORT = 4791
"""UDP port of RoCE v2. The key has a queue pair in place of the ports."""
UNKNOWN_INITIATOR = 0
"""biflowDirection "arbitrary": the first direction of a record is the incoming one."""
ONLY_SELECTOR = 1
"""The number of our filter: there is one."""
LONGEST_SHORT = 254
"""Bytes of a value of variable length with a length of one byte (RFC 7011 7)."""


BIFLOWS = {IPV4: IPV4_BOTH, IPV6: IPV6_BOTH}
"""The templates of flows that may have an opposite -> those of both."""


@dataclass(frozen=True)
class Unsent:
    """Flow records that were not sent, and what they had counted."""

    flows: int = 0
    packets: int = 0
    octets: int = 0

    def __add__(self, other: Unsent) -> Unsent:
        return Unsent(self.flows + other.flows, self.packets + other.packets, self.octets + other.octets)


class Times(dict[int, int]):
    """Turns the ticks of a snapshot's flows into ms since the epoch, within its interval."""

    def __init__(self, snapshot: FlowSnapshot) -> None:
        self._clock = snapshot.clock
        self._offset = snapshot.wall_offset_ns
        self._start = snapshot.start_monotonic_ns + snapshot.wall_offset_ns
        self._end = snapshot.end_ns

    def __missing__(self, tick: int) -> int:
        """Return a tick's time. A tick is coarse, and may lie outside of the interval; many flows have the same."""
        ms = min(max(self._clock.monotonic(tick) + self._offset, self._start), self._end) // 1_000_000
        self[tick] = ms
        return ms


def flow_records(snapshot: FlowSnapshot, indexes: Mapping[int, int], biflow: bool = False) -> Iterator[Record]:
    """Yield a record per flow; with `biflow` one for two that are the directions of a connection on an interface.

    `indexes`: the interfaces' indexes in the kernel, by slot.
    """
    times, table = Times(snapshot), snapshot.flows
    pairs = opposites(table) if biflow else {}
    answers = frozenset(pairs.values())
    for index, record in enumerate(table):
        if index in answers:
            continue
        template, head = _named(record)
        fields = *head, *_seen(record, times, indexes.get(record.key.slot, 0))
        if index not in pairs:
            yield Record(template, template.packed.pack(*fields), 1, record.packets, record.bytes)
            continue
        answer, template = table[pairs[index]], BIFLOWS[template]
        content = template.packed.pack(*fields, *_counted(answer, times), answer.tcp_flags, UNKNOWN_INITIATOR)
        yield Record(template, content, 2, record.packets + answer.packets, record.bytes + answer.bytes)


def _named(record: FlowRecord) -> tuple[Template, tuple[bytes | int, ...]]:
    """Return the template of a flow, and the fields that name it."""
    key = record.key
    if not key.has_addresses:
        return NO_ADDRESSES, ()
    is_ipv4 = key.src.startswith(MAPPED) and key.dst.startswith(MAPPED)
    ends = (key.src[12:], key.dst[12:]) if is_ipv4 else (key.src, key.dst)
    if key.traffic_type == "ICMP":
        return IPV4_ICMP if is_ipv4 else IPV6_ICMP, (*ends, key.src_port << 8 | key.dst_port, key.protocol)
    return IPV4 if is_ipv4 else IPV6, (*ends, *_ports(key), key.protocol, record.tcp_flags)


def _ports(key: FlowKey) -> tuple[int, int]:
    if key.is_roce:
        return 0, ROCE_PORT if key.flags & ROCE_V2 else 0
    return key.src_port, key.dst_port


def _counted(record: FlowRecord, times: Times) -> tuple[int, ...]:
    """Return the fields COUNTED."""
    return record.packets, record.bytes, record.bytes, times[record.first], times[record.last]


def _seen(record: FlowRecord, times: Times, index: int) -> tuple[int, ...]:
    """Return the fields SEEN."""
    key = record.key
    is_egress = bool(key.flags & EGRESS)
    ways = (0, index, is_egress) if is_egress else (index, 0, is_egress)
    return *_counted(record, times), *ways, key.vlan, _ethertype(key), record.dscp


def _ethertype(key: FlowKey) -> int:
    """Return the ethertype; of an inner flow, whose key has a tag there, that of its IP version."""
    if not key.flags & INNER:
        return key.ethertype
    return ETHERTYPE_IPV4 if key.src.startswith(MAPPED) and key.dst.startswith(MAPPED) else ETHERTYPE_IPV6


def sums(snapshot: FlowSnapshot) -> InterfaceCounts:
    """Return what was counted on all interfaces."""
    return sum((counts for _, counts in snapshot.interfaces), InterfaceCounts())


def reliability_records(counts: InterfaceCounts, process: int, exported: int, unsent: Unsent) -> Iterator[Record]:
    """Yield what the run has counted besides flows (RFC 7011 4.2, 4.3, RFC 5477 8.2.1).

    `counts`: of the whole run; `exported`: flow records that were sent.
    """
    selected = counts.total.packets - counts.filtered.packets - counts.filtered_fragments.packets
    yield _options(METERING, DOMAIN, *counts.unattributed_total)
    yield _options(FILTERING, ONLY_SELECTOR, counts.total.packets, selected)
    yield _options(EXPORTING, process, unsent.flows, unsent.packets, unsent.octets, exported)


def interface_records(names: Mapping[int, str]) -> Iterator[Record]:
    """Yield the names of interfaces by index."""
    for index, name in names.items():
        text = name.encode("utf-8", "surrogateescape")[:LONGEST_SHORT]
        yield Record(INTERFACE, INTERFACE.packed.pack(index) + bytes((len(text),)) + text)


def _options(template: Template, *values: int) -> Record:
    return Record(template, template.packed.pack(*values))


def counted(snapshot: FlowSnapshot) -> Unsent:
    """Return what all flows of a snapshot have counted."""
    return Unsent(len(snapshot.flows), *snapshot.flows.sum(range(len(snapshot.flows))))
