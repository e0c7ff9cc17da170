"""Reading a sample back: when, which, and what is said of the answer."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import pytest

from xtrace.sinks.push.selfcheck import Probe, SelfCheck

Query = tuple[str, int, int]


class Server:
    """Answers in turn; repeats the last."""

    def __init__(self, answers: Iterable[set[int] | None]) -> None:
        self.asked: list[Query] = []
        self._answers = list(answers)

    def times(self, *query: str | int) -> set[int] | None:
        self.asked.append(query)  # type: ignore[arg-type]
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def delivered(check: SelfCheck, *seconds: float) -> None:
    """A batch each at these times; its sample has the time as its own, in ms."""
    for now in seconds:
        check.delivered(Probe("up", round(1000 * now)), now)


def test_sample_is_asked_for_five_seconds_after_its_delivery_and_one_in_a_minute() -> None:
    server = Server([{1}])
    check = SelfCheck(server.times, "m")
    delivered(check, 100.0, 104.75)
    assert server.asked == []
    delivered(check, 105.0)
    assert server.asked == [("up", 100_000, 105_000)]
    delivered(check, 106.0, 164.75, 170.0)
    assert server.asked == [("up", 100_000, 105_000)], "164.75 is less than a minute later, 170 is taken"
    delivered(check, 174.75, 175.0)
    assert server.asked[1:] == [("up", 170_000, 175_000)]
    delivered(check, 235.0, 240.0)
    assert server.asked[2:] == [("up", 235_000, 240_000)], "exactly a minute later"


def test_sample_that_may_have_been_lost_is_not_asked_for() -> None:
    server = Server([{1}])
    check = SelfCheck(server.times, "m")
    delivered(check, 1.0)
    check.forget()
    delivered(check, 7.0, 11.0, 12.0)
    assert server.asked == [("up", 7000, 12_000)]


@pytest.mark.parametrize(
    "answers, stored, said",
    [
        ([{1}], True, []),
        ([set()], False, ["does not return"]),
        ([None], None, ["cannot check"]),
        ([{1}, set(), set()], False, ["does not return"]),
        ([set(), {1}, {1}], True, ["does not return", "stores the samples again"]),
        ([set(), None, {1}], True, ["does not return", "cannot check"]),
        ([set(), {1}, set()], False, ["does not return", "stores the samples again", "does not return"]),
        ([None, {1}, None], None, ["cannot check"]),
    ],
)
def test_change_of_the_answer_is_said_once(
    answers: list[set[int] | None], stored: bool | None, said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    check = SelfCheck(Server(answers).times, "http://m/x")
    for minute in range(len(answers)):
        delivered(check, 100.0 * minute, 100.0 * minute + 5)
    assert check.stored is stored
    texts = ("does not return", "cannot check", "stores the samples again")
    assert [next(text for text in texts if text in line) for line in caplog.messages] == said
    assert all(line.startswith("push to http://m/x: ") for line in caplog.messages)


@pytest.mark.parametrize(
    "answers, asked, stored",
    [([{1}], 1, True), ([set(), {1}], 2, True), ([set()], 3, False), ([None], 1, None), ([set(), None], 2, None)],
)
def test_sample_of_a_run_that_ends_is_asked_for_until_it_is_seen_or_should_be(
    answers: list[set[int] | None], asked: int, stored: bool | None, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(answers)
    check = SelfCheck(server.times, "m")
    delivered(check, 1.0, 2.0)
    assert [check.ends(now) for now in (3.0, 5.75, 6.0, 7.0)] == [True] * (asked - 1) + [False] * (5 - asked)
    assert server.asked == [("up", 1000, 61_000)] * asked
    assert check.stored is stored
    assert len(caplog.messages) == (stored is False)


def test_end_of_a_run_asks_for_nothing_that_was_answered_before_or_not_delivered() -> None:
    server = Server([{1}])
    check = SelfCheck(server.times, "m")
    assert not check.ends(1.0)
    delivered(check, 1.0, 6.0, 66.0)
    assert not check.ends(67.0)
    assert len(server.asked) == 1


def test_missing_sample_is_named_with_its_time(caplog: pytest.LogCaptureFixture) -> None:
    check = SelfCheck(Server([set()]).times, "http://m/x")
    delivered(check, 1.0, 6.0)
    assert caplog.messages == [
        "push to http://m/x: the server accepts samples but does not return up at 1000 (check its log,"
        " vm_rows_invalid_total, vm_rows_ignored_total and its series limits)"
    ]
