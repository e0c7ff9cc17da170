"""Ends: by signal, by --count, by an interface that goes away. The last interval is drained and written."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import pytest

from tests.netns.load import flood, flooding, send
from tests.netns.stream import RECEIVER
from tests.netns.tool import (
    LIMIT_S,
    XDP_ON_FAR0,
    Result,
    Tool,
    assert_passes_traffic,
    attached_program,
    bounded,
    environment,
    eventually,
    is_loaded,
    launched,
    run_to_end,
    running,
    started,
    total,
    watching,
)
from tests.support.net import Pair, assert_sums_close, of_type, read_until, veth_pair

WITHOUT_END = (*XDP_ON_FAR0, "-t", "1h")
ONE_PAGE = 4096
"""Of a pipe this small the first records fill all."""


def assert_complete(result: Result, packets: int) -> None:
    """Every packet is in the records, whose last one adds them up."""
    lines = result.records
    assert_sums_close(lines)
    assert total(lines) == packets
    (far0,) = lines[-1]["interfaces"]
    assert lines[-1]["type"] == "end"
    assert lines[-1]["intervals"] == len(of_type(lines, "interface"))
    assert (far0["interface"], far0["packets"], far0["bytes"]) == ("far0", packets, total(lines, "bytes"))


def streamed(lines: list[dict[str, Any]]) -> int:
    """How many packets of the numbered stream the records hold."""
    return sum(flow["packets"] for flow in of_type(lines, "flow") if flow["dst_port"] == RECEIVER[1])


def assert_detached(pair: Pair, program: int | None) -> None:
    assert attached_program(pair.far) is None
    assert program is not None
    assert eventually(lambda: not is_loaded(program))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_with_the_packets_of_the_unfinished_interval(number: signal.Signals) -> None:
    with veth_pair(addresses=False) as pair, running(pair.far, *WITHOUT_END) as tool:
        program = attached_program(pair.far)
        flood(pair, 10_000)
        result = tool.stop(number)
        assert_detached(pair, program)
        received = pair.far.statistics("far0")["packets"]
    result.assert_quiet_success()
    assert received >= 10_000
    assert_complete(result, received)
    assert len(of_type(result.records, "interface")) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_amid_a_flood_ends_the_run_in_order(number: signal.Signals) -> None:
    with veth_pair(addresses=False) as pair, running(pair.far, *XDP_ON_FAR0, "-t", "100") as tool:
        program = attached_program(pair.far)
        with flooding(pair, 1 << 40, (1, 2), 512):
            assert eventually(lambda: pair.far.statistics("far0")["packets"] > 10_000, LIMIT_S)
            result = tool.stop(number)
        assert_detached(pair, program)
    result.assert_quiet_success()
    assert_complete(result, total(result.records))
    assert total(result.records) > 10_000


def test_count_ends_after_that_many_intervals_with_nothing_left_attached() -> None:
    pings = ("ping", "-q", "-i0.02", "10.0.0.2")
    with (
        veth_pair() as pair,
        bounded(pair.near.start(*pings, stdout=subprocess.DEVNULL)),
        running(pair.far, *XDP_ON_FAR0, "-t", "1s", "-c", "3") as tool,
    ):
        program = attached_program(pair.far)
        result = tool.wait()
        assert_detached(pair, program)
    result.assert_quiet_success()
    assert_complete(result, total(result.records))
    requests = [flow for flow in of_type(result.records, "flow") if flow.get("icmp_type") == 8]
    assert sum(flow["packets"] for flow in requests) > 0
    intervals = of_type(result.records, "interface")
    assert len(intervals) == 3
    assert sum(record["interval_s"] for record in intervals) > 2.5


def signal_before_exec(number: signal.Signals) -> None:
    """Leave a signal waiting for the program that is about to be executed, as its launcher does with one that comes."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_waited_while_python_started_stops_the_run_in_order(number: signal.Signals) -> None:
    waiting: dict[str, Any] = {"preexec_fn": lambda: signal_before_exec(number)}
    with veth_pair(addresses=False) as pair, launched(pair.far, *WITHOUT_END, **waiting) as tool:
        result = tool.wait()
        assert attached_program(pair.far) is None
    assert (result.code, result.stdout) == (0, b"")
    assert result.said[-1] == "xtrace-catch: stopped before monitoring began"


def fill_one_page_pipe(pair: Pair, tool: Tool) -> None:
    """Shrink the tool's pipe so that its next records block, and let 4096 flows come."""
    assert tool.process.stdout is not None
    fcntl.fcntl(tool.process.stdout, fcntl.F_SETPIPE_SZ, ONE_PAGE)
    with flooding(pair, 1 << 16, (1,), 4096) as senders:
        assert senders[0].wait(LIMIT_S) == 0


