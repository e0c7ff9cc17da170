"""Interfaces that appear, disappear, are renamed or moved while the tool runs: nothing is lost or left behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.netns.load import flooding, send_frames
from tests.netns.tool import (
    CPUS,
    LIMIT_S,
    XDP_ON_FAR0,
    Tool,
    add_plug,
    attached_program,
    bounded,
    eventually,
    flows,
    is_free,
    run_to_end,
    running,
    tc_way,
    total,
)
from tests.support.frames import IPV4, UDP, ethernet, ipv4, udp
from tests.support.net import Namespace, Pair, assert_sums_close, of_type, quiet_pair, read_until, veth_pair

FRAME = ethernet(IPV4, ipv4(UDP, udp(1024, 53, bytes(60))))
SOME = 50
"""Frames sent at a time: fewer than a veth's ring holds."""

MORE_THAN_IS_SENT = 1 << 40
ROUNDS = 4

FLOODED = ("-i", "far0,plug*", "--hook", "xdp", "-t", "100")
GONE = "{}: the interface is gone; packets seen until then are counted"
MOVED = "{}: the interface moved to another network namespace; packets seen until then are counted"
HOOKS = pytest.mark.parametrize("hook", ["xdp", "tc"])


def send_and_count(pair: Pair, name: str, peer: str) -> None:
    """Send SOME frames into an interface of far, which then has received them."""
    before = pair.far.statistics(name)["packets"]
    send_frames(pair.near, peer, [FRAME] * SOME)
    assert eventually(lambda: pair.far.statistics(name)["packets"] == before + SOME)


def gone(name: str) -> bytes:
    return GONE.format(name).encode()


def loaded(name: str) -> bytes:
    return f"loaded on {name} ".encode()


