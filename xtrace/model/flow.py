"""Flows in user space: keys, records, and the snapshot of one interval of mode xdp.

Byte layouts come from csrc/flow.h through kernel/abi.py: integers in host byte order, addresses in network order.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate, chain
from struct import Struct
from typing import Any, NamedTuple, Protocol

from xtrace.kernel import abi
from xtrace.kernel.syscall import ffi, lib
from xtrace.model.flow_owners import OWNER, UNKNOWN_OWNER, FlowOwner
from xtrace.model.owner_rows import PLACES, OwnerRows
from xtrace.model.snapshot import Snapshot
from xtrace.model.traffic_types import TRAFFIC_TYPES
from xtrace.model.words import Absence, Direction, Hook, Share, XdpMode

TUNNELS = abi.names(
    {
        lib.TUNNEL_NONE: "",
        lib.TUNNEL_VXLAN: "vxlan",
        lib.TUNNEL_GENEVE: "geneve",
        lib.TUNNEL_GTP: "gtp",
        lib.TUNNEL_GRE_KEY: "gre",
        lib.TUNNEL_GRE: "gre",
        lib.TUNNEL_IPIP: "ipip",
        lib.TUNNEL_SIT: "sit",
        lib.TUNNEL_IP6TNL: "ip6tnl",
        lib.TUNNEL_MPLS: "mpls",
        lib.TUNNEL_PPPOE: "pppoe",
    },
    lib.TUNNEL_KINDS,
)
"""Names in the order of enum tunnel (csrc/flow.h)."""

EGRESS, FRAGMENT, LATER_FRAGMENT = lib.FLOW_EGRESS, lib.FLOW_FRAGMENT, lib.FLOW_LATER_FRAGMENT
ROCE_V1, ROCE_V2, HAS_SRC_QPN = lib.FLOW_ROCE_V1, lib.FLOW_ROCE_V2, lib.FLOW_HAS_SRC_QPN
INNER = lib.FLOW_INNER

ETHERTYPE_IPV4, ETHERTYPE_ARP, ETHERTYPE_IPV6, ETHERTYPE_ROCE_V1 = 0x0800, 0x0806, 0x86DD, 0x8915
ETHERTYPE_LLC = 0x0004
"""A key's ethertype where the frame has a length instead (IEEE 802.3 with LLC), whatever it is."""
PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_ICMPV6, PROTOCOL_SCTP = 1, 6, 17, 58, 132

_BY_PROTOCOL = {
    PROTOCOL_TCP: "TCP",
    PROTOCOL_UDP: "UDP",
    PROTOCOL_SCTP: "SCTP",
    PROTOCOL_ICMP: "ICMP",
    PROTOCOL_ICMPV6: "ICMP",
}

NO_ADDRESS = bytes(16)