def test_a_second_ctrl_c_ends_at_once_and_leaves_nothing() -> None:
    with (
        veth_pair(addresses=False) as pair,
        running(pair.far, *WITHOUT_END, stdout=subprocess.PIPE) as tool,
    ):
        program = attached_program(pair.far)
        fill_one_page_pipe(pair, tool)

        def impatient() -> bool:
            tool.process.send_signal(signal.SIGINT)
            return tool.process.poll() is not None

        assert eventually(impatient)
        assert tool.wait().code == 130, "the second Ctrl-C waited for the blocked output"
        assert_detached(pair, program)


@pytest.mark.parametrize("interval", ["100", "1h"], ids=["blocked before the signal", "blocked after the signal"])
def test_a_blocked_reader_is_abandoned_after_sigterm_and_every_dropped_record_is_reported(interval: str) -> None:
    with (
        veth_pair(addresses=False) as pair,
        running(pair.far, *XDP_ON_FAR0, "-t", interval, stdout=subprocess.PIPE) as tool,
    ):
        program = attached_program(pair.far)
        fill_one_page_pipe(pair, tool)
        tool.process.terminate()
        assert tool.process.wait(LIMIT_S) == 1
        assert_detached(pair, program)
        result = tool.wait()
    assert result.said[: len(started())] == started()
    (line,) = result.said[len(started()) :]
    told = re.fullmatch(r"xtrace-catch: standard output: still blocked 2 s .*, records dropped: (\d+), .*", line)
    assert told, line
    written = result.stdout.count(b"\n") - 1
    assert written < 100
    if interval == "1h":
        # one interval: its 4096 flows, its interface record, and the end record if that is counted too
        assert int(told.group(1)) + written in (4097, 4098)


@contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe without room for a single byte."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(ONE_PAGE))
        os.set_blocking(writer, True)
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


@contextmanager
def unheard(pair: Pair, stderr: int, *arguments: str, stdout: IO[bytes] | int) -> Iterator[subprocess.Popen[bytes]]:
    """The tool, attached to far0, whose stderr nobody reads; it has warned before that a URL is not used."""
    variables = environment(VICTORIAMETRICS_REMOTE_WRITE="http://localhost:1")
    started = pair.far.catch(*XDP_ON_FAR0, *arguments, stdout=stdout, stderr=stderr, env=variables)
    with bounded(started) as process:
        assert eventually(lambda: attached_program(pair.far) is not None, LIMIT_S)
        yield process


def test_blocked_stderr_delays_no_interval_and_no_end() -> None:
    with (
        veth_pair(addresses=False) as pair,
        full_pipe() as (_, writer),
        tempfile.TemporaryFile() as output,
        unheard(pair, writer, "-t", "1h", stdout=output) as process,
    ):
        program = attached_program(pair.far)
        flood(pair, 10_000)
        process.terminate()
        assert process.wait(LIMIT_S) == 0
        assert_detached(pair, program)
        received = pair.far.statistics("far0")["packets"]
        output.seek(0)
        assert_complete(Result(0, output.read(), b""), received)


def test_stdout_and_stderr_blocked_by_one_reader_end_after_sigterm() -> None:
    with (
        veth_pair(addresses=False) as pair,
        full_pipe() as (_, writer),
        unheard(pair, writer, "-t", "100", stdout=writer) as process,
    ):
        program = attached_program(pair.far)
        process.terminate()
        assert process.wait(LIMIT_S) == 1
        assert_detached(pair, program)


def test_lines_that_blocked_stderr_lost_are_counted_when_it_is_read_again() -> None:
    with (
        veth_pair(addresses=False) as pair,
        full_pipe() as (reader, writer),
        unheard(pair, writer, "-t", "1h", stdout=subprocess.DEVNULL) as process,
    ):
        filled = os.read(reader, 1 << 20)
        assert set(filled) == {0}
        pair.far.ip("link set far0 down")
        with open(reader, "rb", closefd=False) as lines:
            first = lines.readline()
            assert re.fullmatch(rb"xtrace-catch: stderr was blocked, lines dropped: [1-9]\d*\n", first), first
            read_until(lines, b"far0: the interface is down")
        process.terminate()
        assert process.wait(LIMIT_S) == 0


def test_two_interrupts_at_once_are_one_request_to_stop() -> None:
    """timeout -s INT sends one to the process, and one to its group."""
    with veth_pair(addresses=False) as pair, running(pair.far, *WITHOUT_END) as tool:
        flood(pair, 10_000)
        tool.process.send_signal(signal.SIGINT)
        result = tool.stop(signal.SIGINT)
        received = pair.far.statistics("far0")["packets"]
    result.assert_quiet_success()
    assert_complete(result, received)


