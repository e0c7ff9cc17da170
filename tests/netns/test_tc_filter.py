"""Programs attached by clsact filters on a real kernel; iproute2 is the witness.

Run as a module, this file is the process that attaches: it lives in the namespace, and can be killed.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.netns.tool import bounded, eventually, is_loaded
from tests.support.net import Namespace, Pair, veth_pair
from xtrace.errors import KernelError
from xtrace.kernel import tc
from xtrace.kernel.bpf import Program
from xtrace.kernel.elf import ProgramSpec
from xtrace.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from xtrace.model.words import Direction
from xtrace.monitors.flows.clsact import TcAttachment, orphans, token_of

PROG_TYPE_SCHED_CLS = 3
TC_ACT_UNSPEC, TC_ACT_SHOT = -1, 2
BOTH = ("ingress", "egress")

CLSACT = "clsact ffff: parent ffff:fff1"
CLASSIC = "bpf bytecode '1,6 0 0 0'"
"""A classifier that matches nothing, in classic BPF."""
REPLACED = "replaced the filter left on far0 by a killed xtrace-catch ({})\n"


class Owner:
    """A process that has attached programs to far0. What it tells about each direction is in `attached`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        answer = self._read()
        self.error: dict[str, Any] | None = answer.get("error")
        self.attached: dict[str, dict[str, Any]] = answer.get("attached", {})

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the process ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, command: str) -> dict[str, Any]:
        """Let it do `alive`, `orphans` or `detach`."""
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        return self._read()

    def kill(self) -> str:
        """SIGKILL; what it had said on stderr."""
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()


