"""What the filters refuse is counted as filtered, what they let through as always, and the sums close."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.kernel.case import over_ipv4, over_ipv6
from tests.kernel.cases import SHORT_CASES
from tests.kernel.counter import TC, XDP, Counter, Interval, Sums, counting, skb_context
from tests.kernel.damage import MAKERS, frames_for
from tests.kernel.traffic import size_of
from tests.support.frames import (
    ARP,
    FRAGMENT_HEADER,
    GRE,
    ICMP,
    IPV4,
    IPV6,
    LLDP,
    ROCE_V1,
    SCTP,
    TCP,
    UDP,
    VLAN,
    arp,
    bth,
    ethernet,
    fragment_header,
    gre,
    grh,
    icmp,
    ipv4,
    ipv6,
    lldp,
    roce,
    sctp,
    tcp,
    udp,
    vlan,
    vxlan,
)
from xtrace.kernel import abi
from xtrace.kernel.bpf import Batch
from xtrace.kernel.syscall import ffi, lib
from xtrace.model.filters import Filters, parse_networks, parse_ports, parse_types
from xtrace.model.flow import FRAGMENT, KEY, LATER_FRAGMENT, NOTHING, FlowKey, InterfaceCounts, PacketCount
from xtrace.model.words import Direction
from xtrace.monitors.flows.plan import Plan
from xtrace.monitors.flows.tables import Place

if TYPE_CHECKING:
    from xtrace.model.filters import Network

DNS = 53
LEAVING = Place(direction=Direction.EGRESS)


def options(
    types: str = "all", net: str = "", exclude_net: str = "", port: str = "", *, exclude_dns: bool = False
) -> Filters:
    """What the options of these names give; empty ones are not given."""
    return Filters(
        parse_types(types),
        parse_networks(net, "--net") if net else (),
        parse_networks(exclude_net, "--exclude-net") if exclude_net else (),
        parse_ports(port) if port else frozenset(),
        exclude_dns,
    )


@contextmanager
def filtering(chosen: Filters) -> Iterator[tuple[Counter, Counter]]:
    """Both programs, on the same tables: XDP, and tc for frames that leave."""
    with (
        counting(Plan.make(20_000), filters=chosen) as ingress,
        ingress.tables.load(TC, LEAVING) as program,
    ):
        yield ingress, Counter(ingress.tables, program, LEAVING)


def measure(counters: Iterable[Counter], frames: Sequence[bytes]) -> tuple[Interval, InterfaceCounts, InterfaceCounts]:
    """The interval in which both saw the frames, and what each counted."""
    for counter in counters:
        for frame in frames:
            counter.count(frame)
    interval = counter.take()
    return interval, interval.counts[0, Direction.INGRESS], interval.counts[0, Direction.EGRESS]


def expected_of(counters: Iterable[Counter], frames: Sequence[bytes]) -> Sums:
    return {key: found for counter in counters for key, found in counter.expected(frames).items()}


FRAMES = {
    "web": ethernet(IPV4, ipv4(TCP, tcp(40000, 80), src="10.1.0.1", dst="10.2.0.1")),
    "answer": ethernet(IPV4, ipv4(TCP, tcp(80, 40000), src="10.2.0.1", dst="10.1.0.1")),
    "web6": ethernet(IPV6, ipv6(TCP, tcp(40001, 80), src="fd01::1", dst="fd02::1")),
    "tagged web": ethernet(VLAN, vlan(7, IPV4, ipv4(TCP, tcp(40002, 80), src="10.1.0.1", dst="10.2.0.1"))),
    "dns": ethernet(IPV4, ipv4(UDP, udp(40003, 53), src="10.1.0.1", dst="10.3.0.1")),
    "dns answer6": ethernet(IPV6, ipv6(UDP, udp(53, 40004), src="fd03::1", dst="fd01::1")),
    "dns over tcp": ethernet(IPV4, ipv4(TCP, tcp(40005, 53), src="10.1.0.1", dst="10.3.0.1")),
    "ping": ethernet(IPV4, ipv4(ICMP, icmp(53, 80), src="10.1.0.1", dst="10.2.0.1")),
    "sctp": ethernet(IPV4, ipv4(SCTP, sctp(80, 36412), src="172.16.0.1", dst="172.31.255.254")),
    "roce v2": ethernet(IPV4, ipv4(UDP, roce(bth(4, 80)), src="10.1.0.1", dst="10.2.0.1")),
    "roce v1": ethernet(ROCE_V1, grh(bth(4, 53), src="fd01::1", dst="fd02::1")),
    "later fragment": ethernet(IPV4, ipv4(UDP, udp(53, 80), offset=5, src="10.1.0.1", dst="10.2.0.1")),
    "gre": ethernet(IPV4, ipv4(GRE, gre(IPV4, b""), src="198.51.100.7", dst="10.2.0.1")),
    "loopback6": ethernet(IPV6, ipv6(TCP, tcp(40006, 22), src="::1", dst="::1")),
    "arp": ethernet(ARP, arp(src="10.1.0.1", dst="10.1.0.9")),
    "lldp": ethernet(LLDP, lldp()),
}
SMALL_NET = {"web", "answer", "tagged web", "dns", "dns over tcp", "ping", "roce v2", "later fragment", "arp"}
"""What is from or to 10.1.0.1."""

ALL_IPV4 = SMALL_NET | {"sctp", "gre"}
FD01 = {"web6", "dns answer6", "roce v1"}
"""What is from or to fd01::/16."""
ALL_IPV6 = FD01 | {"loopback6"}
WITH_DNS = {"dns", "dns answer6", "dns over tcp"}
TCP_FRAMES = {"web", "answer", "web6", "tagged web", "dns over tcp", "loopback6"}

CHOICES = [
    ("no filter", options(), set(FRAMES)),
    ("tcp", options("tcp"), TCP_FRAMES),
    ("udp", options("udp"), {"dns", "dns answer6", "later fragment"}),
    ("icmp", options("icmp"), {"ping"}),
    ("sctp", options("sctp"), {"sctp"}),
    ("roce", options("roce"), {"roce v1", "roce v2"}),
    ("ib", options("ib"), {"roce v1", "roce v2"}),
    ("roce_v1", options("roce_v1"), {"roce v1"}),
    ("roce_v2", options("roce_v2"), {"roce v2"}),
    ("several types", options("roce_v2,icmp,sctp"), {"roce v2", "ping", "sctp"}),
    ("all among types", options("icmp,all"), set(FRAMES)),
    ("net of one address", options(net="10.1.0.1"), SMALL_NET),
    ("net /32", options(net="10.3.0.1/32"), {"dns", "dns over tcp"}),
    ("net /31, the address beside", options(net="10.3.0.0/31"), {"dns", "dns over tcp"}),
    ("net /31, its neighbour", options(net="10.3.0.2/31"), set()),
    ("net /8", options(net="10.0.0.0/8"), SMALL_NET | {"gre"}),
    ("net /12, its last address", options(net="172.16.0.0/12"), {"sctp"}),
    ("net /0 of IPv4", options(net="0.0.0.0/0"), ALL_IPV4),
    ("net of IPv6", options(net="fd01::/16"), FD01),
    ("net /0 of IPv6", options(net="::/0"), ALL_IPV6),
    ("net /0 of both versions", options(net="::/0,0.0.0.0/0"), ALL_IPV4 | ALL_IPV6),
    ("net that begins as mapped addresses and as no address do", options(net="::/8"), {"loopback6"}),
    ("net of the loopback address, which begins as mapped ones do", options(net="::1"), {"loopback6"}),
    ("net of IPv4 whose numbers are the loopback address's", options(net="0.0.0.1"), set()),
    ("exclude-net of the loopback address", options(exclude_net="::1"), set(FRAMES) - {"loopback6"}),
    ("net of IPv6 that holds no address", options(net="::"), set()),
    ("net of all mapped addresses, which are IPv4's", options(net="::ffff:0:0/96"), ALL_IPV4),
    ("net of one mapped address", options(net="::ffff:10.1.0.1"), SMALL_NET),
    ("net /128", options(net="fd03::1"), {"dns answer6"}),
    ("net /127, its neighbour", options(net="fd03::2/127"), set()),
    ("nets of both versions", options(net="fd03::/16,198.51.100.0/24"), {"dns answer6", "gre"}),
    ("a net inside another", options(net="10.0.0.0/8,10.3.0.0/16"), SMALL_NET | {"gre"}),
    ("exclude-net", options(exclude_net="10.0.0.0/8"), set(FRAMES) - SMALL_NET - {"gre"}),
    ("exclude-net /32", options(exclude_net="10.1.0.1/32"), set(FRAMES) - SMALL_NET),
    ("exclude-net /0 of IPv4", options(exclude_net="0.0.0.0/0"), set(FRAMES) - ALL_IPV4),
    ("exclude-net /0 of IPv6", options(exclude_net="::/0"), set(FRAMES) - ALL_IPV6),
    ("exclude-net /0 of both versions", options(exclude_net="0.0.0.0/0,::/0"), {"lldp"}),
    ("exclude-net of IPv6", options(exclude_net="fd02::/16"), set(FRAMES) - {"web6", "roce v1"}),
    ("net without a part of it", options(net="10.0.0.0/8", exclude_net="10.1.0.0/16"), {"gre"}),
    ("the same net with and without", options(net="10.0.0.0/8", exclude_net="10.0.0.0/8"), set()),
    ("port", options(port="80"), {"web", "answer", "web6", "tagged web", "sctp"}),
    ("ports", options(port="53,36412"), WITH_DNS | {"sctp"}),
    ("port of nobody", options(port="81"), set()),
    ("port of RoCE", options(port="4791"), set()),
    ("exclude-dns", options(exclude_dns=True), set(FRAMES) - WITH_DNS - {"later fragment"}),
    ("port 53 and exclude-dns", options(port="53", exclude_dns=True), set()),
    ("type and port", options("tcp", port="53"), {"dns over tcp"}),
    ("type and net", options("tcp", "fd00::/8"), {"web6"}),
    ("all of them", options("tcp,sctp", "10.0.0.0/8,fd00::/8", "10.2.0.0/16", "80,53", exclude_dns=True), {"web6"}),
]


@pytest.mark.parametrize(("chosen", "names"), [choice[1:] for choice in CHOICES], ids=[choice[0] for choice in CHOICES])
def test_filter_lets_through_what_it_says_and_counts_the_rest(chosen: Filters, names: set[str]) -> None:
    wanted = [frame for name, frame in FRAMES.items() if name in names]
    # its first was not seen, so that nobody knows its ports; other filters refuse it even so
    by_port_alone = (chosen.ports or chosen.exclude_dns) and not (chosen.types or chosen.networks)
    unknown = [FRAMES["later fragment"]] if by_port_alone else []
    refused = [frame for name, frame in FRAMES.items() if name not in names and frame not in unknown]
    with filtering(chosen) as counters:
        interval, ingress, egress = measure(counters, [*wanted, *refused, *unknown])
        assert interval.sums == expected_of(counters, wanted)
    total = size_of([*wanted, *refused, *unknown])
    assert ingress == egress == InterfaceCounts(total, size_of(refused), filtered_fragments=size_of(unknown))


# the same decision, read a second time


def contains(network: Network, address: bytes) -> bool:
    six = ipaddress.IPv6Address(address)
    return (six.ipv4_mapped or six) in network


def touches(networks: Sequence[Network], key: FlowKey) -> bool:
    addresses = (key.src, key.dst) if key.has_addresses else ()
    return any(contains(network, address) for network in networks for address in addresses)


def ports_of(key: FlowKey) -> set[int]:
    """Empty for what has none: ICMP, RoCE, later fragments."""
    has = key.traffic_type in ("TCP", "UDP", "SCTP") and not key.flags & LATER_FRAGMENT
    return {key.src_port, key.dst_port} if has else set()


def lets_through(chosen: Filters, key: FlowKey) -> bool:
    return (
        (not chosen.types or key.traffic_type in chosen.types)
        and (not chosen.networks or touches(chosen.networks, key))
        and not touches(chosen.excluded_networks, key)
        and (not chosen.ports or bool(chosen.ports & ports_of(key)))
        and not (chosen.exclude_dns and DNS in ports_of(key))
    )


MIXTURES = {
    "types": options("tcp,roce"),
    "half of IPv4": options(net="128.0.0.0/1"),
    "IPv6": options(net="::/0"),
    "no IPv6": options(exclude_net="::/0"),
    "nets of all lengths": options(net=",".join(f"{1 << bit & 255}.0.0.0/{8 - bit}" for bit in range(8))),
    "excluded nets": options(exclude_net="0.0.0.0/2,10.0.0.0/8,fd00::/16"),
    "ports at the words' ends": options(port="63,64,80,127,128,40000,65535"),
    "no DNS": options(exclude_dns=True),
    "all": options("tcp,udp,roce_v1", "0.0.0.0/1,fd00::/8", "64.0.0.0/2", "53,80,1024", exclude_dns=True),
}


@pytest.mark.parametrize("mixture", MIXTURES)
def test_filters_agree_with_a_second_reading_on_random_frames(mixture: str) -> None:
    chosen = MIXTURES[mixture]
    with filtering(chosen) as counters:
        at_tc = counters[1]
        frames = [case.frame for case in SHORT_CASES if at_tc.takes(case.frame)]
        frames += [frame for make in MAKERS for frame in frames_for(at_tc, make, 7, 3000)]
        if chosen.ports or chosen.exclude_dns:  # fragments depend on those before them
            frames = [frame for frame in frames if not at_tc.parse(frame).key.flags & FRAGMENT]
        wanted = [frame for frame in frames if lets_through(chosen, at_tc.parse(frame).key)]
        interval, ingress, egress = measure(counters, frames)
        assert interval.sums == expected_of(counters, wanted)
    assert ingress == egress == InterfaceCounts(size_of(frames), size_of(frames) - size_of(wanted))
    assert 0 < len(wanted) < len(frames)


def test_filtered_packets_take_no_room_in_a_full_table() -> None:
    refused = [over_ipv4(UDP, udp(number, 9)) for number in range(1000)]
    wanted = [over_ipv6(TCP, tcp(number, 80)) for number in range(100)]
    with counting(Plan.make(100), filters=options("tcp")) as counter:
        interval = counter.measure([*refused, *wanted])
        assert interval.sums == counter.expected(wanted)
    assert interval.all.filtered == size_of(refused)
    assert interval.unattributed == {}


def test_filters_count_segments_of_merged_packets() -> None:
    frame = over_ipv4(TCP, tcp(5, 6, payload=bytes(2500)))
    with counting(Plan.make(100), program=TC, filters=options("udp")) as counter:
        counter.count(frame, context=skb_context(gso_size=1000, gso_segs=3))
        interval = counter.take()
    assert interval.all.filtered == interval.total == PacketCount(3, 2500 + 3 * 54)
    assert interval.flows == {}


def test_most_networks_an_option_takes_all_count() -> None:
    nets = [f"10.{number}.0.0/16" for number in range(256)]
    inside = [ethernet(IPV4, ipv4(UDP, udp(5, 6), src=f"10.{number}.1.1", dst="192.0.2.1")) for number in range(256)]
    outside = ethernet(IPV4, ipv4(UDP, udp(5, 6), src="11.0.0.1", dst="192.0.2.1"))
    with counting(Plan.make(1000), filters=options(net=",".join(nets))) as counter:
        interval = counter.measure([*inside, outside])
        assert interval.sums == counter.expected(inside)
    assert interval.all.filtered == size_of([outside])


# fragments


def ipv4_pieces(dst_port: int, number: int, *, src: str = "10.0.0.1", first_last: bool = False) -> list[bytes]:
    """A datagram in three fragments; `number` is its identification."""
    data = udp(5, dst_port, bytes(64))
    pieces = [
        bytearray(ipv4(UDP, data[at : at + 24], offset=at // 8, more=at + 24 < len(data), src=src))
        for at in range(0, len(data), 24)
    ]
    for piece in pieces:
        piece[4:6] = number.to_bytes(2, "big")
    frames = [ethernet(IPV4, bytes(piece)) for piece in pieces]
    return frames[::-1] if first_last else frames


def ipv6_pieces(dst_port: int, number: int) -> list[bytes]:
    """The same in IPv6."""
    data, frames = udp(5, dst_port, bytes(64)), []
    for at in range(0, len(data), 24):
        piece = bytearray(fragment_header(UDP, data[at : at + 24], offset=at // 8, more=at + 24 < len(data)))
        piece[4:8] = number.to_bytes(4, "big")
        frames.append(ethernet(IPV6, ipv6(FRAGMENT_HEADER, bytes(piece))))
    return frames


PORT_OF = {"port": options(port="9999"), "exclude-dns": options(exclude_dns=True)}
WANTED_PORT, OTHER_PORT = 9999, DNS


@pytest.mark.parametrize("program", [XDP, TC])
@pytest.mark.parametrize("pieces", [ipv4_pieces, ipv6_pieces], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("kind", PORT_OF)
def test_later_fragments_share_the_verdict_on_the_first(
    kind: str, pieces: Callable[[int, int], list[bytes]], program: str
) -> None:
    wanted = [frame for number in range(10) for frame in pieces(WANTED_PORT, number)]
    refused = [frame for number in range(10, 20) for frame in pieces(OTHER_PORT, number)]
    with counting(filters=PORT_OF[kind], program=program) as counter:
        interval = counter.measure([*wanted, *refused])
        assert interval.sums == counter.expected(wanted)
    assert interval.all.filtered == size_of(refused)
    assert interval.all.filtered_fragments == NOTHING


def test_identification_that_is_used_again_has_the_newer_verdict() -> None:
    first, second = ipv4_pieces(WANTED_PORT, 7), ipv4_pieces(OTHER_PORT, 7)
    with counting(filters=PORT_OF["port"]) as counter:
        interval = counter.measure([*first, *second])
        assert interval.sums == counter.expected(first)
    assert interval.all.filtered == size_of(second)


def test_fragments_before_the_first_are_counted_as_such() -> None:
    frames = ipv4_pieces(WANTED_PORT, 7, first_last=True)
    with counting(filters=PORT_OF["port"]) as counter:
        interval = counter.measure([*frames, *ipv4_pieces(WANTED_PORT, 7, src="10.0.0.9")[1:]])
        assert interval.sums == counter.expected(frames[-1:])
    assert interval.all.filtered_fragments.packets == len(frames) - 1 + 2
    assert interval.all.filtered == NOTHING


def test_fragments_whose_first_was_forgotten_are_counted_as_such() -> None:
    most = 8 * lib.FRAGMENTED_DATAGRAMS
    firsts = (ipv4_pieces(WANTED_PORT, number % 65536)[0] for number in range(most))
    pieces = ipv4_pieces(WANTED_PORT, 7, src="10.9.9.9")
    with counting(filters=PORT_OF["port"]) as counter:
        counter.count(pieces[0])
        for frame in firsts:
            counter.count(frame)
        for frame in pieces[1:]:
            counter.count(frame)
        interval = counter.take()
    assert interval.all.filtered_fragments == size_of(pieces[1:])


def test_first_fragment_of_long_ago_says_nothing() -> None:
    pieces = ipv4_pieces(WANTED_PORT, 7)
    with counting(filters=PORT_OF["port"]) as counter:
        counter.count(pieces[0])
        datagrams = counter.tables._maps["datagrams"]
        batch = Batch(KEY.size, 8, 16)
        assert datagrams.drain_into(batch) == 1
        (value,) = abi.U64.unpack(bytes(ffi.buffer(batch.values))[:8])
        # twice the nanoseconds
        datagrams.update(
            bytes(ffi.buffer(batch.keys))[: KEY.size],
            abi.U64.pack(value - 2 * (31 * 10**9 // counter.tables.clock().tick_ns)),
        )
        for frame in pieces[1:]:
            counter.count(frame)
        interval = counter.take()
    assert interval.all.filtered_fragments == size_of(pieces[1:])


def test_fragments_of_what_has_no_ports_are_filtered() -> None:
    pieces = [ethernet(IPV4, ipv4(ICMP, bytes(16), offset=3)), ethernet(IPV4, ipv4(GRE, bytes(16), offset=3))]
    with counting(filters=PORT_OF["port"]) as counter:
        assert counter.measure(pieces).all.filtered == size_of(pieces)
    with counting(filters=PORT_OF["exclude-dns"]) as counter:
        assert counter.measure(pieces).sums == counter.expected(pieces)


def test_fragments_in_a_tunnel_share_the_verdict_on_the_first() -> None:
    def inside(vni: int, frames: list[bytes]) -> list[bytes]:
        return [ethernet(IPV4, ipv4(UDP, vxlan(vni, frame))) for frame in frames]

    wanted, other = inside(1, ipv4_pieces(WANTED_PORT, 7)), inside(2, ipv4_pieces(OTHER_PORT, 7))
    with counting(filters=PORT_OF["port"]._replace(inner=True)) as counter:
        # the same addresses and numbers in two networks
        interval = counter.measure([wanted[0], other[0], *wanted[1:], *other[1:]])
        assert interval.sums == counter.expected(wanted)
    assert interval.all.filtered == size_of(other)


def test_memory_for_datagrams_is_taken_only_for_filters_by_port() -> None:
    with counting() as plain, counting(filters=PORT_OF["port"]) as by_port:
        assert by_port.tables.memory() - plain.tables.memory() > lib.FRAGMENTED_DATAGRAMS * 40