class FlowKey(NamedTuple):
    """struct flow_key. IPv4 addresses are mapped (::ffff:a.b.c.d); ICMP has type and code in the ports.

    src_qpn, vlan_id and ethertype hold more than their names say (csrc/flow.h): read them as source_qpn, vlan,
    inner_vlan, tunnel and vni. The ethertype is one except in inner flows, which are IP's.
    """

    src: bytes
    dst: bytes
    src_port: int
    dst_port: int
    src_qpn: int
    vlan_id: int
    ethertype: int
    slot: int
    protocol: int
    opcode: int
    flags: int

    @property
    def traffic_type(self) -> str:
        """One of TRAFFIC_TYPES, derived as in csrc/traffic_type.h."""
        if self.flags & ROCE_V2:
            return "RoCE_v2"
        if self.ethertype == ETHERTYPE_ROCE_V1:
            return "RoCE_v1_IBoE"
        if self.ethertype == ETHERTYPE_ARP:
            return "ARP"
        return _BY_PROTOCOL.get(self.protocol, "Other")

    @property
    def has_addresses(self) -> bool:
        """Whether there was a header with addresses: IP, ARP, a global route header."""
        return self.dst != NO_ADDRESS or self.src != NO_ADDRESS or self.is_ip

    @property
    def is_ip(self) -> bool:
        """Whether there was an IP header, and with it a protocol number."""
        # without a readable header all are 0; packets from :: to :: still have a protocol
        return bool(self.flags & INNER) or (
            self.ethertype in (ETHERTYPE_IPV4, ETHERTYPE_IPV6)
            and (self.protocol != 0 or self.dst != NO_ADDRESS or self.src != NO_ADDRESS)
        )

    @property
    def is_roce(self) -> bool:
        """Whether there was a base transport header: dst_qpn and opcode instead of ports."""
        return bool(self.flags & (ROCE_V1 | ROCE_V2))

    @property
    def dst_qpn(self) -> int:
        """Destination queue pair of a RoCE packet, stored in place of the ports."""
        return self.src_port | self.dst_port << 16

    @property
    def source_qpn(self) -> int | None:
        """Source queue pair of a RoCE packet that has it; None otherwise."""
        return self.src_qpn & lib.QPN_MASK if self.flags & HAS_SRC_QPN else None

    @property
    def vlan(self) -> int:
        """VLAN id of the frame's first tag; 0 without."""
        return self.vlan_id & lib.TAG_MASK

    @property
    def inner_vlan(self) -> int:
        """With --tunnel inner: VLAN id of the tag of the frame in the tunnel, else of the frame's second; 0 without."""
        if self.flags & INNER:
            return self.ethertype & lib.TAG_MASK
        return self.vlan_id >> lib.TUNNEL_SHIFT << lib.TAG_LOW_BITS | self.src_qpn >> lib.QPN_BITS

    @property
    def tunnel(self) -> str:
        """One of TUNNELS: what the packet was in; empty if the flow is no inner one."""
        return TUNNELS[self._tunnel]

    @property
    def vni(self) -> int | None:
        """The tunnel's number, if its kind has one: the VNI, GRE's key, GTP's tunnel endpoint identifier."""
        return self.src_qpn if 0 < self._tunnel < lib.TUNNEL_GRE else None

    @property
    def _tunnel(self) -> int:
        return self.vlan_id >> lib.TUNNEL_SHIFT if self.flags & INNER else 0


class FlowRecord(NamedTuple):
    """One flow in one interval: struct flow_key and struct flow_counters."""

    key: FlowKey
    packets: int
    bytes: int
    tcp_flags: int
    """the flags of all packets, OR-ed"""
    marks: int
    """the fields ecn_ce, dscp and dscp_changed of the header in one number"""
    first: int
    """kernel tick of the first packet, its lower 32 bits (FlowSnapshot.clock)"""
    last: int

    @property
    def ecn_ce_packets(self) -> int:
        """Packets that arrived with ECN "congestion experienced"."""
        return self.marks & ECN_CE_COUNT

    @property
    def dscp(self) -> int:
        """DSCP of the last packet."""
        return self.marks >> _DSCP_SHIFT & 0xFF

    @property
    def dscp_changed(self) -> bool:
        """Whether packets of this interval had different ones."""
        return bool(self.marks >> _DSCP_SHIFT >> 8)


KEY = abi.layout("struct flow_key", *FlowKey._fields)
COUNTERS = abi.layout("struct flow_counters", "packets", "bytes", "tcp_flags", "ecn_ce", "first", "last")
"""The fields of a FlowRecord after its key; marks is ecn_ce in the header."""
ENTRY = abi.layout("struct flow_entry", "key", "counters", "place", "asked")
"""The fields of a FlowKey, those of a FlowRecord after its key, and what only the programs use."""
ECN_CE_COUNT = lib.ECN_CE_COUNT
_DSCP_SHIFT = 8 * (abi.offset("struct flow_counters", "dscp") - abi.offset("struct flow_counters", "ecn_ce"))
SLOT_OFFSET = abi.offset("struct flow_key", "slot")
"""Bytes into a packed key."""
_FLAGS_OFFSET = abi.offset("struct flow_key", "flags")
_KEY_FIELDS = len(FlowKey._fields)
_COLUMNS: Mapping[str, tuple[int, Any]] = {
    field: (abi.offset("struct flow_key", field), letter)
    for field, letter in zip(("src_port", "dst_port", "ethertype", "protocol", "flags"), "HHHBB", strict=True)
}
"""Offsets and struct's letters of fields."""
_PACKED_KEY = Struct(f"{KEY.size}s{ENTRY.size - KEY.size}x")
_WORD = abi.U64.size
_ENTRY_WORDS = ENTRY.size // _WORD
_BYTES_INDEX = abi.offset("struct flow_entry", "counters", "bytes") // _WORD
_PACKETS_INDEX = abi.offset("struct flow_entry", "counters", "packets") // _WORD
_PLACE_SUM = abi.layout("struct place_sum", "flows", "packets", "bytes")
FEW = 8
"""One in so many flows: these are copied from windows, more are looked at where they lie."""
_INTERFACE_COUNTERS = abi.layout("struct interface_counters", "total", "filtered", "unattributed", "filtered_fragments")


