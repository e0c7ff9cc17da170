"""Readers of the output: a slow one, one that leaves, jq, a terminal."""

from __future__ import annotations

import array
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from itertools import pairwise

import pytest

from tests.netns.load import flood, flooding
from tests.netns.tool import (
    CPUS,
    LIMIT_S,
    ONLY_INGRESS,
    XDP_ON_FAR0,
    Tool,
    assert_passes_traffic,
    attached_program,
    bounded,
    environment,
    eventually,
    launched,
    run_to_end,
    running,
    said,
    started,
    tc_started,
    total,
)
from tests.support.net import Pair, assert_sums_close, of_type, read_until, records, veth_pair

COMMAND = f"{sys.executable} -m xtrace -i far0 --hook xdp"
FLOWS = 256

BLOCKED = (1 << 16) - 3 * 4096
"""Of a pipe of 16 pages so much is taken when the next piece does not fit: some pages are filled in part."""


def unread(tool: Tool) -> int:
    """Bytes in the pipe from the tool."""
    assert tool.process.stdout is not None
    size = array.array("i", [0])
    fcntl.ioctl(tool.process.stdout, termios.FIONREAD, size)
    return size[0]


def test_a_reader_that_stops_reading_delays_records_and_loses_no_packet() -> None:
    with veth_pair(addresses=False, queues=len(CPUS)) as pair:
        with running(pair.far, *XDP_ON_FAR0, "-t", "100", stdout=subprocess.PIPE) as tool:
            assert tool.process.stdout is not None
            with flooding(pair, 1 << 40, (1, 2), 512):
                assert eventually(lambda: unread(tool) > BLOCKED, LIMIT_S)
            before = pair.far.statistics("far0")["packets"]
            flood(pair, 1_000_000)
            while_unread = pair.far.statistics("far0")["packets"] - before
            # read on, in pieces smaller than a record
            slowly = b"".join(tool.process.stdout.read(100) for _ in range(1000))
            tool.wait_until_it_prints(b'"type":"interface"')
            result = tool.stop()
        received = pair.far.statistics("far0")["packets"]
    result.assert_quiet_success()
    lines = records(slowly + result.stdout)
    assert_sums_close(lines)
    assert total(lines) == received >= 1_000_000
    # the output blocked with the next interval at the latest: one more began, and did not end before it was read
    counted = [record["packets"] for record in of_type(lines, "interface")]
    assert max(map(sum, pairwise(counted))) >= while_unread >= 1_000_000


def pipeline(pair: Pair, command: str) -> subprocess.Popen[bytes]:
    """A shell's pipeline in far's namespace, whose last line tells how each of its commands ended."""
    script = f'{command}; echo "${{PIPESTATUS[@]}}"'
    pipe = subprocess.PIPE
    return pair.far.start("bash", "-c", script, stdout=pipe, stderr=pipe, env=environment())


@pytest.mark.parametrize("interval", ["100", "1h"])
def test_head_takes_its_line_and_the_tool_ends_quietly_at_once(interval: str) -> None:
    with veth_pair() as pair, bounded(pipeline(pair, f"{COMMAND} -t {interval} | head -1")) as shell:
        stdout, stderr = shell.communicate(timeout=LIMIT_S)
        assert attached_program(pair.far) is None
    first, statuses = stdout.decode().splitlines()
    assert records(first.encode())[0]["type"] == "start"
    assert statuses == "0 0"
    assert said(stderr) == started()


def test_a_reader_that_leaves_while_the_tool_waits_for_it_ends_it_quietly() -> None:
    with (
        veth_pair(addresses=False) as pair,
        running(pair.far, *XDP_ON_FAR0, "-t", "100", stdout=subprocess.PIPE) as tool,
    ):
        flood(pair, 200_000)
        assert tool.process.poll() is None
        assert tool.process.stdout is not None
        tool.process.stdout.close()
        tool.process.stdout = None
        result = tool.wait()
        assert attached_program(pair.far) is None
    result.assert_quiet_success()


