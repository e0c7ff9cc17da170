"""Attaching: choice of the mode, messages, other programs, and no disturbance of traffic."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.netns.load import send_frames, streaming
from tests.netns.tool import (
    XDP_ON_FAR0,
    assert_passes_traffic,
    attached_program,
    bounded,
    eventually,
    flows,
    is_free,
    is_loaded,
    run_to_end,
    running,
    started_generic,
    tc_started,
    tc_way,
    total,
    xdp_mode,
)
from tests.support.frames import IPV4, UDP, ethernet, ipv4, udp
from tests.support.net import Namespace, assert_sums_close, of_type, quiet_pair, read_until, veth_pair

NO_NATIVE = "Underlying driver does not support XDP in native mode"
"""The kernel's message, net/core/dev.c."""


def test_xdp_is_native_on_a_veth_if_requested() -> None:
    with veth_pair() as pair, running(pair.far, *XDP_ON_FAR0) as tool:
        assert '"xdp":{"mode":1' in pair.far.ip("-j link show far0").replace(" ", "")
        result = tool.stop()
        assert attached_program(pair.far) is None
    result.assert_quiet_success()
    (hook,) = result.records[0]["hooks"]
    assert hook == {"interface": "far0", "direction": "ingress", "hook": "xdp", "xdp_mode": "native"}


def test_generic_is_used_where_asked_for() -> None:
    with veth_pair() as pair, running(pair.far, "-i", "far0", "--xdp-mode", "generic") as tool:
        assert '"xdp":{"mode":2' in pair.far.ip("-j link show far0").replace(" ", "")
        result = tool.stop()
        assert attached_program(pair.far) is None
    assert (result.code, result.said) == (0, started_generic())
    assert {record["xdp_mode"] for record in of_type(result.records, "interface")} == {"generic"}


def test_auto_falls_back_to_tc_ingress_and_gives_the_kernels_reason() -> None:
    with veth_pair() as pair:
        result = run_to_end(pair.far, "-i", "lo", "-c", "1", "-t", "100")
        assert is_free(pair.far, "lo")
    assert result.code == 0
    (loaded,) = tc_started("lo", "ingress")
    assert result.said == [f"{loaded}: native XDP refused: {NO_NATIVE}"]
    (hook,) = result.records[0]["hooks"]
    assert hook == {"interface": "lo", "direction": "ingress", "hook": "tc", "xdp_mode": None}


def test_tc_is_used_where_asked_for_and_leaves_xdp_alone() -> None:
    with veth_pair() as pair, running(pair.far, "-i", "far0", "--hook", "tc") as tool:
        assert attached_program(pair.far) is None
        assert not is_free(pair.far, "far0")
        result = tool.stop()
        assert is_free(pair.far, "far0")
    assert (result.code, result.said) == (0, tc_started("far0", "ingress"))
    assert {record["hook"] for record in of_type(result.records, "interface")} == {"tc"}


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (("--xdp-mode", "native"), "try --hook tc or --xdp-mode generic"),
        (("--hook", "xdp"), "try --hook tc or --xdp-mode generic"),
    ],
)
def test_native_xdp_is_refused_in_one_line_where_the_driver_lacks_it(options: tuple[str, str], advice: str) -> None:
    with veth_pair() as pair:
        result = run_to_end(pair.far, "-i", "lo", *options)
        assert is_free(pair.far, "lo")
    assert (result.code, result.stdout) == (1, b"")
    assert result.said == [f"xtrace-catch: lo: native XDP refused: {NO_NATIVE}; {advice}"]


def test_the_start_is_reported_in_chinese_under_a_chinese_locale() -> None:
    with veth_pair() as pair, running(pair.far, *XDP_ON_FAR0, variables={"LANG": "zh_CN.UTF-8"}) as tool:
        result = tool.stop()
    assert result.code == 0
    assert result.said[0].startswith(f"XDP 程序已加载到 far0 ({xdp_mode('native')}): ")


