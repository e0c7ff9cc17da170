"""Modes together: every figure that one mode has of another is of the same interval."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import pytest

from tests.unit.make import ETH0, NS, counts_of, flow, roce
from tests.unit.make import snapshot as flow_snapshot
from tests.unit.make_rdma import MLX5, PERFTEST, pair, port, traffic
from tests.unit.make_rdma import snapshot as rdma_snapshot
from xtrace import assembly
from xtrace.config import parse
from xtrace.kernel import infiniband, proc
from xtrace.model.flow import FlowSnapshot
from xtrace.model.nccl import NcclProcess, NcclSnapshot
from xtrace.model.rdma import PortId, QueuePairRecord, RdmaSnapshot, Seen
from xtrace.model.snapshot import Setup, Snapshot
from xtrace.model.words import Direction
from xtrace.monitors import Monitor, apart
from xtrace.monitors.rdma import monitor
from xtrace.stop import Stop

if TYPE_CHECKING:
    from xtrace.monitors.flows.start import XdpStart

TICKS = 3
Yielded = TypeVar("Yielded", bound=Snapshot)


class Source(Generic[Yielded]):
    """A monitor whose snapshots say in which tick they were taken."""

    setup = Setup()
    ended = False

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.ticks = 0
        self.closed = False

    def snapshot(self, tick: int) -> Yielded:
        raise NotImplementedError

    def tick(self) -> Yielded:
        self.ticks += 1
        return self.snapshot(self.ticks)

    def flip(self, last: bool = False) -> None:
        """The interval ends with the tick."""

    def finish(self) -> Yielded:
        return self.tick()

    def fileno(self) -> int:
        return -1

    def react(self) -> None:
        """Nothing happens."""

    def close(self) -> None:
        self.closed = True


class Flows(Source[FlowSnapshot]):
    """RoCE of as many packets as ticks have passed."""

    interfaces = (ETH0,)

    def snapshot(self, tick: int) -> FlowSnapshot:
        flows = [flow(roce(), packets=tick, size=100 * tick)]
        return flow_snapshot(flows, [(ETH0, counts_of(flows))])


class Rdma(Source[RdmaSnapshot]):
    """A port that carried the ticks' number in bytes; remembers what mode xdp had seen when it ticked."""

    reported_invisible = False

    def __init__(self, mode: str) -> None:
        super().__init__(mode)
        self.seen: list[int | None] = []
        self._seen: Seen | None = None

    def note_seen(self, seen: Mapping[tuple[str, Direction], Seen]) -> None:
        self._seen = seen["eth0", Direction.INGRESS]

    def queue_pairs_seen(self) -> set[QueuePairRecord]:
        return {pair()}

    def netdevs(self) -> dict[PortId, str]:
        return {MLX5: "eth0"}

    def snapshot(self, tick: int) -> RdmaSnapshot:
        self.seen.append(self._seen.packets if self._seen else None)
        self._seen = None
        return rdma_snapshot([port(standard=traffic(4 * tick, 8 * tick))], [pair()])


class Calls(Source[NcclSnapshot]):
    """One process, the owner of the queue pair."""

    def pids(self) -> list[int]:
        return [PERFTEST.pid or 0]

    def snapshot(self, tick: int) -> NcclSnapshot:
        process = NcclProcess(PERFTEST.pid or 0, "train.py", None, ("libnccl.so.2",), probed=True, ended=False)
        return NcclSnapshot(end_ns=tick * NS, interval_ns=NS, processes=(process,))


Sources = tuple[Flows, Rdma, Rdma, Calls]
"""The third one is mode xdp's own, which stands for the ports of its interfaces."""


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> Sources:
    """In place of the monitors that assembly makes."""
    flows, rdma, quiet, calls = Flows("xdp"), Rdma("rdma"), Rdma("rdma"), Calls("nccl")
    monkeypatch.setattr(assembly, "watch_flows", lambda config, start, stop: flows)
    monkeypatch.setattr(assembly, "watch_rdma", lambda config: rdma)
    monkeypatch.setattr(assembly, "watch_calls", lambda config: calls)
    monkeypatch.setattr(infiniband, "device_names", lambda: ["mlx5_0"])
    monkeypatch.setattr(monitor, "quiet_monitor", lambda *_: quiet)
    monkeypatch.setattr(proc, "numbers_as_own", lambda: True)
    return flows, rdma, quiet, calls


