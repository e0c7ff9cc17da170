"""The default route against a played kernel: recorded and composed answers."""

import errno
import random
import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest

from tests.unit.kernel.test_rtnetlink import (
    ETH0,
    ETH1,
    LO,
    FakeKernel,
    answers,
    dump,
    failure,
    message,
    u32,
)
from xtrace.errors import KernelError
from xtrace.kernel import netlink, routes, rtnetlink, syscall
from xtrace.kernel.netlink import NetlinkSocket, pack_attribute
from xtrace.kernel.routes import DefaultRoute, default_route

# Sent by the kernel, of no use to the parser.
RTA_TABLE = 15
RTA_NH_ID = 30
IFA_FLAGS = 8


def packed(address: str) -> bytes:
    return ip_address(address).packed


def family_of(address: str) -> int:
    return routes.AF_INET if ip_address(address).version == 4 else routes.AF_INET6


def route(
    family: int = routes.AF_INET,
    *extra: bytes,
    via: str = "",
    oif: int = ETH0,
    metric: int | None = None,
    dst_len: int = 0,
    src_len: int = 0,
    tos: int = 0,
    table: int = routes.RT_TABLE_MAIN,
    kind: int = routes.RTN_UNICAST,
    flags: int = 0,
) -> bytes:
    body = struct.pack(
        "=8BI", family, dst_len, src_len, tos, min(table, 252 if table > 255 else 255), 3, 0, kind, flags
    )
    body += pack_attribute(RTA_TABLE, u32(table))
    body += pack_attribute(routes.RTA_OIF, u32(oif)) if oif else b""
    body += pack_attribute(routes.RTA_GATEWAY, packed(via)) if via else b""
    body += pack_attribute(routes.RTA_PRIORITY, u32(metric)) if metric is not None else b""
    return message(routes.RTM_NEWROUTE, body + b"".join(extra))


def hop(oif: int, *extra: bytes, flags: int = 0) -> bytes:
    return struct.pack("=HBBi", 8 + len(b"".join(extra)), flags, 0, oif) + b"".join(extra)


def address(text: str, prefix: int, *, index: int = ETH0, flags: int = 0x80, scope: int = 0, peer: str = "") -> bytes:
    body = struct.pack("=BBBBI", family_of(text), prefix, flags & 0xFF, scope, index)
    body += pack_attribute(routes.IFA_ADDRESS, packed(peer or text))
    if family_of(text) == routes.AF_INET or peer:
        body += pack_attribute(routes.IFA_LOCAL, packed(text))
    return message(routes.RTM_NEWADDR, body + pack_attribute(IFA_FLAGS, u32(flags)))


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[FakeKernel, NetlinkSocket]]]:
    """play(answer, ...) -> (kernel, socket)."""

    def start(*played: list[bytes]) -> tuple[FakeKernel, NetlinkSocket]:
        kernel = FakeKernel(*played)
        monkeypatch.setattr(syscall, "lib", kernel)
        return kernel, NetlinkSocket(netlink.NETLINK_ROUTE)

    yield start


Play = Callable[..., tuple[FakeKernel, NetlinkSocket]]


# Default route


def test_recorded_default_route_has_the_address_in_the_gateways_subnet(play: Play) -> None:
    kernel, socket = play(*answers("default_route4"))
    assert default_route(socket) == DefaultRoute(index=3, source="10.1.0.7", gateway="10.1.0.1")
    assert len(kernel.sent) == 2


def test_recorded_ipv6_default_route_has_the_address_that_is_not_deprecated(play: Play) -> None:
    _, socket = play(dump(), *answers("default_route6"))
    assert default_route(socket) == DefaultRoute(index=3, source="fd00::5", gateway="fe80::1")


def test_questions_name_the_family(play: Play) -> None:
    kernel, socket = play(dump(), dump(route(10, via="fe80::1")), dump())
    assert default_route(socket) == DefaultRoute(ETH0, None, "fe80::1")
    asked = [(struct.unpack_from("=H", sent, 4)[0], sent[16]) for sent in kernel.sent]
    assert asked == [(routes.RTM_GETROUTE, 2), (routes.RTM_GETROUTE, 10), (routes.RTM_GETADDR, 10)]


def test_host_without_default_route_has_none(play: Play) -> None:
    _, socket = play(dump(), dump())
    assert default_route(socket) is None


def test_lowest_metric_wins_and_no_metric_is_the_lowest(play: Play) -> None:
    wide = route(via="10.0.0.1", metric=1024)
    narrow = route(via="10.0.0.2", metric=100, oif=ETH1)
    none = route(via="10.0.0.3")
    for table, gateway in (([wide, narrow], "10.0.0.2"), ([narrow, wide], "10.0.0.2"), ([wide, none], "10.0.0.3")):
        _, socket = play(dump(*table), dump())
        found = default_route(socket)
        assert found is not None
        assert found.gateway == gateway


