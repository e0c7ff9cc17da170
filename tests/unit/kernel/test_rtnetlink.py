"""Interfaces, default route and XDP attachment against a played kernel: recorded and composed answers."""

import errno
import random
import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from xtrace.errors import KernelError
from xtrace.kernel import netlink, rtnetlink, syscall
from xtrace.kernel.netlink import NetlinkSocket, pack_attribute, pack_nested, parse_attributes
from xtrace.kernel.rtnetlink import DefaultRoute, LinkInfo, XdpOwner, default_route, link, links, parse_link

FIXTURES = Path(__file__).parents[2] / "fixtures" / "netlink"
OWN = 1
"""In played messages: replaced by the sequence number of the request that is being answered."""

ETH0, ETH1, LO = 2, 3, 1

# Sent by the kernel, of no use to the parser.
RTA_TABLE = 15
RTA_NH_ID = 30
IFA_FLAGS = 8


class FakeKernel:
    """Answers every request with the next list of datagrams."""

    def __init__(self, *answers: list[bytes]) -> None:
        self.answers = list(answers)
        self.queue: list[bytes] = []
        self.sent: list[bytes] = []

    def xt_netlink_open(self, protocol: int, groups: int) -> int:
        return 40

    def xt_netlink_send(self, fd: int, data: Any, length: int) -> int:
        request = bytes(syscall.ffi.buffer(data, length))
        self.sent.append(request)
        answer = self.answers.pop(0) if self.answers else []
        self.queue = [stamp(datagram, request[8:12]) for datagram in answer]
        return length

    def xt_netlink_recv(self, fd: int, buffer: Any, length: int, flags: int) -> int:
        if not self.queue:
            return -errno.EAGAIN
        datagram = self.queue[0] if flags & netlink.MSG_PEEK else self.queue.pop(0)
        syscall.ffi.buffer(buffer, length)[0 : len(datagram)] = datagram
        return len(datagram)

    def xt_close(self, fd: int) -> int:
        return 0


def stamp(datagram: bytes, sequence: bytes) -> bytes:
    stamped, offset = bytearray(datagram), 0
    while offset + 16 <= len(stamped):
        length, own = struct.unpack_from("=I4xI", stamped, offset)
        if own == OWN:
            stamped[offset + 8 : offset + 12] = sequence
        offset += max(16, (length + 3) & ~3)
    return bytes(stamped)


def recorded(name: str) -> list[bytes]:
    """The datagrams of a recording: hex paragraphs, `#` comments."""
    lines = [line for line in (FIXTURES / f"{name}.hex").read_text().splitlines() if not line.startswith("#")]
    return [bytes.fromhex(paragraph) for paragraph in "\n".join(lines).split("\n\n") if paragraph.strip()]


def answers(name: str) -> list[list[bytes]]:
    """A recording of several dumps, one list each: a dump ends with the datagram that holds NLMSG_DONE."""
    split: list[list[bytes]] = [[]]
    for datagram in recorded(name):
        split[-1].append(datagram)
        if any(header.type == netlink.NLMSG_DONE for header, _ in netlink.messages(datagram)):
            split.append([])
    return split[:-1]


def payloads(datagrams: list[bytes], kind: int) -> list[bytes]:
    return [body for datagram in datagrams for header, body in netlink.messages(datagram) if header.type == kind]


def message(kind: int, payload: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, 2, OWN, 0) + payload + bytes(-len(payload) % 4)


DONE = message(netlink.NLMSG_DONE, bytes(4))


def ack(code: int = 0) -> bytes:
    return message(netlink.NLMSG_ERROR, struct.pack("=i", code) + bytes(16))


def dump(*messages: bytes) -> list[bytes]:
    return [*messages, DONE]


def u32(number: int) -> bytes:
    return struct.pack("=I", number)


def link_payload(
    *extra: bytes, index: int = ETH0, name: bytes = b"eth0\0", link_type: int = 1, flags: int = 0
) -> bytes:
    header = struct.pack("=BxHiII", 0, link_type, index, flags, 0)
    return header + pack_attribute(rtnetlink.IFLA_IFNAME, name) + b"".join(extra)


