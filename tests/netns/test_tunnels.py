"""Interfaces without a link layer: the kernel says where the network header of a packet is, and what it is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.netns.load import transfer
from tests.netns.tool import eventually, flows, running
from tests.support.frames import ICMP, TCP, ipv4, tcp
from tests.support.net import Namespace, Pair, assert_sums_close, quiet_pair, veth_pair

PINGS = 10
PACKET = 20 + 8 + 56
"""Bytes of an echo request or reply as ping sends it, without a link layer."""

MPLS = 0x8847
LABEL_LIKE_IPV4 = bytes.fromhex("45e7b140")
"""Label 286331, bottom of stack, TTL 64"""

SEND = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as sending:
    for number in range(int(sys.argv[2])):
        sending.sendto(bytes.fromhex(sys.argv[4]), (sys.argv[1], int(sys.argv[3])))
"""
"""`INTERFACE NUMBER ETHERTYPE PAYLOAD`"""

Ends = Sequence[tuple[Namespace, str, str, str]]
"""Each end: namespace, its interface, its own address, the other's."""


def outer(pair: Pair) -> Ends:
    return ((pair.near, "near0", "10.0.0.1", "10.0.0.2"), (pair.far, "far0", "10.0.0.2", "10.0.0.1"))


def add(namespace: Namespace, arguments: str) -> None:
    """`ip` that adds what not every kernel has; an expected failure without it (guests of tests/vm have it)."""
    try:
        namespace.ip(arguments)
    except subprocess.CalledProcessError as error:
        pytest.xfail(f"this kernel has none: {error.stderr.strip()}")


def point_to_point(kind: str, more: str = "") -> Callable[[Pair], None]:
    """Makes t1 of a kind that knows its other end."""

    def make(pair: Pair) -> None:
        for end, _, local, remote in outer(pair):
            add(end, f"link add t1 type {kind} local {local} remote {remote} {more}")

    return make


def gre_without_remote(pair: Pair) -> None:
    for end, _, local, _ in outer(pair):
        add(end, f"link add t1 type gre local {local} key 7 ttl 64")


def geneve(pair: Pair) -> None:
    for end, _, _, remote in outer(pair):
        add(end, f"link add t1 type geneve id 42 remote {remote}")


def xfrm(first_byte: str) -> Callable[[Pair], None]:
    """Makes t1 an xfrm interface; MAC addresses begin with `first_byte`, which looks like an IP version."""

    def make(pair: Pair) -> None:
        keys = "enc cbc(aes) 0x" + 16 * "11" + " auth-trunc hmac(sha256) 0x" + 32 * "22" + " 128"
        macs = [f"{first_byte}:00:00:00:00:0{number}" for number in (1, 2)]
        for number, (end, device, local, remote) in enumerate(outer(pair)):
            end.ip(f"link set {device} address {macs[number]}")
            end.ip(f"neigh replace {remote} lladdr {macs[1 - number]} nud permanent dev {device}")
            for source, target, way, spi in ((local, remote, "out", 1 + number), (remote, local, "in", 2 - number)):
                ends = f"src {source} dst {target}"
                add(end, f"xfrm state add {ends} proto esp spi {spi} mode tunnel if_id 42 {keys}")
                template = f"tmpl {ends} proto esp mode tunnel"
                add(end, f"xfrm policy add src 0.0.0.0/0 dst 0.0.0.0/0 dir {way} if_id 42 {template}")
            add(end, f"link add t1 type xfrm dev {device} if_id 42")

    return make


KINDS: dict[str, Callable[[Pair], None]] = {
    "ipip": point_to_point("ipip"),
    "gre": point_to_point("gre"),
    "gre with key, sequence and checksum": point_to_point("gre", "key 7 seq csum"),
    "sit": point_to_point("sit", "mode ipip"),
    "gre without remote": gre_without_remote,
    "xfrm": xfrm("02"),
    "xfrm, MAC addresses that begin with 46": xfrm("46"),
    "xfrm, MAC addresses that begin with 66": xfrm("66"),
}


def bring_up(pair: Pair, make: Callable[[Pair], None]) -> None:
    """Make t1 at both ends: 172.16.0.1 at near, 172.16.0.2 at far."""
    make(pair)
    for number, (end, _, _, remote) in enumerate(outer(pair), 1):
        end.ip(f"addr add 172.16.0.{number}/24 dev t1")
        end.ip("link set t1 up")
        if make is gre_without_remote:
            end.ip(f"neigh replace 172.16.0.{3 - number} lladdr {remote} nud permanent dev t1")


