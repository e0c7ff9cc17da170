"""Metrics of the ranks of NCCL's communicators: what queries over all hosts need to name the culprit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import accumulate

from xtrace.model.nccl_lateness import LIMITS_NS
from xtrace.model.nccl_ranks import Rank
from xtrace.model.nccl_verdicts import Verdict
from xtrace.sinks.metrics.sample import Labels, Metric, Sample
from xtrace.sinks.render import valid_unicode

MOST_RANKS = 500
"""Ranks with series: first those in a call, the longest first."""

COMPARED_EVERY = 4
"""Of every so many calls of a communicator, when the last one began is exported: by its number ranks are compared."""

LIMITS = (*(f"{limit / 1e9:g}" for limit in LIMITS_NS), "+Inf")
"""Of lateness, in seconds."""

STOPPED = ("T", "t", "D")

DESCRIBED = {
    "xtrace_nccl_rank_call": Metric(
        "gauge", "", "Number of the last collective that a rank made on a communicator; 0: the call that makes it."
    ),
    "xtrace_nccl_rank_size": Metric("gauge", "ranks", "Ranks of the communicator."),
    "xtrace_nccl_rank_number": Metric("gauge", "", "The rank itself, to find out which one has no series."),
    "xtrace_nccl_rank_open_seconds": Metric(
        "gauge", "seconds", "How long a rank has been in the call that it is in; 0 if in none, absent where not known."
    ),
    "xtrace_nccl_rank_quiet_seconds": Metric(
        "gauge", "seconds", "Time since a rank last began or ended a call on the communicator."
    ),
    "xtrace_nccl_rank_stopped": Metric(
        "gauge", "", "1 if the process of a rank is stopped, or in uninterruptible sleep, else 0."
    ),
    "xtrace_nccl_rank_ended": Metric("gauge", "", "1 if the process of a rank has ended, else 0."),
    "xtrace_nccl_rank_arguments": Metric(
        "gauge",
        "",
        "Hash of function, datatype, count and root of the rank's last collective: equal where these are.",
    ),
    "xtrace_nccl_rank_compared_call": Metric(
        "gauge", "", f"The last number of a collective that is a multiple of {COMPARED_EVERY}."
    ),
    "xtrace_nccl_rank_compared_seconds": Metric(
        "gauge", "seconds", "When that collective began, in seconds since the epoch by the host's clock."
    ),
    "xtrace_nccl_rank_open_call": Metric("gauge", "", "1 while a rank is in this function, 0 after it."),
    "xtrace_nccl_rank_late_calls_total": Metric(
        "counter",
        "calls",
        "Calls of a rank that began later than the median of the other ranks on its host by `le` seconds at most, of"
        " those that could be compared.",
    ),
    "xtrace_nccl_verdicts": Metric("gauge", "", "1 while the ranks of this host alone show this fault."),
}
"""In output order."""


class RankMetrics:
    """Remembers which functions ranks were in, to say when they no longer are."""

    def __init__(self) -> None:
        self._open: set[Labels] = set()
        self._wrong: set[Labels] = set()
        self._late: dict[Labels, list[int]] = {}
        """of ranks that were compared: calls in each class of nccl_lateness"""

    def samples(self, ranks: Sequence[Rank], verdicts: Sequence[Verdict]) -> Iterator[Sample]:
        """Yield all samples of one interval."""
        shown = [rank for rank in ranks if rank.communicator is not None and rank.rank is not None]
        shown.sort(key=lambda rank: rank.open.since_ns if rank.open else rank.at_ns)
        opened: set[Labels] = set()
        told: set[Labels] = set()
        for rank in shown[:MOST_RANKS]:
            labels = labels_of(rank)
            if labels in told:
                continue
            told.add(labels)
            yield Sample(labels, dict(values_of(rank)))
            if rank.open is not None:
                opened.add((*labels, ("function", rank.open.arguments.function)))
        wrong: set[Labels] = {
            (
                ("communicator", verdict.communicator),
                ("rank", "" if verdict.rank is None else str(verdict.rank)),
                ("container", (verdict.culprit.container if verdict.culprit else None) or ""),
                ("verdict", verdict.kind.value),
            )
            for verdict in verdicts[:MOST_RANKS]
        }
        yield from self._late_calls(shown[:MOST_RANKS])
        yield from _changing("xtrace_nccl_rank_open_call", opened, self._open)
        yield from _changing("xtrace_nccl_verdicts", wrong, self._wrong)
        self._open, self._wrong = opened, wrong

    def _late_calls(self, ranks: Sequence[Rank]) -> Iterator[Sample]:
        """A histogram of each rank that was compared so far."""
        present = {labels_of(rank): rank.lateness for rank in ranks}
        self._late = {labels: counts for labels, counts in self._late.items() if labels in present}
        known = set(self._late)
        for labels, lateness in present.items():
            if lateness:
                before = self._late.get(labels, [0] * len(lateness))
                self._late[labels] = [one + other for one, other in zip(before, lateness, strict=True)]
        name = "xtrace_nccl_rank_late_calls_total"
        for labels, counts in self._late.items():
            for limit, total in zip(LIMITS, accumulate(counts), strict=True):
                yield Sample((*labels, ("le", limit)), {name: total}, None if labels in known else {name: 0})


def _changing(name: str, now: set[Labels], before: set[Labels]) -> Iterator[Sample]:
    for labels in sorted(now):
        yield Sample(labels, {name: 1})
    for labels in sorted(before - now):
        yield Sample(labels, {name: 0})


def labels_of(rank: Rank) -> Labels:
    """The communicator, the rank, where it runs."""
    return (
        ("communicator", valid_unicode(rank.communicator or "")),
        ("rank", str(rank.rank)),
        ("pid", str(rank.pid)),
        ("container", rank.container or ""),
    )


def values_of(rank: Rank) -> Iterator[tuple[str, float]]:
    """Name and value of each metric that is known of a rank."""
    now = rank.at_ns
    yield "xtrace_nccl_rank_call", rank.made
    if rank.nranks is not None:
        yield "xtrace_nccl_rank_size", rank.nranks
    if rank.rank is not None:
        yield "xtrace_nccl_rank_number", rank.rank
    if rank.open is not None and not rank.ended:
        yield "xtrace_nccl_rank_open_seconds", _since(rank.open.since_ns, now)
    elif rank.is_open_known or rank.ended:
        yield "xtrace_nccl_rank_open_seconds", 0
    if rank.quiet_since_ns:
        yield "xtrace_nccl_rank_quiet_seconds", _since(rank.quiet_since_ns, now)
    yield "xtrace_nccl_rank_stopped", int(rank.state in STOPPED)
    yield "xtrace_nccl_rank_ended", int(rank.ended)
    last = rank.call(rank.begun)
    if last is not None:
        words = repr(tuple(last.arguments.comparable())).encode()
        yield "xtrace_nccl_rank_arguments", int.from_bytes(sha256(words).digest()[:6], "big")  # exact in a double
    compared = [call for call in rank.calls if call.number % COMPARED_EVERY == 0]
    if compared:
        yield "xtrace_nccl_rank_compared_call", compared[-1].number
        yield "xtrace_nccl_rank_compared_seconds", compared[-1].begin_ns / 1e9


def _since(begin_ns: int, now_ns: int) -> float:
    return max(0.0, round((now_ns - begin_ns) / 1e9, 3))
