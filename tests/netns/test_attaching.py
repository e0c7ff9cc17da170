"""Attaching: which mode, what is said, who else is there, and that it disturbs no traffic."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.netns.load import streaming
from tests.netns.tool import (
    GENERIC_EFFECT,
    STARTED_GENERIC,
    assert_passes_traffic,
    attached_program,
    bounded,
    eventually,
    is_loaded,
    run_to_end,
    running,
)
from tests.support.net import Namespace, of_type, read_until, veth_pair

NO_NATIVE = "Underlying driver does not support XDP in native mode"
"""The kernel's words, net/core/dev.c."""


def test_auto_takes_native_xdp_where_the_driver_has_it() -> None:
    with veth_pair() as pair, running(pair.far, "-i", "far0") as tool:
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
    assert (result.code, result.said) == (0, STARTED_GENERIC)
    assert {record["xdp_mode"] for record in of_type(result.records, "interface")} == {"generic"}


def test_auto_falls_back_to_generic_and_says_why_in_the_kernels_words() -> None:
    with veth_pair() as pair:
        result = run_to_end(pair.far, "-i", "lo", "-c", "1", "-t", "100")
        assert attached_program(pair.far, "lo") is None
    assert result.code == 0
    assert result.said[0] == "Preparing to monitor network interface: lo"
    assert result.said[1].startswith("attaching native XDP to lo: ")
    assert result.said[2:] == [
        f"native XDP refused on lo: {NO_NATIVE}; using generic XDP, which costs more per packet",
        f"attaching generic XDP to lo: {GENERIC_EFFECT}",
        "XDP program loaded on lo (generic, frags)",
    ]


def test_native_is_refused_in_one_line_where_the_driver_lacks_it() -> None:
    with veth_pair() as pair:
        result = run_to_end(pair.far, "-i", "lo", "--xdp-mode", "native")
        assert attached_program(pair.far, "lo") is None
    assert (result.code, result.stdout) == (1, b"")
    assert result.said[2:] == [f"xtrace-catch: lo: native XDP refused: {NO_NATIVE}; try --xdp-mode generic"]


def test_the_start_is_said_in_chinese_where_the_locale_is_chinese() -> None:
    with veth_pair() as pair, running(pair.far, "-i", "far0", variables={"LANG": "zh_CN.UTF-8"}) as tool:
        result = tool.stop()
    assert result.code == 0
    assert result.said[0] == "准备监控网络接口: far0"
    assert result.said[-1] == "XDP 程序已加载到 far0 (native, frags)"


@contextmanager
def other_program(namespace: Namespace, mode: str) -> Iterator[int]:
    """Somebody else's XDP program on far0; its id."""
    with bounded(
        namespace.start(
            sys.executable,
            "-m",
            "tests.netns.other_program",
            "far0",
            mode,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    ) as holder:
        read_until(holder.stdout, b"attached")
        program = attached_program(namespace)
        assert program is not None
        yield program


@pytest.mark.parametrize("theirs", ["native", "generic"])
@pytest.mark.parametrize("ours", ["auto", "native", "generic"])
def test_another_xdp_program_is_named_and_never_replaced(theirs: str, ours: str) -> None:
    with veth_pair() as pair, other_program(pair.far, theirs) as program:
        result = run_to_end(pair.far, "-i", "far0", "--xdp-mode", ours)
        assert attached_program(pair.far) == program
        assert_passes_traffic(pair)
    assert (result.code, result.stdout) == (1, b"")
    (line,) = result.said
    assert line.startswith(f"xtrace-catch: far0: XDP program id {program} is attached there ({theirs}), and is not")
    assert f"`bpftool prog show id {program}`" in line


def test_a_second_instance_on_the_same_interface_ends_and_the_first_goes_on() -> None:
    with veth_pair() as pair, running(pair.far, "-i", "far0") as first:
        program = attached_program(pair.far)
        second = run_to_end(pair.far, "-i", "far0")
        assert attached_program(pair.far) == program
        assert_passes_traffic(pair)
        result = first.stop()
    assert (second.code, second.stdout, len(second.said)) == (1, b"", 1)
    assert f"XDP program id {program} is attached there (native)" in second.said[0]
    result.assert_quiet_success()
    assert of_type(result.records, "end")[0]["interfaces"][0]["packets"] > 0


def test_an_interface_taken_over_by_hand_can_be_watched_again_after_its_owner_left() -> None:
    with veth_pair() as pair:
        with other_program(pair.far, "native") as program:
            pass
        assert eventually(lambda: not is_loaded(program))
        run_to_end(pair.far, "-i", "far0", "-c", "1", "-t", "100").assert_quiet_success()


def test_attaching_and_detaching_lose_no_packet_of_a_running_stream() -> None:
    """The numbered stream: 10,000 packets per second through three starts and ends of each mode, and a kill."""
    ends = [signal.SIGTERM, signal.SIGINT, signal.SIGKILL]
    with veth_pair() as pair, streaming(pair, 10_000) as stream:
        for number in ends:
            for mode in ("native", "generic"):
                with running(pair.far, "-i", "far0", "-t", "100", "--xdp-mode", mode, stdout=subprocess.PIPE) as tool:
                    tool.wait_until_it_prints(b'"type":"interface"')
                    result = tool.stop(number)
                assert result.code in (0, -signal.SIGKILL)
                seen = [f for f in of_type(result.records, "flow") if f["dst_port"] == 40001]
                assert sum(flow["packets"] for flow in seen) > 0, "the stream did not pass the program"
                assert eventually(lambda: attached_program(pair.far) is None)
        sent, lost = stream.end()
    assert sent > 10_000
    assert not lost