def over_ipv6(kind: str, more: str = "") -> Callable[[Pair], None]:
    """Makes t1 of a kind whose outer packets are IPv6's, which a quiet pair has switched off."""

    def make(pair: Pair) -> None:
        macs = [json.loads(end.ip(f"-j link show {name}"))[0]["address"] for end, name, _, _ in outer(pair)]
        for number, (end, name, _, _) in enumerate(outer(pair), 1):
            for conf in ("all", name):
                end.run("sysctl", "-qw", f"net.ipv6.conf.{conf}.disable_ipv6=0")
            end.ip(f"addr add fd00::{number}/64 dev {name} nodad")
            end.ip(f"neigh replace fd00::{3 - number} lladdr {macs[2 - number]} nud permanent dev {name}")
            add(end, f"link add t1 type {kind} local fd00::{number} remote fd00::{3 - number} {more}")
            end.run("sysctl", "-qw", "net.ipv6.conf.t1.disable_ipv6=1")

    return make


INNER_KINDS = {
    "VXLAN": (point_to_point("vxlan", "id 42 dstport 4789"), "vxlan", 42, 14 + 20 + 8 + 8 + 14),
    "Geneve": (geneve, "geneve", 42, 14 + 20 + 8 + 8 + 14),
    "IPIP": (point_to_point("ipip"), "ipip", None, 14 + 20),
    "GRE": (point_to_point("gre"), "gre", None, 14 + 20 + 4),
    "GRE with all options": (point_to_point("gre", "key 4275878552 seq csum"), "gre", 4275878552, 14 + 20 + 4 + 12),
    "GRE without remote": (gre_without_remote, "gre", 7, 14 + 20 + 4 + 4),
    "GRE of frames": (point_to_point("gretap", "key 7"), "gre", 7, 14 + 20 + 4 + 4 + 14),
    "VXLAN over IPv6": (over_ipv6("vxlan", "id 42 dstport 4789"), "vxlan", 42, 14 + 40 + 8 + 8 + 14),
    "IPv4 in IPv6 with a destination header": (over_ipv6("ip6tnl", "mode ipip6"), "ip6tnl", None, 14 + 40 + 8),
}
"""How it is made, and of each packet: `tunnel`, `vni`, bytes in front of the inner IP header."""


@pytest.mark.parametrize("options", [("--hook", "tc"), ("--hook", "xdp", "--xdp-mode", "generic")], ids=["tc", "XDP"])
@pytest.mark.parametrize("kind", INNER_KINDS)
def test_pings_in_a_tunnel_are_a_flow_of_the_interface_below(kind: str, options: tuple[str, ...]) -> None:
    make, tunnel, vni, before = INNER_KINDS[kind]
    with quiet_pair() as pair:
        bring_up(pair, make)
        with running(pair.far, "-i", "far0", "-t", "1h", "--tunnel", "inner", "--net", "172.16.0.1", *options) as tool:
            ping(pair)
            result = tool.stop()
    assert_sums_close(result.records)
    (flow,) = flows(result.records, protocol=ICMP)
    assert (flow["src_ip"], flow["dst_ip"], flow["icmp_type"]) == ("172.16.0.1", "172.16.0.2", 8)
    assert (flow["tunnel"], flow.get("vni")) == (tunnel, vni)
    assert (flow["packets"], flow["bytes"]) == (PINGS, PINGS * (PACKET + before))


MERGING_KINDS = {
    "VXLAN": point_to_point("vxlan", "id 42 dstport 4789"),
    "Geneve": geneve,
    "IPIP": point_to_point("ipip"),
    "GRE": point_to_point("gre"),
    "GRE with a key": point_to_point("gre", "key 7"),
    "GRE of frames": point_to_point("gretap", "key 7"),
    "SIT of IPv4": point_to_point("sit", "mode ipip"),
    "VXLAN over IPv6": over_ipv6("vxlan", "id 42 dstport 4789"),
    "IPv4 in IPv6": over_ipv6("ip6tnl", "mode ipip6 encaplimit none"),
    "IPv4 in IPv6 with a destination header": over_ipv6("ip6tnl", "mode ipip6"),
    "GRE over IPv6": over_ipv6("ip6gre", "encaplimit none"),
}
TRANSFER = 5 << 20


def seen_at_far(make: Callable[[Pair], None], use: Callable[[Pair], object], *options: str) -> list[dict[str, Any]]:
    """The records of far's t1 while `use` sent something from near's."""
    programs = 2 if "both" in options else 1
    with quiet_pair() as pair:
        bring_up(pair, make)
        with running(pair.far, "-i", "t1", "-t", "1h", *options, programs=programs) as tool:
            use(pair)
            result = tool.stop()
    assert result.code == 0
    assert_sums_close(result.records)
    return result.records


