"""Fourteen ways to hang a job, and which rank of which host is to blame."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import skip_or_fail
from tests.nccl.hosts import HOSTS, RANKS, Cluster, cluster, inside, kinds, within
from tests.nccl.jobs import wait_for_probes
from tests.netns.tool import LIMIT_S
from tests.push.server import Server, victoria_metrics
from tests.support.net import Namespace, Pair, read_until, veth_pair

CULPRIT = 5
LIMITS = "hang=900ms,late=100ms"
SLACK_S = 10.0
"""On a machine under load; how long it takes on an idle one is in the documents."""

CLEAN_S = float(os.environ.get("XTRACE_CLEAN_S", "6"))
"""How long a job without a fault is watched."""

FAULTS = {
    "missing": "missing",
    "late": "late",
    "count": "mismatch",
    "datatype": "mismatch",
    "root": "mismatch",
    "send": "open_send",
    "abort": "missing",
    "exec": "missing",
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


def watch_all(hosts: Cluster, *arguments: str) -> None:
    """A copy of the tool on each host, with the probes in place."""
    for host in HOSTS:
        hosts.keep(host)
    tools = {host: hosts.watch(host, "-t", "1s", "--threshold", LIMITS, *arguments) for host in HOSTS}
    for host, tool in tools.items():
        wait_for_probes(tool, hosts.libraries[host])


ALERTS = Path(__file__).parents[2] / "deploy/alerts/xtrace-nccl-hang.yml"
DASHBOARD = Path(__file__).parents[2] / "deploy/grafana/xtrace-nccl-job.json"
ALERT_OF = {
    "missing": "XtraceNcclRankMissing",
    "late": "XtraceNcclRankLate",
    "mismatch": "XtraceNcclMismatch",
    "open_send": "XtraceNcclOpenSend",
    "stopped": "XtraceNcclRankStopped",
    "gone": "XtraceNcclRankGone",
}
ABOUT_OPEN_CALLS = {"XtraceNcclOpenCall"}
"""Fires with others: a call has been open for long."""


def alerts() -> dict[str, str]:
    """Name and expression of each alert, with this test's threshold."""
    found = re.findall(r"- alert: (\w+)\n +expr: \|\n +(.*)\n", ALERTS.read_text())
    return {name: re.sub(r"> 30\b", "> 0.9", expression) for name, expression in found}


def firing(server: Server, at: float | None = None) -> dict[str, set[str]]:
    """Alerts that fire at a time, else now, and for which ranks: by label, else by value."""
    server.flush()
    at_ms = round((time.time() if at is None else at) * 1000)
    found = {name: server.query(expression, at_ms) for name, expression in alerts().items()}
    return {
        name: {series["metric"].get("rank") or str(round(float(series["value"][1]))) for series in result}
        for name, result in found.items()
        if result and name not in ABOUT_OPEN_CALLS
    }


@contextmanager
def serving(space: Namespace, address: str) -> Iterator[tuple[Server, str]]:
    """A server that both hosts reach, and its address for them; asked from within its namespace."""
    with inside(space), victoria_metrics("-search.latencyOffset=1ms", address=address) as server:
        yield server, server.url


def begin(hosts: Cluster, fault: str) -> None:
    """Start the ranks, and let one fail."""
    for rank in range(RANKS):
        hosts.start_rank(rank, fault if rank == CULPRIT else "none")
    if fault in ("init", "slow_start"):
        hosts.wait_until_others_begin(CULPRIT)
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
    since = time.time()
    verdicts, _ = within(SLACK_S, lambda: hosts.hang("--threshold", LIMITS))
    took = hosts.named_after(since, {(FAULTS[fault], CULPRIT)}, "--threshold", LIMITS)
    print(f"{fault}: {took:.1f} s: {verdicts[0]['evidence'] if verdicts else None}")
    assert kinds(verdicts) == {(FAULTS[fault], CULPRIT)}
    (verdict,) = verdicts
    assert verdict["rank_host"] == (None if fault == "slow_start" else "n2")
    assert verdict["pid"] == (None if fault == "slow_start" else hosts.ranks[CULPRIT].pid)


IN_THREADS = {"missing": "it is in no NCCL call", "group_end": "perhaps another rank's, is in GroupEnd since"}
"""What the evidence says of a thread, beside others of its process."""


