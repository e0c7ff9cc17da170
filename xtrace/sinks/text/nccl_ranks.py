"""Text of NCCL's communicators and their ranks: by job, what is wrong first. Also that of `xtrace-catch hang`."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from xtrace.model.nccl_ranks import Rank
from xtrace.model.nccl_verdicts import Kind, Verdict, known, seconds
from xtrace.sinks.render import short_id

NOTE = "Calls are those that the host enqueued; what the GPUs have completed of them is not known."
NO_JOB = "no job known"
SHORT_COMMAND = 40


def job_lines(ranks: Sequence[Rank], verdicts: Sequence[Verdict], now_ns: int) -> Iterator[str]:
    """All communicators by job: first those with verdicts, then one line for each of the others. `now_ns`: wall."""
    by_communicator: defaultdict[str, list[Rank]] = defaultdict(list)
    for rank in ranks:
        if rank.communicator is not None:
            by_communicator[rank.communicator].append(rank)
    wrong: defaultdict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        wrong[verdict.communicator].append(verdict)
    by_job: defaultdict[str, list[str]] = defaultdict(list)
    for name, members in by_communicator.items():
        by_job[next((rank.job.name for rank in members if rank.job), NO_JOB)].append(name)
    order = sorted(by_job, key=lambda job: not any(wrong[name] for name in by_job[job]))
    for job in order:
        yield f"job {job}"
        for name in sorted(by_job[job], key=lambda name: not wrong[name]):
            for text in communicator_lines(name, by_communicator[name], wrong[name], now_ns):
                yield f"  {text}"
    if verdicts:
        yield NOTE


def communicator_lines(name: str, members: Sequence[Rank], verdicts: Sequence[Verdict], now_ns: int) -> Iterator[str]:
    """What is wrong with a communicator, or where its ranks are."""
    alive = [rank for rank in members if not rank.ended] or members
    nranks = max((rank.nranks for rank in members if rank.nranks), default=None)
    hosts = {rank.host for rank in members}
    made = sorted({rank.made for rank in alive})
    calls = f"{made[0]}" if len(made) == 1 else f"{made[0]} to {made[-1]}"
    where = f"{len(hosts)} host{'s' if len(hosts) > 1 else ''}"
    head = f"communicator {name}: {len(alive)} of {known(nranks)} ranks on {where}"
    numbered = f", at call {calls}" if all(rank.is_whole for rank in members) else ", older than the probes"
    yield head + numbered + ("" if verdicts else ": nothing is wrong")
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
    if culprit.pod:
        words.append(f"pod {culprit.pod}")
    if culprit.command:
        words.append(culprit.command[:SHORT_COMMAND])
    return f" rank {known(verdict.rank)} ({', '.join(words)})"


def verdict_lines(verdicts: Iterable[Verdict], now_ns: int) -> Iterator[str]:
    """The verdicts of an interval, one line each."""
    for verdict in verdicts:
        job = f" job {verdict.job}" if verdict.job else ""
        yield f"nccl hang{job} communicator {verdict.communicator} {verdict_line(verdict, now_ns)}"
