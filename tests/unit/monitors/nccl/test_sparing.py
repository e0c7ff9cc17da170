"""Lines that other users cause are bounded."""

from __future__ import annotations

from xtrace.monitors.nccl.sparing import EVERY_NS, MOST_LINES, Held, Sparing


def test_lines_beyond_the_most_are_counted() -> None:
    now, said = [0], list[str]()
    say = Sparing(said.append, lambda: now[0])
    for number in range(MOST_LINES + 5):
        say(f"line {number}")
    assert said == [f"line {number}" for number in range(MOST_LINES)]
    now[0] = EVERY_NS
    say("later")
    say("too soon")
    now[0] = 2 * EVERY_NS
    say("last")
    assert said[MOST_LINES:] == [
        "later (mode nccl left out 5 such lines)",
        "last (mode nccl left out 1 such lines)",
    ]


def test_a_quiet_hour_earns_no_more_than_the_most() -> None:
    now, said = [0], list[str]()
    say = Sparing(said.append, lambda: now[0])
    now[0] = 1000 * MOST_LINES * EVERY_NS
    for number in range(2 * MOST_LINES):
        say(str(number))
    assert len(said) == MOST_LINES


def test_lines_are_held_back_until_they_are_true_and_then_handed_on_at_once() -> None:
    said = list[str]()
    held = Held(said.append)
    held("one")
    held("two")
    assert said == []
    held.release()
    assert said == ["one", "two"]
    held("three")
    held.release()
    assert said == ["one", "two", "three"]
