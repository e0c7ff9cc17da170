"""Hooks that see less, or more, than the interface counts itself: reported after two intervals, and in each record."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.netns.tool import Result, Tool, add_plug, bounded, eventually, running, tc_way, total
from tests.support.net import Pair, of_type, quiet_pair, read_until


def shares(result: Result, direction: str) -> list[str | None]:
    """The field `coverage` of each interval."""
    return [record["coverage"] for record in of_type(result.records, "interface") if record["direction"] == direction]


def send_while_running(pair: Pair, tool: Tool, intervals: int, *command: str) -> Result:
    """Let a command send until that many intervals, of one interface and direction, have passed; the end of the run."""
    with bounded(pair.far.start(*command, stdout=subprocess.DEVNULL)):
        tool.wait_for_intervals(intervals)
    return tool.stop()


PINGS = ("ping", "-q", "-i0.02", "10.0.0.1")
WITHOUT_TCX = {"XTRACE_FEATURES_OFF": "tcx"}
SECOND = ("-t", "1s")
"""The shortest interval that decides something alone."""


@pytest.mark.parametrize("hook", ["tc", "xdp", "generic"])
def test_a_hook_that_sees_everything_has_full_coverage_and_no_line(hook: str) -> None:
    options = ("--xdp-mode", hook) if hook == "generic" else ("--hook", hook)
    with quiet_pair() as pair, running(pair.far, "-i", "far0", *SECOND, *options) as tool:
        result = send_while_running(pair, tool, 4, *PINGS)
    assert shares(result, "ingress")[1:4] == ["full"] * 3
    assert not [line for line in result.said if "interface counts" in line]


def test_a_hook_that_sees_nothing_of_what_the_interface_counts_is_reported_after_two_intervals() -> None:
    """Another program in front of ours ends the chain."""
    command = (sys.executable, "-m", "tests.netns.tcx", "attach", "far0", "ingress", "0", "first")
    if tc_way() != "tcx":
        pytest.skip("TCX links are of Linux 6.6")
    pipe = subprocess.PIPE
    with (
        quiet_pair() as pair,
        running(pair.far, "-i", "far0", *SECOND) as tool,
        bounded(pair.far.start(*command, stdin=pipe, stdout=pipe)) as other,
    ):
        read_until(other.stdout, b"attached")
        tool.wait_for_intervals(1)
        result = send_while_running(pair, tool, 3, *PINGS)
    assert "far0: the hook sees none of the packets that the interface counts as received" in result.said
    assert shares(result, "ingress")[-2] == "none"


def redirect(pair: Pair, interface: str, direction: str, towards: str, target: str) -> None:
    """Let all packets of one of far's interfaces continue at another one."""
    pair.far.run("tc", "qdisc", "add", "dev", interface, "clsact")
    action = ("u32", "match", "u32", "0", "0", "action", "mirred", towards, "redirect", "dev", target)
    pair.far.run("tc", "filter", "add", "dev", interface, direction, "protocol", "all", *action)


def more_than_counted(result: Result, verb: str) -> list[str]:
    """The lines about a hook that counts more than the interface."""
    return [line for line in result.said if "times the packets that the interface counts as " + verb in line]


@pytest.mark.parametrize("how", ["tcx", "clsact"])
@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_packets_that_take_a_detour_by_an_ifb_pass_the_egress_hook_twice_which_is_reported(
    direction: str, how: str
) -> None:
    """At ingress the kernel runs no program again."""
    doubled = direction == "egress"
    variables = WITHOUT_TCX if how == "clsact" else None
    with quiet_pair() as pair:
        pair.far.ip("link add ifb0 type ifb")
        pair.far.run("sysctl", "-qw", "net.ipv6.conf.ifb0.disable_ipv6=1")
        pair.far.ip("link set ifb0 up")
        redirect(pair, "far0", direction, "egress", "ifb0")
        options = ("-i", "far0", *SECOND, "--direction", "both")
        with running(pair.far, *options, programs=2, variables=variables) as tool:
            result = send_while_running(pair, tool, 2 * 4, *PINGS)
    reported = more_than_counted(result, "sent")
    counted = [re.match(r"far0: the hook counts (\d\.\d) times the packets", line) for line in reported]
    # at the end of an interval a packet may be between its two passes
    assert [found is not None and 1.5 < float(found[1]) < 2.5 for found in counted] == [True] * doubled
    assert more_than_counted(result, "received") == []
    assert shares(result, "ingress")[2:4] == ["full"] * 2
    assert shares(result, "egress")[2:4] == (["repeated"] if doubled else ["full"]) * 2


