"""GPUs of processes are looked up now and then, and known a while after the end."""

from __future__ import annotations

import pytest

from xtrace.monitors.nccl import gpus
from xtrace.monitors.nccl.gpus import Gpus

NS = 1_000_000_000
START = 7 * 24 * 3600 * NS
"""The clock's time when the first process is looked at: the machine has run for a while."""


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Processes that were looked at; each time they have another GPU open."""
    made: list[int] = []

    def opened(pid: int) -> tuple[int, ...]:
        made.append(pid)
        return (len(made),)

    monkeypatch.setattr(gpus, "open_gpus", opened)
    return made


def test_an_answer_holds_for_ten_seconds(looks: list[int]) -> None:
    known = Gpus()
    assert [known.of(7, 100, START + at * NS) for at in (0, 5, 9)] == [(1,)] * 3
    assert known.of(7, 100, START + 10 * NS) == (2,)
    assert known.of(7, 100, START + 19 * NS) == (2,)
    assert looks == [7, 7]


def test_another_process_of_the_same_number_is_looked_at(looks: list[int]) -> None:
    known = Gpus()
    assert (known.of(7, 100, START), known.of(7, 101, START + 1), known.of(8, 100, START + 1)) == ((1,), (2,), (3,))


def test_a_process_that_has_ended_keeps_what_was_known_for_a_minute(looks: list[int]) -> None:
    known = Gpus()
    known.of(7, 100, START)
    assert known.of(7, None, START + 300 * NS) == (1,), "nobody else was looked at"
    known.of(8, 100, START + 59 * NS)
    assert known.of(7, None, START + 59 * NS) == (1,)
    known.of(8, 101, START + 60 * NS)
    assert known.of(7, None, START + 60 * NS) == (4,), "it is looked at, and gone"
    assert looks == [7, 8, 8, 7]