def test_ipv4_comes_before_ipv6_whatever_the_metric(play: Play) -> None:
    _, socket = play(dump(route(via="10.0.0.1", metric=9999)), dump(), dump(route(10, via="fe80::1", metric=1)))
    assert default_route(socket) == DefaultRoute(ETH0, None, "10.0.0.1")


@pytest.mark.parametrize(
    "unusable",
    [
        route(via="10.0.0.9", dst_len=8),
        route(via="10.0.0.9", src_len=8),
        route(via="10.0.0.9", tos=4),
        route(via="10.0.0.9", table=77),
        route(via="10.0.0.9", table=1000),
        route(oif=LO, kind=7),
        route(via="10.0.0.9", flags=routes.RTNH_F_DEAD),
        route(via="10.0.0.9", flags=routes.RTM_F_CLONED),
        route(10, via="fe80::9"),
        route(2, pack_attribute(RTA_NH_ID, u32(7)), oif=0),
        message(rtnetlink.RTM_NEWLINK, bytes(12)),
    ],
)
def test_routes_that_are_not_usable_defaults_are_passed_over(play: Play, unusable: bytes) -> None:
    _, socket = play(dump(unusable), dump())
    assert default_route(socket) is None
    _, socket = play(dump(unusable, route(via="10.0.0.1", metric=500)), dump())
    assert default_route(socket) == DefaultRoute(ETH0, None, "10.0.0.1")


def test_preferred_source_of_the_route_needs_no_address_list(play: Play) -> None:
    source = pack_attribute(routes.RTA_PREFSRC, packed("192.0.2.7"))
    kernel, socket = play(dump(route(2, source, via="10.0.0.1")))
    assert default_route(socket) == DefaultRoute(ETH0, "192.0.2.7", "10.0.0.1")
    assert len(kernel.sent) == 1


def test_first_live_path_of_several_is_taken(play: Play) -> None:
    dead = hop(ETH0, pack_attribute(routes.RTA_GATEWAY, packed("10.0.0.1")), flags=routes.RTNH_F_DEAD)
    live = hop(ETH1, pack_attribute(routes.RTA_GATEWAY, packed("10.1.0.1")))
    last = hop(4, pack_attribute(routes.RTA_GATEWAY, packed("10.2.0.1")))
    paths = pack_attribute(routes.RTA_MULTIPATH, dead + live + last)
    _, socket = play(dump(route(2, paths, oif=0)), dump(address("10.0.0.7", 24), address("10.1.0.7", 24, index=ETH1)))
    assert default_route(socket) == DefaultRoute(ETH1, "10.1.0.7", "10.1.0.1")
    _, socket = play(dump(route(2, pack_attribute(routes.RTA_MULTIPATH, dead), oif=0)), dump())
    assert default_route(socket) is None


def test_ipv4_route_over_an_ipv6_gateway_shows_that_gateway(play: Play) -> None:
    via = pack_attribute(routes.RTA_VIA, struct.pack("=H", 10) + packed("fe80::9"))
    _, socket = play(dump(route(2, via)), dump(address("10.0.0.7", 24)))
    assert default_route(socket) == DefaultRoute(ETH0, "10.0.0.7", "fe80::9")


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ([address("10.0.0.5", 24), address("10.0.0.6", 24)], "10.0.0.5"),
        ([address("10.1.0.5", 24), address("10.0.0.6", 24)], "10.0.0.6"),
        ([address("10.0.0.5", 24, flags=0x81), address("10.0.0.6", 24)], "10.0.0.6"),
        ([address("10.0.0.5", 24, index=ETH1), address("10.9.0.6", 24)], "10.9.0.6"),
        ([address("10.0.0.5", 24, scope=253), address("192.0.2.6", 32)], "192.0.2.6"),
        ([address("169.254.0.5", 16, scope=253)], "169.254.0.5"),
        ([address("127.0.0.1", 8, index=LO, scope=254)], None),
        ([address("169.254.0.5", 16, index=ETH1, scope=253)], None),
        ([address("127.0.0.1", 8, index=LO, scope=254), address("192.0.2.9", 32, index=LO)], "192.0.2.9"),
        ([address("10.8.0.2", 32, peer="10.0.0.1")], "10.8.0.2"),
        ([address("10.9.0.5", 24), address("10.8.0.2", 32, peer="10.0.0.1")], "10.8.0.2"),
        ([address("fd00::5", 64)], None),
        ([], None),
    ],
    ids=[
        "first",
        "subnet of the gateway",
        "primary",
        "own interface",
        "global scope",
        "link scope of the own interface",
        "never the loopback address",
        "never link scope of another interface",
        "loopback's global address for an unnumbered interface",
        "own end of a point-to-point address",
        "peer that is the gateway",
        "other family",
        "no address",
    ],
)
def test_source_address_is_the_one_the_kernel_would_choose(
    play: Play, addresses: list[bytes], expected: str | None
) -> None:
    _, socket = play(dump(route(via="10.0.0.1")), dump(*addresses))
    assert default_route(socket) == DefaultRoute(ETH0, expected, "10.0.0.1")


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ([address("fe80::5", 64, scope=253), address("2001:db8::5", 64)], "2001:db8::5"),
        ([address("2001:db8::bad", 64, flags=0x01), address("2001:db8::5", 64)], "2001:db8::5"),
        ([address("2001:db8::bad", 64, flags=0x20), address("2001:db8::5", 64, flags=0x01)], "2001:db8::5"),
        ([address("2001:db8::bad", 64, flags=0x40), address("2001:db8::5", 64, flags=0x01)], "2001:db8::5"),
        ([address("2001:db8::bad", 64, flags=0x08), address("2001:db8::5", 64, flags=0x01)], "2001:db8::5"),
        ([address("fe80::5", 64, scope=253)], "fe80::5"),
        ([address("fe80::5", 64, scope=253), address("2001:db8::9", 128, index=LO)], "2001:db8::9"),
    ],
    ids=[
        "global scope",
        "stable",
        "not deprecated",
        "not tentative",
        "not duplicate",
        "link-local alone",
        "loopback's",
    ],
)
def test_ipv6_source_address_is_global_valid_and_lasting(play: Play, addresses: list[bytes], expected: str) -> None:
    _, socket = play(dump(), dump(route(10, via="fe80::1")), dump(*addresses))
    assert default_route(socket) == DefaultRoute(ETH0, expected, "fe80::1")