def xdp(*members: tuple[int, bytes]) -> bytes:
    return link_payload(pack_nested(rtnetlink.IFLA_XDP, *(pack_attribute(kind, value) for kind, value in members)))


def packed(address: str) -> bytes:
    return ip_address(address).packed


def family_of(address: str) -> int:
    return rtnetlink.AF_INET if ip_address(address).version == 4 else rtnetlink.AF_INET6


def route(
    family: int = rtnetlink.AF_INET,
    *extra: bytes,
    via: str = "",
    oif: int = ETH0,
    metric: int | None = None,
    dst_len: int = 0,
    src_len: int = 0,
    tos: int = 0,
    table: int = rtnetlink.RT_TABLE_MAIN,
    kind: int = rtnetlink.RTN_UNICAST,
    flags: int = 0,
) -> bytes:
    body = struct.pack(
        "=8BI", family, dst_len, src_len, tos, min(table, 252 if table > 255 else 255), 3, 0, kind, flags
    )
    body += pack_attribute(RTA_TABLE, u32(table))
    body += pack_attribute(rtnetlink.RTA_OIF, u32(oif)) if oif else b""
    body += pack_attribute(rtnetlink.RTA_GATEWAY, packed(via)) if via else b""
    body += pack_attribute(rtnetlink.RTA_PRIORITY, u32(metric)) if metric is not None else b""
    return message(rtnetlink.RTM_NEWROUTE, body + b"".join(extra))


def hop(oif: int, *extra: bytes, flags: int = 0) -> bytes:
    return struct.pack("=HBBi", 8 + len(b"".join(extra)), flags, 0, oif) + b"".join(extra)


def address(text: str, prefix: int, *, index: int = ETH0, flags: int = 0x80, scope: int = 0, peer: str = "") -> bytes:
    body = struct.pack("=BBBBI", family_of(text), prefix, flags & 0xFF, scope, index)
    body += pack_attribute(rtnetlink.IFA_ADDRESS, packed(peer or text))
    if family_of(text) == rtnetlink.AF_INET or peer:
        body += pack_attribute(rtnetlink.IFA_LOCAL, packed(text))
    return message(rtnetlink.RTM_NEWADDR, body + pack_attribute(IFA_FLAGS, u32(flags)))


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[FakeKernel, NetlinkSocket]]]:
    """play(answer, ...) -> (kernel, socket)."""

    def start(*played: list[bytes]) -> tuple[FakeKernel, NetlinkSocket]:
        kernel = FakeKernel(*played)
        monkeypatch.setattr(syscall, "lib", kernel)
        return kernel, NetlinkSocket(netlink.NETLINK_ROUTE)

    yield start


Play = Callable[..., tuple[FakeKernel, NetlinkSocket]]


def failure(action: Callable[..., Any], *arguments: Any) -> KernelError:
    with pytest.raises(KernelError) as caught:
        action(*arguments)
    return caught.value


# Interfaces


def test_recorded_interfaces_are_described_completely(play: Play) -> None:
    _, socket = play(recorded("links"))
    found = {entry.name: entry for entry in links(socket)}
    assert list(found) == ["lo", "veth1", "veth0", "br0", "tun0"]
    assert found["veth1"] == LinkInfo(
        index=2,
        name="veth1",
        flags=0x11043,
        link_type=1,
        operstate="up",
        mtu=1500,
        kind="veth",
        master=4,
        slave_kind="bridge",
        address="02:00:00:00:00:02",
        xdp=None,
        rx_packets=6,
        rx_bytes=676,
        tx_packets=14,
        tx_bytes=1220,
        rx_dropped=0,
        tx_dropped=0,
    )
    assert found["veth0"].xdp == XdpOwner("native", 244, native_id=244)
    assert found["br0"].xdp == XdpOwner("generic", 244, generic_id=244)
    assert (found["br0"].kind, found["br0"].master) == ("bridge", None)
    assert (found["lo"].link_type, found["lo"].operstate, found["lo"].mtu) == (772, "unknown", 65536)
    assert found["lo"].address == "00:00:00:00:00:00"
    assert found["lo"].is_up
    assert (found["tun0"].link_type, found["tun0"].address, found["tun0"].operstate) == (65534, "", "down")
    assert not found["tun0"].is_up


