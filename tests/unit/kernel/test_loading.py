"""Programs loaded in threads: each is loaded once, and nothing is left of those that nobody takes."""

from __future__ import annotations

import errno
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tests.unit.fake_kernel import FakeKernel
from xtrace.errors import KernelError, VerifierError
from xtrace.kernel.bpf import Program
from xtrace.kernel.loading import Ahead, Loading

LIMIT_S = 20


class Programs:
    """Prepares programs of a played kernel, which verifies them for as long as the test wants."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel
        self.prepared: list[str] = []
        self.threads: list[threading.Thread] = []
        self.masks: list[set[int]] = []
        self.refused: set[str] = set()
        self.unprepared: set[str] = set()
        self.verified = threading.Event()
        self.verified.set()

    def prepare(self, name: str) -> Callable[[], Program]:
        if name in self.unprepared:
            raise KernelError("BPF_MAP_CREATE(rodata)", errno.EMFILE)
        self.prepared.append(name)

        def load() -> Program:
            self.threads.append(threading.current_thread())
            self.masks.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
            assert self.verified.wait(LIMIT_S)
            if name in self.refused:
                raise VerifierError(f"BPF_PROG_LOAD({name})", 13, "0: no")
            return Program(self._kernel.xt_prog_load(None), name)

        return load


@pytest.fixture
def programs(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> Iterator[Programs]:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    before = set(threading.enumerate())
    made = Programs(kernel)
    yield made
    assert not kernel.open
    assert not set(threading.enumerate()) - before


def test_expected_program_is_loaded_in_a_thread_and_only_once(programs: Programs) -> None:
    with closing(Ahead(programs.prepare)) as ahead:
        ahead.expect(["a"])
        with ahead.take("a") as program:
            assert program.name == "a"
    assert programs.prepared == ["a"]
    assert threading.main_thread() not in programs.threads


def test_program_that_nobody_expected_is_loaded_when_it_is_taken(programs: Programs) -> None:
    with closing(Ahead(programs.prepare)) as ahead:
        ahead.expect(["a"])
        ahead.take("b").close()
        ahead.take("a").close()
        ahead.take("a").close()
    assert programs.prepared == ["a", "b", "a"]
    assert [thread is threading.main_thread() for thread in programs.threads] == [False, True, True]


def test_no_more_are_loaded_at_once_than_there_are_cpus(programs: Programs) -> None:
    programs.verified.clear()
    with closing(Ahead(programs.prepare)) as ahead:
        ahead.expect(iter("abcd"))
        assert programs.prepared == ["a", "b"]
        programs.verified.set()
        ahead.take("a").close()
        assert programs.prepared == ["a", "b", "c"]
        ahead.take("d").close()  # before its turn
    assert programs.prepared == ["a", "b", "c", "d"]


def test_refusal_is_raised_where_the_program_is_taken_and_the_others_are_loaded(programs: Programs) -> None:
    programs.refused = {"a"}
    with closing(Ahead(programs.prepare)) as ahead:
        ahead.expect(["a", "b"])
        with pytest.raises(VerifierError, match=r"^BPF_PROG_LOAD\(a\): EACCES"):
            ahead.take("a")
        ahead.take("b").close()


def test_refusal_of_a_program_that_nobody_takes_is_nobodys(programs: Programs) -> None:
    programs.refused = {"a"}
    with closing(Ahead(programs.prepare)) as ahead:
        ahead.expect(["a", "b", "c"])
    assert programs.prepared == ["a", "b"]


def test_program_that_cannot_be_prepared_is_nobody_elses_failure(programs: Programs) -> None:
    programs.unprepared = {"b", "d"}
    with closing(Ahead(programs.prepare)) as ahead:
        ahead.expect("abcd")
        assert programs.prepared == ["a", "c"]
        ahead.take("a").close()  # and "d" cannot be begun
        with pytest.raises(KernelError, match=r"^BPF_MAP_CREATE\(rodata\): EMFILE"):
            ahead.take("b")
        programs.unprepared.clear()
        ahead.take("d").close()
        ahead.take("c").close()


def test_signals_do_not_interrupt_the_verifier(programs: Programs) -> None:
    own = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    Loading(programs.prepare("a")).take().close()
    assert programs.masks[0] >= {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH}
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == own


def test_without_threads_a_program_is_loaded_at_once(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    Loading(programs.prepare("a")).take().close()
    Loading(programs.prepare("b")).close()
    assert programs.threads == [threading.main_thread()] * 2
