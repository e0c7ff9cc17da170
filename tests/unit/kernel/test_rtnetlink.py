"""Interfaces, their changes and XDP attachment against a played kernel: recorded and composed answers."""

import errno
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xtrace.errors import KernelError
from xtrace.kernel import constants, netlink, routes, rtnetlink, syscall
from xtrace.kernel.netlink import NetlinkSocket, pack_attribute, pack_nested, parse_attributes
from xtrace.kernel.rtnetlink import (
    LinkChange,
    LinkEvents,
    LinkInfo,
    XdpOwner,
    link,
    links,
    parse_link,
)

FIXTURES = Path(__file__).parents[2] / "fixtures" / "netlink"
OWN = 1
"""In played messages: replaced by the sequence number of the request that is being answered."""

ETH0, ETH1, LO = 2, 3, 1


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


def test_events_are_changes_of_interfaces_that_describe_them(play: Play) -> None:
    kernel, _ = play()
    described = link_payload(pack_attribute(rtnetlink.IFLA_STATS64, bytes(64)))
    gone = [message(rtnetlink.RTM_DELLINK, payload) for payload in (link_payload(name=b"brief0\0"), described)]
    with LinkEvents() as events:
        kernel.queue = [*recorded("notifications"), message(routes.RTM_NEWADDR, bytes(8)), *gone]
        found = [(event.change, event.link.name, event.link.rx_packets) for event in events.read()]
    assert found == [
        (LinkChange.APPEARED_OR_CHANGED, "veth0", 14),
        (LinkChange.APPEARED_OR_CHANGED, "veth1", 6),
        (LinkChange.GONE, "eth0", 0),
    ]


def test_counters_are_not_mixed_up_and_later_kernels_may_append_more() -> None:
    stats = struct.pack("=25Q", *range(1, 26))
    entry = parse_link(link_payload(pack_attribute(rtnetlink.IFLA_STATS64, stats)))
    assert (entry.rx_packets, entry.tx_packets, entry.rx_bytes, entry.tx_bytes) == (1, 2, 3, 4)


def test_xdp_programs_of_every_mode_are_distinguished() -> None:
    ids = [(4, u32(40)), (5, u32(50)), (6, u32(60)), (7, u32(70))]
    assert parse_link(xdp((2, b"\0"))).xdp is None
    assert parse_link(xdp()).xdp is None
    assert parse_link(xdp((2, b"\1"), ids[0], (5, u32(40)))).xdp == XdpOwner("native", 40, native_id=40)
    assert parse_link(xdp((2, b"\2"), ids[0], (6, u32(40)))).xdp == XdpOwner("generic", 40, generic_id=40)
    assert parse_link(xdp((2, b"\3"), ids[0], (7, u32(40)))).xdp == XdpOwner("offload", 40)
    assert parse_link(xdp((2, b"\4"), *ids[1:])).xdp == XdpOwner("multi", 70, 50, 60)
    assert parse_link(xdp((2, b"\4"), *ids[1:3])).xdp == XdpOwner("multi", 50, 50, 60)
    assert parse_link(xdp((2, b"\5"), ids[0])).xdp == XdpOwner("mode 5", 40)


@pytest.mark.parametrize("kind, value, expected", [("tun", 1, False), ("tun", 2, True), ("vlan", 2, None)])
def test_frames_of_a_tun_interface_begin_as_its_mode_says(kind: str, value: int, expected: bool | None) -> None:
    data = pack_attribute(rtnetlink.IFLA_INFO_DATA, pack_attribute(rtnetlink.IFLA_TUN_TYPE, bytes([value])))
    info = pack_attribute(rtnetlink.IFLA_INFO_KIND, kind.encode() + b"\0") + data
    assert parse_link(link_payload(pack_attribute(rtnetlink.IFLA_LINKINFO, info))).has_ethernet is expected
    without = link_payload(pack_attribute(rtnetlink.IFLA_LINKINFO, info[: -len(data)]))
    assert parse_link(without).has_ethernet is None


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
        link_payload(pack_attribute(rtnetlink.IFLA_STATS64, bytes(31))),
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
            for field in LinkInfo._fields:
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


# XDP


def sent_xdp(request: bytes) -> dict[int, bytes]:
    """The members of IFLA_XDP in a sent RTM_SETLINK."""
    assert request[4:8] == struct.pack("=HH", rtnetlink.RTM_SETLINK, netlink.NLM_F_REQUEST | netlink.NLM_F_ACK)
    assert request[16:32] == struct.pack("=BxHiII", 0, 0, 7, 0, 0)
    assert request[34:36] == struct.pack("=H", netlink.NLA_F_NESTED | rtnetlink.IFLA_XDP)
    (only,) = parse_attributes(request[32:]).values()
    return parse_attributes(only)


@pytest.mark.parametrize("mode", [0, constants.XDP_FLAGS_GENERIC, constants.XDP_FLAGS_NATIVE])
def test_attach_never_replaces_what_is_there(play: Play, mode: int) -> None:
    kernel, socket = play([ack()])
    rtnetlink.xdp_attach(socket, 7, 12, mode)
    assert sent_xdp(kernel.sent[0]) == {
        rtnetlink.IFLA_XDP_FD: struct.pack("=i", 12),
        rtnetlink.IFLA_XDP_FLAGS: u32(mode | 1),
    }


@pytest.mark.parametrize("mode", [0, constants.XDP_FLAGS_GENERIC, constants.XDP_FLAGS_NATIVE])
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


def test_refusal_by_the_driver_keeps_the_drivers_words(play: Play) -> None:
    _, socket = play(recorded("xdp_refused"))
    caught = failure(rtnetlink.xdp_attach, socket, 7, 12, constants.XDP_FLAGS_NATIVE)
    assert (caught.call, caught.errno) == ("RTM_SETLINK(XDP attach to interface 7)", errno.EOPNOTSUPP)
    assert caught.detail == (
        "virtio_net: Can't set XDP while host is implementing GRO_HW/CSUM, disable GRO_HW/CSUM first"
    )


@pytest.mark.parametrize("action", [rtnetlink.xdp_attach, rtnetlink.xdp_detach])
@pytest.mark.parametrize("number", [errno.EBUSY, errno.EEXIST, errno.EPERM, errno.ENODEV, errno.EINVAL])
def test_refused_attach_and_detach_are_kernel_errors(play: Play, action: Any, number: int) -> None:
    _, socket = play([ack(-number)])
    assert failure(action, socket, 7, 12, 0).errno == number
