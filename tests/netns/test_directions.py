"""Both directions: one end sends what the other receives, in agreement with their counters."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from tests.netns.load import run_iperf, send_frames
from tests.netns.test_tunnels import add
from tests.netns.tool import (
    ONLY_INGRESS,
    XDP_ON_FAR0,
    Result,
    Tool,
    attached_program,
    eventually,
    flows,
    is_free,
    launched,
    running,
    tc_filters,
    tc_started,
    total,
)
from tests.support.frames import IPV4, UDP, ethernet, ipv4, udp
from tests.support.net import Pair, assert_sums_close, of_type, quiet_pair

IPERF_SIZE = "30M"
IPERF_BYTES = 20 << 20
"""Less than that: the client ends when it has sent all, the server then resets what is still on its way."""
WAYS = {"ingress": "rx", "egress": "tx"}
LARGEST_FRAME = 1514

BOTH = ("-t", "200", "--direction", "both")
WITHOUT_TCX = {"XTRACE_FEATURES_OFF": "tcx"}
WITHOUT_LINKS = {"XTRACE_FEATURES_OFF": "links"}


def switch_offloads(pair: Pair, state: str) -> None:
    """Segmentation offloads and GRO of both ends."""
    for namespace, name in ((pair.near, pair.near_if), (pair.far, pair.far_if)):
        namespace.run(sys.executable, "-m", "tests.netns.offloads", name, state)


def interface_counts(pair: Pair) -> dict[tuple[str, str], int]:
    """Packets by interface and direction, as the interfaces count."""
    return {
        (name, direction): namespace.statistics(name, way)["packets"]
        for namespace, name in ((pair.near, pair.near_if), (pair.far, pair.far_if))
        for direction, way in WAYS.items()
    }


def is_settled(pair: Pair) -> bool:
    """Whether nothing is on its way."""
    counts = interface_counts(pair)
    return all(
        counts[sender, "egress"] == counts[receiver, "ingress"]
        for sender, receiver in (("near0", "far0"), ("far0", "near0"))
    )


def iperf_both_ends(
    offloads: str, hook: Sequence[str], variables: dict[str, str] | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[tuple[str, str], int]]:
    """iperf3 from near0 to far0, watched at both ends: the records of both, and what the interfaces counted."""
    options = (*BOTH, *hook)
    with quiet_pair() as pair:
        switch_offloads(pair, offloads)
        before = interface_counts(pair)
        with (
            running(pair.near, "-i", "near0", *options, programs=2, variables=variables) as near,
            running(pair.far, "-i", "far0", *options, programs=2, variables=variables) as far,
        ):
            run_iperf(pair, IPERF_SIZE)
            assert eventually(lambda: is_settled(pair))
            results = near.stop(), far.stop()
        counted = {place: count - before[place] for place, count in interface_counts(pair).items()}
        assert is_free(pair.near, "near0")
        assert is_free(pair.far, "far0")
    for result in results:
        assert result.code == 0
        assert_sums_close(result.records)
    return results[0].records, results[1].records, counted


def figures(lines: Sequence[dict[str, Any]], direction: str) -> tuple[int, int]:
    """Packets and bytes of one direction."""
    return total(lines, direction=direction), total(lines, "bytes", direction=direction)


HOOKS = pytest.mark.parametrize(
    ("hook", "variables"),
    [(("--hook", "tc"), None), (("--hook", "tc"), WITHOUT_TCX), (("--xdp-mode", "native"), None)],
    ids=["tc", "tc without TCX", "XDP for ingress"],
)


@HOOKS
def test_without_offloads_each_direction_has_the_packets_of_the_interfaces_own_counters(
    hook: Sequence[str], variables: dict[str, str] | None
) -> None:
    near, far, counted = iperf_both_ends("off", hook, variables)
    assert figures(near, "egress") == figures(far, "ingress")
    assert figures(far, "egress") == figures(near, "ingress")
    for name, lines in (("near0", near), ("far0", far)):
        for direction in WAYS:
            assert total(lines, direction=direction) == counted[name, direction]
    assert figures(near, "egress")[1] > IPERF_BYTES


@HOOKS
def test_with_offloads_the_senders_egress_is_the_receivers_ingress_in_packets_and_bytes(
    hook: Sequence[str], variables: dict[str, str] | None
) -> None:
    near, far, counted = iperf_both_ends("on", hook, variables)
    assert figures(near, "egress") == figures(far, "ingress")
    assert figures(far, "egress") == figures(near, "ingress")
    packets, size = figures(near, "egress")
    assert IPERF_BYTES < size <= packets * LARGEST_FRAME
    if "tc" in hook:
        assert counted["near0", "egress"] < packets / 2, "nothing was merged: the test shows nothing"
    (data,) = {flow["src_port"] for flow in flows(near, direction="egress") if flow["bytes"] > 1 << 20}
    for lines, direction in ((near, "egress"), (far, "ingress")):
        seen = flows(lines, direction=direction, src_port=data)
        assert sum(flow["bytes"] for flow in seen) > IPERF_BYTES
        assert {flow["units"] for flow in seen} == {"wire"}


SENT_TO_MANY = 5
TO_MANY = """
import socket, sys
own, port, other_port, number, *addresses = sys.argv[1:]
data = bytes(18) + b"\\x50\\x10" + bytes(20)
family = socket.AF_INET6 if ":" in own else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as out:
    out.bind((own, int(port)))
    if family == socket.AF_INET:
        own = socket.inet_aton(own)
        out.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
        out.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("224.0.0.251") + own)
    else:
        out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("far0"))
    for _ in range(int(number)):
        for address in addresses:
            out.sendto(data, (address, int(other_port)))