def ping(pair: Pair) -> None:
    pair.near.ping("172.16.0.2", PINGS)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_pings_through_a_tunnel_are_one_flow_in_each_direction(make: Callable[[Pair], None]) -> None:
    lines = seen_at_far(make, ping, "--hook", "tc", "--direction", "both")
    for direction, kind, ends in (("ingress", 8, (1, 2)), ("egress", 0, (2, 1))):
        (flow,) = flows(lines, direction=direction)
        assert (flow["src_ip"], flow["dst_ip"]) == tuple(f"172.16.0.{number}" for number in ends)
        assert (flow["protocol"], flow["icmp_type"]) == (ICMP, kind)
        assert (flow["packets"], flow["bytes"]) == (PINGS, PINGS * PACKET)


def test_mpls_that_looks_like_ipv4_is_mpls() -> None:
    packet = LABEL_LIKE_IPV4 + ipv4(TCP, tcp(1024, 80))

    def send(pair: Pair) -> None:
        pair.near.run(sys.executable, "-c", SEND, "t1", str(PINGS), str(MPLS), packet.hex())

    (flow,) = flows(seen_at_far(KINDS["gre"], send, "--hook", "tc"))
    assert (flow["ethertype"], flow["src_ip"], flow["traffic_type"]) == (MPLS, None, "Other")
    assert (flow["packets"], flow["bytes"]) == (PINGS, PINGS * len(packet))


@pytest.mark.parametrize("kind", ["ipip", "xfrm, MAC addresses that begin with 46"])
def test_xdp_guesses_nothing(kind: str) -> None:
    lines = seen_at_far(KINDS[kind], ping, "--hook", "xdp", "--xdp-mode", "generic")
    (flow,) = flows(lines)
    assert (flow["src_ip"], flow["ethertype"], flow["traffic_type"]) == (None, 0, "Other")
    assert flow["packets"] == PINGS


def carried(lines: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """Packets and bytes of all but ICMP, with which IPv6 finds its neighbours."""
    seen = [flow for flow in flows(lines) if flow["traffic_type"] != "ICMP"]
    return sum(flow["packets"] for flow in seen), sum(flow["bytes"] for flow in seen)


def all_arrived(pair: Pair) -> bool:
    return pair.near.statistics("near0", "tx")["packets"] == pair.far.statistics("far0", "rx")["packets"]


@pytest.mark.parametrize("make", MERGING_KINDS.values(), ids=MERGING_KINDS)
def test_merged_packets_in_a_tunnel_leave_as_the_packets_that_arrive(make: Callable[[Pair], None]) -> None:
    """near0 cuts them after its tc hook; far0 receives what was on the wire."""
    with quiet_pair() as pair:
        bring_up(pair, make)
        for end, name in ((pair.near, "near0"), (pair.far, "far0")):
            end.run(sys.executable, "-m", "tests.netns.offloads", name, "off")
        with (
            running(pair.near, "-i", "near0", "-t", "1h", "--direction", "egress") as near,
            running(pair.far, "-i", "far0", "-t", "1h", "--hook", "tc") as far,
        ):
            transfer(pair, "172.16.0.2", TRANSFER)
            assert eventually(lambda: all_arrived(pair))
            sent, arrived = near.stop().records, far.stop().records
        merged = pair.near.statistics("t1", "tx")["packets"]
    packets, size = carried(sent)
    assert (packets, size) == carried(arrived)
    assert merged < packets / 2, "nothing was merged: the test shows nothing"
    assert size > TRANSFER


BIG = 180_000
HEADERS = 14 + 40 + 32
"""Bytes of Ethernet, IPv6 and TCP with timestamps; a SYN has 8 more."""


def test_packets_longer_than_ipv6_can_say_count_without_the_option_that_says_it() -> None:
    with veth_pair() as pair:
        for end, name in ((pair.near, "near0"), (pair.far, "far0")):
            add(end, f"link set {name} gso_max_size {BIG} gro_max_size {BIG}")
        with running(pair.near, "-i", "near0", "-t", "1h", "--direction", "egress") as tool:
            sent = transfer(pair, "fd00::2", 4 * TRANSFER, buffer=16 * BIG)
            result = tool.stop()
    flow = max(flows(result.records, dst_ip="fd00::2", traffic_type="TCP"), key=lambda flow: int(flow["bytes"]))
    assert flow["bytes"] == sent + flow["packets"] * HEADERS + 8
