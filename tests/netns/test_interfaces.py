"""Kinds of interfaces, and several at once: loopback, raw IP, bridges with their members."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.netns.load import send_frames
from tests.netns.tool import (
    IS_UP,
    NO_CARRIER,
    add_plug,
    bounded,
    eventually,
    flows,
    is_free,
    run_to_end,
    running,
    tc_started,
    tc_way,
    total,
)
from tests.support.frames import ICMP, IPV4, TCP, UDP, ethernet, ipv4, ipv6, tcp, udp
from tests.support.net import Namespace, Pair, assert_sums_close, of_type, quiet_pair, read_until, records
from xtrace.errors import KernelError
from xtrace.kernel import syscall

PING = 14 + 20 + 8 + 56
"""Bytes of an echo request or reply as ping sends it, on Ethernet."""

WITHOUT_END = ("-t", "1h")
AWAITED = "interface {} not found (available: lo, far0); it is monitored as soon as it appears"
NOT_FOUND = "interface {} not found (available: lo, far0); choose one with -i"
BOTH = ("--direction", "both")
XDP = ("--hook", "xdp")


def test_loopback_is_counted_in_both_directions() -> None:
    with quiet_pair() as pair:
        before = pair.far.statistics("lo")["packets"]
        with running(pair.far, "-i", "lo", *WITHOUT_END, *BOTH, programs=2) as tool:
            pair.far.ping("127.0.0.1", 5)
            result = tool.stop()
        received = pair.far.statistics("lo")["packets"] - before
        assert is_free(pair.far, "lo")
    lines = result.records
    assert_sums_close(lines)
    (line,) = result.said
    assert line.startswith(f"{tc_started('lo', 'ingress', 'egress')[0]}: native XDP refused: ")
    for direction in ("ingress", "egress"):
        seen = {flow["icmp_type"]: flow for flow in flows(lines, direction=direction)}
        assert {kind: (flow["packets"], flow["bytes"]) for kind, flow in seen.items()} == {
            8: (5, 5 * PING),
            0: (5, 5 * PING),
        }
    assert total(lines, direction="ingress") == received == 10


def test_an_interface_is_found_by_its_alternative_name_and_shown_by_its_own() -> None:
    with quiet_pair() as pair:
        pair.far.ip("link property add dev far0 altname an-alternative-name-of-far0")
        result = run_to_end(pair.far, "-i", "an-alternative-name-of-*", *XDP, "-c", "1", "-t", "100")
        named = run_to_end(pair.far, "-i", "an-alternative-name-of-far0", *XDP, "-c", "1", "-t", "100")
    named.assert_quiet_success()
    result.assert_quiet_success()
    assert {record["interface"] for record in of_type(named.records, "interface")} == {"far0"}


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_what_the_interface_itself_counted_stands_beside_each_whole_interval(direction: str) -> None:
    """A veth's own counters are those of the packets that pass its hooks; at tc it counts their link layer."""
    with quiet_pair() as pair:
        options = ("-i", "far0", "--hook", "tc", "--direction", direction, "-t", "100")
        with running(pair.far, *options) as tool:
            tool.wait_for_intervals(1)
            pair.near.ping("10.0.0.2", 5)
            tool.wait_for_intervals(2)  # the last is no whole one
            result = tool.stop()
    first, *whole, last = of_type(result.records, "interface")
    assert {record["nic_packets"] for record in (first, last)} == {None}
    assert sum(record["nic_packets"] for record in whole) == sum(record["packets"] for record in whole) == 5
    assert sum(record["nic_bytes"] for record in whole) == sum(record["bytes"] for record in whole)


@pytest.mark.parametrize("what", ["near0", "far0"])
def test_an_interface_without_carrier_or_down_is_reported_and_marked_until_it_is_up_again(what: str) -> None:
    down = ": the interface is down; no packets until it is up (`ip link set far0 up`)"
    line = "tc program loaded on far0 (ingress, tcx)" + (NO_CARRIER if what == "near0" else down)
    with quiet_pair() as pair:
        namespace = pair.near if what == "near0" else pair.far
        namespace.ip(f"link set {what} down")
        with running(pair.far, "-i", "far0", "-t", "100") as tool:
            tool.wait_for_intervals(2)
            namespace.ip(f"link set {what} up")
            tool.wait_until_it_says(f"far0{IS_UP}".encode())
            tool.wait_for_intervals(2)
            result = tool.stop()
    assert result.code == 0
    marks = [record["up"] for record in of_type(result.records, "interface")]
    assert marks == sorted(marks)
    assert set(marks) == {False, True}
    assert result.said.count(line) == 1