def handles(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    """Whether the process has a handler for a signal by now."""
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    assert caught is not None, "the process has ended"
    return bool(int(caught.group(1), 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_imports_ends_the_start(number: signal.Signals) -> None:
    with veth_pair(addresses=False) as pair, launched(pair.far, *WITHOUT_END) as tool:
        deadline = time.monotonic() + LIMIT_S
        while not handles(tool.process, signal.SIGTERM):  # Python itself handles SIGINT from the start
            assert time.monotonic() < deadline
        result = tool.stop(number)
        assert attached_program(pair.far) is None
    assert (result.code, result.stdout, result.said) == (0, b"", ["xtrace-catch: stopped before monitoring began"])


def test_a_signal_while_many_interfaces_are_attached_ends_the_start() -> None:
    names = [f"end{number}" for number in range(40)]
    with veth_pair(addresses=False) as pair:
        for one, other in zip(names[::2], names[1::2], strict=True):
            pair.far.ip(f"link add {one} type veth peer name {other}")
            pair.far.ip(f"link set {one} up")
            pair.far.ip(f"link set {other} up")
        with launched(pair.far, "-i", ",".join(names), "-t", "1h", "--hook", "xdp") as tool:
            tool.wait_until_it_says(b"loaded on")
            result = tool.stop()
        assert not any(attached_program(pair.far, name) for name in names)
    assert (result.code, result.stdout) == (0, b"")
    assert result.said[-1] == "xtrace-catch: stopped before monitoring began"
    assert result.stderr.count(b"loaded on") < len(names)


def test_a_deleted_interface_is_reported_awaited_and_all_its_packets_are_written() -> None:
    with veth_pair() as pair, running(pair.far, *XDP_ON_FAR0, "-t", "500") as tool:
        program = attached_program(pair.far)
        assert program is not None
        send(pair, 1000)
        pair.far.ip("link delete far0")
        tool.wait_until_it_says(b"far0: the interface is gone")
        assert eventually(lambda: not is_loaded(program))
        assert tool.process.poll() is None
        result = tool.stop()
    assert result.code == 0
    assert result.said == [
        *started(),
        "far0: the interface is gone; packets seen until then are counted; it is monitored again when it comes back",
    ]
    lines = result.records
    assert_sums_close(lines)
    (far0,) = lines[-1]["interfaces"]
    assert (far0["interface"], far0["packets"], far0["bytes"]) == ("far0", total(lines), total(lines, "bytes"))
    assert streamed(lines) == 1000


def test_an_interface_set_down_and_up_again_is_counted_on() -> None:
    with watching("-t", "100") as watch:
        send(watch.pair, 500)
        watch.pair.far.ip("link set far0 down")
        assert watch.tool.process.poll() is None
        watch.pair.far.ip("link set far0 up")
        assert_passes_traffic(watch.pair)
        send(watch.pair, 500)
        lines = watch.finish()
    assert streamed(lines) == 1000


def test_a_renamed_interface_is_counted_on() -> None:
    with veth_pair() as pair, running(pair.far, *XDP_ON_FAR0, "-t", "100") as tool:
        send(pair, 500)
        pair.far.ip("link set far0 down")
        pair.far.ip("link set far0 name renamed0")
        pair.far.ip("link set renamed0 up")
        assert_passes_traffic(pair)
        send(pair, 500)
        result = tool.stop()
    assert (result.code, result.said_of_attaching) == (0, [*started(), "far0: the interface was renamed to renamed0"])
    assert_sums_close(result.records)
    assert streamed(result.records) == 1000
    assert {record["interface"] for record in of_type(result.records, "interface")} <= {"far0", "renamed0"}
    assert of_type(result.records, "interface")[-1]["interface"] == "renamed0"


def state(tool: Tool) -> str:
    """Of the process, as ps shows it: T is stopped."""
    return Path(f"/proc/{tool.process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_suspended_run_counts_what_came_meanwhile_when_it_is_resumed() -> None:
    """Ctrl-Z and fg: the kernel goes on counting."""
    with (
        veth_pair(addresses=False) as pair,
        running(pair.far, *XDP_ON_FAR0, "-t", "100", stdout=subprocess.PIPE) as tool,
    ):
        tool.wait_until_it_prints(b'"type":"interface"')
        tool.process.send_signal(signal.SIGSTOP)
        assert eventually(lambda: state(tool) == "T")
        before = pair.far.statistics("far0")["packets"]
        flood(pair, 200_000)
        while_suspended = pair.far.statistics("far0")["packets"] - before
        tool.process.send_signal(signal.SIGCONT)
        result = tool.stop()
        received = pair.far.statistics("far0")["packets"]
    result.assert_quiet_success()
    assert_complete(result, received)
    assert max(record["packets"] for record in of_type(result.records, "interface")) >= while_suspended >= 200_000


def test_intervals_follow_each_other_without_a_gap() -> None:
    with veth_pair(addresses=False) as pair:
        intervals = of_type(run_to_end(pair.far, *XDP_ON_FAR0, "-t", "100", "-c", "10").records, "interface")
    assert len(intervals) == 10
    ends = [datetime.fromisoformat(record["ts"].replace("Z", "+00:00")).timestamp() for record in intervals]
    for before, end, record in zip(ends, ends[1:], intervals[1:], strict=False):
        # both are rounded to milliseconds
        assert end - before == pytest.approx(record["interval_s"], abs=0.003)