def test_dump_asks_for_counters_and_not_for_virtual_functions(play: Play) -> None:
    kernel, socket = play(dump())
    assert links(socket) == []
    assert kernel.sent[0][4:8] == struct.pack("=HH", rtnetlink.RTM_GETLINK, 0x301)
    assert parse_attributes(kernel.sent[0][32:]) == {rtnetlink.IFLA_EXT_MASK: bytes(4)}


def test_interface_is_found_by_index_and_by_name(play: Play) -> None:
    kernel, socket = play(recorded("link"), recorded("link"))
    by_index, by_name = link(socket, 2), link(socket, "veth1")
    assert by_index is not None
    assert by_index == by_name
    assert (by_index.name, by_index.master) == ("veth1", 4)
    assert kernel.sent[0][16:32] == struct.pack("=BxHiII", 0, 0, 2, 0, 0)
    assert rtnetlink.IFLA_IFNAME not in parse_attributes(kernel.sent[0][32:])
    assert kernel.sent[1][16:32] == bytes(16)
    assert parse_attributes(kernel.sent[1][32:])[rtnetlink.IFLA_IFNAME] == b"veth1\0"


def test_name_of_sixteen_bytes_is_looked_up_as_an_alternative_name(play: Play) -> None:
    kernel, socket = play(recorded("link"), recorded("link"))
    link(socket, "a" * 15)
    link(socket, "a" * 16)
    asked = [parse_attributes(sent[32:]) for sent in kernel.sent]
    assert asked[0][rtnetlink.IFLA_IFNAME] == b"a" * 15 + b"\0"
    assert asked[1][rtnetlink.IFLA_ALT_IFNAME] == b"a" * 16 + b"\0"
    assert rtnetlink.IFLA_IFNAME not in asked[1]


def test_unknown_interface_is_none(play: Play) -> None:
    _, socket = play(recorded("link_missing"), [ack(-errno.ENODEV)])
    assert link(socket, "nope") is None
    assert link(socket, 9999) is None


@pytest.mark.parametrize("impossible", ["", "a" * 128, "eth0\0", 0, -1, 1 << 31, 1 << 40])
def test_impossible_name_or_index_is_none_without_asking(play: Play, impossible: str | int) -> None:
    kernel, socket = play(recorded("link"))
    assert link(socket, impossible) is None
    assert kernel.sent == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL, errno.ENOMEM, errno.EMSGSIZE])
def test_other_refusals_are_errors_that_name_the_interface(play: Play, number: int) -> None:
    _, socket = play([ack(-number)])
    caught = failure(link, socket, "eth7")
    assert (caught.call, caught.errno) == ("RTM_GETLINK(eth7)", number)


def test_acknowledgement_without_interface_is_an_error(play: Play) -> None:
    _, socket = play([ack()])
    assert failure(link, socket, "eth0").errno == errno.ENOMSG


def test_operational_states_are_spelled_as_in_sysfs() -> None:
    def state(number: int) -> str:
        return parse_link(link_payload(pack_attribute(rtnetlink.IFLA_OPERSTATE, bytes([number])))).operstate

    names = ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up", "unknown"]
    assert [state(number) for number in range(8)] == names
    assert state(255) == "unknown"


def test_up_is_what_was_asked_for_not_whether_there_is_a_carrier() -> None:
    states = [parse_link(link_payload(flags=flags)) for flags in (0, 0x1, 0x40, 0x41)]
    assert [entry.is_up for entry in states] == [False, True, False, True]


def test_infiniband_interface_has_a_long_address() -> None:
    raw = bytes(range(20))
    entry = parse_link(link_payload(pack_attribute(rtnetlink.IFLA_ADDRESS, raw), link_type=32))
    assert (entry.link_type, entry.address) == (32, ":".join(f"{byte:02x}" for byte in raw))