class Tun:
    """A raw IP interface whose other end is a process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def receive(self, *packets: bytes) -> None:
        """Let the interface receive these packets."""
        assert self._process.stdin is not None
        for packet in packets:
            self._process.stdin.write(packet.hex().encode() + b"\n")
            self._process.stdin.flush()
            read_until(self._process.stdout, b"sent")


@contextmanager
def tun(namespace: Namespace, name: str, *information: str) -> Iterator[Tun]:
    """A raw IP interface, up, until the end of the block; with `pi` packets come behind packet information."""
    command = (sys.executable, "-m", "tests.netns.tun", name, *information)
    with bounded(namespace.start(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as process:
        read_until(process.stdout, b"ready")
        yield Tun(process)


@pytest.mark.parametrize("hook", ["auto", "tc"])
def test_a_raw_ip_interface_has_flows_without_a_link_layer_in_their_bytes(hook: str) -> None:
    packets = [ipv4(TCP, tcp(1024, 80, payload=bytes(50))), ipv6(UDP, udp(1024, 53, bytes(60)))]
    with quiet_pair() as pair, tun(pair.far, "tun0") as device:
        pair.far.ip("addr add 10.9.0.1/24 dev tun0")
        before = pair.far.statistics("tun0")
        options = ("-i", "tun0", *WITHOUT_END, *BOTH, "--hook", hook)
        with running(pair.far, *options, programs=2) as tool:
            device.receive(*packets)
            with pytest.raises(subprocess.CalledProcessError):
                pair.far.run("ping", "-q", "-c3", "-i0.01", "-W1", "10.9.0.2")  # nobody answers
            lines = tool.stop().records
        after = pair.far.statistics("tun0")
    assert_sums_close(lines)
    names = ("src_ip", "dst_ip", "protocol", "src_port", "dst_port", "packets", "bytes")
    seen = sorted([flow[name] for name in names] for flow in flows(lines, direction="ingress"))
    assert seen == [
        ["10.0.0.1", "10.0.0.2", TCP, 1024, 80, 1, len(packets[0])],
        ["fd00::1", "fd00::2", UDP, 1024, 53, 1, len(packets[1])],
    ]
    assert (total(lines, direction="ingress"), total(lines, "bytes", direction="ingress")) == (
        after["packets"] - before["packets"],
        after["bytes"] - before["bytes"],
    )
    (request,) = flows(lines, direction="egress")
    assert (request["protocol"], request["packets"], request["bytes"]) == (ICMP, 3, 3 * (PING - 14))


TUN_ENDPOINTS = ("src_ip", "dst_ip", "protocol", "src_port", "dst_port", "packets", "bytes")
NOT_GIVEN = "XDP cannot know what its packets are: they count without addresses; --hook tc sees them"


def test_xdp_of_tun_reads_ip_where_its_driver_has_checked_the_version() -> None:
    packets = [ipv4(TCP, tcp(1024, 80, payload=bytes(50))), ipv6(UDP, udp(1024, 53, bytes(60)))]
    options = ("-i", "tun0", *WITHOUT_END, "--xdp-mode", "generic")
    with quiet_pair() as pair, tun(pair.far, "tun0") as device, running(pair.far, *options) as tool:
        device.receive(*packets)
        result = tool.stop()
    assert NOT_GIVEN not in result.said
    assert sorted([flow[name] for name in TUN_ENDPOINTS] for flow in flows(result.records)) == [
        ["10.0.0.1", "10.0.0.2", TCP, 1024, 80, 1, len(packets[0])],
        ["fd00::1", "fd00::2", UDP, 1024, 53, 1, len(packets[1])],
    ]


PACKET_INFORMATION = bytes(2) + IPV4.to_bytes(2, "big")


@pytest.mark.parametrize("options", [("--xdp-mode", "generic"), ("--hook", "tc")], ids=["XDP", "tc"])
def test_where_the_sender_names_the_protocol_xdp_guesses_nothing_and_tc_has_its_word(options: tuple[str, str]) -> None:
    packet, unknown = ipv4(TCP, tcp(1024, 80, payload=bytes(50))), bytes(2) + b"\x88\xb5" + ipv4(TCP, tcp(1, 2))
    with (
        quiet_pair() as pair,
        tun(pair.far, "tun0", "pi") as device,
        running(pair.far, "-i", "tun0", *WITHOUT_END, *options) as tool,
    ):
        device.receive(PACKET_INFORMATION + packet, unknown)
        result = tool.stop()
    seen = sorted((flow["src_ip"] or "", flow.get("ethertype"), flow["packets"]) for flow in flows(result.records))
    if "tc" in options:
        assert seen == [("", 0x88B5, 1), ("10.0.0.1", None, 1)]
    else:
        assert seen == [("", 0, 2)]
    assert any(NOT_GIVEN in line for line in result.said) == ("tc" not in options)


def test_a_bridge_and_its_member_by_name_each_have_what_they_carry_themselves() -> None:
    """Nothing is added up across interfaces: what comes in through far0 comes in on the bridge as well."""
    frame = ethernet(IPV4, ipv4(UDP, udp(1024, 53, bytes(60))))
    with quiet_pair() as pair:
        pair.far.ip("link add br0 type bridge")
        pair.far.ip("link set far0 master br0")
        pair.far.ip("link set br0 up")
        mac = json.loads(pair.far.ip("-j link show br0"))[0]["address"]
        before = pair.far.statistics("br0")["packets"]
        with running(pair.far, "-i", "br0,far0", *WITHOUT_END, programs=2) as tool:
            send_frames(pair.near, "near0", [bytes.fromhex(mac.replace(":", "")) + frame[6:]] * 20)
            result = tool.stop()
        received = pair.far.statistics("br0")["packets"] - before
    lines = result.records
    assert_sums_close(lines)
    assert {hook["interface"]: hook["hook"] for hook in lines[0]["hooks"]} == {"far0": "tc", "br0": "tc"}
    for name in ("br0", "far0"):
        (flow,) = flows(lines, interface=name)
        assert (flow["dst_port"], flow["packets"], flow["bytes"]) == (53, 20, 20 * len(frame))
        assert total(lines, interface=name) == 20
    assert received == 20
    ends = {record["interface"]: record["packets"] for record in lines[-1]["interfaces"]}
    assert ends == {"br0": 20, "far0": 20}


BRIDGE_WORD = (
    "a bridge shows only packets to and from this host; --promiscuous shows those that its ports forward to each"
    " other, too"
)


@contextmanager
def bridge_of_two(pair: Pair) -> Iterator[None]:
    """br0 in far, which forwards between far0 and plug0; their other ends are near0 and peer."""
    add_plug(pair, "plug0", "peer")
    pair.far.ip("link add br0 type bridge")
    for name in ("far0", "plug0"):
        pair.far.ip(f"link set {name} master br0")
    pair.far.ip("link set br0 up")
    assert eventually(lambda: all(forwards(pair.far, name) for name in ("far0", "plug0")))
    yield


def forwards(namespace: Namespace, port: str) -> bool:
    """Whether a bridge's port forwards, which it does some time after its carrier is there."""
    (shown,) = json.loads(namespace.ip(f"-d -j link show {port}"))
    return bool(shown["linkinfo"]["info_slave_data"]["state"] == "forwarding")


