"""What is read of a RAS service's answers, and what is kept of earlier ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.nccl.ras_double import communicator, document, missing, rank, without_commas
from xtrace.model.nccl_ras import RasCommunicator, RasRank, RasReport, with_names
from xtrace.monitors.nccl import ras_status
from xtrace.monitors.nccl.ras_status import RasError, RasMemory, _optional, number, parse_status, word

SECOND = 10**9


def parsed(answer: bytes) -> RasReport:
    return parse_status(answer, "localhost:28028", 1)


def only(*ranks: dict[str, Any], lacking: tuple[dict[str, Any], ...] = ()) -> RasCommunicator:
    (found,) = parsed(document(communicator(8, ranks, lacking))).communicators
    return found


def test_missing_comma_is_put_in_and_nothing_else_is_changed() -> None:
    whole = document(communicator(8, [rank(0, {})], [missing(1), missing(2)]), communicator(4, [rank(0, {})], []))
    broken = without_commas(whole)
    assert len(broken) == len(whole) - 2
    assert ras_status.load(broken) == json.loads(whole) == ras_status.load(whole)
    assert parsed(broken) == parsed(whole)


@pytest.mark.parametrize("text", ['x \\"status\\": 5', "status", ' "status" :'])
def test_texts_that_look_like_the_missing_comma_stay_as_they_are(text: str) -> None:
    lost = {**missing(1), "host": text}
    broken = without_commas(document(communicator(8, [rank(0, {})], [lost])))
    (found,) = parsed(broken).communicators
    assert found.absent[0].host == text


@pytest.mark.parametrize("answer", [b"", b"{", b"{} {}", b'{"a" "status": 1}', b"[1 2]"])
def test_document_that_a_comma_does_not_mend_is_rejected(answer: bytes) -> None:
    with pytest.raises(RasError, match="cannot parse"):
        parsed(answer)


def test_invalid_communicator_does_not_affect_the_others() -> None:
    whole = communicator(8, [rank(0, {"AllReduce": 1})], [])
    report = parsed(document(whole, {**whole, "hash": "0x2", "size": -1}, {**whole, "hash": "0x3", "ranks": 7}))
    assert [found.name for found in report.communicators] == ["0x9f3c:0x1:0x2"]
    assert report.unread == 2
    with pytest.raises(RasError):
        parsed(document({**whole, "size": -1}))


def test_ranks_that_called_least_are_named_where_ranks_differ() -> None:
    ranks = [rank(number, {"AllReduce": 10 if number in (3, 5) else 12, "AllGather": 7}) for number in range(8)]
    found = only(*ranks)
    assert found.counts["AllReduce"] == (10, 12)
    (name,) = found.behind
    assert name == "AllReduce"
    assert found.behind[name].total == 2
    assert found.behind[name].ranks == (
        RasRank(3, "192.0.2.1", 1003, 3, 3),
        RasRank(5, "192.0.2.1", 1005, 5, 5),
    )


def test_ranks_that_are_named_are_bounded_and_counted() -> None:
    ranks = [rank(number, {"AllReduce": min(number, 1)}) for number in range(100)]
    ranks.append(rank(100, {"AllReduce": 0}))
    many = [rank(number, {"AllReduce": 1 if number == 7 else 0}) for number in range(100)]
    assert only(*ranks).behind["AllReduce"].total == 2
    behind = only(*many).behind["AllReduce"]
    assert (behind.total, len(behind.ranks)) == (99, 16)
    lost = only(rank(0, {}), lacking=tuple(missing(number) for number in range(1, 101)))
    assert (len(lost.missing), len(lost.absent)) == (100, 16)


def test_where_a_rank_runs_is_known_as_far_as_reported() -> None:
    dead = {"rank": 2, "status": {"unresponsive": True, "considered_dead": True}, "cuda_dev": -1, "pid": "x"}
    (found,) = only(rank(0, {}), lacking=(dead,)).absent
    assert found == RasRank(2, "?", None, None, None, is_dead=True)
    assert str(found) == "2@?/?" and str(RasRank(3, "n1", 7, 1)) == "3@n1/7/gpu1"


def job(name: str, pid: int, *, size: int = 2) -> dict[str, Any]:
    """A communicator of a job whose processes have numbers from pid on."""
    ranks = [{**rank(number, {}), "pid": pid + number} for number in range(size)]
    return {**communicator(size, ranks, []), "hash": name}


def ages(report: RasReport) -> dict[str, float]:
    return {found.name.partition(":")[0]: found.age_ns / 1e9 for found in report.communicators}


def test_jobs_that_share_a_port_are_all_kept_with_their_age_until_stale() -> None:
    memory = RasMemory(100 * SECOND)
    first, second = (parsed(document(job(name, pid))) for name, pid in (("0xa", 100), ("0xb", 200)))
    kept = [
        ages(memory.with_others(report, at * SECOND))
        for report, at in ((first, 0), (second, 60), (second, 100), (second, 101), (first, 160))
    ]
    assert kept == [
        {"0xa": 0},
        {"0xb": 0, "0xa": 60},
        {"0xb": 0, "0xa": 100},
        {"0xb": 0},
        {"0xa": 0, "0xb": 59},
    ]


def test_kept_communicator_keeps_its_own_version_of_nccl() -> None:
    memory = RasMemory(100 * SECOND)
    memory.with_others(parsed(document(job("0xa", 100)).replace(b"2.28.9", b"2.29.1")), 0)
    report = memory.with_others(parsed(document(job("0xb", 200))), SECOND)
    assert [found.nccl_version for found in report.communicators] == ["2.28.9", "2.29.1"]


def test_communicator_that_its_own_job_no_longer_reports_is_dropped_at_once() -> None:
    memory = RasMemory(100 * SECOND)
    memory.with_others(parsed(document(job("0xa", 100), job("0xb", 101))), 0)
    memory.with_others(parsed(document(job("0xc", 300))), 1)
    assert ages(memory.with_others(parsed(document(job("0xa", 100))), 2)).keys() == {"0xa", "0xc"}


def test_communicators_that_are_kept_are_bounded_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ras_status, "MOST_KEPT", 3)
    memory = RasMemory(100 * SECOND)
    for at in range(6):
        report = memory.with_others(parsed(document(job(f"0x{at}", 100 * (at + 1)))), at * SECOND)
    assert list(ages(report)) == ["0x5", "0x4", "0x3", "0x2"]


def test_communicator_that_is_reported_twice_is_one() -> None:
    report = parsed(document(job("0xa", 100), job("0xa", 100)))
    assert len(RasMemory(SECOND).with_others(report, 0).communicators) == 1


@pytest.mark.parametrize(
    "hash_, known_as",
    [("0x9f3c", "0000000000009f3c"), ("9f3c", "0000000000009f3c"), ("0x9f3d", None), ("?", None), ("", None)],
)
def test_a_communicator_whose_hash_is_the_name_of_ranks_here_has_that_name(hash_: str, known_as: str | None) -> None:
    report = parsed(document({**communicator(1, [rank(0, {})], []), "hash": hash_}))
    (named,) = with_names(report, {"0000000000009f3c", None}).communicators
    assert named.known_as == known_as


@pytest.mark.parametrize("value", [0, 1, (1 << 63) - 1])
def test_numbers_have_63_bits(value: int) -> None:
    assert number(value) == _optional(value) == value


@pytest.mark.parametrize("value", [-1, 1 << 63, 1.0, True, "1", None])
def test_other_numbers_are_none(value: object) -> None:
    with pytest.raises(ValueError, match="is not a valid number"):
        number(value)
    assert _optional(value) is None


def test_words_are_short_and_harmless() -> None:
    assert word("a" * 65) == "a" * 64
    assert word("\x1b[31mred") == "?[31mred"
    assert word(7) == "7"
