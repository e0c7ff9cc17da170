"""One watched interface: what is attached, what stays when it is gone, when it ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from tests.unit.fake_kernel import FakeKernel
from xtrace.errors import KernelError, XtraceError
from xtrace.kernel.attachment import Attachment
from xtrace.model.words import Direction, Hook, XdpMode
from xtrace.monitors.flows import watched as watched_module
from xtrace.monitors.flows.attach import Attached
from xtrace.monitors.flows.coverage import Coverage
from xtrace.monitors.flows.queue import Queue
from xtrace.monitors.flows.watched import Watched


class Clock:
    """Every look takes a nanosecond; detaching takes a thousand."""

    def __init__(self) -> None:
        self.now = 5000

    def monotonic_ns(self) -> int:
        self.now += 1
        return self.now


class Fake:
    """A program; each of these answers is told by the test."""

    def __init__(self, clock: Clock, stays_when_moved: bool = False) -> None:
        self.stays_when_moved = stays_when_moved
        self.answer: bool | KernelError = True
        self.failure: XtraceError | None = None
        self.closed = 0
        self._clock = clock

    def alive(self) -> bool:
        if isinstance(self.answer, KernelError):
            raise self.answer
        return self.answer

    def close(self) -> None:
        self.closed += 1
        self._clock.now += 1000
        if self.failure is not None:
            raise self.failure


class Bench:
    def __init__(self, clock: Clock, ingress: Fake, egress: Fake) -> None:
        self.clock, self.ingress, self.egress = clock, ingress, egress
        said: list[str] = []
        self.watched = Watched(4, "eth0", 0, Coverage("eth0", said.append), Queue("eth0", said.append))
        hooks = ((Hook.XDP, XdpMode.NATIVE), (Hook.TC, None))
        for direction, fake, (hook, mode) in zip(Direction, (ingress, egress), hooks, strict=True):
            self.watched.attached[direction] = Attached(cast("Attachment", fake), hook, mode, 1, False)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    clock = Clock()
    monkeypatch.setattr(watched_module, "time", clock)
    return Bench(clock, Fake(clock, stays_when_moved=True), Fake(clock))


@pytest.mark.parametrize("ingress", [True, False])
@pytest.mark.parametrize("egress", [True, False])
def test_interface_is_watched_while_all_of_its_programs_are_attached(bench: Bench, ingress: bool, egress: bool) -> None:
    bench.ingress.answer, bench.egress.answer = ingress, egress
    assert bench.watched.alive() is (ingress and egress)


def test_program_that_cannot_be_asked_about_is_taken_for_attached(bench: Bench) -> None:
    bench.ingress.answer = KernelError("BPF_OBJ_GET_INFO_BY_FD", 12)
    assert bench.watched.alive()


def test_mode_of_the_program_that_a_move_leaves_attached_is_known(bench: Bench) -> None:
    assert bench.watched.mode_that_stays() is XdpMode.NATIVE
    bench.ingress.stays_when_moved, bench.egress.stays_when_moved = False, True
    assert bench.watched.mode_that_stays() is None, "tc has none"
    bench.egress.stays_when_moved = False
    assert bench.watched.mode_that_stays() is None


@pytest.mark.parametrize(
    "moved, stays_when_moved, stays", [(True, True, True), (True, False, False), (False, True, False)]
)
def test_slot_stays_in_use_only_if_a_program_went_with_the_interface(
    bench: Bench, moved: bool, stays_when_moved: bool, stays: bool
) -> None:
    bench.ingress.stays_when_moved = stays_when_moved
    bench.watched.close(moved=moved)
    assert bench.watched.stays is stays
    assert bench.watched.lost


def test_interval_ends_when_the_last_program_is_detached_and_is_detached_once(bench: Bench) -> None:
    assert not bench.watched.lost
    bench.watched.close()
    ended = bench.watched.until_ns
    assert ended is not None and ended > 7000
    bench.watched.close()
    assert (bench.ingress.closed, bench.egress.closed, bench.watched.until_ns) == (1, 1, ended)


def test_interface_without_programs_ends_at_once(bench: Bench) -> None:
    bench.watched.attached.clear()
    bench.watched.close()
    assert bench.watched.until_ns == 5001


def test_program_that_stays_attached_keeps_its_slot_and_no_other_program(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.ingress.failure = KernelError("RTM_SETLINK", 1)
    bench.watched.close()
    assert bench.watched.stays
    assert bench.egress.closed == 1
    assert caplog.messages == ["eth0: detaching: RTM_SETLINK: EPERM (Operation not permitted)"]
    assert bench.watched.until_ns is not None and bench.watched.until_ns > 7000


@pytest.fixture
def descriptors(kernel: FakeKernel) -> Iterator[FakeKernel]:
    def open_one(index: int) -> int:
        kernel.open.add(2000 + index)
        return 2000 + index

    kernel.answer("xt_promiscuous", open_one)
    yield kernel


def test_promiscuous_mode_ends_with_the_interface(bench: Bench, descriptors: FakeKernel) -> None:
    bench.watched.be_promiscuous()
    assert descriptors.arguments_of("xt_promiscuous") == [(4,)]
    assert descriptors.open == {2004}
    bench.watched.close()
    assert descriptors.open == set()


def test_promiscuous_mode_that_is_refused_names_the_interface(bench: Bench, kernel: FakeKernel) -> None:
    kernel.answer("xt_promiscuous", -1)
    with pytest.raises(KernelError, match=r"^PACKET_ADD_MEMBERSHIP\(promiscuous, interface 4\): EPERM"):
        bench.watched.be_promiscuous()
