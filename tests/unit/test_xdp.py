"""Mode xdp: what is said, when an interval begins and ends, and that a miscount is not kept quiet."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.unit.make import counts_of, flow, table
from xtrace.errors import InterfaceError, PrivilegeError, UsageError
from xtrace.flow import FlowRecord, InterfaceCounts, PacketCount
from xtrace.kernel import constants, privileges
from xtrace.kernel import features as features_module
from xtrace.kernel.features import Features
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.rtnetlink import LinkInfo, XdpOwner
from xtrace.monitors import xdp as xdp_module
from xtrace.monitors.tables import Drained, Plan
from xtrace.monitors.xdp import XdpMonitor

ETH0 = LinkInfo(index=4, name="eth0", flags=1, link_type=1)


class World:
    """All that XdpMonitor stands on, and what happens to it in which order."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.now = 1000
        self.ifindex = 4
        self.mode = "native"
        self.flows: list[FlowRecord] = []
        self.counts: InterfaceCounts | None = None
        self.has = Features(btf=True, frags=True, percpu_batch=True, realtime=False)

    def note(self, what: str) -> None:
        self.happened.append(what)

    def monotonic_ns(self) -> int:
        return self.now

    def time_ns(self) -> int:
        return self.now + 10**18

    def probe(self) -> Features:
        return self.has

    def attach(self, netlink: object, link: LinkInfo, program: object, mode: str, frags: bool, say: object) -> Any:
        self.note(f"attach {mode}")
        return FakeAttachment(self, frags)


class FakeAttachment:
    """The packet program on eth0; its own link too."""

    def __init__(self, world: World, frags: bool) -> None:
        self._world = world
        self.mode = world.mode
        self.frags = frags
        self.link = self

    def ifindex(self) -> int:
        return self._world.ifindex

    def close(self) -> None:
        self._world.note("detach")


