"""Which RAS services are asked: each address, loopback ones in other namespaces too, and what they say together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from xtrace.model.nccl_ras import RasCommunicator, RasReport
from xtrace.monitors.nccl import ras_services
from xtrace.monitors.nccl.ras_services import FOLLOW_NS, MOST_NAMESPACES, RasServices, is_loopback, merged, namespaces

LOCAL, OTHER = ("localhost", 28028), ("10.0.0.1", 28028)
OWN = 1


class Played:
    """A poller that says what the test lets it."""

    made: ClassVar[list[Played]] = []

    def __init__(self, address: tuple[str, int], every_s: float, pid: int | None = None) -> None:
        self.address, self.pid = address, pid
        self.answers: bool | None = None
        self.report: RasReport | None = None
        self.stopped = False
        Played.made.append(self)

    def take(self) -> RasReport | None:
        return self.report

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        assert self.stopped


@pytest.fixture
def inodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, int]]:
    """The network namespace of each process."""
    found: dict[int, int] = {}

    def inode_of(path: Path | None = None) -> int:
        if path is None:
            return OWN
        pid = int(path.parts[-3])
        if pid not in found:
            raise FileNotFoundError
        return found[pid]

    Played.made = []
    monkeypatch.setattr(ras_services, "RasPoller", Played)
    monkeypatch.setattr(ras_services, "inode_of", inode_of)
    yield found


def asked() -> list[tuple[str, int | None]]:
    """Host and process of each service that is asked."""
    return [(one.address[0], one.pid) for one in Played.made if not one.stopped]


def test_a_loopback_address_is_asked_in_each_namespace_too(inodes: dict[int, int]) -> None:
    inodes.update({7: OWN, 8: 2, 9: 2, 10: 3})
    services = RasServices([LOCAL, OTHER], 60, lambda: 0)
    services.follow([7, 8, 9, 10, 11])
    assert asked() == [("localhost", None), ("10.0.0.1", None), ("localhost", 8), ("localhost", 10)]


def test_a_namespace_without_processes_is_no_longer_asked(inodes: dict[int, int]) -> None:
    now = 0
    services = RasServices([LOCAL], 60, lambda: now)
    inodes[8] = 2
    services.follow([8])
    services.follow([])
    assert asked() == [("localhost", None), ("localhost", 8)], "looked at seldom"
    now = FOLLOW_NS
    services.follow([])
    assert asked() == [("localhost", None)]
    services.close()
    assert asked() == []


def test_other_addresses_are_asked_from_here_alone(inodes: dict[int, int]) -> None:
    inodes[8] = 2
    RasServices([OTHER], 60, lambda: 0).follow([8])
    assert asked() == [("10.0.0.1", None)]


def test_namespaces_are_bounded(inodes: dict[int, int]) -> None:
    inodes.update({pid: pid for pid in range(100, 200)})
    assert len(namespaces(inodes)) == MOST_NAMESPACES


@pytest.mark.parametrize(
    "host, expected",
    [("localhost", True), ("127.0.0.2", True), ("::1", True), ("10.0.0.1", False), ("node1", False)],
)
def test_loopback_addresses_are_known(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    "states, expected",
    [
        ((None, None, None), None),
        ((True, None, None), None),
        ((False, True, True), True),
        ((True, True, False), True),
        ((False, True, False), False),
        ((False, True, None), None),
    ],
)
def test_services_answer_if_each_address_does_somewhere(
    inodes: dict[int, int], states: tuple[bool | None, ...], expected: bool | None
) -> None:
    services = RasServices([LOCAL, OTHER], 60, lambda: 0)
    inodes[8] = 2
    services.follow([8])
    for poller, state in zip(Played.made, states, strict=True):
        poller.answers = state
    assert services.answers is expected


def communicator(name: str, version: str = "") -> RasCommunicator:
    return RasCommunicator(name, 4, 4, (), (), {}, processes=frozenset({("n1", 7)}), nccl_version=version)


def test_reports_are_one_with_each_communicator_once(inodes: dict[int, int]) -> None:
    first = RasReport("a:1", 5, "2.28.9", (communicator("x"), communicator("y", "2.28.7")), 1, 2)
    second = RasReport("b:1", 6, "2.29.1", (communicator("x"), communicator("z")), 3, 4)
    report = merged([first, second])
    assert [(one.name, one.address, one.nccl_version) for one in report.communicators] == [
        *(("x", "a:1", "2.28.9"), ("y", "a:1", "2.28.7"), ("z", "b:1", "2.29.1")),
    ]
    assert (report.address, report.at_ns, report.timeouts, report.unread) == ("a:1", 6, 4, 6)


def test_a_tick_takes_what_was_answered(inodes: dict[int, int]) -> None:
    services = RasServices([LOCAL, OTHER], 60, lambda: 0)
    assert services.take() is None
    Played.made[1].report = RasReport("b:1", 6, "2.29.1", (), 0)
    assert services.take() == Played.made[1].report