def test_bridge_notifications_have_no_counters_and_full_ones_have(play: Play) -> None:
    found = [parse_link(payload) for payload in payloads(recorded("notifications"), rtnetlink.RTM_NEWLINK)]
    assert [(entry.name, entry.operstate, entry.rx_packets) for entry in found] == [
        ("veth0", "down", 14),
        ("veth1", "lowerlayerdown", None),
        ("veth1", "lowerlayerdown", 6),
    ]
    assert found[1].tx_bytes is None


def test_counters_are_not_mixed_up_and_later_kernels_may_append_more() -> None:
    stats = struct.pack("=25Q", *range(1, 26))
    entry = parse_link(link_payload(pack_attribute(rtnetlink.IFLA_STATS64, stats)))
    assert (entry.rx_packets, entry.tx_packets, entry.rx_bytes, entry.tx_bytes) == (1, 2, 3, 4)
    assert (entry.rx_dropped, entry.tx_dropped) == (7, 8)


def test_xdp_programs_of_every_mode_are_told_apart() -> None:
    ids = [(4, u32(40)), (5, u32(50)), (6, u32(60)), (7, u32(70))]
    assert parse_link(xdp((2, b"\0"))).xdp is None
    assert parse_link(xdp()).xdp is None
    assert parse_link(xdp((2, b"\1"), ids[0], (5, u32(40)))).xdp == XdpOwner("native", 40, native_id=40)
    assert parse_link(xdp((2, b"\2"), ids[0], (6, u32(40)))).xdp == XdpOwner("generic", 40, generic_id=40)
    assert parse_link(xdp((2, b"\3"), ids[0], (7, u32(40)))).xdp == XdpOwner("offload", 40, offload_id=40)
    assert parse_link(xdp((2, b"\4"), *ids[1:])).xdp == XdpOwner("multi", 70, 50, 60, 70)
    assert parse_link(xdp((2, b"\4"), *ids[1:3])).xdp == XdpOwner("multi", 50, 50, 60)
    assert parse_link(xdp((2, b"\5"), ids[0])).xdp == XdpOwner("mode 5", 40)


@pytest.mark.parametrize("kind, value, named", [("tun", 1, True), ("tun", 0, False), ("vlan", 1, False)])
def test_packet_information_is_a_tun_interface_s(kind: str, value: int, named: bool) -> None:
    data = pack_attribute(rtnetlink.IFLA_INFO_DATA, pack_attribute(rtnetlink.IFLA_TUN_PI, bytes([value])))
    info = pack_attribute(rtnetlink.IFLA_INFO_KIND, kind.encode() + b"\0") + data
    assert parse_link(link_payload(pack_attribute(rtnetlink.IFLA_LINKINFO, info))).names_protocol == named
    without = link_payload(pack_attribute(rtnetlink.IFLA_LINKINFO, info[: -len(data)]))
    assert not parse_link(without).names_protocol


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(15),
        link_payload(index=0),
        link_payload(index=-1),
        link_payload(name=b"\0"),
        link_payload(pack_attribute(rtnetlink.IFLA_MTU, b"\0\0")),
        link_payload(pack_attribute(rtnetlink.IFLA_MASTER, bytes(8))),
        link_payload(pack_attribute(rtnetlink.IFLA_OPERSTATE, b"")),
        link_payload(pack_attribute(rtnetlink.IFLA_STATS64, bytes(63))),
        link_payload(pack_attribute(rtnetlink.IFLA_LINKINFO, b"\xff\xff\1\0")),
        link_payload(pack_attribute(rtnetlink.IFLA_XDP, b"\xff\xff\2\0")),
        xdp((2, b"\1\0")),
        xdp((2, b"\1"), (4, b"\1")),
    ],
)
def test_damaged_description_of_an_interface_is_an_error(payload: bytes) -> None:
    assert failure(parse_link, payload).errno == errno.EBADMSG