def by_interface(lines: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Packets of each interface over the run; the end record says the same."""
    sums: dict[str, int] = {}
    for record in of_type(lines, "interface"):
        sums[record["interface"]] = sums.get(record["interface"], 0) + record["packets"]
    ends: dict[str, int] = {}
    for record in lines[-1]["interfaces"]:
        ends[record["interface"]] = ends.get(record["interface"], 0) + record["packets"]
    assert lines[-1]["type"] == "end"
    assert sums == ends
    return sums


@contextmanager
def flooded(pair: Pair) -> Iterator[None]:
    """A flood into far0 that lasts for the whole block; a CPU is left for what happens meanwhile."""
    with flooding(pair, MORE_THAN_IS_SENT, (1,), 512):
        assert eventually(lambda: pair.far.statistics("far0")["packets"] > 10_000, LIMIT_S)
        yield


def test_interfaces_that_come_and_go_during_a_flood_are_counted_exactly_and_so_is_the_flood() -> None:
    with veth_pair(addresses=False, queues=len(CPUS)) as pair:
        with running(pair.far, *FLOODED) as tool:
            with flooded(pair):
                for number in range(ROUNDS):
                    add_plug(pair, f"plug{number}", "peer")
                    tool.wait_until_it_says(loaded(f"plug{number}"))
                    send_and_count(pair, f"plug{number}", "peer")
                    pair.far.ip(f"link delete plug{number}")
                    tool.wait_until_it_says(gone(f"plug{number}"))
            result = tool.stop()
        received = pair.far.statistics("far0")["packets"]
        assert is_free(pair.far, "far0")
    assert result.code == 0
    assert_sums_close(result.records)
    sums = by_interface(result.records)
    assert sums.pop("far0") == received
    assert sums == {f"plug{number}": SOME for number in range(ROUNDS)}


def test_an_interface_that_is_renamed_during_a_flood_is_counted_on_under_each_of_its_names() -> None:
    with veth_pair(addresses=False, queues=len(CPUS)) as pair:
        add_plug(pair, "plug0", "peer")
        with running(pair.far, *FLOODED, programs=2) as tool:
            with flooded(pair):
                for number in range(ROUNDS):
                    send_and_count(pair, f"plug{number}", "peer")
                    pair.far.ip(f"link set plug{number} down")
                    pair.far.ip(f"link set plug{number} name plug{number + 1}")
                    pair.far.ip(f"link set plug{number + 1} up")
                    renamed = f"plug{number}: the interface was renamed to plug{number + 1}"
                    tool.wait_until_it_says(renamed.encode())
            result = tool.stop()
        received = pair.far.statistics("far0")["packets"]
        assert is_free(pair.far, f"plug{ROUNDS}")
    assert result.code == 0
    assert_sums_close(result.records)
    sums = by_interface(result.records)
    assert sums.pop("far0") == received
    # an interval has the name that was known when it ended
    assert sum(sums.values()) == SOME * ROUNDS
    assert len(sums) > 2
    attached = [line for line in result.said if "loaded on plug" in line]
    assert len(attached) == 1, attached


def test_an_interface_that_is_moved_away_and_back_during_a_flood_is_counted_while_it_is_here() -> None:
    with veth_pair(addresses=False, queues=len(CPUS)) as pair:
        add_plug(pair, "plug0", "peer")
        with running(pair.far, *FLOODED, programs=2) as tool:
            with flooded(pair):
                for _ in range(ROUNDS):
                    send_and_count(pair, "plug0", "peer")
                    pair.far.ip(f"link set plug0 netns {pair.near.name}")
                    tool.wait_until_it_says(MOVED.format("plug0").encode())
                    assert is_free(pair.near, "plug0")
                    pair.near.ip("link set plug0 up")
                    send_frames(pair.near, "peer", [FRAME] * SOME)
                    pair.near.ip(f"link set plug0 netns {pair.far.name}")
                    tool.wait_until_it_says(loaded("plug0"))
                    pair.far.ip("link set plug0 up")
            result = tool.stop()
        received = pair.far.statistics("far0")["packets"]
        assert is_free(pair.far, "plug0")
    assert result.code == 0
    assert_sums_close(result.records)
    assert by_interface(result.records) == {"far0": received, "plug0": SOME * (ROUNDS)}


def test_without_links_a_program_that_moved_with_its_interface_is_removed_by_the_command_that_is_named() -> None:
    with quiet_pair() as pair:
        with running(pair.far, *XDP_ON_FAR0, variables={"XTRACE_FEATURES_OFF": "links"}) as tool:
            pair.far.ip(f"link set far0 netns {pair.near.name}")
            tool.wait_until_it_says(b"its XDP program stays attached")
            result = tool.stop()
        assert result.code == 0
        assert attached_program(pair.near) is not None
        (command,) = [part for line in result.said for part in line.split("`") if part.startswith("ip link set")]
        pair.near.run(*command.split())
        assert is_free(pair.near, "far0")


@pytest.mark.parametrize(
    ("hook", "variables"),
    [
        (("--xdp-mode", "native"), None),
        (("--hook", "tc"), None),
        (("--hook", "tc"), {"XTRACE_FEATURES_OFF": "tcx"}),
    ],
    ids=["XDP", "tc", "tc without TCX"],
)
def test_an_interface_that_comes_back_under_its_name_is_attached_to_long_before_the_next_tick(
    hook: Sequence[str], variables: dict[str, str] | None
) -> None:
    with quiet_pair() as pair:
        add_plug(pair, "plug0", "peer")
        options = ("-i", "plug0", "-t", "1h", "--direction", "both", *hook)
        with running(pair.far, *options, programs=2, variables=variables) as tool:
            send_and_count(pair, "plug0", "peer")
            pair.far.ip("link delete plug0")
            tool.wait_until_it_says(gone("plug0"))
            assert tool.process.poll() is None, "the tool ended with its interface"
            add_plug(pair, "plug0", "peer")
            tool.wait_until_it_says(loaded("plug0"))
            send_and_count(pair, "plug0", "peer")
            result = tool.stop()
        assert is_free(pair.far, "plug0")
    assert result.code == 0
    assert len([line for line in result.said if "loaded on plug0" in line]) == 2
    assert_sums_close(result.records)
    assert total(result.records, direction="ingress") == 2 * SOME
    assert total(result.records, direction="egress") == 0
    assert by_interface(result.records) == {"plug0": 2 * SOME}


def test_an_interface_that_was_missing_is_attached_to_when_it_comes() -> None:
    with quiet_pair() as pair, running(pair.far, "-i", "far0,plug0", "-t", "1h") as tool:
        add_plug(pair, "plug0", "peer")
        tool.wait_until_it_says(loaded("plug0"))
        send_and_count(pair, "plug0", "peer")
        lines = tool.stop().records
        assert is_free(pair.far, "plug0")
    assert_sums_close(lines)
    assert by_interface(lines) == {"far0": 0, "plug0": SOME}


def test_an_interface_renamed_into_a_pattern_is_attached_to() -> None:
    with quiet_pair() as pair, running(pair.far, "-i", "far*,plug*", "-t", "1h") as tool:
        add_plug(pair, "other0", "peer")
        pair.far.ip("link set other0 down")
        pair.far.ip("link set other0 name plug0")
        pair.far.ip("link set plug0 up")
        tool.wait_until_it_says(loaded("plug0"))
        send_and_count(pair, "plug0", "peer")
        result = tool.stop()
    assert result.code == 0
    assert not [line for line in result.said if "other0" in line]
    assert by_interface(result.records) == {"far0": 0, "plug0": SOME}


@HOOKS
def test_an_interface_that_is_deleted_with_nothing_else_watched_is_awaited(hook: str) -> None:
    with quiet_pair() as pair, running(pair.far, "-i", "far0", "-t", "100", "--hook", hook) as tool:
        send_and_count(pair, "far0", "near0")
        pair.far.ip("link delete far0")
        tool.wait_until_it_says(gone("far0"))
        result = tool.stop()
    assert result.code == 0
    assert_sums_close(result.records)
    assert by_interface(result.records) == {"far0": SOME}
    (flow,) = flows(result.records)
    assert (flow["packets"], flow["bytes"]) == (SOME, SOME * len(FRAME))


def bridge_frame(namespace: Namespace, name: str) -> bytes:
    """A frame for the bridge itself."""
    (mac,) = [line.split()[1] for line in namespace.ip(f"link show {name}").splitlines() if "link/ether" in line]
    return bytes.fromhex(mac.replace(":", "")) + FRAME[6:]


def test_any_follows_interfaces_that_are_added_set_up_renamed_and_deleted() -> None:
    with quiet_pair() as pair:
        pair.far.ip("link add br0 type bridge")
        pair.far.ip("link set br0 up")
        pair.far.ip("link set far0 master br0")
        with running(pair.far, "-i", "any", "-t", "100") as tool:
            send_frames(pair.near, "near0", [bridge_frame(pair.far, "br0")] * SOME)
            assert eventually(lambda: pair.far.statistics("br0")["packets"] == SOME)
            for number in range(1, 4):
                name = f"br{number}"
                pair.far.ip(f"link add {name} type bridge")  # down: not yet one of any
                pair.far.ip(f"link set far0 master {name}")
                pair.far.ip(f"link set {name} up")
                tool.wait_until_it_says(loaded(name))
                send_frames(pair.near, "near0", [bridge_frame(pair.far, name)] * SOME)
                received = pair.far.statistics(name)["packets"]
                assert received == SOME
                pair.far.ip(f"link set {name} down")
                pair.far.ip(f"link set {name} name was{number}")
                tool.wait_until_it_says(f"{name}: the interface was renamed to was{number}".encode())
                pair.far.ip(f"link delete was{number}")
                tool.wait_until_it_says(gone(f"was{number}"))
            assert tool.process.poll() is None
            result = tool.stop()
        assert is_free(pair.far, "br0")
    assert result.code == 0
    assert not [line for line in result.said if "far0" in line or "loaded on lo" in line]
    assert_sums_close(result.records)
    sums = by_interface(result.records)
    assert sums["br0"] == SOME
    for number in range(1, 4):
        assert sums.get(f"br{number}", 0) + sums.get(f"was{number}", 0) == SOME


@HOOKS
def test_interfaces_that_come_are_not_left_attached_after_kill_9(hook: str) -> None:
    with quiet_pair() as pair:
        with running(pair.far, "-i", "far0,plug*", "-t", "100", "--hook", hook) as tool:
            add_plug(pair, "plug0", "peer")
            tool.wait_until_it_says(loaded("plug0"))
            assert not is_free(pair.far, "plug0")
            assert tool.stop(signal.SIGKILL).code == -signal.SIGKILL
        if hook == "tc" and tc_way() != "tcx":
            # what a kill -9 leaves without TCX, the next run takes away
            run_to_end(pair.far, "-i", "far0,plug0", "-t", "100", "-c", "1", "--hook", hook)
        assert eventually(lambda: all(is_free(pair.far, name) for name in ("far0", "plug0")))


def test_an_interface_that_came_and_went_more_often_than_there_are_slots_is_attached_to_in_the_next_interval() -> None:
    """A slot is free again when the packets of the interface that had it were drained."""
    with quiet_pair() as pair:
        add_plug(pair, "plug0", "peer")
        with running(pair.far, "-i", "plug0", "-t", "4s") as tool:
            for answer in (loaded("plug0"), b"plug0: not monitored: all 2 slots are in use"):
                send_and_count(pair, "plug0", "peer")
                pair.far.ip("link delete plug0")
                tool.wait_until_it_says(gone("plug0"))
                add_plug(pair, "plug0", "peer")
                tool.wait_until_it_says(answer)
            tool.wait_until_it_says(loaded("plug0"))
            send_and_count(pair, "plug0", "peer")
            result = tool.stop()
        assert is_free(pair.far, "plug0")
    assert result.code == 0
    assert_sums_close(result.records)
    assert by_interface(result.records) == {"plug0": 3 * SOME}


def test_more_changes_than_the_kernel_keeps_for_a_suspended_run_are_found_when_it_goes_on() -> None:
    with quiet_pair() as pair:
        add_plug(pair, "plug0", "peer0")
        with running(pair.far, "-i", "far0,plug*", "-t", "1h", programs=2) as tool:
            send_and_count(pair, "plug0", "peer0")
            tool.process.send_signal(signal.SIGSTOP)
            changes = [f"link set far0 mtu {mtu}" for mtu in range(1000, 1500)]
            pair.far.feed(changes, "ip", "-batch", "-")
            pair.far.ip("link delete plug0")
            add_plug(pair, "plug1", "peer1")
            tool.process.send_signal(signal.SIGCONT)
            tool.wait_until_it_says(gone("plug0"))
            tool.wait_until_it_says(loaded("plug1"))
            send_and_count(pair, "plug1", "peer1")
            result = tool.stop()
    assert result.code == 0
    assert_sums_close(result.records)
    assert by_interface(result.records) == {"far0": 0, "plug0": SOME, "plug1": SOME}


def test_any_leaves_an_interface_that_becomes_a_member_of_another() -> None:
    with quiet_pair() as pair:
        for name in ("br0", "tap0"):
            pair.far.ip(f"link add {name} type bridge" if name == "br0" else f"tuntap add {name} mode tap")
            pair.far.ip(f"link set {name} up")
        with running(pair.far, "-i", "any", "-t", "1h", "--hook", "tc", programs=2) as tool:
            pair.far.ip("link set tap0 master br0")
            tool.wait_until_it_says(b"tap0: became a member of another interface")
            assert is_free(pair.far, "tap0")
            assert not is_free(pair.far, "br0")
            result = tool.stop()
    assert result.code == 0
    assert set(by_interface(result.records)) == {"br0", "tap0"}


DETACHED = "far0: the program was detached by someone else; packets seen until then are counted"


def detach_links(pair: Pair, tool: Tool) -> None:
    """Detach the links that the tool holds, by their ids: those of other processes may be on an equal interface."""
    shown = [path.read_text() for path in Path(f"/proc/{tool.process.pid}/fdinfo").iterdir()]
    links = [match.group(1) for text in shown if (match := re.search(r"^link_id:\s*(\d+)$", text, re.MULTILINE))]
    assert links
    for number in links:
        pair.far.run("bpftool", "link", "detach", "id", number)


def by_command(*arguments: str) -> Callable[[Pair, Tool], None]:
    """Detach by a command in far's namespace."""

    def detach(pair: Pair, tool: Tool) -> None:
        pair.far.run(*arguments)

    return detach


WAYS_TO_DETACH: dict[str, tuple[tuple[str, ...], str, Callable[[Pair, Tool], None]]] = {
    "XDP link": (("--hook", "xdp"), "", detach_links),
    "generic XDP link": (("--xdp-mode", "generic"), "", detach_links),
    "XDP by ip link": (("--hook", "xdp"), "links", by_command("ip", "link", "set", "dev", "far0", "xdpdrv", "off")),
    "tcx link": (("--hook", "tc"), "", detach_links),
    "clsact": (("--hook", "tc"), "tcx", by_command("tc", "qdisc", "del", "dev", "far0", "clsact")),
    "filter": (("--hook", "tc"), "tcx", by_command("tc", "filter", "del", "dev", "far0", "ingress")),
    "egress filter": (
        ("--hook", "tc", "--direction", "both"),
        "tcx",
        by_command("tc", "filter", "del", "dev", "far0", "egress"),
    ),
}


@pytest.mark.parametrize("way", WAYS_TO_DETACH)
def test_a_program_detached_by_others_is_reported_recorded_and_attached_again(way: str) -> None:
    """Long before the next tick, and without losing or doubling a packet counted before or after."""
    hook, off, detach = WAYS_TO_DETACH[way]
    if way == "tcx link" and tc_way() != "tcx":
        pytest.skip("TCX links are of Linux 6.6")
    programs = 2 if "both" in hook else 1
    options = ("-i", "far0", "-t", "1h", *hook)
    with (
        quiet_pair() as pair,
        running(pair.far, *options, programs=programs, variables={"XTRACE_FEATURES_OFF": off}) as tool,
    ):
        send_and_count(pair, "far0", "near0")
        detach(pair, tool)
        tool.wait_until_it_says(DETACHED.encode())
        tool.wait_until_it_says(loaded("far0"))
        send_and_count(pair, "far0", "near0")
        result = tool.stop()
        assert is_free(pair.far, "far0")
    assert result.code == 0
    assert_sums_close(result.records)
    assert by_interface(result.records) == {"far0": 2 * SOME}
    assert [line for line in result.said if "detached" in line] == [f"{DETACHED}; next attempt to attach in 2 s"]
    (hook_record,) = of_type(result.records, "hook")
    assert (hook_record["interface"], hook_record["attached"]) == ("far0", True)


def test_a_detached_program_whose_place_is_taken_is_recorded_in_every_interval_and_fails_the_run() -> None:
    """With XDP required nothing is left to count with."""
    with quiet_pair() as pair, running(pair.far, *XDP_ON_FAR0, "-t", "100") as tool:
        detach_links(pair, tool)
        command = (sys.executable, "-m", "tests.netns.other_program", "far0", "native")
        with bounded(pair.far.start(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as holder:
            read_until(holder.stdout, b"attached")
            tool.wait_until_it_says(DETACHED.encode())
            tool.wait_until_it_says(b"is already attached (native) and is not replaced")
            result = tool.stop()
    assert result.code == 1
    assert result.said[-1].startswith("xtrace-catch: no interface is monitored any more: far0: XDP program id ")
    absent = of_type(result.records, "hook")
    assert len(absent) > 3
    assert {(record["attached"], record["reason"]) for record in absent} == {(False, "detached")}
    assert of_type(result.records, "end")


def test_a_named_interface_that_is_missing_has_a_hook_record_in_every_interval() -> None:
    with quiet_pair() as pair:
        result = run_to_end(pair.far, "-i", "far0,plug0", "-t", "100", "-c", "2")
    assert result.code == 0
    assert [(record["interface"], record["reason"]) for record in of_type(result.records, "hook")] == [
        ("plug0", "not_found")
    ] * 2
