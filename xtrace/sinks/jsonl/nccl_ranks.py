"""Records of the ranks of NCCL's communicators, and verdicts about them. `xtrace-catch hang` reads the former."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xtrace.model.nccl_lateness import LIMITS_NS
from xtrace.model.nccl_ranks import Arguments, Rank
from xtrace.model.nccl_verdicts import Verdict
from xtrace.sinks.kinds import Record
from xtrace.sinks.render import timestamp, valid_unicode


def rank_records(ranks: Iterable[Rank], common: Record) -> Iterator[Record]:
    """One record per rank of a communicator."""
    for rank in ranks:
        yield {
            "type": "nccl_rank",
            **common,
            "pid": rank.pid,
            "command": valid_unicode(rank.command),
            "container": rank.container,
            "pod": rank.pod,
            "job": job_record(rank),
            "gpus": None if rank.gpus is None else list(rank.gpus),
            "communicator": rank.communicator,
            "identity": rank.identity.value if rank.identity else None,
            "address": None if rank.address is None else f"{rank.address:#x}",
            "nranks": rank.nranks,
            "rank": rank.rank,
            "whole": rank.is_whole,
            "joined": rank.is_joined,
            "begun": rank.begun,
            "returned": rank.returned,
            "last_begin": _time(rank.last_begin_ns),
            "last_return": _time(rank.last_return_ns),
            "open": open_record(rank),
            "open_known": rank.is_open_known,
            "sleeps_in": rank.sleeps_in,
            "state": rank.state,
            "ended": rank.ended,
            "left": rank.left,
            "exit": rank.exit,
            "calls": [
                {"number": call.number, "begin_ns": call.begin_ns, **arguments_record(call.arguments)}
                for call in rank.calls
            ],
            "peers": [
                {
                    "rank": peer.peer,
                    "sends": peer.sends,
                    "receives": peer.receives,
                    "last_send": _time(peer.last_send_ns),
                    "last_receive": _time(peer.last_receive_ns),
                }
                for peer in rank.peers
            ],
            "peers_whole": rank.are_peers_known,
            "lateness": [
                {"most_ns": limit, "calls": calls}
                for limit, calls in zip((*LIMITS_NS, None), rank.lateness, strict=False)
                if calls
            ],
        }


def job_record(rank: Rank) -> Record | None:
    """What the process's environment says."""
    job = rank.job
    return None if job is None else {name: _text(value) for name, value in job._asdict().items()}


def _text(value: str | int | None) -> str | int | None:
    return valid_unicode(value) if isinstance(value, str) else value


def open_record(rank: Rank) -> Record | None:
    """The call that it is in."""
    call = rank.open
    if call is None:
        return None
    return {
        **arguments_record(call.arguments),
        "since": timestamp(call.since_ns),
        "open_s": max(0.0, round((rank.at_ns - call.since_ns) / 1e9, 3)),
        "thread": call.thread,
        "number": call.number,
        "other": call.is_other,
        "from_stack": call.is_from_stack,
    }


def arguments_record(arguments: Arguments) -> Record:
    """Function and arguments of a call."""
    return {
        "function": arguments.function,
        "datatype": arguments.datatype,
        "count": arguments.elements,
        "root": arguments.root,
    }


def verdict_records(verdicts: Iterable[Verdict], common: Record) -> Iterator[Record]:
    """One record per verdict."""
    for verdict in verdicts:
        culprit = verdict.culprit
        yield {
            "type": "verdict",
            **common,
            "verdict": verdict.kind.value,
            "communicator": verdict.communicator,
            "identity": verdict.identity.value if verdict.identity else None,
            "job": None if verdict.job is None else valid_unicode(verdict.job),
            "nranks": verdict.nranks,
            "rank": verdict.rank,
            "peer": verdict.peer,
            "rank_host": culprit.host if culprit else None,
            "pid": culprit.pid if culprit else None,
            "command": valid_unicode(culprit.command) if culprit else None,
            "container": culprit.container if culprit else None,
            "pod": culprit.pod if culprit else None,
            "number": verdict.number,
            "function": verdict.function,
            "waiting": list(verdict.waiting),
            "since": timestamp(verdict.since_ns),
            "evidence": valid_unicode(verdict.evidence),
        }


def _time(ns: int | None) -> str | None:
    return None if ns is None else timestamp(ns)
