"""The queue and its thread: order, retries, limits, shutdown; with a scripted server."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import pytest

from xtrace.sinks.metrics.exposition import Exposition
from xtrace.sinks.metrics.pieces import identity
from xtrace.sinks.push import acknowledged, selfcheck
from xtrace.sinks.push import delivery as module
from xtrace.sinks.push.batch import Batch, Outcome
from xtrace.sinks.push.delivery import Delivery
from xtrace.sinks.push.selfcheck import Probe

GIVE_UP_S = 60.0
TEXT = Exposition(())
OK, BUSY, NO = Outcome(True), Outcome(False, True, "busy"), Outcome(False, False, "400 no")


class Server:
    """Gives scripted answers, then repeats the last; requests wait while `held` is clear."""

    shown = "http://m/api"
    is_known = True

    def __init__(self, answers: Sequence[Outcome], stored: set[int] | Literal["all"] | None = "all") -> None:
        self.bodies: list[str] = []
        self.queries: list[tuple[int, int]] = []
        self.closed = False
        self.held = threading.Event()
        self.held.set()
        self.stored = stored
        self._answers = list(answers)

    def send(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        assert headers == TEXT.headers(body)
        self.bodies.append(zlib.decompress(body, 31).decode())
        self.held.wait(GIVE_UP_S)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def times(self, selector: str, start_ms: int, end_ms: int) -> set[int] | None:
        self.queries.append((start_ms, end_ms))
        return set(range(start_ms, end_ms + 1)) if self.stored == "all" else self.stored

    def samples(self, selector: str, start_ms: int, end_ms: int, names: frozenset[str]) -> set[int] | None:
        return None

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.002)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr(acknowledged, "SETTLES_S", 0.0)


@contextmanager
def delivering(server: Server, limit: int = 1 << 20) -> Iterator[Delivery]:
    made = Delivery(server, TEXT, limit)
    yield made
    server.held.set()
    made.close(GIVE_UP_S)


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GIVE_UP_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def batch(text: str, samples: int = 1) -> Batch:
    return Batch(text.encode(), samples)


class Shouting(Exposition):
    """Another encoding."""

    def compress(self, body: bytes) -> bytes:
        return body.upper()

    def headers(self, body: bytes) -> Mapping[str, str]:
        return {"Content-Type": f"text/loud; length={len(body)}"}


def test_encoding_compresses_bodies_and_sets_headers() -> None:
    sent = []

    class Listening(Server):
        def send(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
            sent.append((body, headers))
            return OK

    made = Delivery(Listening([OK]), Shouting(()))
    made.submit(batch("a"))
    assert made.close(GIVE_UP_S) == (0, 0, 0)
    assert sent == [(b"A", {"Content-Type": "text/loud; length=1"})]


def test_batches_arrive_in_order_each_once() -> None:
    server = Server([OK])
    with delivering(server) as made:
        for number in range(20):
            made.submit(batch(f"b{number}"))
    assert server.bodies == [f"b{number}" for number in range(20)]
    assert (made.figures.requests, made.figures.samples, made.figures.waiting_batches) == (20, 20, 0)
    assert server.closed


def test_failed_batch_is_resent_before_later_ones(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    server = Server([BUSY, BUSY, BUSY, OK])
    with delivering(server) as made:
        made.submit(batch("a"))
        made.submit(batch("b"))
        eventually(lambda: made.figures.requests == 2)
    assert server.bodies == ["a", "a", "a", "a", "b"]
    assert made.figures.failures == 3
    assert [message.partition(": ")[2].partition(" ")[0] for message in caplog.messages] == ["busy;", "delivering"]


def test_unexpected_error_is_one_line_without_its_text_and_retried(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server([OK])
    with delivering(server) as made:
        send = server.send
        attempts = iter([KeyError("s3cr3t")])

        def fails_once(body: bytes, headers: Mapping[str, str]) -> Outcome:
            for error in attempts:
                raise error
            return send(body, headers)

        monkeypatch.setattr(server, "send", fails_once)
        made.submit(batch("a"))
        eventually(lambda: made.figures.requests == 1)
    assert (server.bodies, made.figures.failures) == (["a"], 1)
    assert "KeyError in the HTTP client" in caplog.text and "s3cr3t" not in caplog.text


def test_pauses_grow_to_a_limit_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.5)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 15.0)
    with delivering(Server([OK])) as made:
        for attempt in range(40):
            made._attempts = attempt
            longest = min(0.5 * 2**attempt, 15.0)
            pauses = {made._pause(None) for _ in range(20)}
            assert all(longest / 2 <= pause <= longest for pause in pauses)
            assert len(pauses) > 1
        assert made._pause(7.0) == 7.0
        assert made._pause(1e9) == module.LONGEST_RETRY_AFTER_S


def test_each_failure_lengthens_the_pause_until_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def longest_of(_: float, longest: float) -> float:
        pauses.append(longest)
        return longest

    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.008)
    monkeypatch.setattr("random.uniform", longest_of)
    with delivering(Server([BUSY, BUSY, BUSY, BUSY, BUSY, OK, BUSY, BUSY, OK])) as made:
        made.submit(batch("a"))
        made.submit(batch("b"))
        eventually(lambda: made.figures.requests == 2)
    assert pauses == [0.001, 0.002, 0.004, 0.008, 0.008, 0.001, 0.002]


@pytest.mark.parametrize("is_known", [True, False])
def test_what_a_short_run_delivered_is_asked_for_where_the_path_says_nothing(
    is_known: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PAUSE_AT_END_S", 0.002)
    monkeypatch.setattr(selfcheck, "VISIBLE_AFTER_S", 0.01)
    server = Server([OK], stored=set())
    server.is_known = is_known
    with delivering(server) as made:
        made.submit(Batch(b"a", 1, Probe("up", 1000)))
    assert made.figures.stored is (None if is_known else False)
    assert len(caplog.messages) == (not is_known)
    assert bool(server.queries) is not is_known


def test_end_waits_for_no_sample_beyond_its_limit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PAUSE_AT_END_S", 0.02)
    monkeypatch.setattr(selfcheck, "VISIBLE_AFTER_S", 1e6)
    server = Server([OK], stored=set())
    server.is_known = False
    made = Delivery(server, TEXT)
    made.submit(Batch(b"a", 1, Probe("up", 1000)))
    assert made.close(0.3) == (0, 0, 0)
    made._thread.join(GIVE_UP_S)
    assert not made._thread.is_alive()
    assert (made.figures.stored, len(server.queries) >= 2) == (None, True)
    assert ["ended before the server returned a sample" in line for line in caplog.messages] == [True]


class Mute(Server):
    """Answers no query before `ended`."""

    def __init__(self, answers: Sequence[Outcome]) -> None:
        super().__init__(answers, stored=set())
        self.ended = threading.Event()

    def times(self, selector: str, start_ms: int, end_ms: int) -> set[int] | None:
        self.ended.wait(GIVE_UP_S)
        return super().times(selector, start_ms, end_ms)


@pytest.mark.parametrize("doubt, told", [("", "ended before the server returned a sample"), ("200", "answered 200")])
def test_query_that_hangs_at_the_end_is_told_unless_it_was_said_before(
    doubt: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = Mute([Outcome(True, doubt=doubt)])
    server.is_known = False
    made = Delivery(server, TEXT)
    made.submit(Batch(b"a", 1, Probe("up", 1000)))
    eventually(lambda: made.figures.requests == 1 and len(caplog.messages) == bool(doubt))
    assert made.close(0.3) == (0, 0, 0)
    before_the_end = list(caplog.messages)
    server.ended.set()
    made._thread.join(GIVE_UP_S)
    assert [told in line for line in before_the_end] == [told in line for line in caplog.messages] == [True]


def test_attempts_at_the_end_are_repeated_with_short_pauses_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_AT_END_S", 0.02)
    server = Server([Outcome(False, True, "busy", retry_after_s=100.0)])
    made = Delivery(server, TEXT)
    made.submit(batch("x"))
    eventually(lambda: made.figures.failures == 1)
    assert made.close(0.3) == (1, 1, 0)
    made._thread.join(GIVE_UP_S)
    # each pause but the last takes 0.02 s of 0.3 s
    assert 2 <= len(server.bodies) <= 2 + 0.3 / 0.02


def test_rejected_batch_is_dropped_counted_and_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    server = Server([NO, NO, Outcome(False, False, "401 who"), OK])
    with delivering(server) as made:
        for name in "abcd":
            made.submit(batch(name, samples=7))
        eventually(lambda: made.figures.requests == 1)
    assert server.bodies == ["a", "b", "c", "d"]
    assert made.figures.dropped == {"overflow": (0, 0), "refused": (3, 21)}
    assert [message.rpartition(": ")[2] for message in caplog.messages] == ["400 no", "401 who"]


@pytest.mark.parametrize("is_taken", [True, False])
def test_no_more_samples_are_rejected_than_were_sent(is_taken: bool) -> None:
    outcome = Outcome(is_taken, False, "400 no", written=1, rejected=1 << 40)
    with delivering(Server([outcome, OK])) as made:
        made.submit(batch("a", samples=7))
        made.submit(batch("b", samples=7))
        eventually(lambda: made.figures.samples == 7)
    assert made.figures.dropped["refused"] == (1, 7)


def test_oldest_batches_are_dropped_when_the_queue_is_full(caplog: pytest.LogCaptureFixture) -> None:
    server = Server([OK])
    server.held.clear()
    noise = [bytes((7 * n * n + k) & 0x7F for n in range(1000)).decode() for k in range(8)]
    with delivering(server, limit=3000) as made:
        made.submit(Batch(noise[0].encode(), 1))
        eventually(lambda: len(server.bodies) == 1)
        for text in noise[1:]:
            made.submit(Batch(text.encode(), 1))
        eventually(lambda: made.figures.dropped.get("overflow", (0, 0))[0] >= 4)
        assert made.figures.waiting_bytes <= 3000
        server.held.set()
        eventually(lambda: made.figures.waiting_batches == 0)
    assert server.bodies[-1] == noise[-1], "the newest was dropped"
    assert len([message for message in caplog.messages if "dropping the oldest samples" in message]) == 1


def test_batch_in_flight_is_not_dropped() -> None:
    server = Server([OK])
    server.held.clear()
    with delivering(server, limit=100) as made:
        made.submit(batch("first"))
        eventually(lambda: len(server.bodies) == 1)
        for number in range(5):
            made.submit(batch(f"{number}" * 90))
        eventually(lambda: made.figures.dropped.get("overflow") == (4, 4))
        server.held.set()
        eventually(lambda: made.figures.requests == 2)
    assert server.bodies == ["first", "4" * 90]
    assert made.figures.waiting_bytes == 0


def test_submitting_does_not_wait_for_a_server_that_hangs() -> None:
    server = Server([OK])
    server.held.clear()
    with delivering(server) as made:
        for number in range(50):
            made.submit(batch(str(number)))
        # the server that was waited for would have taken the first
        assert made.figures.waiting_batches == 50
        server.held.set()


def test_close_is_bounded_when_the_server_hangs_and_returns_what_is_left() -> None:
    server = Server([OK])
    server.held.clear()
    made = Delivery(server, TEXT)
    for _ in range(3):
        made.submit(batch("x", samples=5))
    # the server that was waited for would have taken some
    assert made.close(0.1) == (3, 15, 0)
    server.held.set()
    made._thread.join(GIVE_UP_S)


def test_close_is_bounded_when_the_server_keeps_failing() -> None:
    made = Delivery(Server([Outcome(False, True, "busy", retry_after_s=100.0)]), TEXT)
    made.submit(batch("x"))
    assert made.close(0.2) == (1, 1, 0)
    made._thread.join(GIVE_UP_S)
    assert not made._thread.is_alive()


def test_close_interrupts_a_pause_and_tries_once_more() -> None:
    server = Server([Outcome(False, True, "busy", retry_after_s=100.0), OK])
    made = Delivery(server, TEXT)
    made.submit(batch("x"))
    eventually(lambda: made.figures.failures == 1)
    assert made.close(GIVE_UP_S) == (0, 0, 0)
    assert server.bodies == ["x", "x"]


def probed(number: int) -> Batch:
    return Batch(f"b{number}".encode(), 1, Probe("up", number), size=2)


@pytest.mark.parametrize(
    "stored, expected, message",
    [
        ("all", True, None),
        (set(), False, "does not return up at 0 (check its log"),
        (None, None, "cannot check that samples are stored: no /api/v1/export found there"),
    ],
)
def test_sample_is_read_back_after_a_while_and_its_absence_reported_once(
    stored: set[int] | None,
    expected: bool | None,
    message: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(selfcheck, "VISIBLE_AFTER_S", 0.0)
    monkeypatch.setattr(selfcheck, "PROBE_EVERY_S", 0.0)
    server = Server([OK], stored)
    with delivering(server) as made:
        for number in range(6):
            made.submit(probed(number))
        eventually(lambda: made.figures.requests == 6)
    assert server.queries == [(0, 1), (2, 3), (4, 5)]
    assert made.figures.stored is expected
    assert [message in text for text in caplog.messages if message] == ([True] if message else [])


def test_sample_is_not_queried_at_once() -> None:
    server = Server([OK])
    with delivering(server) as made:
        made.submit(probed(1))
        made.submit(probed(2))
        eventually(lambda: made.figures.requests == 2)
    assert server.queries == []
    assert made.figures.stored is None


def test_connection_that_ended_with_a_rejection_is_remembered() -> None:
    server = Server([OK, Outcome(False, False, "400 no", reconnected=True), OK], stored={3})
    with delivering(server) as made:
        for number in (1, 2, 3):
            made.submit(probed(number))
        eventually(lambda: made.figures.requests == 2)
    assert server.bodies == ["b1", "b2", "b3", "b1"]


@pytest.mark.parametrize("how", [Outcome(True, reconnected=True), BUSY], ids=["reconnected", "failed"])
def test_batches_that_a_restarted_server_lost_are_sent_again(how: Outcome, caplog: pytest.LogCaptureFixture) -> None:
    answers = [OK, OK, OK, how, *([OK] if how is BUSY else [])]
    server = Server([*answers, OK], stored={1, 3, 4})
    with delivering(server) as made:
        for number in (1, 2, 3, 4):
            made.submit(probed(number))
        eventually(lambda: made.figures.requests == 4)
        assert server.queries == [], "the server may not show everything yet"
    assert server.bodies.count("b2") == 2 and server.bodies.count("b1") == server.bodies.count("b3") == 1
    assert server.queries[0] == (1, 4)
    assert "the server lost 1 intervals; sending them again" in caplog.text


def test_lost_batches_are_sent_again_while_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acknowledged, "VISIBLE_AFTER_S", 1e-9)
    server = Server([OK, OK, Outcome(True, reconnected=True), OK], stored={1, 3})
    with delivering(server) as made:
        for number in (1, 2, 3):
            made.submit(probed(number))
        eventually(lambda: made.figures.requests >= 3)
        made.submit(probed(4))
        eventually(lambda: "b2" in server.bodies[2:])
        assert server.bodies.count("b1") == 1


def test_overflow_is_said_again_after_the_queue_was_empty(caplog: pytest.LogCaptureFixture) -> None:
    server = Server([OK])
    with delivering(server, limit=100) as made:
        for turn in (1, 2):
            server.held.clear()
            made.submit(batch("first"))
            eventually(lambda turn=turn: len(server.bodies) == 2 * turn - 1)  # type: ignore[misc]
            for number in range(5):
                made.submit(batch(f"{number}" * 90))
            server.held.set()
            eventually(lambda turn=turn: made.figures.requests == 2 * turn)  # type: ignore[misc]
    said = "push to http://m/api: more than 0 MiB queued; dropping the oldest samples"
    assert caplog.messages == [said, said]
    assert made.figures.dropped == {"overflow": (8, 8), "refused": (0, 0)}


def test_overflow_is_not_said_again_while_something_waits(caplog: pytest.LogCaptureFixture) -> None:
    class Stepwise(Server):
        steps = threading.Semaphore(0)

        def send(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
            outcome = super().send(body, headers)
            assert self.steps.acquire(timeout=GIVE_UP_S)
            return outcome

    server = Stepwise([OK])
    with delivering(server, limit=100) as made:
        for turn in (1, 2):
            made.submit(batch("first"))
            eventually(lambda turn=turn: len(server.bodies) == turn)  # type: ignore[misc]
            for number in range(5):
                made.submit(batch(f"{number}" * 90))
            server.steps.release()
            eventually(lambda turn=turn: made.figures.requests == turn)  # type: ignore[misc]
        for _ in range(9):
            server.steps.release()
    assert made.figures.dropped["overflow"][0] >= 8
    assert caplog.messages == ["push to http://m/api: more than 0 MiB queued; dropping the oldest samples"]


def test_nothing_is_sent_again_while_the_connection_lasts_or_where_the_server_cannot_be_queried() -> None:
    for answers, stored in (([OK], set[int]()), ([OK, Outcome(True, reconnected=True), OK], None)):
        server = Server(answers, stored)
        with delivering(server) as made:
            for number in range(5):
                made.submit(probed(number))
        assert len(server.bodies) == 5


def test_lost_batches_are_known_once_the_server_shows_what_it_has() -> None:
    queries = []

    def times(selector: str, start_ms: int, end_ms: int) -> set[int]:
        queries.append((selector, start_ms, end_ms))
        return {100, 300}

    kept: acknowledged.Acknowledged[Batch] = acknowledged.Acknowledged(times, lambda _: None)
    first, second, third = probed(100), probed(200), probed(300)
    kept.add(first, 10.0, reconnected=True)
    kept.add(second, 11.0, reconnected=False)
    kept.add(third, 12.0, reconnected=True)
    assert kept.lost(12.0 + selfcheck.VISIBLE_AFTER_S - 0.1, ending=False).batches == []
    lost = kept.lost(12.0 + selfcheck.VISIBLE_AFTER_S, ending=False)
    assert lost == acknowledged.Lost([first, second], 1), "the first in part"
    assert queries == [("up", 100, 300)]
    assert kept.lost(1000.0, ending=True).batches == [], "the third came after"


def test_server_that_does_not_say_what_it_has_is_asked_again_for_a_while() -> None:
    answers: list[set[int] | None] = [None, None, {100, 300}]
    kept: acknowledged.Acknowledged[Batch] = acknowledged.Acknowledged(lambda *_: answers.pop(0), lambda _: None)
    first, second = probed(100), probed(200)
    kept.add(first, 10.0, reconnected=False)
    kept.add(second, 11.0, reconnected=False)
    kept.add(probed(300), 12.0, reconnected=True)
    assert kept.lost(17.0, ending=False) == kept.lost(21.9, ending=False) == acknowledged.Lost([])
    assert len(answers) == 2, "asked again after a while"
    assert kept.lost(22.0, ending=False) == acknowledged.Lost([])
    assert kept.lost(27.0, ending=False).missing == 1
    assert kept.lost(100.0, ending=True) == acknowledged.Lost([]) and not answers

    asked: list[int] = []
    kept = acknowledged.Acknowledged(lambda _, start_ms, __: asked.append(start_ms), lambda _: None, kept_s=30.0)
    kept.add(first, 10.0, reconnected=False)
    kept.add(second, 11.0, reconnected=True)
    for second_s in range(11, 100):
        kept.lost(float(second_s), ending=False)
    assert len(asked) == 7, "every 5 s for half a minute"


def test_acknowledged_batches_are_kept_for_a_while_and_bounded() -> None:
    kept: acknowledged.Acknowledged[Batch] = acknowledged.Acknowledged(lambda *_: {9}, lambda _: None, most_bytes=5)
    for number in range(4):
        kept.add(probed(number), 1.0, reconnected=False)
    kept.add(probed(9), 2.0, reconnected=True)
    assert len(kept.lost(2.0, ending=True).batches) == 1, "two bytes each, five in all"
    kept = acknowledged.Acknowledged(lambda *_: {9}, lambda _: None)
    kept.add(probed(1), 1.0, reconnected=False)
    kept.add(probed(2), 31.25, reconnected=False)
    kept.add(probed(9), 100.0, reconnected=True)
    assert [batch.body for batch in kept.lost(100.0, ending=True).batches] == [b"b2"]


@pytest.mark.parametrize("later_s, kept", [(30.0, 2), (30.25, 1)])
def test_batches_are_kept_for_half_a_minute(later_s: float, kept: int) -> None:
    batches: acknowledged.Acknowledged[Batch] = acknowledged.Acknowledged(lambda *_: {9}, lambda _: None)
    batches.add(probed(1), 1.0, reconnected=False)
    batches.add(probed(2), 1.0 + later_s, reconnected=False)
    batches.add(probed(9), 1.0 + later_s, reconnected=True)
    assert len(batches.lost(100.0, ending=True).batches) == kept


def test_unusual_answer_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    doubt = "200 OK instead of 204 No Content"
    server = Server([OK, Outcome(True, doubt=doubt)])
    with delivering(server) as made:
        for number in range(4):
            made.submit(probed(number))
    assert [text.partition(": ")[2] for text in caplog.messages] == [
        "answered 200 OK instead of 204 No Content: samples may not be stored (check the path)"
    ]
    assert made.figures.doubt == doubt


def test_what_was_found_is_checked_again_after_the_next_connection() -> None:
    stored: set[int] | None = {100}
    kept: acknowledged.Acknowledged[Batch] = acknowledged.Acknowledged(lambda *_: stored, lambda _: None)
    kept.add(probed(100), 10.0, reconnected=False)
    kept.add(probed(200), 11.0, reconnected=True)
    assert kept.lost(16.0, ending=False).batches == [], "it was there"
    stored = None
    kept.add(probed(300), 17.0, reconnected=True)
    assert kept.lost(22.0, ending=False).batches == [], "the server is away"
    stored = {400}
    kept.add(probed(400), 23.0, reconnected=True)
    assert [batch.body for batch in kept.lost(28.0, ending=False).batches] == [b"b100", b"b200", b"b300"]


def test_what_is_not_visible_is_lost_only_where_something_later_is() -> None:
    """A busy server shows late what it has."""
    stored = set[int]()
    kept: acknowledged.Acknowledged[Batch] = acknowledged.Acknowledged(lambda *_: stored, lambda _: None)
    first, second = probed(100), probed(200)
    kept.add(first, 10.0, reconnected=False)
    kept.add(second, 11.0, reconnected=False)
    kept.add(probed(300), 12.0, reconnected=True)
    assert kept.lost(17.0, ending=False) == kept.lost(22.0, ending=True) == acknowledged.Lost([])
    assert kept.unknown == 2
    stored.add(200)
    assert kept.lost(27.0, ending=False) == acknowledged.Lost([first, second], 1)
    assert kept.unknown == 0


def test_what_was_sent_shortly_before_something_visible_may_still_appear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acknowledged, "SETTLES_S", 2.0)
    stored = {300}
    kept: acknowledged.Acknowledged[Batch] = acknowledged.Acknowledged(lambda *_: stored, lambda _: None)
    first, second = probed(100), probed(200)
    kept.add(first, 10.0, reconnected=False)
    kept.add(second, 11.0, reconnected=False)
    kept.add(probed(300), 12.5, reconnected=True)
    assert kept.lost(20.0, ending=False) == acknowledged.Lost([first], 1)
    kept.add(probed(400), 20.0, reconnected=False)
    stored.add(400)
    assert kept.lost(30.0, ending=False) == acknowledged.Lost([second], 1)


@pytest.mark.parametrize("abruptly, unsure", [(True, ["b200", "b300"]), (False, [])])
def test_what_a_killed_server_was_sent_last_may_be_stored_in_part(abruptly: bool, unsure: list[str]) -> None:
    kept: acknowledged.Acknowledged[Batch] = acknowledged.Acknowledged(
        lambda *_: {100, 200, 300, 400}, lambda _: None, kept_s=300.0
    )
    for number, at_s in ((100, 10.0), (200, 40.5), (300, 70.0)):
        kept.add(probed(number), at_s, reconnected=False)
    kept.add(probed(400), 100.0, reconnected=True, abruptly=abruptly)
    lost = kept.lost(105.0, ending=False)
    assert ([batch.body.decode() for batch in lost.batches], lost.missing) == (unsure, 0)


def test_what_was_sent_shortly_before_something_lost_may_be_stored_in_part() -> None:
    kept: acknowledged.Acknowledged[Batch] = acknowledged.Acknowledged(
        lambda *_: {100, 200, 400}, lambda _: None, kept_s=300.0
    )
    for number, at_s in ((100, 10.0), (200, 40.5), (300, 70.0)):
        kept.add(probed(number), at_s, reconnected=False)
    kept.add(probed(400), 200.0, reconnected=True)
    lost = kept.lost(205.0, ending=False)
    assert ([batch.body.decode() for batch in lost.batches], lost.missing) == (["b200", "b300"], 1)


def test_what_was_found_does_not_show_how_far_the_server_shows_what_it_is_sent() -> None:
    stored = {300}
    kept: acknowledged.Acknowledged[Batch] = acknowledged.Acknowledged(lambda *_: stored, lambda _: None)
    first = probed(100)
    kept.add(first, 10.0, reconnected=False)
    kept.add(probed(300), 12.0, reconnected=True, is_fresh=False)
    assert kept.lost(17.0, ending=False).batches == []
    stored.add(400)
    kept.add(probed(400), 22.0, reconnected=False)
    assert kept.lost(22.0, ending=False).batches == [first]


def test_what_is_found_is_not_looked_for_forever_where_connections_end_between_any_two_batches() -> None:
    """A server or proxy closes what is idle for an interval, and does not say so."""
    now_s = [1000.0]

    class Idle(Server):
        asked = 0

        def send(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
            super().send(body, headers)
            return Outcome(True, reconnected=True, abruptly=True)

        def samples(self, selector: str, start_ms: int, end_ms: int, names: frozenset[str]) -> set[int] | None:
            self.asked += 1
            return {identity((("__name__", "a"), ("x", "1")), start_ms)}

    server = Idle([OK])
    made = Delivery(server, TEXT, clock=lambda: now_s[0])
    for number in range(1, 13):
        made.submit(Batch(b'a{x="1"} 1 %d\n' % number, 1, Probe("a", number)))
        eventually(lambda count=number: len(server.bodies) == count)  # type: ignore[misc]
        if number > 2:  # what came before the last connection is looked for once
            eventually(lambda count=number: server.asked == count - 2)  # type: ignore[misc]
        eventually(lambda: made.figures.waiting_batches == 0)
        now_s[0] += 60
    assert (made.figures.requests, made.figures.samples) == (12, 12), "what is found was counted before"
    assert made.close(GIVE_UP_S) == (0, 0, 0)
    assert len(server.bodies) == 12


def test_body_of_something_else_does_not_end_the_thread() -> None:
    class Foreign(Exposition):
        def pieces(self, body: bytes) -> None:
            raise zlib.error("no gzip")

    server = Server([Outcome(False, True, "lost", unanswered=True), OK], stored=set())
    made = Delivery(server, Foreign(()))
    made.submit(batch("a"))
    eventually(lambda: made.figures.failures == 1)
    assert made.close(GIVE_UP_S) == (0, 0, 0)
    assert server.bodies == ["a", "a"]


def test_end_before_the_server_shows_what_it_has_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Without a spool there is no later run that finds out."""
    server = Server([OK, Outcome(True, reconnected=True)], stored=set())
    made = Delivery(server, TEXT)
    made.submit(probed(1))
    made.submit(probed(2))
    assert made.close(0.5) == (0, 0, 0)
    made._thread.join(GIVE_UP_S)
    assert server.bodies == ["b1", "b2"]
    assert caplog.messages == [
        "push to http://m/api: ended before the server showed whether it still has 1 intervals that it had acknowledged"
    ]
