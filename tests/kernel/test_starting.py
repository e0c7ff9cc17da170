"""The start of mode xdp on the real kernel: programs are verified in threads before they are attached."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.conftest import open_descriptors
from tests.kernel.counter import TC, XDP, present
from xtrace.errors import InterfaceError, Stopped, VerifierError
from xtrace.kernel.bpf import Program
from xtrace.kernel.elf import ObjectSpec, ProgramSpec
from xtrace.model.words import Direction
from xtrace.monitors.flows import tables
from xtrace.monitors.flows.hooks import Choice
from xtrace.monitors.flows.interfaces import Selection
from xtrace.monitors.flows.monitor import XdpMonitor
from xtrace.monitors.flows.start import XdpOptions, XdpStart
from xtrace.monitors.flows.tables import load_object_spec

BOTH = (Direction.INGRESS, Direction.EGRESS)
ON_LO = XdpOptions(Selection(("lo",)), Choice.of("tc", "auto"), BOTH, max_flows=100)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, bool]]]:
    """Each program that was verified, and whether in a thread of its own; afterwards nothing may be left."""
    made: list[tuple[str, bool]] = []
    descriptor = Program._descriptor

    def noted(what: str, request: Any) -> int:
        made.append((what, threading.current_thread() is not threading.main_thread()))
        return descriptor(what, request)

    monkeypatch.setattr(Program, "_descriptor", staticmethod(noted))
    descriptors, threads = open_descriptors(), set(threading.enumerate())
    yield made
    assert not set(threading.enumerate()) - threads
    assert open_descriptors() == descriptors


def of(program: str, loads: list[tuple[str, bool]]) -> list[bool]:
    return [in_thread for what, in_thread in loads if what == f"BPF_PROG_LOAD({program})"]


def broken(program: str) -> ObjectSpec:
    """The object with a program that the verifier refuses: exit, with no value in r0."""
    spec = load_object_spec(present().cmpxchg)
    code = ProgramSpec(program, "tc", bytes.fromhex("9500000000000000"), (), (), b"", 8, b"", 16)
    return spec._replace(programs={**spec.programs, program: code})


def test_each_program_is_verified_once_in_a_thread(loads: list[tuple[str, bool]]) -> None:
    with closing(XdpMonitor(XdpStart(ON_LO), lambda line: None)) as monitor:
        assert [each.direction for each in monitor.interfaces] == list(BOTH)
    assert of(TC, loads) == [True, True]


def test_refused_program_is_told_where_it_would_be_attached(
    loads: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "load_object_spec", lambda mapped: broken(TC))
    monkeypatch.setenv("XTRACE_FEATURES_OFF", "btf")  # which would not fit
    with closing(XdpStart(ON_LO)) as start, pytest.raises(VerifierError) as refused:
        XdpMonitor(start, lambda line: None)
    assert str(refused.value).startswith(f"BPF_PROG_LOAD({TC}): EACCES (Permission denied): ")
    assert str(refused.value).endswith("R0 !read_ok")


def test_start_that_is_stopped_while_programs_are_verified_leaves_nothing(loads: list[tuple[str, bool]]) -> None:
    def stop() -> None:
        raise Stopped("stopped before monitoring began")

    with closing(XdpStart(ON_LO)) as start, pytest.raises(Stopped):
        XdpMonitor(start, lambda line: None, stop)


def test_start_that_is_given_up_before_the_monitor_is_made_leaves_nothing(loads: list[tuple[str, bool]]) -> None:
    XdpStart(ON_LO).close()
    assert of(TC, loads) == [True] * min(len(os.sched_getaffinity(0)), len(BOTH))


def test_programs_for_an_interface_that_is_not_there_are_not_verified(loads: list[tuple[str, bool]]) -> None:
    options = ON_LO._replace(selection=Selection(("nowhere0",)))
    with closing(XdpStart(options)) as start, pytest.raises(InterfaceError, match="nowhere0 not found"):
        XdpMonitor(start, lambda line: None)
    assert not any(in_thread for _, in_thread in loads)


def test_where_xdp_is_refused_its_program_is_not_left_over(loads: list[tuple[str, bool]]) -> None:
    # lo has no native XDP: auto goes on with tc, whose program nobody expected
    options = XdpOptions(Selection(("lo",)), Choice(), max_flows=100)
    with closing(XdpMonitor(XdpStart(options), lambda line: None)):
        assert (of(XDP, loads), of(TC, loads)) == ([True], [False])