def promiscuity(namespace: Namespace, name: str) -> int:
    """How many want the interface to be promiscuous."""
    (shown,) = json.loads(namespace.ip(f"-d -j link show {name}"))
    return int(shown["promiscuity"])


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(("options", "seen"), [((), 0), (("--promiscuous",), 20)], ids=["plain", "promiscuous"])
def test_what_a_bridge_forwards_is_seen_in_promiscuous_mode_alone_which_ends_with_the_run(
    options: tuple[str, ...], seen: int, end: signal.Signals
) -> None:
    frame = ethernet(IPV4, ipv4(UDP, udp(1024, 53, bytes(60))))
    with quiet_pair() as pair, bridge_of_two(pair):
        with running(pair.far, "-i", "br0", "-t", "100", *options) as tool:
            assert promiscuity(pair.far, "br0") == len(options)
            before = pair.near.statistics("peer")["packets"]
            send_frames(pair.near, "near0", [frame] * 20)
            assert eventually(lambda: pair.near.statistics("peer")["packets"] >= before + 20), "not forwarded"
            tool.wait_for_intervals(2)
            result = tool.stop(end)
        assert eventually(lambda: promiscuity(pair.far, "br0") == 0)
    assert sum(flow["packets"] for flow in flows(result.records, dst_port=53)) == seen
    assert any(line.endswith(BRIDGE_WORD) for line in result.said) == (not options)


def test_interface_that_is_gone_cannot_be_promiscuous() -> None:
    with pytest.raises(KernelError) as refused:
        syscall.call("joining", syscall.lib.xt_promiscuous, (1 << 31) - 1)
    assert refused.value.errno == errno.ENODEV


def test_promiscuous_mode_that_others_want_stays_after_the_run() -> None:
    with quiet_pair() as pair:
        pair.far.ip("link set far0 promisc on")
        with running(pair.far, "-i", "far0", "-t", "1h", "--promiscuous") as tool:
            assert promiscuity(pair.far, "far0") == 2
            assert tool.stop().code == 0
        assert promiscuity(pair.far, "far0") == 1


