"""Twelve ways to hang a job, and which rank of which host is to blame."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nccl.hosts import HOSTS, RANKS, Cluster, cluster, kinds, within
from tests.nccl.jobs import wait_for_probes
from tests.support.net import Pair, veth_pair

CULPRIT = 5
LIMITS = "hang=900ms,late=100ms"
SLACK_S = 10.0
"""On a machine under load; how long it takes on an idle one is in the documents."""

FAULTS = {
    "missing": "missing",
    "late": "late",
    "count": "mismatch",
    "datatype": "mismatch",
    "root": "mismatch",
    "send": "open_send",
    "group_end": "missing",
    "init": "missing",
    "sigstop": "stopped",
    "kill": "gone",
    "slow_start": "missing",
}
"""What a rank does, and the verdict about it."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with veth_pair() as made:
        yield made


@pytest.fixture
def hosts(pair: Pair, tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path, pair) as made:
        yield made


def watch_all(hosts: Cluster) -> None:
    """A copy of the tool on each host, with the probes in place."""
    for host in HOSTS:
        hosts.keep(host)
    tools = {host: hosts.watch(host, "-t", "1s", "--threshold", LIMITS) for host in HOSTS}
    for host, tool in tools.items():
        wait_for_probes(tool, hosts.libraries[host])


def begin(hosts: Cluster, fault: str) -> None:
    """Start the ranks, and let one fail."""
    for rank in range(RANKS):
        hosts.start_rank(rank, fault if rank == CULPRIT else "none")
    if fault in ("init", "slow_start"):
        return
    hosts.wait_until_ready()
    if fault in ("sigstop", "kill"):
        hosts.ranks[CULPRIT].send_signal(signal.SIGSTOP if fault == "sigstop" else signal.SIGKILL)
    else:
        hosts.go()


@pytest.mark.parametrize("fault", FAULTS)
def test_class_and_culprit_are_named(hosts: Cluster, fault: str) -> None:
    watch_all(hosts)
    begin(hosts, fault)
    verdicts, took = within(SLACK_S, lambda: hosts.hang("--threshold", LIMITS))
    print(f"{fault}: {took:.1f} s: {verdicts[0]['evidence'] if verdicts else None}")
    assert kinds(verdicts) == {(FAULTS[fault], CULPRIT)}
    (verdict,) = verdicts
    assert verdict["rank_host"] == (None if fault == "slow_start" else "n2")
    assert verdict["pid"] == (None if fault == "slow_start" else hosts.ranks[CULPRIT].pid)