def test_packets_redirected_to_the_interface_from_another_one_are_reported() -> None:
    with quiet_pair() as pair:
        add_plug(pair, "plug0", "peer")
        pair.near.ip("addr add 10.1.0.1/24 dev peer")
        pair.near.ip("neigh replace 10.1.0.2 lladdr 02:00:00:00:00:01 nud permanent dev peer")
        redirect(pair, "plug0", "ingress", "ingress", "far0")
        flood = ("ping", "-q", "-i0.005", "10.1.0.2")
        with (
            running(pair.far, "-i", "far0", *SECOND) as tool,
            bounded(pair.near.start(*flood, stdout=subprocess.DEVNULL)),
        ):
            result = send_while_running(pair, tool, 4, *PINGS)
    assert len(more_than_counted(result, "received")) == 1
    assert shares(result, "ingress")[2:4] == ["repeated"] * 2


SEND_5000 = """
import socket
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(5000):
    sender.sendto(bytes(958), ("10.0.0.1", 9))
"""
"""Frames of 1,000 bytes."""


SENT = " nic_packets what the interface sent"


def queue_of(pair: Pair) -> dict[str, Any]:
    """far0's root qdisc, by iproute2."""
    listed = json.loads(pair.far.run("tc", "-s", "-j", "qdisc", "show", "dev", "far0"))
    (root,) = [qdisc for qdisc in listed if qdisc.get("root")]
    return dict(root)


@pytest.mark.parametrize("interval", ["1h", "200"])
@pytest.mark.parametrize("queue", ["tbf rate 10mbit burst 5kb limit 20kb", "pfifo under tbf"])
def test_packets_that_the_queue_drops_stand_beside_the_egress_that_was_handed_to_it(queue: str, interval: str) -> None:
    with quiet_pair() as pair:
        shaper = queue if "under" not in queue else "tbf rate 10mbit burst 5kb limit 1mb"
        pair.far.run("tc", "qdisc", "add", "dev", "far0", "root", "handle", "1:", *shaper.split())
        if "under" in queue:
            pair.far.run("tc", "qdisc", "add", "dev", "far0", "parent", "1:1", "pfifo", "limit", "20")
        sent_before = pair.far.statistics("far0", "tx")["packets"]
        with running(pair.far, "-i", "far0", "-t", interval, "--direction", "egress") as tool:
            pair.far.run(sys.executable, "-c", SEND_5000)
            assert eventually(lambda: queue_of(pair)["backlog"] == 0)
            result = tool.stop()
        sent = pair.far.statistics("far0", "tx")["packets"] - sent_before
        dropped = queue_of(pair)["drops"]
    assert result.code == 0
    assert total(result.records) == 5000
    assert total(result.records, "qdisc_drops") == dropped == 5000 - sent > 0
    (line,) = [line for line in result.said if "queue" in line]
    assert line.startswith("far0: the queue (tbf) dropped ")
    assert line.endswith(" packets after they were counted: egress is what is handed to the queue," + SENT)


def test_drops_of_a_queue_that_was_added_during_the_run_are_known() -> None:
    with quiet_pair() as pair, running(pair.far, "-i", "far0", "-t", "1h", "--direction", "egress") as tool:
        queue = "tbf rate 10mbit burst 5kb limit 20kb"
        pair.far.run("tc", "qdisc", "add", "dev", "far0", "root", *queue.split())
        pair.far.run(sys.executable, "-c", SEND_5000)
        assert eventually(lambda: queue_of(pair)["backlog"] == 0)
        result = tool.stop()
        dropped = queue_of(pair)["drops"]
    assert total(result.records, "qdisc_drops") == dropped > 0
    assert any(line.startswith("far0: the queue (tbf) dropped ") for line in result.said)


def test_an_interface_without_a_queue_has_no_drops_and_ingress_no_such_field() -> None:
    with quiet_pair() as pair, running(pair.far, "-i", "far0", "-t", "1h", "--direction", "both", programs=2) as tool:
        records = of_type(tool.stop().records, "interface")
    by_direction = {record["direction"]: record for record in records}
    assert by_direction["egress"]["qdisc_drops"] is None
    assert "qdisc_drops" not in by_direction["ingress"]
