"""Text of NCCL's communicators and their ranks: by job, what is wrong first. Also that of `xtrace-catch hang`."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from xtrace.model.nccl_evidence import known, seconds
from xtrace.model.nccl_ranks import Rank
from xtrace.model.nccl_verdicts import Kind, Verdict
from xtrace.sinks.render import short_id

NOTE = "Calls are those that the host enqueued; what the GPUs have completed of them is not known."
NO_JOB = "no job known"
SHORT_COMMAND = 40


class Members(NamedTuple):
    """A communicator: its ranks, and what is wrong with them."""

    name: str
    ranks: Sequence[Rank]
    verdicts: Sequence[Verdict]


def by_job(ranks: Sequence[Rank], verdicts: Sequence[Verdict]) -> dict[str, list[Members]]:
    """The communicators of each job, those with verdicts first, and jobs that have such."""
    members: defaultdict[str, list[Rank]] = defaultdict(list)
    for rank in ranks:
        if rank.communicator is not None:
            members[rank.communicator].append(rank)
    wrong: defaultdict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        wrong[verdict.communicator].append(verdict)
    jobs: defaultdict[str, list[Members]] = defaultdict(list)
    for name in sorted(members, key=lambda name: not wrong[name]):
        job = next((rank.job.name for rank in members[name] if rank.job), NO_JOB)
        jobs[job].append(Members(name, members[name], wrong[name]))
    return dict(sorted(jobs.items(), key=lambda job: not any(one.verdicts for one in job[1])))


def job_lines(ranks: Sequence[Rank], verdicts: Sequence[Verdict], now_ns: int) -> Iterator[str]:
    """All communicators by job: first those with verdicts, then one line for each of the others. `now_ns`: wall."""
    for job, communicators in by_job(ranks, verdicts).items():
        yield f"job {job}"
        for one in communicators:
            for text in communicator_lines(one.name, one.ranks, one.verdicts, now_ns):
                yield f"  {text}"
    if verdicts:
        yield NOTE


def communicator_lines(name: str, members: Sequence[Rank], verdicts: Sequence[Verdict], now_ns: int) -> Iterator[str]:
    """What is wrong with a communicator, or where its ranks are."""
    there = [rank for rank in members if rank.is_there]
    nranks = max((rank.nranks for rank in members if rank.nranks), default=None)
    hosts = {rank.host for rank in members}
    made = sorted({rank.made for rank in there or members})
    calls = f"{made[0]}" if len(made) == 1 else f"{made[0]} to {made[-1]}"
    where = f"{len(hosts)} host{'s' if len(hosts) > 1 else ''}"
    head = f"communicator {name}: {len(there)} of {known(nranks)} ranks on {where}"
    is_whole = all(rank.is_whole for rank in members)
    numbered = f", at call {calls}" if is_whole else ", older than the probes"
    yield head + numbered + ("" if verdicts else ": nothing is wrong" if is_whole else ": nothing wrong is known")
    for verdict in verdicts:
        yield f"  {verdict_line(verdict, now_ns)}"


def verdict_line(verdict: Verdict, now_ns: int) -> str:
    """`MISSING rank 3 (n1 pid 4711): it has not made call 118 ...; since 15:04:05, 42 s`"""
    clock = time.strftime("%H:%M:%S", time.localtime(verdict.since_ns / 1e9))
    who = _who(verdict)
    lasts = "" if verdict.kind is Kind.LATE else f", {seconds(max(0, now_ns - verdict.since_ns))}"
    name = verdict.kind.value.upper().replace("_", " ")
    return f"{name}{who}: {verdict.evidence}; since {clock}{lasts}"


def _who(verdict: Verdict) -> str:
    culprit = verdict.culprit
    if culprit is None:
        return "" if verdict.rank is None else f" rank {verdict.rank}"
    words = [f"{culprit.host} pid {culprit.pid}"]
    if culprit.container:
        words.append(f"container {short_id(culprit.container)}")
    if culprit.gpus:
        words.append(f"/dev/nvidia{','.join(map(str, culprit.gpus))}")
    if culprit.pod:
        words.append(f"pod {culprit.pod}")
    if culprit.command:
        words.append(short_command(culprit.command))
    return f" rank {known(verdict.rank)} ({', '.join(words)})"


def short_command(command: str) -> str:
    """`python3 train.py` for `/usr/bin/python3 /home/me/train.py -v`: program and first argument without paths."""
    words = [word.rpartition("/")[2] or word for word in command.split(" ")[:2]]
    return " ".join(words)[:SHORT_COMMAND]


def verdict_lines(verdicts: Iterable[Verdict], now_ns: int) -> Iterator[str]:
    """The verdicts of an interval, one line each."""
    for verdict in verdicts:
        job = f" job {verdict.job}" if verdict.job else ""
        yield f"nccl hang{job} communicator {verdict.communicator} {verdict_line(verdict, now_ns)}"