def test_two_interfaces_are_counted_apart_in_text_too() -> None:
    frame = ethernet(IPV4, ipv4(UDP, udp(1024, 53, bytes(60))))
    with quiet_pair() as pair, running(pair.far, "-i", "lo,far0", *WITHOUT_END, "-o", "text", programs=2) as tool:
        send_frames(pair.near, "near0", [frame] * 2)
        pair.far.ping("127.0.0.1", 1)
        shown = tool.stop().stdout.decode().splitlines()
    sums = {line.split()[0]: line for line in shown if " flows=" in line}
    assert set(sums) == {"lo", "far0"}
    assert f" flows=1 packets=2 bytes={2 * len(frame)} " in sums["far0"]
    assert f" flows=2 packets=2 bytes={2 * PING} " in sums["lo"]
    assert f"10.0.0.1:1024 -> 10.0.0.2:53 proto=17 packets=2 bytes={2 * len(frame)} [UDP] far0" in shown


def test_of_two_interfaces_a_missing_one_is_reported_and_the_other_monitored() -> None:
    with quiet_pair() as pair, running(pair.far, "-i", "nowhere0,far0", *WITHOUT_END) as tool:
        send_frames(pair.near, "near0", [ethernet(IPV4, ipv4(UDP, udp(1024, 53)))] * 5)
        result = tool.stop()
    assert result.code == 0
    assert [line for line in result.said if "nowhere0" in line] == [AWAITED.format("nowhere0")]
    assert len([line for line in result.said if "loaded on far0" in line]) == 1
    assert {record["interface"] for record in of_type(result.records, "interface")} == {"far0"}
    assert total(result.records) == 5


def test_of_two_interfaces_one_that_refuses_is_reported_once_and_the_other_monitored() -> None:
    with quiet_pair() as pair, running(pair.far, "-i", "lo,far0", "--hook", "xdp", *WITHOUT_END) as tool:
        send_frames(pair.near, "near0", [ethernet(IPV4, ipv4(UDP, udp(1024, 53)))] * 5)
        result = tool.stop()
    assert result.code == 0
    assert {record["interface"] for record in of_type(result.records, "interface")} == {"far0"}
    assert total(result.records) == 5
    assert len([line for line in result.said if line.startswith("lo: native XDP refused: ")]) == 1, result.said


def test_with_nothing_to_attach_to_the_run_ends_with_1() -> None:
    with quiet_pair() as pair:
        result = run_to_end(pair.far, "-i", "nowhere0,nowhere1", *WITHOUT_END)
    assert (result.code, result.stdout) == (1, b"")
    assert result.said[-1].startswith("xtrace-catch: could not attach to any interface")
    assert result.said[:-1] == [NOT_FOUND.format(name) for name in ("nowhere0", "nowhere1")]


@pytest.mark.parametrize("asked", ["no*", "any"])
def test_patterns_that_match_no_interface_end_the_run_with_1(asked: str) -> None:
    """`any` takes neither loopback nor a veth."""
    with quiet_pair() as pair:
        result = run_to_end(pair.far, "-i", asked, *WITHOUT_END)
    assert (result.code, result.stdout) == (1, b"")
    (line,) = result.said
    assert line.startswith(f"xtrace-catch: -i {asked} matches no interface")


def test_any_takes_what_is_up_and_no_member_no_loopback_no_veth() -> None:
    with quiet_pair() as pair, tun(pair.far, "tun0"):
        for name in ("br0", "br1", "br2"):
            pair.far.ip(f"link add {name} type bridge")
        pair.far.ip("link set br0 up")
        pair.far.ip("link set br2 up")
        pair.far.ip("link set far0 master br0")
        with running(pair.far, "-i", "any", "--hook", "tc", *WITHOUT_END, programs=3) as tool:
            lines = tool.stop().records
    assert {hook["interface"] for hook in lines[0]["hooks"]} == {"br0", "br2", "tun0"}


def test_the_list_names_addresses_and_who_is_at_tc() -> None:
    with quiet_pair() as pair, running(pair.far, "-i", "far0", *WITHOUT_END, *BOTH, "--hook", "tc", programs=2):
        listed = {link["name"]: link for link in records(run_to_end(pair.far, "-l", "-o", "json").stdout)}
    owners = listed["far0"]["tc"]
    for way in ("ingress", "egress"):
        if tc_way() == "tcx":
            assert [len(owners[way]["tcx"]), owners[way]["filters"]] == [1, []]
        else:
            (name,) = owners[way]["filters"]
            assert name.startswith("xtrace-catch:") and owners[way]["tcx"] == []
    assert listed["far0"]["addresses"] == ["10.0.0.2/24"]
    assert listed["lo"]["addresses"] == ["127.0.0.1/8"]
    assert listed["lo"]["tc"] == {way: {"tcx": [], "filters": []} for way in ("ingress", "egress")}