@pytest.mark.parametrize("fault", ["missing", "late", "count", "send", "abort", "group_end", "kill"])
def test_ranks_that_are_threads_of_one_process_are_told_apart(hosts: Cluster, fault: str) -> None:
    """A process per host, as in jobs that have a thread for each GPU; who is to blame is the first of its threads."""
    watch_all(hosts)
    for first in (0, CULPRIT):
        others = [rank for rank in range(RANKS) if hosts.host_of(rank) == hosts.host_of(first) and rank != first]
        hosts.start_rank(first, fault if first == CULPRIT else "none", others)
    hosts.wait_until_ready()
    if fault == "kill":
        hosts.ranks[CULPRIT].send_signal(signal.SIGKILL)
    hosts.go()
    verdicts, _ = within(SLACK_S, lambda: hosts.hang("--threshold", LIMITS))
    print(f"{fault}: {[verdict['evidence'] for verdict in verdicts]}")
    culprits = {CULPRIT} if fault != "kill" else {rank for rank in range(RANKS) if hosts.host_of(rank) == "n2"}
    assert kinds(verdicts) == {(FAULTS[fault], rank) for rank in culprits}
    assert {verdict["pid"] for verdict in verdicts} == {hosts.ranks[CULPRIT].pid}
    assert IN_THREADS.get(fault, "") in verdicts[0]["evidence"]


def test_in_a_job_older_than_the_probes_the_rank_is_named_by_its_environment(hosts: Cluster) -> None:
    for number in range(RANKS):
        hosts.start_rank(number, "missing" if number == CULPRIT else "none")
    hosts.wait_until_ready()
    watch_all(hosts)
    within(SLACK_S, lambda: all(b'"begun":' in hosts.records(host).read_bytes() for host in HOSTS))
    hosts.go()
    verdicts, _ = within(SLACK_S, lambda: hosts.hang("--threshold", LIMITS))
    assert kinds(verdicts) == {("missing", CULPRIT)}
    assert {(verdict["identity"], verdict["number"]) for verdict in verdicts} == {("environment", None)}


def hang_first(hosts: Cluster, fault: str) -> None:
    """All ranks but one are in a call before a copy of the tool is there."""
    begin(hosts, fault)
    if fault == "missing":
        read_until(hosts.ranks[CULPRIT].stdout, b"fails")

    def is_hanging() -> bool:
        begun = hosts.begun()
        others = {begun[rank] for rank in range(RANKS) if rank != CULPRIT}
        return len(others) == 1 and others.pop() > begun[CULPRIT]

    assert within(SLACK_S, is_hanging)[0]


STARTED_LATE = {
    "missing": ("missing", "it is not in AllReduce"),
    "init": ("missing", "it is in CommInitRank since before the tool came"),
    "group_end": ("missing", "it is in GroupEnd since before the tool came"),
    "sigstop": ("stopped", "its process is stopped (state T)"),
    "kill": ("missing", "it was not seen"),
}
"""Fault -> verdict of a tool that starts during the hang, and what its evidence says."""


@pytest.mark.parametrize("fault", STARTED_LATE)
def test_a_tool_that_starts_during_the_hang_names_the_rank_by_stacks(hosts: Cluster, fault: str) -> None:
    hang_first(hosts, fault)
    watch_all(hosts)
    verdicts, took = within(SLACK_S, lambda: hosts.hang("--threshold", LIMITS))
    print(f"started during the hang ({fault}): {took:.1f} s: {verdicts[0]['evidence'] if verdicts else None}")
    kind, evidence = STARTED_LATE[fault]
    assert kinds(verdicts) == {(kind, CULPRIT)}
    (verdict,) = verdicts
    assert (verdict["identity"], verdict["number"]) == ("environment", None)
    assert verdict["pid"] == (None if fault == "kill" else hosts.ranks[CULPRIT].pid)
    assert evidence in verdict["evidence"]
    assert "on which communicator is not known" in verdict["evidence"]