def test_recorded_description_cut_at_any_length_is_an_error_or_lacks_only_the_rest() -> None:
    for whole in payloads(recorded("links"), rtnetlink.RTM_NEWLINK):
        complete, accepted = parse_link(whole), 0
        for length in range(len(whole)):
            try:
                entry = parse_link(whole[:length])
            except KernelError as error:
                assert error.errno == errno.EBADMSG
                continue
            accepted += 1
            defaults = LinkInfo(complete.index, complete.name, complete.flags, complete.link_type)
            for field in LinkInfo.__slots__:
                assert getattr(entry, field) in (getattr(complete, field), getattr(defaults, field))
        assert 0 < accepted < len(whole) // 4


def test_random_damage_to_interfaces_is_a_kernel_error_or_a_list(play: Play) -> None:
    randomness, outcomes = random.Random(1), {"list": 0, "error": 0}
    original, end = recorded("links")
    for _ in range(3000):
        damaged = bytearray(original)
        for _ in range(randomness.randint(1, 12)):
            damaged[randomness.randrange(len(damaged))] = randomness.randrange(256)
        _, socket = play(*[[bytes(damaged), end]] * netlink.DUMP_TRIES)
        try:
            found = links(socket)
        except KernelError:
            outcomes["error"] += 1
        else:
            outcomes["list"] += 1
            assert all(entry.name and entry.index > 0 for entry in found)
    assert min(outcomes.values()) > 500, outcomes


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
    assert asked == [(rtnetlink.RTM_GETROUTE, 2), (rtnetlink.RTM_GETROUTE, 10), (rtnetlink.RTM_GETADDR, 10)]


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
        route(via="10.0.0.9", flags=rtnetlink.RTNH_F_DEAD),
        route(via="10.0.0.9", flags=rtnetlink.RTM_F_CLONED),
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
    source = pack_attribute(rtnetlink.RTA_PREFSRC, packed("192.0.2.7"))
    kernel, socket = play(dump(route(2, source, via="10.0.0.1")))
    assert default_route(socket) == DefaultRoute(ETH0, "192.0.2.7", "10.0.0.1")
    assert len(kernel.sent) == 1


def test_first_live_path_of_several_is_taken(play: Play) -> None:
    dead = hop(ETH0, pack_attribute(rtnetlink.RTA_GATEWAY, packed("10.0.0.1")), flags=rtnetlink.RTNH_F_DEAD)
    live = hop(ETH1, pack_attribute(rtnetlink.RTA_GATEWAY, packed("10.1.0.1")))
    last = hop(4, pack_attribute(rtnetlink.RTA_GATEWAY, packed("10.2.0.1")))
    paths = pack_attribute(rtnetlink.RTA_MULTIPATH, dead + live + last)
    _, socket = play(dump(route(2, paths, oif=0)), dump(address("10.0.0.7", 24), address("10.1.0.7", 24, index=ETH1)))
    assert default_route(socket) == DefaultRoute(ETH1, "10.1.0.7", "10.1.0.1")
    _, socket = play(dump(route(2, pack_attribute(rtnetlink.RTA_MULTIPATH, dead), oif=0)), dump())
    assert default_route(socket) is None


def test_ipv4_route_over_an_ipv6_gateway_shows_that_gateway(play: Play) -> None:
    via = pack_attribute(rtnetlink.RTA_VIA, struct.pack("=H", 10) + packed("fe80::9"))
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
        [dump(message(rtnetlink.RTM_NEWROUTE, b""))],
        [dump(message(rtnetlink.RTM_NEWROUTE, b"\2\0"))],
        [dump(route(2, pack_attribute(rtnetlink.RTA_GATEWAY, b"123")))],
        [dump(route(2, pack_attribute(rtnetlink.RTA_VIA, b"\12")))],
        [dump(route(2, pack_attribute(rtnetlink.RTA_PREFSRC, b"12345")))],
        [dump(route(2, pack_attribute(rtnetlink.RTA_PRIORITY, b"\1")))],
        [dump(route(2, pack_attribute(rtnetlink.RTA_MULTIPATH, b"\0\0\0\0\1\0\0\0"), oif=0))],
        [dump(route(2, pack_attribute(rtnetlink.RTA_MULTIPATH, b"\x09\0\0\0\1\0\0\0"), oif=0))],
        [dump(route(2, pack_attribute(rtnetlink.RTA_MULTIPATH, b"\x08\0\0\0"), oif=0))],
        [dump(route()), dump(message(rtnetlink.RTM_NEWADDR, bytes(7)))],
        [dump(route()), dump(address("10.0.0.1", 33))],
        [dump(route()), dump(message(rtnetlink.RTM_NEWADDR, struct.pack("=BBBBI", 2, 8, 0, 0, 2) + b"\7\0\1\0abc"))],
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