@pytest.mark.parametrize(
    "damaged",
    [
        [dump(message(routes.RTM_NEWROUTE, b""))],
        [dump(message(routes.RTM_NEWROUTE, b"\2\0"))],
        [dump(route(2, pack_attribute(routes.RTA_GATEWAY, b"123")))],
        [dump(route(2, pack_attribute(routes.RTA_VIA, b"\12")))],
        [dump(route(2, pack_attribute(routes.RTA_PREFSRC, b"12345")))],
        [dump(route(2, pack_attribute(routes.RTA_PRIORITY, b"\1")))],
        [dump(route(2, pack_attribute(routes.RTA_MULTIPATH, b"\0\0\0\0\1\0\0\0"), oif=0))],
        [dump(route(2, pack_attribute(routes.RTA_MULTIPATH, b"\x09\0\0\0\1\0\0\0"), oif=0))],
        [dump(route(2, pack_attribute(routes.RTA_MULTIPATH, b"\x08\0\0\0"), oif=0))],
        [dump(route()), dump(message(routes.RTM_NEWADDR, bytes(7)))],
        [dump(route()), dump(address("10.0.0.1", 33))],
        [dump(route()), dump(message(routes.RTM_NEWADDR, struct.pack("=BBBBI", 2, 8, 0, 0, 2) + b"\7\0\1\0abc"))],
    ],
)
def test_damaged_routes_and_addresses_are_an_error(play: Play, damaged: list[list[bytes]]) -> None:
    _, socket = play(*damaged, dump(), dump())
    assert failure(default_route, socket).errno == errno.EBADMSG


@pytest.mark.parametrize("name", ["default_route4", "default_route6"])
def test_recorded_routes_and_addresses_cut_at_any_length_raise_nothing_but_kernel_errors(play: Play, name: str) -> None:
    routes, addresses = answers(name)
    before = [dump()] if name.endswith("6") else []
    errors = 0
    for which, whole in enumerate((routes[0], addresses[0])):
        for length in range(1, len(whole)):
            dumps = [routes, addresses]
            dumps[which] = [whole[:length], *dumps[which][1:]]
            _, socket = play(*before, *dumps)
            try:
                found = default_route(socket)
            except KernelError as error:
                assert error.errno in (errno.EBADMSG, errno.ENOMSG)
                errors += 1
            else:
                assert found is None or found.index == 3
    assert errors > (len(routes[0]) + len(addresses[0])) * 0.9


def test_random_damage_to_routes_is_a_kernel_error_or_an_answer(play: Play) -> None:
    randomness, outcomes = random.Random(2), {"answer": 0, "error": 0}
    for _ in range(3000):
        dumps = [[bytearray(datagram) for datagram in dumped] for dumped in answers("default_route4")]
        for _ in range(randomness.randint(1, 6)):
            target = randomness.choice(randomness.choice(dumps))
            target[randomness.randrange(len(target))] = randomness.randrange(256)
        _, socket = play(*[[bytes(datagram) for datagram in dumped] for dumped in dumps], *[dump()] * 5)
        try:
            default_route(socket)
        except KernelError:
            outcomes["error"] += 1
        else:
            outcomes["answer"] += 1
    assert min(outcomes.values()) > 500, outcomes