SOME = 50


def received(namespace: Namespace) -> int:
    """UDP datagrams that reached the IP layer, for a socket or for none."""
    shown = namespace.run("nstat", "-asz", "UdpInDatagrams", "UdpNoPorts").split()
    return sum(int(shown[shown.index(name) + 1]) for name in ("UdpInDatagrams", "UdpNoPorts"))


@contextmanager
def other_program(namespace: Namespace, mode: str, interface: str = "far0") -> Iterator[int]:
    """Another XDP program on an interface; its id."""
    with bounded(
        namespace.start(
            sys.executable,
            "-m",
            "tests.netns.other_program",
            interface,
            mode,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    ) as holder:
        read_until(holder.stdout, b"attached")
        program = attached_program(namespace, interface)
        assert program is not None
        yield program


@pytest.mark.parametrize("theirs", ["native", "generic"])
@pytest.mark.parametrize("ours", [("--hook", "xdp"), ("--xdp-mode", "native"), ("--xdp-mode", "generic")])
def test_another_xdp_program_is_named_and_never_replaced(theirs: str, ours: tuple[str, str]) -> None:
    with veth_pair() as pair, other_program(pair.far, theirs) as program:
        result = run_to_end(pair.far, "-i", "far0", *ours)
        assert attached_program(pair.far) == program
        assert_passes_traffic(pair)
    assert (result.code, result.stdout) == (1, b"")
    (line,) = result.said
    assert line.startswith(f"xtrace-catch: far0: XDP program id {program} is already attached ({theirs}) and is not")
    assert f"`bpftool prog show id {program}`" in line
    assert line.endswith("; try --hook tc"), "no other mode has room beside it"


def test_beside_another_xdp_program_auto_counts_at_tc_and_names_it() -> None:
    """On the loopback, because on a veth auto is tc anyway."""
    with veth_pair() as pair, other_program(pair.far, "generic", "lo") as program:
        with running(pair.far, "-i", "lo", "-t", "1h") as tool:
            assert attached_program(pair.far, "lo") == program
            pair.far.ping("127.0.0.1", 3)
            result = tool.stop()
        assert attached_program(pair.far, "lo") == program
    assert result.code == 0
    (line,) = result.said
    (loaded,) = tc_started("lo", "ingress")
    assert line.startswith(f"{loaded}: XDP program id {program} is already attached (generic) and is not replaced: ")
    assert_sums_close(result.records)
    (request,) = flows(result.records, icmp_type=8, dst_ip="127.0.0.1")
    assert request["packets"] == 3


@pytest.mark.parametrize("direction", ["ingress", "both"])
def test_auto_on_a_veth_is_tc_and_leaves_its_peers_offloads_alone(direction: str) -> None:
    directions = ("ingress", "egress") if direction == "both" else (direction,)
    options = ("-i", "far0", "--direction", direction)
    with veth_pair() as pair, running(pair.far, *options, programs=len(directions)) as tool:
        assert attached_program(pair.far) is None
        assert "tcp-segmentation-offload: on" in pair.near.run("ethtool", "-k", "near0")
        result = tool.stop()
    assert (result.code, result.said) == (0, tc_started("far0", *directions))


def test_auto_on_a_netkit_is_tc_without_a_refusal() -> None:
    with veth_pair(addresses=False) as pair:
        try:
            pair.far.ip("link add kit0 type netkit")
        except subprocess.CalledProcessError:
            pytest.xfail("this kernel has no netkit (Linux 6.7)")
        result = run_to_end(pair.far, "-i", "kit0", "-c", "1", "-t", "100")
    assert (result.code, result.said) == (0, tc_started("kit0", "ingress"))


@pytest.mark.parametrize(("hook", "seen"), [("auto", SOME), ("xdp", 0)])
def test_packets_handed_over_by_bpf_redirect_peer_are_seen_where_auto_attaches(hook: str, seen: int) -> None:
    """A host-side program can hand packets to a pod's interface past its driver, where native XDP runs."""
    with quiet_pair() as pair:
        pair.near.ip("link add uplink0 type veth peer name uplink1")
        for name in ("uplink0", "uplink1"):
            pair.near.run("sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1")
            pair.near.ip(f"link set {name} up")
        command = (sys.executable, "-m", "tests.netns.redirect_peer", "uplink0", "near0")
        with (
            bounded(pair.near.start(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as holder,
            running(pair.far, "-i", "far0", "-t", "1h", "--hook", hook) as tool,
        ):
            read_until(holder.stdout, b"attached")
            before = received(pair.far)
            frame = ethernet(IPV4, ipv4(UDP, udp(1024, 53, bytes(60))))
            send_frames(pair.near, "uplink1", [frame] * SOME)
            assert eventually(lambda: received(pair.far) == before + SOME)
            result = tool.stop()
    assert result.code == 0
    assert total(result.records) == seen


def test_a_second_instance_that_insists_on_xdp_ends_and_the_first_goes_on() -> None:
    with veth_pair() as pair, running(pair.far, *XDP_ON_FAR0) as first:
        program = attached_program(pair.far)
        second = run_to_end(pair.far, *XDP_ON_FAR0)
        assert attached_program(pair.far) == program
        assert_passes_traffic(pair)
        result = first.stop()
    assert (second.code, second.stdout) == (1, b"")
    (line,) = second.said
    assert f"XDP program id {program} is already attached (native)" in line
    assert "it belongs to another xtrace-catch" in line
    result.assert_quiet_success()
    assert of_type(result.records, "end")[0]["interfaces"][0]["packets"] > 0


def test_a_second_instance_counts_the_same_at_tc() -> None:
    with quiet_pair() as pair, running(pair.far, *XDP_ON_FAR0) as first, running(pair.far, "-i", "far0") as second:
        pair.near.ping("10.0.0.2", 3, "-s100")
        results = first.stop(), second.stop()
        assert is_free(pair.far, "far0")
    results[0].assert_quiet_success()
    assert results[1].code == 0
    for result, hook in zip(results, ("xdp", "tc"), strict=True):
        assert (total(result.records), total(result.records, "bytes")) == (3, 3 * (14 + 20 + 8 + 100))
        assert {record["hook"] for record in of_type(result.records, "interface")} == {hook}


def test_an_interface_taken_over_by_hand_can_be_watched_again_after_its_owner_left() -> None:
    with veth_pair() as pair:
        with other_program(pair.far, "native") as program:
            pass
        assert eventually(lambda: not is_loaded(program))
        run_to_end(pair.far, *XDP_ON_FAR0, "-c", "1", "-t", "100").assert_quiet_success()


@pytest.mark.parametrize(
    "hook, may_be_lost",
    [
        # on detaching, the driver frees what waits in the ring (veth_napi_del); seen once, on an emulated 5.10
        (("--xdp-mode", "native"), 9),
        (("--xdp-mode", "generic"), 0),
        (("--hook", "tc"), 0),
    ],
)
def test_attaching_and_detaching_lose_no_packet_of_a_running_stream(hook: tuple[str, str], may_be_lost: int) -> None:
    """The numbered stream: 10,000 packets per second through three starts and ends, one of them a kill."""
    with veth_pair() as pair, streaming(pair, 10_000) as stream:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
            with running(pair.far, "-i", "far0", "-t", "100", *hook, stdout=subprocess.PIPE) as tool:
                tool.wait_until_it_prints(b'"dst_port":40001')  # the stream passes the program
                result = tool.stop(number)
            assert result.code in (0, -signal.SIGKILL)
            # a kill -9 leaves a filter where there is no TCX, which the next run replaces
            if tc_way() == "tcx" or number != signal.SIGKILL:
                assert eventually(lambda: is_free(pair.far, "far0"))
        sent, lost = stream.end()
    assert sent
    assert len(lost) <= may_be_lost, lost