NO_OWNERS = memoryview(b"")
ANY_PORT = b"\1" * 65536
_new_uncleared = ffi.new_allocator(should_clear_after_alloc=False)


class Window:
    """Flows that lie side by side, to be read until close()."""

    def __init__(
        self, first: int, entries: memoryview, owners: memoryview = NO_OWNERS, close: Callable[[], None] = lambda: None
    ) -> None:
        """`first`: the first one's index in the table; `entries`: struct flow_entry; `owners`: struct flow_owner."""
        self.first = first
        self.end = first + len(entries) // ENTRY.size
        """the index after the last one's"""
        self.entries, self.owners = entries, owners
        self.close = close

    def __contains__(self, index: int) -> bool:
        return self.first <= index < self.end

    def pieces(self) -> tuple[Any, int, int]:
        """Return what C takes: a struct flow_entry *, the index of the first, the number of flows."""
        return ffi.from_buffer("struct flow_entry[]", self.entries), self.first, self.end - self.first

    def record(self, index: int) -> FlowRecord:
        """Return one of them by its index in the table."""
        return _record(ENTRY.unpack_from(self.entries, (index - self.first) * ENTRY.size))

    def move(self, index: int, to: Window, place: int) -> None:
        """Move one of them to where an entry was taken for nothing; its own is left as one that was."""
        pieces = [(ENTRY.size, self.entries, to.entries)]
        if self.owners:
            pieces.append((OWNER.size, self.owners, to.owners))
        for size, source, target in pieces:
            begin, end = (index - self.first) * size, (place - to.first) * size
            target[end : end + size] = source[begin : begin + size]
        self.entries[(index - self.first) * ENTRY.size :][: ENTRY.size] = bytes(ENTRY.size)

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Entries(Protocol):
    """Where the flows of a table lie, and no others."""

    def window(self, index: int) -> Window:
        """Return a flow by its index, and some that lie beside it."""

    def all_entries(self) -> memoryview:
        """Return the struct flow_entry of all flows."""

    def all_owners(self) -> memoryview:
        """Return as many struct flow_owner; nothing if owners are not known."""


class InMemory:
    """Flows that are in memory anyway."""

    def __init__(self, entries: memoryview, owners: memoryview) -> None:
        self._entries, self._owners = entries, owners

    def window(self, index: int) -> Window:
        """Return all of them."""
        return Window(0, self._entries, self._owners)

    def all_entries(self) -> memoryview:
        """Return the memory itself."""
        return self._entries

    def all_owners(self) -> memoryview:
        """Return the memory itself."""
        return self._owners


class PlaceSum(NamedTuple):
    """The flows of one interface and direction."""

    flows: int
    sum: PacketCount


