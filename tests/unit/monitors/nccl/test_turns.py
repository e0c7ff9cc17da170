"""Work that users cause is shared out by user."""

from __future__ import annotations

from collections.abc import Iterator

from xtrace.monitors.nccl.turns import TURN_NS, Turns

MS = 1_000_000


class Work:
    """Steps that take time, and note whose they were."""

    def __init__(self) -> None:
        self.now = 0
        self.steps: list[str] = []
        self.turns = Turns(lambda: self.now)

    def add(self, user: int, name: int, steps: int, ns: int = MS) -> None:
        def run() -> Iterator[None]:
            for _ in range(steps):
                self.now += ns
                self.steps.append(f"{user}/{name}")
                yield

        self.turns.add(user, name, run())

    def run(self) -> list[str]:
        while len(self.turns):
            self.turns.step()
        return self.steps


def test_who_spent_least_is_next() -> None:
    work = Work()
    work.add(1000, 1, steps=100, ns=10 * MS)
    work.add(0, 2, steps=3)
    work.turns.step()
    work.turns.step()
    work.add(5, 3, steps=1)
    assert work.run()[:6] == ["1000/1", "0/2", "5/3", "0/2", "0/2", "1000/1"]


def test_many_processes_of_one_user_count_as_one() -> None:
    work = Work()
    for name in range(1000):
        work.add(1000, name, steps=1)
    work.turns.step()
    work.add(0, 5000, steps=2)
    assert work.run()[:3] == ["1000/0", "0/5000", "1000/1"]


def test_one_users_processes_take_turns() -> None:
    work = Work()
    work.add(0, 1, steps=4, ns=TURN_NS // 2 + 1)
    work.add(0, 2, steps=1)
    assert work.run() == ["0/1", "0/1", "0/2", "0/1", "0/1"]


def test_what_was_spent_is_forgiven_in_time() -> None:
    work = Work()
    work.add(1000, 1, steps=1, ns=64 * MS)
    work.run()
    for _ in range(10):
        work.turns.forgive()
    work.add(0, 2, steps=1, ns=2 * MS)
    work.turns.step()
    work.add(0, 3, steps=1)
    work.add(1000, 4, steps=1)
    assert work.run()[2:] == ["1000/4", "0/3"]


def test_work_of_a_name_that_waits_is_not_queued_again() -> None:
    work = Work()
    work.add(0, 1, steps=1)
    work.add(0, 1, steps=1)
    assert len(work.turns) == 1
    assert work.run() == ["0/1"]


def test_turn_ends_when_it_has_lasted_longer_than_it_may() -> None:
    work = Work()
    work.add(0, 1, steps=3, ns=TURN_NS)
    work.add(0, 2, steps=1)
    assert work.run() == ["0/1", "0/1", "0/2", "0/1"]


def test_each_piece_of_work_has_a_whole_turn() -> None:
    """Steps take 40 ms, a turn 100 ms: three steps, whatever the piece before took."""
    now, order = [0], list[str]()

    def work(name: str, steps: int) -> Iterator[None]:
        for _ in range(steps):
            now[0] += 40_000_000
            order.append(name)
            yield

    turns = Turns(lambda: now[0])
    turns.add(1000, 1, work("a", 5))
    turns.add(1000, 2, work("b", 4))
    turns.add(1000, 3, work("c", 1))
    while len(turns):
        turns.step()
    assert "".join(order) == "aaabbbcaab"