class FakeTables:
    """Flow tables with the world's flows in them."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world = world
        self.plan = plan
        self.grace_ns = 9

    def load(self, program: str, *, slot: int, flags: int) -> FakeTables:
        self._world.note(f"load {program} slot={slot} flags={flags:#x}")
        return self

    def __enter__(self) -> FakeTables:
        return self

    def __exit__(self, *exception: object) -> None:
        self._world.note("release program")

    def take(self) -> Drained:
        self._world.note("take")
        return self._drained()

    def finish(self) -> Drained:
        self._world.note("drain both")
        return self._drained()

    def _drained(self) -> Drained:
        counts = counts_of(self._world.flows) if self._world.counts is None else self._world.counts
        return Drained(self._world.now, table(self._world.flows), {(0, False): counts})

    def clock_offset(self) -> int:
        return 123

    def memory(self) -> int:
        return 20 << 20

    def close(self) -> None:
        self._world.note("close tables")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(privileges, "missing", lambda needed: [])
    monkeypatch.setattr(privileges, "raise_memlock_limit", lambda: made.note("raise memlock"))
    monkeypatch.setattr(features_module, "probe", lambda: made.probe())
    monkeypatch.setattr(xdp_module, "FlowTables", lambda plan, features: FakeTables(made, plan))
    monkeypatch.setattr(xdp_module, "attach", lambda *arguments: made.attach(*arguments))
    monkeypatch.setattr(xdp_module, "time", made)
    return made


def start(link: LinkInfo = ETH0, said: list[str] | None = None) -> XdpMonitor:
    say = (said if said is not None else []).append
    return XdpMonitor(cast("NetlinkSocket", None), link, mode="auto", max_flows=100, say=say)


@pytest.fixture
def monitor(world: World) -> Iterator[XdpMonitor]:
    made = start()
    world.happened.clear()
    yield made
    made.close()


@pytest.mark.parametrize(
    "mode, frags, last",
    [
        ("native", True, "XDP program loaded on eth0 (native, frags)"),
        ("native", False, "XDP program loaded on eth0 (native)"),
        ("generic", True, "XDP program loaded on eth0 (generic, frags)"),
    ],
)
def test_documented_lines_are_said_before_and_after_attaching(mode: str, frags: bool, last: str, world: World) -> None:
    world.mode = mode
    world.has = Features(btf=True, frags=frags, percpu_batch=True, realtime=False)
    said: list[str] = []
    start(said=said).close()
    assert said == ["Preparing to monitor network interface: eth0", last]


def test_documented_lines_are_chinese_under_a_chinese_locale(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    said: list[str] = []
    start(said=said).close()
    assert said == ["准备监控网络接口: eth0", "XDP 程序已加载到 eth0 (native, frags)"]


@pytest.mark.parametrize("frags, flags", [(True, constants.PROG_HAS_FRAGS), (False, 0)])
def test_program_takes_frames_with_fragments_where_the_kernel_can(frags: bool, flags: int, world: World) -> None:
    world.has = Features(btf=True, frags=frags, percpu_batch=True, realtime=False)
    start().close()
    assert world.happened == [
        "raise memlock",
        f"load xdp_ingress slot=0 flags={flags:#x}",
        "attach auto",
        "release program",
        "detach",
        "close tables",
    ]


def test_missing_privileges_are_said_before_anything_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "missing", lambda needed: ["CAP_BPF"])
    said: list[str] = []
    with pytest.raises(PrivilegeError, match=r"^mode xdp needs CAP_BPF: "):
        start(said=said)
    assert (said, world.happened) == ([], [])


def test_interface_with_another_program_is_left_alone(world: World) -> None:
    said: list[str] = []
    with pytest.raises(InterfaceError, match=r"^eth0: XDP program id 77 is attached there"):
        start(LinkInfo(4, "eth0", 1, 1, xdp=XdpOwner("native", 77)), said)
    assert (said, world.happened) == ([], [])


def test_interface_that_cannot_be_attached_to_leaves_no_tables(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise InterfaceError("eth0: no")

    monkeypatch.setattr(world, "attach", refuse)
    with pytest.raises(InterfaceError):
        start()
    assert world.happened[-2:] == ["release program", "close tables"]


def test_unknown_feature_switch_is_refused_before_any_map(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Features:
        raise UsageError("XTRACE_FEATURES_OFF: unknown feature x")

    monkeypatch.setattr(world, "probe", refuse)
    with pytest.raises(UsageError):
        start()
    assert world.happened == ["raise memlock"]


def test_intervals_join_without_a_gap(world: World, monitor: XdpMonitor) -> None:
    lengths = []
    for moment in (6000, 11_500, 12_000):
        world.now = moment
        snapshot = monitor.tick() if moment < 12_000 else monitor.finish()
        lengths.append((snapshot.start_monotonic_ns, snapshot.interval_ns))
    assert lengths == [(1000, 5000), (6000, 5500), (11_500, 500)]


def test_snapshot_has_the_flows_the_counts_and_both_clocks(world: World, monitor: XdpMonitor) -> None:
    world.flows = [flow(packets=3, size=300)]
    world.now = 6000
    snapshot = monitor.tick()
    assert list(snapshot.flows) == world.flows
    assert snapshot.interfaces == ((monitor.interface, counts_of(world.flows)),)
    assert (snapshot.end_ns, snapshot.wall_offset_ns, snapshot.record_offset_ns) == (6000 + 10**18, 10**18, 123)
    assert snapshot.lost_interfaces == ()


def test_silent_interface_has_zero_counts(world: World, monitor: XdpMonitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeTables, "_drained", lambda self: Drained(world.now, table([]), {}))
    ((_, counts),) = monitor.tick().interfaces
    assert counts == InterfaceCounts()


def test_last_tick_detaches_before_it_drains(world: World, monitor: XdpMonitor) -> None:
    monitor.tick()
    assert not monitor.ended
    monitor.finish()
    assert monitor.ended
    assert world.happened == ["take", "detach", "drain both"]


def test_interface_that_is_gone_ends_the_monitor_with_all_it_counted(world: World, monitor: XdpMonitor) -> None:
    world.flows = [flow()]
    world.ifindex = 0
    snapshot = monitor.tick()
    assert monitor.ended
    assert snapshot.lost_interfaces == ("eth0",)
    assert list(snapshot.flows) == world.flows
    assert world.happened == ["detach", "drain both"]


def test_closing_after_the_last_tick_detaches_only_once(world: World) -> None:
    made = start()
    made.finish()
    made.close()
    assert world.happened.count("detach") == 1
    assert world.happened[-1] == "close tables"


def test_closing_without_a_last_tick_detaches_too(world: World) -> None:
    start().close()
    assert world.happened[-2:] == ["detach", "close tables"]


def test_counts_that_add_up_are_not_mentioned(
    world: World, monitor: XdpMonitor, caplog: pytest.LogCaptureFixture
) -> None:
    world.flows = [flow(packets=3, size=300)]
    unattributed = (PacketCount(1, 60), *(PacketCount(0, 0),) * 8)
    world.counts = InterfaceCounts(PacketCount(6, 480), PacketCount(2, 120), unattributed)
    monitor.tick()
    assert caplog.messages == []


def test_miscount_is_an_error_line(world: World, monitor: XdpMonitor, caplog: pytest.LogCaptureFixture) -> None:
    world.flows = [flow(packets=3, size=300)]
    world.counts = InterfaceCounts(total=PacketCount(5, 420))
    monitor.tick()
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.ERROR, "eth0: counts do not add up: 2 packets, 120 bytes missing")
    ]


def test_memory_and_grace_period_are_those_of_the_tables(monitor: XdpMonitor) -> None:
    assert (monitor.map_memory, monitor.grace_ns) == (20 << 20, 9)