"""
"""`OWN_ADDRESS PORT OTHER_PORT NUMBER ADDRESS ...`; 6 bytes into the data may be a TCP header, with the flag ACK."""

TO_MANY_CASES = {
    "nothing else": ("10.0.0.2/24", 5353, 5353, ("224.0.0.251", "10.0.0.255")),
    # read as Ethernet, the ethertype is in the source address, the protocol in the port or the address
    "UDP by IPv4": ("8.0.69.2/24", 1 << 14, 0x1411, ("224.0.0.251",)),
    "TCP by IPv4": ("8.0.69.2/24", 1 << 14, 0x1406, ("224.0.0.251",)),
    "UDP by IPv6": ("fd00:0:86dd:6000:0:1000:1100:2/64", 5353, 5353, ("ff02::1",)),
    "TCP by IPv6": ("fd00:0:86dd:6000:0:1000:600:2/64", 5353, 5353, ("ff02::1",)),
}
"""What the copy looks like -> address of far0, both ports, to whom."""


@pytest.mark.parametrize("looks", TO_MANY_CASES)
@pytest.mark.parametrize(
    ("options", "variables"),
    [((), None), ((), WITHOUT_TCX), (("--tcp-packets",), None)],
    ids=["tcx", "clsact", "tcp_packets"],
)
def test_the_copy_of_what_the_host_sends_to_many_is_not_counted_as_received(
    options: Sequence[str], variables: dict[str, str] | None, looks: str
) -> None:
    own, port, other_port, addresses = TO_MANY_CASES[looks]
    with quiet_pair() as pair:
        pair.far.ip("link set far0 addrgenmode none")
        pair.far.run("sysctl", "-qw", "net.ipv6.conf.far0.disable_ipv6=0")
        pair.far.ip(f"addr replace {own} {'nodad' if ':' in own else 'brd +'} dev far0")
        before = interface_counts(pair)
        with running(pair.far, "-i", "far0", *BOTH, "--hook", "tc", *options, programs=2, variables=variables) as tool:
            sent = (own.partition("/")[0], port, other_port, SENT_TO_MANY, *addresses)
            pair.far.run(sys.executable, "-c", TO_MANY, *map(str, sent))
            result = tool.stop()
        counted = {place: count - before[place] for place, count in interface_counts(pair).items()}
    sent_flows = flows(result.records, direction="egress", dst_port=other_port)
    assert sum(flow["packets"] for flow in sent_flows) == len(addresses) * SENT_TO_MANY
    assert total(result.records, direction="ingress") == counted["far0", "ingress"] == 0
    assert not of_type(result.records, "tcp_path")


def test_what_a_host_sends_to_itself_through_a_vrf_is_received() -> None:
    """It is marked as a copy, too."""
    with quiet_pair() as pair:
        add(pair.far, "link add red type vrf table 10")
        pair.far.ip("addr add 10.9.9.9/32 dev red")
        pair.far.ip("link set red up")
        before = {way: pair.far.statistics("red", way)["packets"] for way in WAYS.values()}
        with running(pair.far, "-i", "red", *BOTH, "--hook", "tc", programs=2) as tool:
            pair.far.ping("10.9.9.9", 3, "-I", "red")
            result = tool.stop()
        for direction, way in WAYS.items():
            counted = pair.far.statistics("red", way)["packets"] - before[way]
            assert total(result.records, direction=direction) == counted >= 6


def test_each_record_has_its_direction_and_hook() -> None:
    with quiet_pair() as pair, running(pair.far, "-i", "far0", *BOTH, "--xdp-mode", "native", programs=2) as tool:
        pair.near.ping("10.0.0.2", 3)
        result = tool.stop()
    assert ONLY_INGRESS not in result.stderr.decode()
    lines = result.records
    hooks = {"ingress": ("xdp", "native"), "egress": ("tc", None)}
    assert [(hook["direction"], (hook["hook"], hook["xdp_mode"])) for hook in lines[0]["hooks"]] == list(hooks.items())
    for record in of_type(lines, "interface"):
        assert (record["hook"], record["xdp_mode"]) == hooks[record["direction"]]
    for direction, kind, source in (("ingress", 8, "10.0.0.1"), ("egress", 0, "10.0.0.2")):
        seen = flows(lines, direction=direction)
        assert {(flow["icmp_type"], flow["src_ip"]) for flow in seen} == {(kind, source)}
        assert sum(flow["packets"] for flow in seen) == 3
    ends = {record["direction"]: record["packets"] for record in lines[-1]["interfaces"]}
    assert ends == {"ingress": 3, "egress": 3}


def test_without_a_direction_only_ingress_is_counted_and_that_is_reported_once() -> None:
    with quiet_pair() as pair, running(pair.far, "-i", "far0", "--hook", "tc", "-t", "100") as tool:
        pair.near.ping("10.0.0.2", 3)
        result = tool.stop()
    assert result.stderr.decode().splitlines().count(ONLY_INGRESS) == 1
    lines = result.records
    assert {(flow["direction"], flow["icmp_type"]) for flow in flows(lines)} == {("ingress", 8)}
    assert total(lines) == 3


def test_text_shows_in_and_out_if_both_are_watched() -> None:
    options = ("-i", "far0", "-o", "text", "--direction", "both", "-t", "1h")
    with quiet_pair() as pair, running(pair.far, *options, programs=2) as tool:
        pair.near.ping("10.0.0.2", 3, "-s100")
        shown = tool.stop().stdout.decode().splitlines()
    assert shown[0] == "10.0.0.1 -> 10.0.0.2 proto=1 packets=3 bytes=426 [ICMP] far0 type=8 code=0 in"
    assert shown[1].startswith("far0 ")
    assert shown[1].endswith(" flows=1 packets=3 bytes=426 unattributed=0 filtered=0 in")
    assert shown[2] == "10.0.0.2 -> 10.0.0.1 proto=1 packets=3 bytes=426 [ICMP] far0 type=0 code=0 out"
    assert shown[3].endswith(" flows=1 packets=3 bytes=426 unattributed=0 filtered=0 out")


def datagrams(packets: int) -> list[bytes]:
    return [ethernet(IPV4, ipv4(UDP, udp(1000, 2000, bytes(100))))] * packets


def assert_counts(pair: Pair, tool: Tool, packets: int) -> Result:
    """Everything sent into far0 from now on is counted."""
    send_frames(pair.near, "near0", datagrams(packets))
    result = tool.stop()
    assert result.code == 0
    assert_sums_close(result.records)
    assert total(result.records) == packets
    return result


def test_without_tcx_a_filter_on_clsact_counts_and_is_gone_afterwards() -> None:
    with quiet_pair() as pair:
        with running(pair.far, "-i", "far0", *BOTH, "--hook", "tc", programs=2, variables=WITHOUT_TCX) as tool:
            assert [len(tc_filters(pair.far, "far0", direction)) for direction in WAYS] == [1, 1]
            result = assert_counts(pair, tool, 100)
        assert result.said == tc_started("far0", *WAYS, how="clsact")
        assert is_free(pair.far, "far0")


def test_a_filter_that_kill_9_left_is_replaced_and_reported_by_the_next_run() -> None:
    options = ("-i", "far0", "-t", "1h", "--hook", "tc")
    with quiet_pair() as pair:
        with running(pair.far, *options, variables=WITHOUT_TCX) as tool:
            assert tool.stop(signal.SIGKILL).code == -signal.SIGKILL
        (orphan,) = tc_filters(pair.far, "far0", "ingress")
        with running(pair.far, *options, variables=WITHOUT_TCX) as tool:
            (entry,) = tc_filters(pair.far, "far0", "ingress")
            assert entry["options"]["bpf_name"] != orphan["options"]["bpf_name"]
            result = assert_counts(pair, tool, 100)
        replaced = "replaced the filter left on far0 by a killed xtrace-catch (ingress)"
        assert result.said == [replaced, *tc_started("far0", "ingress", how="clsact")]
        assert is_free(pair.far, "far0")


def test_without_links_xdp_by_netlink_counts_and_is_gone_afterwards() -> None:
    with quiet_pair() as pair:
        with running(pair.far, *XDP_ON_FAR0, "-t", "1h", variables=WITHOUT_LINKS) as tool:
            assert attached_program(pair.far) is not None
            result = assert_counts(pair, tool, 100)
        result.assert_quiet_success()
        assert {record["hook"] for record in of_type(result.records, "interface")} == {"xdp"}
        assert is_free(pair.far, "far0")


@pytest.mark.parametrize("left", ["native", "generic"])
@pytest.mark.parametrize("next_run", ["with links", "without links"])
def test_xdp_that_kill_9_left_where_there_are_no_links_is_removed_by_the_command_the_next_run_names(
    next_run: str, left: str
) -> None:
    variables = WITHOUT_LINKS if next_run == "without links" else None
    options = ("-i", "far0", "-t", "1h", "--hook", "xdp")
    with quiet_pair() as pair:
        with running(pair.far, *options, "--xdp-mode", left, variables=WITHOUT_LINKS) as tool:
            assert tool.stop(signal.SIGKILL).code == -signal.SIGKILL
        orphan = attached_program(pair.far)
        assert orphan is not None
        with launched(pair.far, *options, variables=variables) as tool:
            refused = tool.wait()
        assert (refused.code, refused.stdout) == (1, b"")
        assert attached_program(pair.far) == orphan
        assert f"XDP program id {orphan} is already attached ({left}) and is not replaced" in refused.said[-1]
        (command,) = [part for part in refused.said[-1].split("`") if part.startswith("ip ")]
        pair.far.run(*command.split())
        assert attached_program(pair.far) is None
        with running(pair.far, *options, variables=variables) as tool:
            assert_counts(pair, tool, 100).assert_quiet_success()