@contextmanager
def starting(namespace: Namespace, *directions: str, verdict: int = TC_ACT_UNSPEC) -> Iterator[subprocess.Popen[bytes]]:
    """The process of an Owner, killed at the end of the block."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = (sys.executable, "-m", "tests.netns.test_tc_filter", f"--verdict={verdict}", *directions)
    with bounded(namespace.start(*command, **pipes)) as process:
        yield process


@contextmanager
def owner(namespace: Namespace, *directions: str, verdict: int = TC_ACT_UNSPEC) -> Iterator[Owner]:
    """An Owner when it has attached, or could not."""
    with starting(namespace, *directions, verdict=verdict) as process:
        yield Owner(process)


def run_tc(namespace: Namespace, arguments: str) -> str:
    return namespace.run("tc", *shlex.split(arguments))


def shown(namespace: Namespace, direction: str) -> list[dict[str, Any]]:
    """The filters by iproute2, without the line it prints before those of each priority."""
    listed = json.loads(run_tc(namespace, f"-j filter show dev far0 {direction}") or "[]")
    return [entry for entry in listed if "options" in entry]


def qdiscs(namespace: Namespace) -> str:
    return run_tc(namespace, "qdisc show dev far0")


def add_filter(namespace: Namespace, priority: int, direction: str = "ingress", what: str = CLASSIC) -> None:
    run_tc(namespace, f"filter add dev far0 {direction} protocol all prio {priority} {what}")


@pytest.fixture
def pair() -> Iterator[Pair]:
    with veth_pair() as made:
        yield made


def test_each_direction_gets_a_named_direct_action_filter_of_its_own(pair: Pair) -> None:
    with owner(pair.far, *BOTH) as attaching:
        for direction in BOTH:
            attached = attaching.attached[direction]
            (entry,) = shown(pair.far, direction)
            assert (entry["protocol"], entry["pref"], entry["kind"], entry["chain"]) == ("all", 1, "bpf", 0)
            assert int(entry["options"]["handle"], 16) == attached["handle"]
            assert entry["options"]["bpf_name"] == f"xtrace-catch:{attached['token']}"
            assert entry["options"]["direct-action"] is True
            assert entry["options"]["prog"]["name"] == "tc_trivial"
            assert entry["options"]["prog"]["id"] == attached["prog_id"]
        assert attaching.attached["ingress"]["token"] != attaching.attached["egress"]["token"]
        assert CLSACT in qdiscs(pair.far)
        assert attaching.ask("alive") == {"ingress": True, "egress": True}


@pytest.mark.parametrize(("direction", "arriving"), [("ingress", 3), ("egress", 0)])
def test_the_program_decides_about_packets_of_its_direction_only(pair: Pair, direction: str, arriving: int) -> None:
    for here, there, address in ((pair.far, pair.near, "10.0.0.1"), (pair.near, pair.far, "10.0.0.2")):
        make_neighbour(here, there, address)
    with owner(pair.far, direction, verdict=TC_ACT_SHOT) as attaching:
        before = echo_requests(pair.near)
        with pytest.raises(subprocess.CalledProcessError):
            pair.far.run("ping", "-q", "-c3", "-i0.01", "-W1", "10.0.0.1")
        assert echo_requests(pair.near) - before == arriving
        assert attaching.ask("detach") == {}
        pair.far.reach("10.0.0.1")


def make_neighbour(here: Namespace, there: Namespace, address: str) -> None:
    """Let `here` know the hardware address without asking."""
    (remote,) = [entry for entry in json.loads(there.ip("-j link show")) if entry["ifname"] != "lo"]
    (local,) = [entry for entry in json.loads(here.ip("-j link show")) if entry["ifname"] != "lo"]
    here.ip(f"neigh replace {address} lladdr {remote['address']} dev {local['ifname']}")


def echo_requests(namespace: Namespace) -> int:
    """How many the namespace has received."""
    lines = [line.split() for line in namespace.run("cat", "/proc/net/snmp").splitlines() if line.startswith("Icmp:")]
    return int(dict(zip(*lines, strict=True))["InEchos"])


def test_filters_of_others_keep_their_priorities_and_their_place(pair: Pair) -> None:
    run_tc(pair.far, "qdisc add dev far0 clsact")
    add_filter(pair.far, 1)
    add_filter(pair.far, 3, what="u32 match u32 0 0")
    add_filter(pair.far, 1, "egress")
    before = [shown(pair.far, direction) for direction in BOTH]
    with owner(pair.far, "ingress", "ingress", "egress") as attaching:
        assert [entry["priority"] for entry in attaching.attached.values()] == [2, 4, 2]
        assert sorted({entry["pref"] for entry in shown(pair.far, "ingress")}) == [1, 2, 3, 4]
        assert sorted({entry["pref"] for entry in shown(pair.far, "egress")}) == [1, 2]
        attaching.ask("detach")
        assert [shown(pair.far, direction) for direction in BOTH] == before
        assert CLSACT in qdiscs(pair.far)


def test_priorities_of_other_protocols_are_not_free_those_of_other_chains_are(pair: Pair) -> None:
    run_tc(pair.far, "qdisc add dev far0 clsact")
    run_tc(pair.far, f"filter add dev far0 ingress protocol ip prio 1 {CLASSIC}")
    run_tc(pair.far, f"filter add dev far0 ingress protocol all prio 2 chain 7 {CLASSIC}")
    with owner(pair.far, "ingress") as attaching:
        assert attaching.attached["ingress"]["priority"] == 2


def test_who_replaces_handle_1_of_our_priority_replaces_its_own_only(pair: Pair) -> None:
    with owner(pair.far, "ingress") as attaching:
        for _ in range(2):
            run_tc(pair.far, f"filter replace dev far0 ingress protocol all prio 1 handle 1 {CLASSIC}")
        assert attaching.ask("alive") == {"ingress": True}
        assert len(shown(pair.far, "ingress")) == 2
        attaching.ask("detach")
        assert [entry["options"]["handle"] for entry in shown(pair.far, "ingress")] == ["0x1"]


def test_detach_leaves_the_qdisc_and_no_program(pair: Pair) -> None:
    with owner(pair.far, *BOTH) as attaching:
        programs = {entry["prog_id"] for entry in attaching.attached.values()}
        attaching.ask("detach")
        assert [shown(pair.far, direction) for direction in BOTH] == [[], []]
        assert CLSACT in qdiscs(pair.far)
        assert eventually(lambda: not any(map(is_loaded, programs)))
        assert attaching.ask("alive") == {"ingress": False, "egress": False}
        assert attaching.ask("detach") == {}


@pytest.mark.parametrize(
    "loss",
    [
        "tc filter del dev far0 ingress",
        "tc filter del dev far0 ingress protocol all prio 1",
        "tc qdisc del dev far0 clsact",
        "ip link del far0",
    ],
)
def test_what_somebody_else_removed_is_not_alive_and_no_error_to_detach(pair: Pair, loss: str) -> None:
    with owner(pair.far, "ingress") as attaching:
        pair.far.run(*loss.split())
        assert attaching.ask("alive") == {"ingress": False}
        assert attaching.ask("detach") == {}


def test_detach_deletes_nothing_that_took_our_numbers(pair: Pair) -> None:
    with owner(pair.far, "ingress") as attaching:
        handle = attaching.attached["ingress"]["handle"]
        run_tc(pair.far, "filter del dev far0 ingress")
        add_filter(pair.far, 1, what=f"handle {handle} {CLASSIC}")
        assert attaching.ask("alive") == {"ingress": False}
        attaching.ask("detach")
        assert len(shown(pair.far, "ingress")) == 1


def test_filters_that_a_killed_process_left_are_replaced(pair: Pair) -> None:
    with owner(pair.far, *BOTH) as killed:
        assert killed.kill() == ""
        left = killed.attached
        assert all(shown(pair.far, direction) for direction in BOTH)
    with owner(pair.far, "ingress") as attaching:
        (entry,) = shown(pair.far, "ingress")
        assert entry["options"]["bpf_name"] == f"xtrace-catch:{attaching.attached['ingress']['token']}"
        assert entry["pref"] == 1
        assert shown(pair.far, "egress") == []
        assert eventually(lambda: not any(is_loaded(entry["prog_id"]) for entry in left.values()))
        assert attaching.kill() == REPLACED.format("ingress") + REPLACED.format("egress")


def test_filters_of_a_living_process_are_left_alone(pair: Pair) -> None:
    with owner(pair.far, *BOTH) as living, owner(pair.far, *BOTH) as second:
        for direction in BOTH:
            assert second.attached[direction]["priority"] == 2
            names = [entry["options"]["bpf_name"] for entry in shown(pair.far, direction)]
            assert names == [f"xtrace-catch:{each.attached[direction]['token']}" for each in (living, second)]
        assert living.ask("alive") == {"ingress": True, "egress": True}
        assert living.ask("orphans") == {"tokens": []}
        second.kill()
        assert sorted(living.ask("orphans")["tokens"]) == sorted(
            second.attached[direction]["token"] for direction in BOTH
        )
        living.ask("detach")
        assert [len(shown(pair.far, direction)) for direction in BOTH] == [1, 1]


def test_many_that_start_at_once_after_a_kill_all_attach_and_remove_it_once(pair: Pair) -> None:
    with owner(pair.far, "ingress") as killed:
        killed.kill()
    with ExitStack() as stack:
        processes = [stack.enter_context(starting(pair.far, "ingress", "ingress")) for _ in range(6)]
        owners = [Owner(process) for process in processes]
        assert len(shown(pair.far, "ingress")) == 12
        assert all(each.ask("alive") == {"ingress": True, "ingress 2": True} for each in owners)
        for each in owners:
            each.ask("detach")
        assert shown(pair.far, "ingress") == []
        assert "".join(each.kill() for each in owners) == REPLACED.format("ingress")


def test_an_ingress_qdisc_is_not_replaced_and_named(pair: Pair) -> None:
    run_tc(pair.far, "qdisc add dev far0 ingress")
    add_filter(pair.far, 1)
    with owner(pair.far, "egress") as refused:
        assert refused.error is not None
        assert refused.error["errno"] == errno.EEXIST
        assert "Exclusivity flag on, cannot modify; " in refused.error["text"]
        assert "a qdisc of kind ingress is in the place of clsact" in refused.error["text"]
    assert "ingress ffff:" in qdiscs(pair.far)
    assert len(shown(pair.far, "ingress")) == 1


def test_a_shared_block_is_refused_in_the_kernels_words(pair: Pair) -> None:
    run_tc(pair.far, "qdisc add dev far0 ingress_block 22 clsact")
    with owner(pair.far, "ingress") as refused:
        assert refused.error is not None
        assert refused.error["errno"] == errno.EOPNOTSUPP
        assert "This filter block is shared" in refused.error["text"]
    with owner(pair.far, "egress") as attaching:
        assert attaching.attached["egress"]["priority"] == 1


def test_an_interface_that_is_not_there_is_an_error_naming_it(pair: Pair) -> None:
    pair.far.ip("link del far0")
    with owner(pair.far, "ingress") as refused:
        assert refused.error is not None
        assert refused.error["errno"] == errno.ENODEV


# The process that attaches


def trivial(verdict: int) -> Program:
    """r0 = verdict; exit"""
    code = bytes.fromhex("b7000000") + verdict.to_bytes(4, "little", signed=True) + bytes.fromhex("9500000000000000")
    spec = ProgramSpec("tc_trivial", "tc", code, (), (), b"", 0, b"", 0)
    return Program.prepare(spec, {}, prog_type=PROG_TYPE_SCHED_CLS, attach_type=0)()


def attach(ifindex: int, directions: list[str], verdict: int) -> dict[str, tuple[TcAttachment, int]]:
    """Everything wanted, with its program's id; neither the program's descriptor nor the socket outlives this."""
    attachments: dict[str, tuple[TcAttachment, int]] = {}
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        for direction in directions:
            with trivial(verdict) as program:
                attachment = TcAttachment.attach(netlink, ifindex, Direction(direction), program.fileno())
                prog_id = program.id()
            name = f"{direction} 2" if direction in attachments else direction
            attachments[name] = attachment, prog_id
    return attachments


def describe(attachment: TcAttachment, prog_id: int) -> dict[str, Any]:
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        listed = tc.filters(netlink, attachment.ifindex, attachment.parent)
    (own,) = [found for found in listed if token_of(found) == attachment.token]
    assert (own.priority, own.handle, own.kind) == (attachment.priority, attachment.handle, "bpf")
    assert own.protocol == tc.ETH_P_ALL
    return {"token": attachment.token, "priority": own.priority, "handle": own.handle, "prog_id": prog_id}


def obey(command: str, ifindex: int, attachments: dict[str, TcAttachment]) -> dict[str, Any]:
    if command == "alive":
        return {name: attachment.alive() for name, attachment in attachments.items()}
    if command == "orphans":
        with NetlinkSocket(NETLINK_ROUTE) as netlink:
            return {"tokens": [token_of(orphan) for orphan in orphans(netlink, ifindex)]}
    for attachment in attachments.values():
        attachment.close()
    return {}


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser()
    parser.add_argument("--verdict", type=int)
    parser.add_argument("directions", nargs="+")
    options = parser.parse_args()
    try:
        ifindex = socket.if_nametoindex("far0")
    except OSError:
        ifindex = 99999
    try:
        attached = attach(ifindex, options.directions, options.verdict)
    except KernelError as error:
        print(json.dumps({"error": {"errno": error.errno, "text": str(error)}}), flush=True)
        return
    print(json.dumps({"attached": {name: describe(*each) for name, each in attached.items()}}), flush=True)
    attachments = {name: attachment for name, (attachment, _) in attached.items()}
    for line in sys.stdin:
        print(json.dumps(obey(line.strip(), ifindex, attachments)), flush=True)


if __name__ == "__main__":
    main()