def test_jq_selects_flows_as_the_readme_shows() -> None:
    select = 'select(.type=="flow")|[.src_ip,.dst_ip,.bytes]'
    with (
        veth_pair(addresses=False) as pair,
        bounded(pipeline(pair, f"{COMMAND} -t 1s -c 3 | jq -c '{select}'")) as shell,
    ):
        assert shell.stderr is not None
        stderr = read_until(shell.stderr, ONLY_INGRESS.encode())  # the last line: nothing is left in the buffer
        with flooding(pair, 64, (1,), 1) as senders:
            assert senders[0].wait(LIMIT_S) == 0
        stdout, rest = shell.communicate(timeout=LIMIT_S)
    assert said(stderr + rest) == started()
    *selected, statuses = stdout.decode().splitlines()
    assert statuses == "0 0"
    assert {tuple(json.loads(line)[:2]) for line in selected} == {("10.1.0.0", "10.255.0.1")}
    assert sum(json.loads(line)[2] for line in selected) == 64 * 64


def on_terminal(pair: Pair, *arguments: str, size: tuple[int, int] = (24, 80)) -> list[str]:
    """The lines that a run printed to a terminal while FLOWS flows came, in one interval, without colors."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))
    try:
        with running(pair.far, *XDP_ON_FAR0, "-t", "1h", *arguments, stdout=theirs) as tool:
            os.close(theirs)
            theirs = -1
            for net in (1, 2):  # the flows of the second are twice as large
                with flooding(pair, 64 * net * FLOWS, (net,), FLOWS // 2) as senders:
                    assert senders[0].wait(LIMIT_S) == 0
            tool.process.terminate()
            shown = read_terminal(ours)
            tool.wait().assert_quiet_success()
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)
    return re.sub(r"\x1b\[[\d;]*m", "", shown.decode()).splitlines()


def read_terminal(ours: int) -> bytes:
    """All that is written to a terminal until its last writer ends, which EIO tells."""
    shown = b""
    with suppress(OSError):
        while piece := os.read(ours, 65536):
            shown += piece
    return shown


FLOW_LINE = re.compile(
    r"(10\.(\d+)\.0\.\d+):(\d+) -> 10\.255\.0\.1:9 proto=17 packets=(?P<packets>\d+) bytes=(?P<bytes>\d+) \[UDP\] far0"
)
OTHER_LINE = re.compile(r"other flows=(?P<flows>\d+) packets=(?P<packets>\d+) bytes=(?P<bytes>\d+) far0")
INTERFACE_LINE = re.compile(
    r"far0 \d\d:\d\d:\d\d \d+\.\ds flows=(?P<flows>\d+) packets=(?P<packets>\d+) bytes=(?P<bytes>\d+)"
    r" unattributed=0 filtered=0"
)


def parsed(pattern: re.Pattern[str], line: str) -> dict[str, int]:
    """The named numbers of a line, which must have that form."""
    found = pattern.fullmatch(line)
    assert found, line
    return {name: int(value) for name, value in found.groupdict().items()}


@pytest.mark.parametrize(("arguments", "shown"), [((), 50), (("--top", "3"), 3), (("--top", "0"), FLOWS)])
def test_a_terminal_shows_the_largest_flows_as_text_and_the_rest_as_other(
    arguments: tuple[str, ...], shown: int
) -> None:
    with veth_pair(addresses=False) as pair:
        lines = on_terminal(pair, "-o", "text", *arguments)
        received = pair.far.statistics("far0")["packets"]
    flows = [parsed(FLOW_LINE, line) for line in lines[:shown]]
    others = [parsed(OTHER_LINE, line) for line in lines[shown:-1]]
    interface = parsed(INTERFACE_LINE, lines[-1])
    assert [other["flows"] for other in others] == ([] if shown == FLOWS else [FLOWS - shown])
    sizes = [flow["bytes"] for flow in flows]
    assert sizes == sorted(sizes, reverse=True)
    assert all(line.startswith("10.2.") for line in lines[: min(shown, FLOWS // 2)])
    assert interface["flows"] == FLOWS
    assert interface["packets"] == sum(line["packets"] for line in flows + others) == received
    assert interface["bytes"] == sum(line["bytes"] for line in flows + others)


TABLE_LINE = re.compile(r"in +(?P<type>\w+) +[\d.]+ [kMGT]? +(?P<bytes>\d+) +(?P<packets>\d+)  .*")


@pytest.mark.parametrize("rows, columns", [(24, 80), (50, 200)])
def test_a_terminal_shows_a_table_that_fits_it_and_closes(rows: int, columns: int) -> None:
    with veth_pair(addresses=False) as pair:
        lines = on_terminal(pair, size=(rows, columns))
        received = pair.far.statistics("far0")["packets"]
    end = lines.index("totals of 1 interval")
    block = lines[: end - 1]
    assert rows - 4 <= len(block) < rows and max(map(len, block)) <= columns
    found = [(found["type"], int(found["packets"])) for line in block if (found := TABLE_LINE.fullmatch(line))]
    assert sum(packets for kind, packets in found if kind != "all") == received
    assert found[-1] == ("all", received)
    assert re.fullmatch(rf"far0 +in +{received} +\d+ +0 +0", lines[-1])


def test_json_lines_can_be_limited_too_and_still_add_up() -> None:
    with veth_pair(addresses=False) as pair, running(pair.far, *XDP_ON_FAR0, "-t", "100", "--top", "10") as tool:
        flood(pair, 100_000)
        lines = tool.stop().records
        received = pair.far.statistics("far0")["packets"]
    assert_sums_close(lines)
    assert total(lines) == received
    busy = [record for record in of_type(lines, "interface") if record["flows"] > 10]
    assert len(of_type(lines, "other")) == len(busy) > 0


def test_without_eth0_the_default_routes_interface_is_used_and_reported() -> None:
    with veth_pair() as pair:
        pair.far.ip("route add default via 10.0.0.1")
        with launched(pair.far, "-t", "1h", "--hook", "xdp") as tool:
            tool.wait_until_it_says(b"loaded on far0")
            assert_passes_traffic(pair)
            result = tool.stop()
    assert result.code == 0
    assert result.said == ["no interface eth0: using far0, which has the default route", *started()]
    assert total(result.records) > 0


def test_eth0_is_the_default_where_there_is_one() -> None:
    with veth_pair() as pair:
        pair.far.ip("link add eth0 type veth peer name peer0")
        pair.far.ip("link set peer0 up")
        pair.far.ip("link set eth0 up")
        pair.far.ip("route add default via 10.0.0.1")
        result = run_to_end(pair.far, "-t", "100", "-c", "1")
    assert (result.code, result.said) == (0, tc_started("eth0", "ingress"))


@pytest.mark.parametrize("arguments", [(), ("-i", "nowhere0")])
def test_an_unknown_interface_is_answered_with_those_that_exist(arguments: tuple[str, ...]) -> None:
    with veth_pair() as pair:
        result = run_to_end(pair.far, *arguments)
    name = arguments[-1] if arguments else "eth0"
    assert (result.code, result.stdout) == (1, b"")
    assert result.said == [f"xtrace-catch: interface {name} not found (available: lo, far0); choose one with -i"]


def test_output_that_cannot_be_written_is_an_error_in_one_line() -> None:
    with veth_pair() as pair, bounded(pipeline(pair, f"{COMMAND} -t 100 >/dev/full")) as shell:
        stdout, stderr = shell.communicate(timeout=LIMIT_S)
        assert attached_program(pair.far) is None
    assert stdout.decode() == "1\n"
    *before, line = said(stderr)
    assert before == started()
    assert line.startswith("xtrace-catch: standard output: No space left on device")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_run_with_a_closed_standard_descriptor_ends_as_any_other(closed: str) -> None:
    with veth_pair() as pair, bounded(pipeline(pair, f"{COMMAND} -t 100 -c 2 {closed}")) as shell:
        stdout, stderr = shell.communicate(timeout=LIMIT_S)
    *lines, code = stdout.decode().splitlines()
    assert code == "0"
    assert bool(lines) == (">&-" not in closed.replace("2>&-", ""))
    assert said(stderr) == ([] if "2>&-" in closed else started())