def wired(modes: str, opened: ExitStack) -> tuple[Monitor[Snapshot], ...]:
    stop = opened.enter_context(closing(Stop()))
    start = cast("XdpStart", object()) if "xdp" in modes else None
    return assembly.wire(parse(["-m", modes], {}, "1"), start, opened, stop)


def ticked(monitors: tuple[Monitor[Snapshot], ...]) -> list[list[Snapshot | None]]:
    """Each tick's snapshots, as the loop takes them."""
    return [[monitor.tick() for monitor in monitors] for _ in range(TICKS)]


@pytest.mark.parametrize("modes", ["xdp,rdma", "rdma,xdp", "xdp,rdma,nccl"])
def test_ports_are_compared_with_what_the_hooks_saw_in_the_same_interval(
    modes: str, opened: ExitStack, sources: Sources
) -> None:
    ticked(wired(modes, opened))
    assert sources[1].seen == [1, 2, 3]


def test_mode_xdp_alone_compares_the_same_interval_too(opened: ExitStack, sources: Sources) -> None:
    ticked(wired("xdp", opened))
    assert sources[2].seen == [1, 2, 3]


@pytest.mark.parametrize("modes", ["nccl", "xdp,nccl", "rdma,nccl", "nccl,rdma,xdp"])
def test_processes_have_the_traffic_of_their_devices_in_the_same_interval(
    modes: str, opened: ExitStack, sources: Sources
) -> None:
    snapshots = [tick[-1] for tick in ticked(wired(modes, opened))]
    nics = [snapshot.processes[0].nic for snapshot in snapshots if isinstance(snapshot, NcclSnapshot)]
    assert [(nic.rx_bytes, nic.tx_bytes) if nic else None for nic in nics] == [(4, 8), (8, 16), (12, 24)]


@pytest.mark.parametrize("modes", ["xdp", "rdma", "nccl", "xdp,rdma", "rdma,nccl", "xdp,nccl", "xdp,rdma,nccl"])
def test_each_mode_ticks_once_and_yields_one_snapshot_of_its_kind(
    modes: str, opened: ExitStack, sources: Sources
) -> None:
    monitors = wired(modes, opened)
    expected = modes.replace("xdp,nccl", "xdp,rdma,nccl") if modes != "nccl" else "rdma,nccl"  # nccl's devices
    assert [monitor.mode for monitor in monitors] == expected.split(",")
    assert [[snapshot.mode for snapshot in tick if snapshot] for tick in ticked(monitors)] == [
        expected.split(",")
    ] * TICKS
    assert {source.ticks for source in sources} <= {0, TICKS}


def test_ports_that_answer_late_leave_the_other_modes_alone_and_their_traffic_unknown(
    opened: ExitStack, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "MOST_PATIENCE_S", 0.01)
    rdma, answers = sources[1], threading.Event()
    at_once = rdma.tick

    def tick() -> RdmaSnapshot:
        assert answers.wait(10)
        return at_once()

    monkeypatch.setattr(rdma, "tick", tick)
    monitors = wired("xdp,rdma,nccl", opened)
    late = [monitor.tick() for monitor in monitors]
    assert [snapshot.mode if snapshot else None for snapshot in late] == ["xdp", None, "nccl"]
    assert isinstance(late[2], NcclSnapshot)
    assert late[2].processes[0].nic is None
    answers.set()
    monkeypatch.setattr(rdma, "tick", at_once)
    for _ in range(100):
        if all(snapshots := [monitor.tick() for monitor in monitors]):
            break
    assert isinstance(snapshots[2], NcclSnapshot)
    assert snapshots[2].processes[0].nic is not None


def test_all_sources_are_closed_at_the_end(sources: Sources) -> None:
    with ExitStack() as opened:
        wired("xdp,rdma,nccl", opened)
        assert [source.closed for source in sources] == [False] * 4
    assert [source.closed for source in sources] == [True, True, False, True], "nobody made the quiet one"


def test_process_whose_devices_are_not_known_has_no_traffic(
    opened: ExitStack, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proc, "numbers_as_own", lambda: False)
    (monitor,) = wired("nccl", opened)
    snapshot = monitor.tick()
    assert isinstance(snapshot, NcclSnapshot)
    assert snapshot == replace(snapshot, processes=(replace(snapshot.processes[0], nic=None),))


def test_mode_xdp_opens_no_rdma_socket_without_rdma_devices(
    sources: Sources, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infiniband, "device_names", list)
    monkeypatch.setattr(monitor, "quiet_monitor", lambda *_: pytest.fail("would load the kernel's RDMA modules"))
    assert wired("xdp", opened) == (sources[0],)