# XDP


def sent_xdp(request: bytes) -> dict[int, bytes]:
    """The members of IFLA_XDP in a sent RTM_SETLINK."""
    assert request[4:8] == struct.pack("=HH", rtnetlink.RTM_SETLINK, netlink.NLM_F_REQUEST | netlink.NLM_F_ACK)
    assert request[16:32] == struct.pack("=BxHiII", 0, 0, 7, 0, 0)
    assert request[34:36] == struct.pack("=H", netlink.NLA_F_NESTED | rtnetlink.IFLA_XDP)
    (only,) = parse_attributes(request[32:]).values()
    return parse_attributes(only)


@pytest.mark.parametrize("mode", [0, rtnetlink.XDP_FLAGS_SKB_MODE, rtnetlink.XDP_FLAGS_DRV_MODE])
def test_attach_never_replaces_what_is_there(play: Play, mode: int) -> None:
    kernel, socket = play([ack()])
    rtnetlink.xdp_attach(socket, 7, 12, mode)
    assert sent_xdp(kernel.sent[0]) == {
        rtnetlink.IFLA_XDP_FD: struct.pack("=i", 12),
        rtnetlink.IFLA_XDP_FLAGS: u32(mode | 1),
    }


@pytest.mark.parametrize("mode", [0, rtnetlink.XDP_FLAGS_SKB_MODE, rtnetlink.XDP_FLAGS_DRV_MODE])
def test_detach_names_the_one_program_it_removes(play: Play, mode: int) -> None:
    kernel, socket = play([ack()])
    rtnetlink.xdp_detach(socket, 7, 12, mode)
    assert sent_xdp(kernel.sent[0]) == {
        rtnetlink.IFLA_XDP_FD: struct.pack("=i", -1),
        rtnetlink.IFLA_XDP_FLAGS: u32(mode | 16),
        rtnetlink.IFLA_XDP_EXPECTED_FD: struct.pack("=i", 12),
    }


@pytest.mark.parametrize("action", [rtnetlink.xdp_attach, rtnetlink.xdp_detach])
def test_no_program_is_refused_here_because_the_kernel_would_remove_anyones(play: Play, action: Any) -> None:
    kernel, socket = play([ack()])
    with pytest.raises(ValueError, match="program"):
        action(socket, 7, -1, 0)
    assert kernel.sent == []


def test_refusal_by_the_driver_is_told_in_its_words(play: Play) -> None:
    _, socket = play(recorded("xdp_refused"))
    caught = failure(rtnetlink.xdp_attach, socket, 7, 12, rtnetlink.XDP_FLAGS_DRV_MODE)
    assert (caught.call, caught.errno) == ("RTM_SETLINK(XDP attach to interface 7)", errno.EOPNOTSUPP)
    assert caught.detail == (
        "virtio_net: Can't set XDP while host is implementing GRO_HW/CSUM, disable GRO_HW/CSUM first"
    )


@pytest.mark.parametrize("action", [rtnetlink.xdp_attach, rtnetlink.xdp_detach])
@pytest.mark.parametrize("number", [errno.EBUSY, errno.EEXIST, errno.EPERM, errno.ENODEV, errno.EINVAL])
def test_refused_attach_and_detach_are_kernel_errors(play: Play, action: Any, number: int) -> None:
    _, socket = play([ack(-number)])
    assert failure(action, socket, 7, 12, 0).errno == number