class FlowTable:
    """The flows of one snapshot, decoded one at a time from where they lie.

    Who goes through them in order has a window of them at hand; who looks at any of them has all. Their memory is
    reused for the next snapshot, so a FlowTable must be read before the next tick; release() makes it empty.
    """

    def __init__(self, entries: memoryview, count: int, owners: memoryview = NO_OWNERS) -> None:
        """`entries` begins with `count` struct flow_entry, `owners` with as many struct flow_owner, or is empty."""
        self._set(InMemory(entries[: count * ENTRY.size], owners[: count * OWNER.size]), count)

    @classmethod
    def where(cls, entries: Entries, count: int, sums: Any = None) -> FlowTable:
        """Return `count` flows where they lie. `sums`: by place, a struct place_sum *, if they are added up already."""
        made = cls.__new__(cls)
        made._set(entries, count)
        made._sums = sums
        return made

    def release(self) -> None:
        """Forget the entries, whose memory is about to go."""
        self._set(InMemory(memoryview(b""), NO_OWNERS), 0)

    def _set(self, where: Entries, count: int) -> None:
        self._where = where
        self._count = count
        self._sums: Any = None
        self._places: Mapping[tuple[int, int], Sequence[int]] | None = None
        self._owner_rows: OwnerRows | None = None

    @property
    def entries(self) -> memoryview:
        """All struct flow_entry: in memory until the next tick, when a view that is kept points nowhere."""
        return self._where.all_entries()

    @property
    def owners(self) -> memoryview:
        """All struct flow_owner; empty if owners are not known."""
        return self._where.all_owners()

    @property
    def _words(self) -> memoryview[int]:
        return self.entries.cast("B").cast("Q") if self._count else memoryview(b"").cast("Q")

    def window(self, index: int) -> Window:
        """Return a flow by its index, and some that lie beside it."""
        return self._where.window(index)

    def windows(self) -> Iterator[Window]:
        """Yield all flows in order, each window until the next."""
        index = 0
        while index < self._count:
            with self.window(index) as window:
                yield window
                index = window.end

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[FlowRecord]:
        return chain.from_iterable(map(_record, ENTRY.iter_unpack(window.entries)) for window in self.windows())

    def __getitem__(self, index: int) -> FlowRecord:
        return _record(ENTRY.unpack_from(self.entries, index * ENTRY.size))

    def copy(self) -> FlowTable:
        """Return all flows in memory of their own."""
        entries, owners = bytearray(), bytearray()
        for window in self.windows():
            entries += window.entries
            owners += window.owners
        return FlowTable(memoryview(entries), len(self), memoryview(owners))

    def copied(self, indexes: Iterable[int]) -> FlowTable:
        """Return these flows in memory of their own, in this order."""
        chosen = list(indexes)
        entries, owners = [b""] * len(chosen), [b""] * len(chosen)
        window = Window(0, memoryview(b""))
        with ExitStack() as opened:
            for place in sorted(range(len(chosen)), key=chosen.__getitem__):
                if chosen[place] >= window.end:
                    opened.close()
                    window = opened.enter_context(self.window(chosen[place]))
                index = chosen[place] - window.first
                entries[place] = bytes(window.entries[index * ENTRY.size : (index + 1) * ENTRY.size])
                owners[place] = bytes(window.owners[index * OWNER.size : (index + 1) * OWNER.size])
        return FlowTable(memoryview(b"".join(entries)), len(chosen), memoryview(b"".join(owners)))

    def owner(self, index: int) -> bytes:
        """Return one flow's struct flow_owner as bytes; nothing if owners are not known."""
        return bytes(self.owners[index * OWNER.size : (index + 1) * OWNER.size])

    def owner_rows(self) -> OwnerRows:
        """Return the flows added up by interface, direction and owner. Made once."""
        if self._owner_rows is None:
            self._owner_rows = OwnerRows(self.entries, self.owners, self._count)
        return self._owner_rows

    def packed_keys(self) -> Iterator[bytes]:
        """Yield every flow's struct flow_key as bytes, by index."""
        return chain.from_iterable(
            chain.from_iterable(_PACKED_KEY.iter_unpack(window.entries)) for window in self.windows()
        )

    def packed_key(self, index: int) -> bytes:
        """Return one flow's struct flow_key as bytes."""
        return bytes(self.entries[index * ENTRY.size : index * ENTRY.size + KEY.size])

    @property
    def byte_counts(self) -> Sequence[int]:
        """Every flow's bytes, by index."""
        return self._words[_BYTES_INDEX::_ENTRY_WORDS]

    @property
    def packet_counts(self) -> Sequence[int]:
        """Every flow's packets, by index."""
        return self._words[_PACKETS_INDEX::_ENTRY_WORDS]

    def column(self, field: str) -> Sequence[int]:
        """Every flow's value of one field of struct flow_key that is a number, by index."""
        offset, letter = _COLUMNS[field]
        cells: memoryview[int] = self.entries.cast("B").cast(letter)
        return cells[offset // cells.itemsize :: ENTRY.size // cells.itemsize]

    def address_words(self) -> tuple[Sequence[int], ...]:
        """Every flow's addresses by index, as 64-bit words in the host's order: two of the source, two of the other."""
        return tuple(self._words[word::_ENTRY_WORDS] for word in range(4))

    def roce(self) -> Iterator[FlowRecord]:
        """Yield the RoCE flows only."""
        for window in self.windows():
            for index, flags in enumerate(window.entries[_FLAGS_OFFSET :: ENTRY.size]):
                if flags & (ROCE_V1 | ROCE_V2):
                    yield window.record(window.first + index)

    def sum(self, indexes: Sequence[int]) -> PacketCount:
        """Return the sum of packets and bytes of some flows."""
        if len(indexes) == self._count:
            return self.total()
        if len(indexes) < self._count // FEW:
            return self.copied(indexes).total()
        packets, sizes = self.packet_counts, self.byte_counts
        return PacketCount(sum(packets[i] for i in indexes), sum(sizes[i] for i in indexes))

    def total(self) -> PacketCount:
        """Return the sum of packets and bytes of all flows."""
        return sum((place.sum for place in self.sums.values()), NOTHING)

    def largest(self, indexes: Sequence[int], most: int) -> Sequence[int]:
        """Return the indexes of the `most` largest of some flows by bytes, in order; of equal ones the first."""
        most = min(most, len(indexes))
        found = array("I", bytes(most * abi.U32.size))
        lib.xt_largest(
            ffi.from_buffer("struct flow_entry[]", self.entries),
            self.chosen(indexes),
            len(indexes),
            most,
            _new_uncleared("struct ranked_flow[]", most),
            ffi.from_buffer("__u32[]", found),
        )
        return found

    def owned_as(self, kinds: Iterable[int], slots: Iterable[int], ports: Iterable[int] | None = None) -> Sequence[int]:
        """Return the indexes of flows of TCP and UDP whose owner is of such a kind (enum owner_kind), at such slots.

        `ports`: both of a flow's must be among these; None: any. All flows must have owners.
        """
        search = ffi.new("struct flow_search *", {"kinds": sum(1 << kind for kind in kinds)})
        for slot in slots:
            search.slots[slot] = 1
        if ports is None:
            ffi.memmove(search.ports, ANY_PORT, len(ANY_PORT))
        for port in ports or ():
            search.ports[port] = 1
        found = array("I", bytes(self._count * abi.U32.size))
        used = lib.xt_find_flows(
            ffi.from_buffer("struct flow_entry[]", self.entries),
            ffi.from_buffer("struct flow_owner[]", self.owners),
            self._count,
            search,
            ffi.from_buffer("__u32[]", found),
        )
        return found[:used]

    def in_order(self, indexes: Sequence[int]) -> tuple[FlowTable, Sequence[int]]:
        """Return a table, and indexes in it, from which these flows can be read in this order.

        If the order is not the table's, a few flows are copied; for many all are in memory from then on.
        """
        if isinstance(indexes, range) or lib.xt_ascends(self.chosen(indexes), len(indexes)):
            return self, indexes
        if len(indexes) < self._count // FEW:
            return self.copied(indexes), range(len(indexes))
        return FlowTable(self.entries, self._count, self.owners), indexes

    def chosen(self, indexes: Sequence[int]) -> Any:
        """Return indexes as C takes them: a __u32 *, NULL for those of all flows."""
        is_all = isinstance(indexes, range) and indexes == range(self._count)
        if is_all:
            return ffi.NULL
        is_packed = isinstance(indexes, (array, memoryview))
        return ffi.from_buffer("__u32[]", indexes if is_packed else array("I", indexes))

    def place(self, slot: int, direction: Direction) -> PlaceSum:
        """Return the sum of the flows of one interface and direction."""
        return self.sums.get((slot, direction.bit), PlaceSum(0, NOTHING))

    @property
    def sums(self) -> Mapping[tuple[int, int], PlaceSum]:
        """The flows added up by slot and FLOW_EGRESS."""
        return {
            divmod(place, 2): PlaceSum(flows, PacketCount(*count))
            for place, (flows, *count) in enumerate(_PLACE_SUM.iter_unpack(ffi.buffer(self._place_sums())))
            if flows
        }

    def _place_sums(self) -> Any:
        """Return the sums, a struct place_sum[PLACES]. Made once."""
        if self._sums is None:
            self._sums = ffi.new("struct place_sum[]", PLACES)
            for window in self.windows():
                lib.xt_sum_flows(*window.pieces(), self._sums)
        return self._sums

    def indexes(self, slot: int, direction: Direction) -> Sequence[int]:
        """Return the indexes of the flows of one interface and direction, ascending."""
        if self._places is None:
            self._places = self._find_places()
        return self._places.get((slot, direction.bit), ())

    def _find_places(self) -> Mapping[tuple[int, int], Sequence[int]]:
        """Return all indexes by slot and FLOW_EGRESS."""
        sums = self.sums
        if len(sums) <= 1:
            return dict.fromkeys(sums, range(self._count))
        flows = [sums.get(divmod(place, 2), PlaceSum(0, NOTHING)).flows for place in range(PLACES)]
        firsts = [0, *accumulate(flows)]
        following, found = ffi.new("__u32[]", firsts), _new_uncleared("__u32[]", self._count)
        for window in self.windows():
            lib.xt_index_flows(*window.pieces(), following, found)
        indexes = memoryview(ffi.buffer(found)).cast("B").cast("I")
        return {divmod(place, 2): indexes[firsts[place] : firsts[place + 1]] for place in range(PLACES) if flows[place]}


def _record(fields: tuple[Any, ...]) -> FlowRecord:
    """Return the record whose struct flow_entry has these fields."""
    return FlowRecord(FlowKey._make(fields[:_KEY_FIELDS]), *fields[_KEY_FIELDS:-2])


def signed(number: int) -> int:
    """A difference of numbers of 32 bits that wrap, as one that may be negative."""
    return (number + (1 << 31)) % (1 << 32) - (1 << 31)


class TickClock(NamedTuple):
    """The kernel's tick and CLOCK_MONOTONIC at the same time, true to one tick."""

    tick: int = 0
    """its lower 32 bits"""
    monotonic_ns: int = 0
    tick_ns: int = 1_000_000

    def monotonic(self, tick: int) -> int:
        """Return CLOCK_MONOTONIC at a tick less than 2^31 ticks away, given by its lower 32 bits."""
        distance = signed(tick - self.tick)
        return self.monotonic_ns + distance * self.tick_ns


class PacketCount(NamedTuple):
    """struct packet_count: two words of struct interface_counters each."""

    packets: int
    bytes: int

    def __add__(self, other: object) -> PacketCount:
        if not isinstance(other, PacketCount):
            return NotImplemented
        return PacketCount(self.packets + other.packets, self.bytes + other.bytes)

    def __sub__(self, other: PacketCount) -> PacketCount:
        return PacketCount(self.packets - other.packets, self.bytes - other.bytes)


NOTHING = PacketCount(0, 0)


@dataclass(frozen=True)
class InterfaceCounts:
    """struct interface_counters of one interface and direction, summed over CPUs."""

    total: PacketCount = NOTHING
    filtered: PacketCount = NOTHING
    unattributed: tuple[PacketCount, ...] = (NOTHING,) * len(TRAFFIC_TYPES)
    interval_ns: int | None = None
    """measured, if the interface appeared or disappeared within the interval; else None"""
    nic: PacketCount | None = None
    """what the interface itself counted in the interval; None: unknown"""
    qdisc_drops: int | None = None
    """egress: packets that the interface's queue dropped after they were counted; None: unknown"""
    coverage: Share | None = None
    """how that compares with what the hook saw, lately; None: unknown"""
    filtered_fragments: PacketCount = NOTHING
    """later fragments whose first was not seen, so that --port and --exclude-dns could not decide"""

    @property
    def unattributed_total(self) -> PacketCount:
        """Unattributed packets and bytes of all traffic types."""
        return sum(self.unattributed, NOTHING)

    @property
    def in_no_flow(self) -> dict[str, PacketCount]:
        """What the total contains besides flows, by reason."""
        return {
            "unattributed": self.unattributed_total,
            "filtered": self.filtered,
            "filtered fragments": self.filtered_fragments,
        }

    def __add__(self, other: InterfaceCounts) -> InterfaceCounts:
        return InterfaceCounts(
            self.total + other.total,
            self.filtered + other.filtered,
            tuple(map(PacketCount.__add__, self.unattributed, other.unattributed)),
            filtered_fragments=self.filtered_fragments + other.filtered_fragments,
        )

    @classmethod
    def from_per_cpu(cls, element: bytes) -> InterfaceCounts:
        """Sum up the values of all CPUs, as returned by a lookup in the counters map."""
        sums = [sum(column) for column in zip(*_INTERFACE_COUNTERS.iter_unpack(element), strict=True)]
        counts = [PacketCount(*sums[i : i + 2]) for i in range(0, len(sums), 2)]
        return cls(counts[0], counts[1], tuple(counts[2:-1]), filtered_fragments=counts[-1])


class Interface(NamedTuple):
    """A monitored interface."""

    name: str
    slot: int
    hook: Hook = Hook.XDP
    xdp_mode: XdpMode | None = None
    """None at tc"""
    direction: Direction = Direction.INGRESS
    merges: bool = False
    """whether its driver passes merged packets to XDP"""
    is_up: bool = True
    """whether it is up, with a carrier"""

    @property
    def units(self) -> str:
        """The unit of packet counts: `wire`, or `frame` if the kernel may have merged packets (GRO, GSO)."""
        return "frame" if self.xdp_mode is XdpMode.GENERIC or self.merges else "wire"


class Unattached(NamedTuple):
    """A selected interface that is not monitored."""

    name: str
    reason: Absence
    detail: str
    is_named: bool = False
    """whether -i names it, not `any` or a glob"""

    @property
    def is_wanted(self) -> bool:
        """Whether somebody has to act: not if `any` or a glob matches an interface that takes no program."""
        return self.is_named or self.reason is not Absence.REFUSED


class Origin(NamedTuple):
    """The source's queue pair and this host's process of a RoCE flow, as far as known."""

    src_qpn: int | None = None
    pid: int | None = None
    command: str | None = None
    container: str | None = None


UNKNOWN_ORIGIN = Origin()


@dataclass(frozen=True)
class FlowSnapshot(Snapshot):
    """One tick of mode xdp."""

    mode = "xdp"

    start_monotonic_ns: int
    """CLOCK_MONOTONIC at the interval's start"""
    clock: TickClock
    """by which a record's ticks are times"""
    wall_offset_ns: int
    """to add to CLOCK_MONOTONIC for wall clock ns"""
    flows: FlowTable
    interfaces: tuple[tuple[Interface, InterfaceCounts], ...]
    grace_ns: int = 0
    """how long the grace period took"""
    drain_ns: int = 0
    """how long the drain took after it"""
    attached: int = 0
    """interfaces that were attached when the interval ended"""
    unattached: tuple[Unattached, ...] = ()
    """selected interfaces that were not"""
    reattached: tuple[str, ...] = ()
    """names of interfaces attached within the interval that were not before"""
    find_origin: Callable[[Interface, FlowKey], Origin] | None = None
    """with mode rdma: looks up a RoCE flow among the queue pairs"""
    name_owner: Callable[[bytes], FlowOwner] | None = None
    """with --owners: from a flow's struct flow_owner to its owner"""

    @property
    def failure(self) -> str:
        """Why nothing is monitored any more; empty otherwise. An interface that is gone may come back: no failure."""
        lost = [absent for absent in self.unattached if absent.reason in (Absence.DETACHED, Absence.REFUSED)]
        if self.attached or not lost:
            return ""
        return "no interface is monitored any more: " + "; ".join(f"{each.name}: {each.detail}" for each in lost)

    def owner(self, index: int) -> FlowOwner | None:
        """Return the owner of a flow by its index in the table; None without --owners."""
        return self.name_owner(self.flows.owner(index)) if self.name_owner else None

    def owner_named(self, packed: bytes) -> FlowOwner:
        """Return the owner that a struct flow_owner means."""
        return self.name_owner(packed) if self.name_owner else UNKNOWN_OWNER

    def origin(self, interface: Interface, key: FlowKey) -> Origin:
        """Return the origin of a RoCE flow: by its packets, else by its queue pair."""
        found = self.find_origin(interface, key) if self.find_origin else UNKNOWN_ORIGIN
        return found._replace(src_qpn=key.source_qpn) if key.flags & HAS_SRC_QPN else found


class Selection(NamedTuple):
    """The flows of one interface to show, largest first if limited, and the sum of the rest."""

    flows: int
    """all flows of the interface in this interval"""
    chosen: Sequence[int]
    """indexes into the snapshot's table"""
    other_flows: int
    other: PacketCount


def select(snapshot: FlowSnapshot, interface: Interface, top: int, ordered: bool = False) -> Selection:
    """Select the `top` largest flows of an interface by bytes (0: all), largest first if `ordered` or limited."""
    table = snapshot.flows
    indexes = table.indexes(interface.slot, interface.direction)
    if top and len(indexes) > top:
        chosen = table.largest(indexes, top)
    else:
        chosen = table.largest(indexes, len(indexes)) if ordered else indexes
    rest = NOTHING
    if len(chosen) < len(indexes):
        rest = table.place(interface.slot, interface.direction).sum - table.sum(chosen)
    return Selection(len(indexes), chosen, len(indexes) - len(chosen), rest)
