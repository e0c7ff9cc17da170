"""Filters: what they let through is shown, the rest is counted as filtered, and the sums close."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.netns.load import send_frames
from tests.netns.tool import flows, run_to_end, running, total
from tests.support.frames import ARP as ETHERTYPE_ARP
from tests.support.frames import (
    ICMP,
    IPV4,
    IPV6,
    SCTP,
    TCP,
    UDP,
    arp,
    bth,
    ethernet,
    icmp,
    ipv4,
    ipv6,
    roce,
    sctp,
    tcp,
    udp,
)
from tests.support.net import assert_sums_close, of_type, quiet_pair

FRAMES = {
    "web": ethernet(IPV4, ipv4(TCP, tcp(40000, 80), src="10.1.0.1", dst="10.2.0.1")),
    "web6": ethernet(IPV6, ipv6(TCP, tcp(40000, 80), src="fd01::1", dst="fd02::1")),
    "answer": ethernet(IPV4, ipv4(TCP, tcp(443, 40000), src="10.2.0.1", dst="10.1.0.1")),
    "dns": ethernet(IPV4, ipv4(UDP, udp(40000, 53), src="10.1.0.1", dst="10.3.0.1")),
    "dns answer": ethernet(IPV4, ipv4(UDP, udp(53, 40000), src="10.3.0.1", dst="10.1.0.1")),
    "dns tcp": ethernet(IPV6, ipv6(TCP, tcp(40000, 53), src="fd01::1", dst="fd03::1")),
    "sctp": ethernet(IPV4, ipv4(SCTP, sctp(80, 9), src="10.4.0.1", dst="10.4.0.2")),
    "ping": ethernet(IPV4, ipv4(ICMP, icmp(8, 0), src="10.1.0.1", dst="10.2.0.1")),
    "roce": ethernet(IPV4, ipv4(UDP, roce(bth(8, 53)), src="10.5.0.1", dst="10.5.0.2")),
    "arp": ethernet(ETHERTYPE_ARP, arp(src="10.1.0.1", dst="10.1.0.9")),
}
ALL = frozenset(FRAMES)
DNS = {"dns", "dns answer", "dns tcp"}

CASES: list[tuple[list[str], set[str] | frozenset[str], list[str]]] = [
    (["-f", "tcp"], {"web", "web6", "answer", "dns tcp"}, ["types TCP"]),
    (["--filter", "udp,sctp"], {"dns", "dns answer", "sctp"}, ["types SCTP UDP"]),
    (["-f", "roce"], {"roce"}, ["types RoCE_v1_IBoE RoCE_v2"]),
    (["-f", "icmp"], {"ping"}, ["types ICMP"]),
    (["--net", "10.2.0.0/16"], {"web", "answer", "ping"}, ["net 10.2.0.0/16"]),
    (["--net", "fd03::/16,10.4.0.2"], {"dns tcp", "sctp"}, ["net fd03::/16 10.4.0.2/32"]),
    (["--exclude-net", "10.0.0.0/8"], {"web6", "dns tcp"}, ["exclude-net 10.0.0.0/8"]),
    (["--exclude-net", "fd01::/16"], ALL - {"web6", "dns tcp"}, ["exclude-net fd01::/16"]),
    (["--port", "80"], {"web", "web6", "sctp"}, ["port 80"]),
    (["--port", "50-60,442-444"], DNS | {"answer"}, ["port 50-60 442-444"]),
    (["--port", "53,443"], DNS | {"answer"}, ["port 53 443"]),
    (["--exclude-dns"], ALL - DNS, ["exclude-dns"]),
    (
        ["-f", "tcp", "--net", "10.0.0.0/8,fd00::/8", "--exclude-net", "fd03::1", "--port", "80,53"],
        {"web", "web6"},
        ["types TCP", "net 10.0.0.0/8 fd00::/8", "exclude-net fd03::1/128", "port 53 80"],
    ),
]


def name_of(flow: dict[str, Any]) -> str:
    """Which of FRAMES the flow is."""
    if flow["traffic_type"] == "RoCE_v2":
        return "roce"
    if flow["traffic_type"] in ("ARP", "SCTP"):
        return str(flow["traffic_type"]).lower()
    if flow["traffic_type"] == "ICMP":
        return "ping"
    names = {(80, 6): "web", (443, 6): "answer", (53, 17): "dns", (53, 6): "dns tcp"}
    port = min(flow["src_port"], flow["dst_port"])
    name = names[port, flow["protocol"]]
    if name == "web" and ":" in flow["src_ip"]:
        return "web6"
    return "dns answer" if name == "dns" and flow["src_port"] == 53 else name


@pytest.mark.parametrize(
    ("options", "shown", "described", "hook"),
    [(*case, hook) for case, hook in zip(CASES, itertools.cycle(("xdp", "tc")), strict=False)],
    ids=[" ".join(options) for options, *_ in CASES],
)
def test_what_a_filter_refuses_is_counted_as_filtered_and_the_rest_shown(
    options: list[str], shown: set[str], described: list[str], hook: str
) -> None:
    with quiet_pair() as pair, running(pair.far, "-i", "far0", "-t", "1h", "--hook", hook, *options) as tool:
        send_frames(pair.near, "near0", [frame for frame in FRAMES.values() for _ in range(3)])
        result = tool.stop()
    assert result.code == 0
    lines = result.records
    assert_sums_close(lines)
    assert {name_of(flow): flow["packets"] for flow in flows(lines)} == dict.fromkeys(shown, 3)
    refused = [frame for name, frame in FRAMES.items() if name not in shown]
    assert total(lines, "filtered_packets") == 3 * len(refused) > 0
    assert total(lines, "filtered_bytes") == 3 * sum(map(len, refused))
    assert total(lines) == 3 * len(FRAMES)
    assert lines[-1]["interfaces"][0]["filtered_packets"] == 3 * len(refused)
    assert of_type(lines, "start")[0]["filters"] == described


def test_every_frame_of_these_tests_is_shown_without_a_filter() -> None:
    with quiet_pair() as pair, running(pair.far, "-i", "far0", "-t", "1h", "-f", "all") as tool:
        send_frames(pair.near, "near0", list(FRAMES.values()))
        lines = tool.stop().records
    assert {name_of(flow) for flow in flows(lines)} == ALL
    assert total(lines, "filtered_packets") == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("-f", "ipx"), "--filter: unknown traffic type 'ipx' (available: "),
        (("--net", "10.0.0.1/8"), "--net: '10.0.0.1/8' has host bits set"),
        (("--exclude-net", "nowhere"), "--exclude-net: 'nowhere' is not an IP address or network"),
        (("--port", "65536"), "--port: '65536' is not a port or range (1 to 65535, 8000-8100)"),
    ],
)
def test_a_filter_that_cannot_be_is_refused_with_the_reason(options: tuple[str, str], reason: str) -> None:
    with quiet_pair() as pair:
        result = run_to_end(pair.far, "-i", "far0", *options)
    assert (result.code, result.stdout, len(result.said)) == (2, b"", 1)
    assert result.said[0].startswith(f"xtrace-catch: {reason}")
