"""Real traffic: addresses, ports, flags, types and lengths as the kernel's own stack sends them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.netns.load import flooding, run_iperf, send, transfer
from tests.netns.stream import FRAME
from tests.netns.tool import (
    LIMIT_S,
    XDP_ON_FAR0,
    attached_program,
    flows,
    run_to_end,
    running,
    tc_started,
    watching,
)
from tests.netns.transfer import PORT
from tests.support.net import Pair, veth_pair
from xtrace.kernel import features

IPERF_SIZE = "20M"
SIZE = 3_000_000
"""Bytes of a transfer."""

TIMESTAMPS = 12
"""Bytes of the option that every segment carries."""

SYN_OPTIONS = 20
"""Bytes of the options of the first segment."""

WITHOUT_END = ("-t", "1h")
"""One interval for all that a test sends."""


@pytest.mark.parametrize(
    ("source", "destination", "header"),
    [("10.0.0.1", "10.0.0.2", 20), ("fd00::1", "fd00::2", 40)],
    ids=["IPv4", "IPv6"],
)
def test_a_tcp_connection_is_one_flow_with_its_ports_flags_and_every_byte(
    source: str, destination: str, header: int
) -> None:
    with watching(*WITHOUT_END) as watch:
        sent = transfer(watch.pair, destination, SIZE)
        lines = watch.finish()
    (flow,) = flows(lines, traffic_type="TCP")
    assert (flow["src_ip"], flow["dst_ip"], flow["dst_port"], flow["protocol"]) == (source, destination, PORT, 6)
    assert flow["src_port"] > 1024
    assert flow["units"] == "wire"
    assert flow["tcp_flags"] == "FIN,SYN,PSH,ACK"
    payload = flow["bytes"] - flow["packets"] * (14 + header + 20 + TIMESTAMPS) - (SYN_OPTIONS - TIMESTAMPS)
    assert payload == sent
    assert flow["bytes"] / flow["packets"] <= 1514


def test_iperf3_is_counted_to_the_packet_over_many_intervals() -> None:
    with watching("-t", "100") as watch:
        run_iperf(watch.pair, IPERF_SIZE)
        lines = watch.finish()
    tcp = flows(lines, traffic_type="TCP", src_ip="10.0.0.1", dst_ip="10.0.0.2", dst_port=5201)
    flags: dict[int, set[str]] = {}
    for flow in tcp:
        flags.setdefault(flow["src_port"], set()).update(flow["tcp_flags"].split(","))
    assert len(flags) == 2, "a control and a data connection"
    assert all({"SYN", "PSH", "ACK"} <= seen for seen in flags.values())
    # the server may reset the data connection, but closes the control connection in order
    assert any("FIN" in seen for seen in flags.values())


def test_generic_xdp_counts_merged_packets_as_the_interface_does() -> None:
    with watching(*WITHOUT_END, "--xdp-mode", "generic") as watch:
        transfer(watch.pair, "10.0.0.2", SIZE)
        lines = watch.finish()
    (flow,) = flows(lines, traffic_type="TCP")
    assert flow["units"] == "frame"
    assert flow["bytes"] >= SIZE
    assert flow["bytes"] / flow["packets"] > 1514, "nothing was merged"


def test_udp_datagrams_are_one_flow_of_known_size() -> None:
    with watching(*WITHOUT_END) as watch:
        send(watch.pair, 2000)
        lines = watch.finish()
    (flow,) = flows(lines, protocol=17, traffic_type="UDP", src_ip="10.0.0.1")
    assert (flow["src_port"], flow["dst_ip"], flow["dst_port"]) == (40000, "10.0.0.2", 40001)
    assert (flow["packets"], flow["bytes"]) == (2000, 2000 * FRAME)
    assert flow["first_seen"] < flow["last_seen"] <= flow["ts"]
    assert "tcp_flags" not in flow
    assert "icmp_type" not in flow


@pytest.mark.parametrize(
    ("source", "destination", "protocol", "request_type", "header"),
    [("10.0.0.1", "10.0.0.2", 1, 8, 42), ("fd00::1", "fd00::2", 58, 128, 62)],
    ids=["IPv4", "IPv6"],
)
def test_pings_are_icmp_flows_with_type_and_code(
    source: str, destination: str, protocol: int, request_type: int, header: int
) -> None:
    with watching(*WITHOUT_END) as watch:
        watch.pair.near.ping(destination, 7, "-s100")
        lines = watch.finish()
    (request,) = flows(lines, src_ip=source, dst_ip=destination, icmp_type=request_type)
    assert (request["traffic_type"], request["protocol"], request["icmp_code"]) == ("ICMP", protocol, 0)
    assert (request["src_port"], request["dst_port"]) == (0, 0)
    assert (request["packets"], request["bytes"]) == (7, 7 * (header + 100))
    # what far0 asked near0 when the pair came up
    (reply,) = flows(lines, src_ip="10.0.0.1", icmp_type=0)
    assert reply["packets"] >= 1


def test_arp_is_counted_under_its_ethertype_and_addresses() -> None:
    with watching(*WITHOUT_END) as watch:
        lines = watch.finish()
    # what near0 asked, and perhaps what it answered, or the other way round
    arp, *_ = flows(lines, traffic_type="ARP", src_ip="10.0.0.1", dst_ip="10.0.0.2")
    assert arp["ethertype"] == 0x0806
    assert (arp["src_port"], arp["dst_port"], arp["protocol"]) == (0, 0, None)


def need_frags() -> None:
    """Without, a native XDP program is refused at this MTU: that is tested further down."""
    if not features.probe().frags:
        pytest.skip("XDP with fragments is of Linux 5.18")


@pytest.mark.parametrize(("mode", "units"), [("native", "wire"), ("generic", "frame")])
def test_jumbo_frames_are_counted_whole(mode: str, units: str) -> None:
    if mode == "native":
        need_frags()
    with watching(*WITHOUT_END, "--xdp-mode", mode, mtu=9000) as watch:
        watch.pair.near.ping("10.0.0.2", 5, "-s8000", "-Mdo")
        lines = watch.finish()
    (request,) = flows(lines, src_ip="10.0.0.1", icmp_type=8)
    assert (request["packets"], request["bytes"]) == (5, 5 * (14 + 20 + 8 + 8000))
    assert request["units"] == units


def test_jumbo_tcp_segments_are_counted_whole() -> None:
    need_frags()
    with watching(*WITHOUT_END, mtu=9000) as watch:
        transfer(watch.pair, "10.0.0.2", SIZE)
        lines = watch.finish()
    (flow,) = flows(lines, traffic_type="TCP")
    assert flow["bytes"] >= SIZE
    assert 4000 < flow["bytes"] / flow["packets"] <= 9014


def test_without_frags_native_xdp_is_refused_at_mtu_9000_and_tc_counts_whole_frames() -> None:
    with veth_pair(mtu=9000) as pair:
        variables = {"XTRACE_FEATURES_OFF": "frags"}
        refused = run_to_end(pair.far, *XDP_ON_FAR0, variables=variables)
        with running(pair.far, "-i", "far0", *WITHOUT_END, variables=variables) as tool:
            pair.near.ping("10.0.0.2", 5, "-s8000", "-Mdo")
            result = tool.stop()
    assert (refused.code, refused.stdout) == (1, b"")
    assert refused.said[-1].startswith("xtrace-catch: far0: native XDP refused: ")
    assert (result.code, result.said) == (0, tc_started("far0", "ingress"))
    (request,) = flows(result.records, src_ip="10.0.0.1", icmp_type=8)
    assert (request["packets"], request["bytes"]) == (5, 5 * (14 + 20 + 8 + 8000))


def test_bpftool_shows_a_running_tools_flow_table_with_named_fields() -> None:
    if not features.probe().cmpxchg:
        pytest.xfail("this kernel has no compare-and-swap in BPF")
    options = ("-t", "1h", "--max-flows", "4096")
    with veth_pair(addresses=False) as pair, running(pair.far, *XDP_ON_FAR0, *options) as tool:
        with flooding(pair, 1 << 16, (1,), 1 << 14) as senders:
            assert senders[0].wait(LIMIT_S) == 0
        entries, places = dumped(pair, "flows"), dumped(pair, "flow_index")
        tool.stop().assert_quiet_success()
    taken = [entry for entry in entries if entry["place"]]
    assert len(taken) > 1000
    key = taken[0]["key"]
    assert {"src", "dst", "src_qpn", "vlan_id", "ethertype", "slot", "protocol", "opcode", "flags"} <= set(key)
    assert (key["ethertype"], key["protocol"]) == (0x0800, 17)
    # what the CPU counted that owns the flow stands in its place of the index, of the first buffer
    counted = [value for entry in taken if (value := places[entry["place"] - 1]["counters"])["packets"]]
    assert len(counted) > 1000
    assert {"packets", "bytes", "first", "last", "tcp_flags"} <= set(counted[0])
    assert all(value["bytes"] == 64 * value["packets"] for value in counted)


def dumped(pair: Pair, name: str) -> list[dict[str, Any]]:
    """The values that `bpftool map dump` shows, formatted by BTF, of a map of far0's program."""
    program = json.loads(pair.far.run("bpftool", "-j", "prog", "show", "id", str(attached_program(pair.far))))
    for number in program["map_ids"]:
        shown = json.loads(pair.far.run("bpftool", "-j", "map", "show", "id", str(number)))
        if shown["name"] == name:
            dump = json.loads(pair.far.run("bpftool", "-j", "map", "dump", "id", str(number)))
            return [entry["formatted"]["value"] for entry in dump]
    raise AssertionError(f"no map {name}")
