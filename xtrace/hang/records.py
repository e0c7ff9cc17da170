"""From nccl_rank records (docs/output.schema.json) back to ranks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from xtrace.model.nccl_ranks import Arguments, Identity, Job, NumberedCall, OpenCall, PeerCount, Rank

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def rank_of(record: Mapping[str, Any]) -> Rank:
    """The rank that a record tells of. Raises KeyError, TypeError or ValueError if it is none of this version's."""
    opened, job, address = record["open"], record["job"], record["address"]
    return Rank(
        host=record["host"],
        pid=record["pid"],
        at_ns=time_ns(record["ts"]),
        command=record["command"],
        container=record["container"],
        pod=record["pod"],
        job=Job(**job) if job else None,
        gpus=None if record["gpus"] is None else tuple(record["gpus"]),
        communicator=record["communicator"],
        identity=Identity(record["identity"]) if record["identity"] else None,
        address=int(address, 16) if address else None,
        nranks=record["nranks"],
        rank=record["rank"],
        is_whole=record["whole"],
        is_joined=record["joined"],
        begun=record["begun"],
        returned=record["returned"],
        last_begin_ns=_time(record["last_begin"]),
        last_return_ns=_time(record["last_return"]),
        open=_open(opened) if opened else None,
        is_open_known=record["open_known"],
        sleeps_in=record["sleeps_in"],
        state=record["state"],
        ended=record["ended"],
        exit=record["exit"],
        left=record["left"],
        calls=tuple(NumberedCall(call["number"], call["begin_ns"], _arguments(call)) for call in record["calls"]),
        peers=tuple(
            PeerCount(
                peer["rank"], peer["sends"], peer["receives"], _time(peer["last_send"]), _time(peer["last_receive"])
            )
            for peer in record["peers"]
        ),
        are_peers_known=record["peers_whole"],
    )


def _open(record: Mapping[str, Any]) -> OpenCall:
    return OpenCall(
        _arguments(record),
        time_ns(record["since"]),
        record["thread"],
        record["number"],
        is_other=record["other"],
        is_from_stack=record["from_stack"],
    )


def _arguments(record: Mapping[str, Any]) -> Arguments:
    return Arguments(record["function"], record["datatype"], record["count"], record["root"])


def time_ns(text: str) -> int:
    """Ns since the epoch of `2026-01-01T00:00:05.000Z`. Raises ValueError."""
    whole = datetime.fromisoformat(text.replace("Z", "+00:00")) - EPOCH
    return (whole.days * 86_400 + whole.seconds) * 1_000_000_000 + whole.microseconds * 1000


def _time(text: str | None) -> int | None:
    return None if text is None else time_ns(text)