@pytest.mark.parametrize("fault", FAULTS)
def test_queries_over_both_hosts_name_the_same(hosts: Cluster, pair: Pair, fault: str) -> None:
    if shutil.which("victoria-metrics") is None:
        skip_or_fail("nccl", "no victoria-metrics: sudo make deps")
    with serving(pair.near, "10.0.0.1") as (server, url):
        watch_all(hosts, "--push", url)
        begin(hosts, fault)
        since = time.time()
        wanted = {ALERT_OF[FAULTS[fault]]: {str(CULPRIT)}}
        if fault == "slow_start":
            wanted = {"XtraceNcclRankNotSeen": {str(CULPRIT)}}
        _, took = within(SLACK_S, lambda: firing(server) == wanted)
        found = firing(server)
        moments = (step / 10 for step in range(round(took * 10) + 2))
        first = next((after for after in moments if firing(server, since + after) == wanted), took)
        print(f"{fault}: {took:.1f} s, by samples up to {first:.1f} s: {found}")
        assert found == wanted


def panels() -> list[tuple[str, str]]:
    """Title and query of all that the dashboard of a job shows, of all communicators."""
    shown = json.loads(DASHBOARD.read_text())["panels"]
    queries = [(panel["title"], target["expr"]) for panel in shown for target in panel["targets"]]
    variables = {"$communicator": ".*", "$__rate_interval": "10s"}
    for name, value in variables.items():
        queries = [(title, text.replace(name, value)) for title, text in queries]
    return queries


def shown(server: Server, title: str) -> dict[str, float]:
    """What a panel shows now, by rank."""
    server.flush()
    (query,) = [text for name, text in panels() if name == title]
    found = server.query(query, round(time.time() * 1000))
    return {series["metric"].get("rank", ""): float(series["value"][1]) for series in found}


def test_the_dashboard_of_a_job_shows_who_is_late_and_then_who_is_waited_for(hosts: Cluster, pair: Pair) -> None:
    if shutil.which("victoria-metrics") is None:
        skip_or_fail("nccl", "no victoria-metrics: sudo make deps")
    with serving(pair.near, "10.0.0.1") as (server, url):
        watch_all(hosts, "--push", url)
        begin(hosts, "late")

        def late() -> bool:
            found = shown(server, "Lateness by rank")
            return len(found) == RANKS and max(found, key=lambda rank: found[rank]) == str(CULPRIT)

        assert within(SLACK_S, late)[0]
        assert within(SLACK_S, lambda: shown(server, "Lateness by rank, 95th percentile").get(str(CULPRIT), 0) > 0.1)[0]
        empty = [title for title, text in panels() if not server.query(text, round(time.time() * 1000))]
        assert set(empty) <= {"Who is waited for", "Who waits"}
        hosts.ranks[CULPRIT].send_signal(signal.SIGSTOP)
        others = {str(rank) for rank in range(RANKS) if rank != CULPRIT}
        assert within(SLACK_S, lambda: shown(server, "Who is waited for").keys() == {str(CULPRIT)})[0]
        assert within(SLACK_S, lambda: shown(server, "Who waits").keys() == others)[0]


def test_queries_name_the_rank_if_the_tool_starts_during_the_hang(hosts: Cluster, pair: Pair) -> None:
    if shutil.which("victoria-metrics") is None:
        skip_or_fail("nccl", "no victoria-metrics: sudo make deps")
    hang_first(hosts, "missing")
    with serving(pair.near, "10.0.0.1") as (server, url):
        watch_all(hosts, "--push", url)
        wanted = {"XtraceNcclRankMissingAtStart": {str(CULPRIT)}}
        _, took = within(SLACK_S, lambda: firing(server) == wanted)
        print(f"started during the hang: {took:.1f} s: {firing(server)}")
        assert firing(server) == wanted


def test_nothing_is_said_of_a_job_that_runs(hosts: Cluster, pair: Pair) -> None:
    assert CLEAN_S < LIMIT_S, "processes live no longer than XTRACE_LIMIT_S"
    with serving(pair.near, "10.0.0.1") as (server, url):
        watch_all(hosts, "--push", url)
        begin(hosts, "none")
        until = time.monotonic() + CLEAN_S
        while time.monotonic() < until:
            assert hosts.hang("--threshold", LIMITS) == []
            assert firing(server) == {}
            time.sleep(CLEAN_S / 12)
    for host in HOSTS:
        records = hosts.records(host).read_bytes()
        assert records.count(b'"type":"nccl",') >= CLEAN_S // 2
        assert b'"type":"verdict"' not in records
