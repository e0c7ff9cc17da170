"""Mode xdp: interfaces as they come and go, when an interval begins and ends, and that no miscount is kept quiet."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import cast

import pytest

from tests.unit.make import counts_of, features, flow, key, table
from xtrace.errors import InterfaceError, KernelError, PrivilegeError, Stopped, UsageError, XtraceError
from xtrace.kernel import features as features_module
from xtrace.kernel import privileges, rtnetlink, tc
from xtrace.kernel.features import Features
from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.kernel.tc import RootQdisc
from xtrace.model.filters import Filters
from xtrace.model.flow import EGRESS, FlowRecord, Interface, InterfaceCounts, PacketCount, TickClock, Unattached
from xtrace.model.words import Absence, Direction, Hook, Share, XdpMode
from xtrace.monitors.buffers import Ended
from xtrace.monitors.flows import absent as absent_module
from xtrace.monitors.flows import monitor as xdp_module
from xtrace.monitors.flows import start as start_module
from xtrace.monitors.flows import watched as watched_module
from xtrace.monitors.flows.attach import Attached
from xtrace.monitors.flows.hooks import Choice
from xtrace.monitors.flows.interfaces import Selection
from xtrace.monitors.flows.monitor import XdpMonitor
from xtrace.monitors.flows.plan import Plan
from xtrace.monitors.flows.queue import Queue
from xtrace.monitors.flows.start import OPEN_SLOTS, XdpOptions, XdpStart
from xtrace.monitors.flows.tables import TC_PROGRAM, XDP_PROGRAM, Drained, Wanted

NEW_LINK, DEL_LINK, NEW_ADDRESS = 16, 17, 20
"""RTM_* of uapi/linux/rtnetlink.h"""

UP, ONLY_ADMINISTRATIVELY = 0x10001, 0x1
"""IFF_UP with and without IFF_LOWER_UP"""

INGRESS, BOTH = (Direction.INGRESS,), tuple(Direction)
NO_FILTERS = Filters()


def interface(name: str, index: int, *, up: bool = True) -> LinkInfo:
    return LinkInfo(index=index, name=name, flags=UP if up else 0, link_type=1, rx_packets=0)


LO = interface("lo", 1)._replace(link_type=772)
GONE_AND_AWAITED = (
    "the interface is gone; packets seen until then are counted; it is monitored again when it comes back"
)
ETH0, ETH1, ETH2 = interface("eth0", 4), interface("eth1", 5), interface("eth2", 6)


class World:
    """All that XdpMonitor stands on, and what happens to it in which order."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.now = 1000
        self.links = [LO, ETH0]
        self.events: list[tuple[int, LinkInfo]] = []
        self.refuses: dict[tuple[str, Direction], XtraceError] = {}
        self.flows: list[FlowRecord] = []
        self.counts: dict[tuple[int, Direction], InterfaceCounts] | None = None
        self.has = features()
        self.filters: Filters | None = None
        self.expected: list[Wanted] = []
        """programs to be loaded before they are asked for"""
        self.said: list[str] = []
        self.merges = False
        self.attached: list[str] = []
        self.detached_by_others: set[str] = set()
        self.stays: dict[str, XtraceError] = {}
        self.queues: dict[int, RootQdisc] = {}

    def note(self, what: str) -> None:
        self.happened.append(what)

    def monotonic_ns(self) -> int:
        return self.now

    def time_ns(self) -> int:
        return self.now + 10**18

    def probe(self) -> Features:
        return self.has

    def list_links(self, socket: object) -> list[LinkInfo]:
        self.note("list interfaces")
        return self.links

    def one_link(self, socket: object, wanted: int | str) -> LinkInfo | None:
        return next((link for link in self.links if wanted in (link.index, link.name)), None)


class FakeSocket:
    """A netlink socket that tells the world's events."""

    def __init__(self, world: World, groups: int) -> None:
        self._world = world
        self._groups = groups
        world.note("listen" if groups else "open netlink")

    def __enter__(self) -> FakeSocket:
        return self

    def __exit__(self, *exception: object) -> None:
        self._world.note("stop listening" if self._groups else "close netlink")

    def fileno(self) -> int:
        return 77 if self._groups else 78

    def notifications(self) -> list[tuple[int, LinkInfo]]:
        assert self._groups == 1, "RTMGRP_LINK"
        waiting, self._world.events = self._world.events, []
        return waiting

    def discard(self) -> bool:
        self._world.note("discard events")
        self._world.events.clear()
        return True


class FakeAttacher:
    """Attaches to everything but what refuses: XDP where packets enter, tc where they leave."""

    def __init__(self, world: World, choice: Choice) -> None:
        self._world = world
        world.note(f"hook {choice.hook or 'auto'} mode {choice.xdp_mode or 'auto'}")

    def attach(self, link: LinkInfo, slot: int, direction: Direction) -> Attached:
        refusal = self._world.refuses.get((link.name, direction))
        if refusal is not None:
            raise refusal
        leaving = direction is Direction.EGRESS
        place = f"{link.name} slot {slot}{' egress' if leaving else ''}"
        self._world.detached_by_others.discard(place)
        attachment = FakeAttachment(self._world, place)
        hook, mode = (Hook.TC, None) if leaving else (Hook.XDP, XdpMode.NATIVE)
        how = "tcx" if leaving else "native"
        return Attached(attachment, hook, mode, self._world.now, self._world.merges, how)


class FakeAttachment:
    """A program on an interface, which is to be detached once."""

    stays_when_moved = False

    def __init__(self, world: World, place: str) -> None:
        self._world = world
        self._place = place
        world.note(f"attach {place}")
        world.attached.append(place)

    def alive(self) -> bool:
        return self._place not in self._world.detached_by_others

    def close(self) -> None:
        failure = self._world.stays.get(self._place)
        if failure is not None:
            raise failure
        self._world.note(f"detach {self._place}")
        self._world.attached.remove(self._place)


class FakeWakeups:
    """A timer that tests need not wait for."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def acknowledge(self) -> None:
        pass

    def close(self) -> None:
        pass


class FakeTables:
    """Flow tables with the world's flows in them."""

    def __init__(self, world: World, plan: Plan, has: Features) -> None:
        self._world = world
        self.plan = plan
        self.features = has
        self.grace_ns = 9
        self.drain_ns = 7

    def wait_grace_period(self) -> None:
        self._world.note("grace period")

    def flip(self, last: bool = False) -> Ended:
        self._world.note("drain both" if last else "take")
        return Ended(self._world.now, (0, 1) if last else (0,))

    def collect(self, interval: Ended) -> Drained:
        flows, counts = self._world.flows, self._world.counts
        if counts is None:
            places = {(f.key.slot, BOTH[f.key.flags & EGRESS]) for f in flows}
            counts = {
                place: counts_of([f for f in flows if (f.key.slot, BOTH[f.key.flags & EGRESS]) == place])
                for place in places
            }
        return Drained(interval.monotonic_ns, table(flows), counts)

    def clock(self) -> TickClock:
        return TickClock(123, 456, 789)

    tcp_follower = None
    refuses_to_follow = False

    def follow_tcp(self, most: int) -> None:
        self._world.note(f"follow {most}")
        if self.refuses_to_follow:
            raise XtraceError("EINVAL")
        self.tcp_follower = object()

    def expect_nothing(self) -> None:
        self._world.note("expect nothing")

    def memory(self) -> int:
        return 20 << 20

    def close(self) -> None:
        self._world.note("close tables")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()

    def tables(plan: Plan, has: Features, filters: Filters, expected: Iterable[Wanted]) -> FakeTables:
        made.filters = filters
        made.note("create maps")
        made.expected = list(expected)
        return FakeTables(made, plan, has)

    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(privileges, "missing", lambda needed: [])
    monkeypatch.setattr(privileges, "raise_memlock_limit", lambda: made.note("raise memlock"))
    monkeypatch.setattr(features_module, "probe", lambda: made.probe())
    monkeypatch.setattr(rtnetlink, "links", made.list_links)
    monkeypatch.setattr(rtnetlink, "link", made.one_link)
    monkeypatch.setattr(tc, "root_qdiscs", lambda socket: made.queues)
    for module in (start_module, rtnetlink):
        monkeypatch.setattr(module, "NetlinkSocket", lambda protocol, groups=0: FakeSocket(made, groups))
    monkeypatch.setattr(rtnetlink, "parse_link", lambda link: link)
    monkeypatch.setattr(start_module, "FlowTables", tables)
    monkeypatch.setattr(xdp_module, "Attacher", lambda netlink, tables, choice: FakeAttacher(made, choice))
    monkeypatch.setattr(xdp_module, "time", made)
    monkeypatch.setattr("xtrace.monitors.wall.time", made)
    monkeypatch.setattr(watched_module, "time", made)
    monkeypatch.setattr(absent_module, "time", made)
    monkeypatch.setattr(xdp_module, "Wakeups", FakeWakeups)
    return made


def start(
    world: World, *patterns: str, directions: tuple[Direction, ...] = INGRESS, filters: Filters = NO_FILTERS
) -> XdpMonitor:
    options = XdpOptions(Selection(patterns or ("eth0",)), Choice(), directions, max_flows=100, filters=filters)
    return XdpMonitor(XdpStart(options), world.said.append)


@pytest.fixture
def monitor(world: World) -> Iterator[XdpMonitor]:
    """Watches eth0 alone; what happened while it started is forgotten."""
    made = start(world)
    world.happened.clear()
    world.said.clear()
    yield made
    made.close()


def told(monitor: XdpMonitor) -> list[tuple[str, int, str]]:
    """Name, slot and direction of everything in the next snapshot."""
    return [(found.name, found.slot, found.direction) for found, _ in monitor.tick().interfaces]


def happens(world: World, monitor: XdpMonitor, *events: tuple[int, LinkInfo]) -> None:
    """These happen, the kernel tells of them, and the loop sees that."""
    for kind, link in events:
        others = [other for other in world.links if other.index != link.index]
        if kind == DEL_LINK and link.rx_packets is not None:
            world.links = others
            world.detached_by_others |= {place for place in world.attached if place.startswith(f"{link.name} ")}
        elif link.rx_packets is not None:
            world.links = [*others, link]
    world.events += events
    monitor.react()


# Start and end


def test_one_line_reports_an_interface_and_debug_announces_it(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    start(world).close()
    assert world.said == ["XDP program loaded on eth0 (native)"]
    assert caplog.messages[0] == "Preparing to monitor network interface: eth0"


def test_documented_line_is_chinese_under_a_chinese_locale(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    start(world).close()
    assert world.said == ["XDP 程序已加载到 eth0 (native)"]


def test_changes_are_listened_for_before_interfaces_are_listed_and_all_is_released_in_the_end(world: World) -> None:
    start(world).close()
    assert world.happened == [
        "raise memlock",
        "listen",
        "open netlink",
        "create maps",
        "list interfaces",
        "hook auto mode auto",
        "list interfaces",
        "attach eth0 slot 0",
        "expect nothing",
        "detach eth0 slot 0",
        "close tables",
        "close netlink",
        "stop listening",
    ]


def test_programs_are_expected_where_they_will_be_attached(world: World) -> None:
    """An interface that cannot be monitored takes no slot."""
    world.links = [LO, ETH0, ETH1._replace(link_type=280), ETH2]
    world.refuses = {("eth1", direction): InterfaceError("eth1: frames of link type 280") for direction in BOTH}
    with closing(start(world, "eth0", "eth1", "eth2", directions=BOTH)) as made:
        attached = [(found.slot, found.direction) for found in made.interfaces]
    assert [(place.slot, place.direction) for _, place in world.expected] == attached
    assert [program for program, _ in world.expected] == [XDP_PROGRAM, TC_PROGRAM] * 2


def test_filters_and_capacity_asked_for_are_those_of_the_tables(world: World) -> None:
    filters = Filters(exclude_dns=True)
    options = XdpOptions(Selection(("eth0", "lo")), Choice(), INGRESS, 4321, filters)
    made = XdpMonitor(XdpStart(options), world.said.append)
    plan = cast("FakeTables", made._tables).plan
    made.close()
    assert world.filters is filters
    assert plan.max_flows == 4321


@pytest.mark.parametrize("refuses", [False, True])
def test_tcp_is_followed_from_before_anything_is_attached_and_counting_goes_on_without(
    refuses: bool, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeTables, "refuses_to_follow", refuses)
    options = XdpOptions(Selection(("eth0",)), Choice.of("tc", "auto"), max_flows=9, tcp_packets=True)
    with closing(XdpMonitor(XdpStart(options), world.said.append)) as made:
        assert (made.tcp_follower is None) is refuses
        assert made.names() == {(0, ETH0.index): "eth0"}
        assert made.clock() == TickClock(123, 456, 789)
    follows = world.happened.index("follow 4")
    assert not any(step.startswith("attach") for step in world.happened[:follows])
    assert any(step.startswith("attach") for step in world.happened[follows:])
    line = "--tcp-packets: EINVAL: TCP connections are not followed"
    assert [said for said in world.said if said.startswith("--tcp")] == [line] * refuses


def test_missing_privileges_are_reported_before_anything_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "missing", lambda needed: ["CAP_BPF"])
    with pytest.raises(PrivilegeError, match=r"^mode xdp needs CAP_BPF: "):
        start(world)
    assert (world.said, world.happened) == ([], [])


def test_interface_that_cannot_be_attached_to_is_the_error_and_leaves_nothing(world: World) -> None:
    world.refuses["eth0", Direction.INGRESS] = PrivilegeError("eth0: no")
    with pytest.raises(PrivilegeError, match=r"^eth0: no$"):
        start(world)
    assert world.happened[-3:] == ["close tables", "close netlink", "stop listening"]


def test_interface_that_refuses_one_direction_alone_is_detached_from_the_other_before_the_error(world: World) -> None:
    world.refuses["eth0", Direction.EGRESS] = InterfaceError("eth0: no egress")
    with pytest.raises(InterfaceError, match=r"^eth0: no egress$"):
        start(world, directions=BOTH)
    assert world.attached == []
    assert world.happened.index("detach eth0 slot 0") < world.happened.index("close tables")


def test_start_that_is_abandoned_attaches_nothing_more_and_detaches_what_it_attached(world: World) -> None:
    world.links = [LO, ETH0, ETH1, ETH2]

    def check() -> None:
        if world.attached:
            raise Stopped("stopped")

    options = XdpOptions(Selection(("eth0", "eth1", "eth2")), Choice(), INGRESS)
    with pytest.raises(Stopped):
        XdpMonitor(XdpStart(options), world.said.append, check)
    assert "attach eth0 slot 0" in world.happened
    assert not any(what.startswith("attach eth1") for what in world.happened)
    assert world.happened[-4:] == ["detach eth0 slot 0", "close tables", "close netlink", "stop listening"]


def test_unknown_feature_switch_is_refused_before_any_map(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Features:
        raise UsageError("XTRACE_FEATURES_OFF: unknown feature x")

    monkeypatch.setattr(world, "probe", refuse)
    with pytest.raises(UsageError):
        start(world)
    assert world.happened == ["raise memlock", "listen", "open netlink", "close netlink", "stop listening"]


def test_name_that_no_interface_has_is_reported_with_those_there_are_and_the_others_are_watched(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    made = start(world, "nosuch0", "eth0")
    assert [found.name for found in made.interfaces] == ["eth0"]
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.ERROR, "interface nosuch0 not found (available: lo, eth0); it is monitored as soon as it appears")
    ]
    made.close()


def test_without_any_interface_to_watch_the_run_does_not_start(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InterfaceError, match=r"^could not attach to any interface; -l lists them$"):
        start(world, "nosuch0", "nosuch1")
    assert [text.split()[1] for text in caplog.messages] == ["nosuch0", "nosuch1"]


@pytest.mark.parametrize(
    "pattern, why",
    [
        ("wlan*", ""),
        (
            "any",
            ": any excludes lo, veth and netkit, members of bonds, teams and bridges, and interfaces that are down",
        ),
    ],
)
def test_patterns_that_match_no_interface_are_an_error_that_lists_the_interfaces(
    pattern: str, why: str, world: World
) -> None:
    world.links = [LO, ETH0._replace(kind="veth")]
    with pytest.raises(InterfaceError) as caught:
        start(world, pattern)
    told = f"-i {pattern} matches no interface{why} (available: lo, eth0)"
    assert str(caught.value) == told


def test_one_name_that_no_interface_has_is_one_line(world: World, caplog: pytest.LogCaptureFixture) -> None:
    line = r"^interface nosuch0 not found \(available: lo, eth0\); choose one with -i$"
    with pytest.raises(InterfaceError, match=line):
        start(world, "nosuch0")
    assert caplog.messages == []


def test_one_interface_that_takes_it_is_enough(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.links = [LO, ETH0, ETH1, ETH2]
    world.refuses["eth1", Direction.INGRESS] = InterfaceError("eth1: no")
    made = start(world, "eth*")
    assert [(found.name, found.slot) for found in made.interfaces] == [("eth0", 0), ("eth2", 1)]
    assert caplog.messages == ["eth1: no"]
    made.close()


def test_several_that_all_refuse_are_a_failure(world: World) -> None:
    world.links = [ETH0, ETH1]
    for name in ("eth0", "eth1"):
        world.refuses[name, Direction.INGRESS] = InterfaceError(f"{name}: no")
    with pytest.raises(InterfaceError, match=r"^could not attach to any interface"):
        start(world, "eth*")


def test_last_tick_detaches_before_it_drains(world: World, monitor: XdpMonitor) -> None:
    monitor.tick()
    assert not monitor.ended
    monitor.finish()
    assert monitor.ended
    assert world.happened == ["take", "detach eth0 slot 0", "drain both"]


def test_interval_ends_with_the_flip_however_much_later_it_is_read(world: World, monitor: XdpMonitor) -> None:
    monitor.tick()
    world.now += 5
    monitor.flip()
    world.now += 100
    assert monitor.tick().interval_ns == 5
    world.now += 7
    monitor.flip(last=True)
    world.now += 100
    assert monitor.finish().interval_ns == 107
    assert world.happened == ["take", "take", "detach eth0 slot 0", "drain both"]


def test_last_tick_tells_every_interface_that_was_watched_until_then(world: World) -> None:
    world.links = [ETH0, ETH1]
    made = start(world, "eth*", directions=BOTH)
    world.flows = [flow(key(slot=1, flags=EGRESS), packets=3)]
    snapshot = made.finish()
    assert [(found.name, found.direction, counts.total.packets) for found, counts in snapshot.interfaces] == [
        ("eth0", "ingress", 0),
        ("eth0", "egress", 0),
        ("eth1", "ingress", 0),
        ("eth1", "egress", 3),
    ]
    assert world.attached == []
    made.close()


def test_closing_after_the_last_tick_detaches_only_once(world: World) -> None:
    made = start(world)
    made.finish()
    made.close()
    assert world.happened.count("detach eth0 slot 0") == 1
    assert world.happened[-3] == "close tables"


def test_closing_without_a_last_tick_detaches_before_the_maps_go(world: World) -> None:
    start(world).close()
    assert world.happened[-4:-2] == ["detach eth0 slot 0", "close tables"]


def test_changes_are_readable_at_the_listening_socket(monitor: XdpMonitor) -> None:
    assert monitor.fileno() == 77


def test_memory_is_that_of_the_tables(monitor: XdpMonitor) -> None:
    assert monitor.setup.map_memory == 20 << 20


def test_setup_shows_hooks_features_filters_and_room(world: World) -> None:
    monitor = start(world, filters=Filters(ports=frozenset({443, 53}), exclude_dns=True))
    setup = monitor.setup
    assert [(interface.name, interface.direction) for interface in setup.interfaces] == [("eth0", "ingress")]
    assert setup.features == tuple(features().names())
    assert setup.filters == ("port 53 443", "exclude-dns")
    assert setup.max_flows == 100


# Intervals


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
    (eth0,) = monitor.interfaces
    assert eth0 == Interface("eth0", 0, Hook.XDP, XdpMode.NATIVE)
    assert snapshot.interfaces == ((eth0, counts_of(world.flows)),)
    assert (snapshot.end_ns, snapshot.wall_offset_ns, snapshot.clock) == (
        6000 + 10**18,
        10**18,
        TickClock(123, 456, 789),
    )


def counted(index: int, packets: int) -> LinkInfo:
    return ETH0._replace(index=index, rx_packets=packets, rx_bytes=64 * packets, tx_packets=0, tx_bytes=0)


def test_interfaces_own_counters_stand_beside_every_interval_but_the_first_and_the_last(
    world: World, monitor: XdpMonitor
) -> None:
    shown = []
    for packets in (5, 7, 7, 30):
        world.links = [LO, counted(ETH0.index, packets)]
        world.now += 5_000_000_000
        snapshot = monitor.tick() if packets < 30 else monitor.finish()
        ((_, counts),) = snapshot.interfaces
        shown.append(counts.nic)
    assert shown == [None, PacketCount(2, 128), PacketCount(0, 0), None]


def test_own_counters_that_cannot_be_read_are_not_known_and_end_nothing(
    world: World, monitor: XdpMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.links = [LO, counted(ETH0.index, 5)]
    monitor.tick()

    def refuse(socket: object, index: int) -> LinkInfo:
        raise KernelError("RTM_GETLINK", errno.ENOBUFS)

    monkeypatch.setattr(rtnetlink, "link", refuse)
    ((_, counts),) = monitor.tick().interfaces
    assert counts.nic is None


@pytest.mark.parametrize("merges, times", [(False, 1), (True, 0)])
def test_that_the_hook_misses_packets_is_reported_where_both_count_the_same_packets(
    world: World, merges: bool, times: int
) -> None:
    world.merges = merges
    world.flows = [flow(packets=600, size=600 * 64)]
    made = start(world)
    for number in range(20):
        world.links = [LO, counted(ETH0.index, 1000 * number)]
        world.now += 5_000_000_000
        made.tick()
    made.close()
    told = "eth0: the hook did not see 40 % of the packets counted by the interface as received"
    assert world.said.count(told) == times


def test_silent_interface_has_zero_counts(monitor: XdpMonitor) -> None:
    ((_, counts),) = monitor.tick().interfaces
    assert counts == InterfaceCounts()


def test_both_directions_have_their_own_hooks_and_counts(world: World) -> None:
    made = start(world, directions=BOTH)
    world.flows = [flow(packets=1), flow(key(flags=EGRESS), packets=2)]
    found = [(of, counts.total.packets) for of, counts in made.tick().interfaces]
    assert found == [
        (Interface("eth0", 0, Hook.XDP, XdpMode.NATIVE), 1),
        (Interface("eth0", 0, Hook.TC, None, direction=Direction.EGRESS), 2),
    ]
    made.close()


def test_counts_that_add_up_are_not_mentioned(
    world: World, monitor: XdpMonitor, caplog: pytest.LogCaptureFixture
) -> None:
    world.flows = [flow(packets=3, size=300)]
    unattributed = (PacketCount(1, 60), *(PacketCount(0, 0),) * 8)
    world.counts = {(0, Direction.INGRESS): InterfaceCounts(PacketCount(6, 480), PacketCount(2, 120), unattributed)}
    monitor.tick()
    assert caplog.messages == []


def test_miscount_is_an_error_line(world: World, monitor: XdpMonitor, caplog: pytest.LogCaptureFixture) -> None:
    world.flows = [flow(packets=3, size=300)]
    world.counts = {(0, Direction.INGRESS): InterfaceCounts(total=PacketCount(5, 420))}
    monitor.tick()
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.ERROR, "slot 0 ingress: counts do not add up: 2 packets, 120 bytes missing")
    ]


# Interfaces that come, go and change


def test_interface_that_comes_is_watched_at_once_and_in_the_next_snapshot(world: World) -> None:
    made = start(world, "any")
    happens(world, made, (NEW_LINK, ETH1))
    assert world.attached == ["eth0 slot 0", "eth1 slot 1"]
    assert world.said[-1] == "XDP program loaded on eth1 (native)"
    assert told(made) == [("eth0", 0, "ingress"), ("eth1", 1, "ingress")]
    made.close()
    assert world.attached == []


def test_interface_that_came_just_before_a_tick_is_not_missed(world: World) -> None:
    made = start(world, "any")
    world.links.append(ETH1)
    world.events = [(NEW_LINK, ETH1)]
    assert ("eth1", 1, "ingress") in told(made)
    made.close()


def test_interface_that_nobody_asked_for_is_left_alone(world: World, monitor: XdpMonitor) -> None:
    happens(world, monitor, (NEW_LINK, ETH1), (NEW_LINK, LO))
    assert (world.happened, world.said) == ([], [])


def test_any_watches_an_interface_once_it_is_up_and_not_before(world: World) -> None:
    made = start(world, "any")
    happens(world, made, (NEW_LINK, ETH1._replace(flags=0)))
    assert world.attached == ["eth0 slot 0"]
    happens(world, made, (NEW_LINK, ETH1), (NEW_LINK, ETH1))
    assert world.attached == ["eth0 slot 0", "eth1 slot 1"]
    made.close()


def test_interface_that_goes_is_reported_and_its_last_interval_is_counted_once(
    world: World, monitor: XdpMonitor
) -> None:
    happens(world, monitor, (DEL_LINK, ETH0))
    assert world.happened == ["detach eth0 slot 0"]
    assert world.said == [f"eth0: {GONE_AND_AWAITED}"]
    world.flows = [flow(packets=3)]
    ((eth0, counts),) = monitor.tick().interfaces
    assert (eth0.name, counts.total.packets) == ("eth0", 3)
    world.flows = []
    assert told(monitor) == []
    assert not monitor.ended, "it may come back"


def test_interface_that_went_is_not_detached_again_in_the_end(world: World, monitor: XdpMonitor) -> None:
    happens(world, monitor, (DEL_LINK, ETH0), (DEL_LINK, ETH0))
    monitor.finish()
    assert world.happened == ["detach eth0 slot 0", "drain both"]
    assert len(world.said) == 1


def test_both_directions_of_an_interface_that_goes_are_detached(world: World) -> None:
    made = start(world, directions=BOTH)
    happens(world, made, (DEL_LINK, ETH0))
    assert world.attached == []
    assert told(made) == [("eth0", 0, "ingress"), ("eth0", 0, "egress")]
    made.close()


def test_interface_that_goes_and_comes_is_watched_again_in_the_same_moment(world: World, monitor: XdpMonitor) -> None:
    back = ETH0._replace(index=9)
    happens(world, monitor, (DEL_LINK, ETH0), (NEW_LINK, back))
    assert world.attached == ["eth0 slot 1"]
    assert told(monitor) == [("eth0", 0, "ingress"), ("eth0", 1, "ingress")]
    assert told(monitor) == [("eth0", 1, "ingress")]


def test_interface_that_comes_back_with_the_same_index_before_the_next_tick_gets_another_slot(
    world: World, monitor: XdpMonitor
) -> None:
    happens(world, monitor, (DEL_LINK, ETH0), (NEW_LINK, ETH0))
    assert world.attached == ["eth0 slot 1"]
    world.flows = [flow(key(slot=0), packets=1), flow(key(slot=1), packets=2)]
    assert [counts.total.packets for _, counts in monitor.tick().interfaces] == [1, 2]
    happens(world, monitor, (DEL_LINK, ETH0))
    assert world.attached == [], "the one that is there, not the one that went"


def test_slot_is_given_again_only_after_its_last_packets_are_drained(world: World) -> None:
    made = start(world, "any")
    happens(world, made, (DEL_LINK, ETH0), (NEW_LINK, ETH1))
    assert world.attached == ["eth1 slot 1"]
    made.tick()
    happens(world, made, (NEW_LINK, ETH2))
    assert world.attached == ["eth1 slot 1", "eth2 slot 0"]
    made.close()


def test_interface_that_is_renamed_is_reported_and_goes_on_under_its_new_name(
    world: World, monitor: XdpMonitor
) -> None:
    happens(world, monitor, (NEW_LINK, ETH0._replace(name="wan0")))
    assert world.said == ["eth0: the interface was renamed to wan0"]
    assert world.happened == [], "still attached, as before"
    assert told(monitor) == [("wan0", 0, "ingress")]
    happens(world, monitor, (DEL_LINK, ETH0._replace(name="wan0")))
    assert world.said[1:] == ["wan0: the interface is gone; packets seen until then are counted"]


def test_name_that_a_renamed_interface_left_is_watched_when_another_takes_it(world: World, monitor: XdpMonitor) -> None:
    happens(world, monitor, (NEW_LINK, ETH0._replace(name="wan0")), (NEW_LINK, ETH1._replace(name="eth0")))
    assert told(monitor) == [("wan0", 0, "ingress"), ("eth0", 1, "ingress")]


def test_further_news_of_a_watched_interface_change_nothing(world: World, monitor: XdpMonitor) -> None:
    happens(world, monitor, (NEW_LINK, ETH0), (NEW_LINK, ETH0._replace(mtu=9000)), (NEW_LINK, ETH0))
    assert (world.happened, world.said) == ([], [])


DOWN = "eth0: the interface is down; no packets until it is up (`ip link set eth0 up`)"
NO_CARRIER = "eth0: no carrier; no packets until the link is up"


@pytest.mark.parametrize(
    "state, line",
    [
        (ETH0._replace(flags=0), DOWN),
        (ETH0._replace(flags=ONLY_ADMINISTRATIVELY), NO_CARRIER),
    ],
)
def test_interface_that_goes_down_is_reported_once_and_so_is_its_coming_up(
    state: LinkInfo, line: str, world: World, monitor: XdpMonitor
) -> None:
    happens(world, monitor, (NEW_LINK, state), (NEW_LINK, state))
    assert world.said == [line]
    assert [found.is_up for found, _ in monitor.tick().interfaces] == [False]
    happens(world, monitor, (NEW_LINK, ETH0), (NEW_LINK, ETH0._replace(operstate="up")))
    assert world.said == [line, "eth0: the interface is up"]
    assert [found.is_up for found, _ in monitor.tick().interfaces] == [True]
    assert world.happened == ["take"] * 2, "it stays attached"


def test_interface_that_is_down_at_the_start_is_reported(world: World) -> None:
    world.links = [ETH0._replace(flags=0)]
    start(world).close()
    assert world.said == [f"XDP program loaded on eth0 (native): {DOWN.removeprefix('eth0: ')}"]


def test_state_is_followed_at_ticks_where_no_event_came(world: World, monitor: XdpMonitor) -> None:
    world.links = [ETH0._replace(flags=ONLY_ADMINISTRATIVELY)]
    ((found, _),) = monitor.tick().interfaces
    assert (found.is_up, world.said) == (False, [NO_CARRIER])


@pytest.mark.parametrize("kind", [NEW_LINK, DEL_LINK])
def test_event_of_a_bridge_about_its_port_is_no_coming_or_going(kind: int, world: World) -> None:
    made = start(world, "eth*")
    before = list(world.happened)
    happens(world, made, (kind, ETH0._replace(rx_packets=None)), (kind, ETH1._replace(rx_packets=None)))
    assert world.happened == before
    made.close()


def test_messages_that_are_not_about_interfaces_are_passed_over(
    world: World, monitor: XdpMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(link: LinkInfo) -> LinkInfo:
        raise AssertionError("not a link")

    monkeypatch.setattr(rtnetlink, "parse_link", parse)
    happens(world, monitor, (NEW_ADDRESS, ETH0))
    assert world.happened == []


def test_interface_that_comes_and_refuses_is_an_error_line_and_the_others_go_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    made = start(world, "any")
    world.refuses["eth1", Direction.INGRESS] = InterfaceError("eth1: no")
    happens(world, made, (NEW_LINK, ETH1), (NEW_LINK, ETH2))
    assert [(record.levelno, record.message) for record in caplog.records] == [(logging.ERROR, "eth1: no")]
    assert world.attached == ["eth0 slot 0", "eth2 slot 1"]
    assert told(made) == [("eth0", 0, "ingress"), ("eth2", 1, "ingress")]
    made.close()


def test_interface_that_refused_is_retried_when_it_goes_up_or_down_and_not_at_every_change(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    made = start(world, "eth*")
    world.refuses["eth1", Direction.INGRESS] = InterfaceError("eth1: no")
    up, down = ETH1, ETH1._replace(flags=0)
    happens(world, made, (NEW_LINK, up), (NEW_LINK, up), (NEW_LINK, up))
    assert len(caplog.messages) == 1
    happens(world, made, (NEW_LINK, down), (NEW_LINK, down))
    assert len(caplog.messages) == 2
    world.refuses.clear()
    happens(world, made, (NEW_LINK, up))
    assert world.attached == ["eth0 slot 0", "eth1 slot 1"]
    made.close()


def test_interface_that_refused_and_went_is_retried_when_it_is_back(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    made = start(world, "any")
    world.refuses["eth1", Direction.INGRESS] = InterfaceError("eth1: no")
    happens(world, made, (NEW_LINK, ETH1), (DEL_LINK, ETH1), (NEW_LINK, ETH1))
    assert caplog.messages == ["eth1: no"] * 2
    made.close()


def test_interface_that_is_gone_before_it_is_attached_to_is_no_refusal(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = start(world, "any")

    def attach(attacher: FakeAttacher, link: LinkInfo, slot: int, direction: Direction) -> Attached:
        world.links = [LO, ETH0]
        raise InterfaceError("eth1: ENODEV")

    monkeypatch.setattr(FakeAttacher, "attach", attach)
    happens(world, made, (NEW_LINK, ETH1))
    assert caplog.messages == []
    assert made.tick().unattached == ()
    made.close()


def test_interface_that_refuses_one_direction_is_detached_from_the_other_and_its_counts_are_kept(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    made = start(world, "any", directions=BOTH)
    world.refuses["eth1", Direction.EGRESS] = InterfaceError("eth1: no egress")
    happens(world, made, (NEW_LINK, ETH1))
    assert caplog.messages == ["eth1: no egress"]
    assert world.attached == ["eth0 slot 0", "eth0 slot 0 egress"]
    world.flows = [flow(key(slot=1), packets=2)]
    last = made.tick().interfaces[-1]
    assert (last[0].name, last[0].direction, last[1].total.packets) == ("eth1", "ingress", 2)
    world.flows = []
    assert told(made) == [("eth0", 0, "ingress"), ("eth0", 0, "egress")]
    assert caplog.messages == ["eth1: no egress"], "counted packets all belong to an interface"
    made.close()


def test_interface_beyond_the_last_slot_is_reported_as_not_monitored(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.links = [interface(f"eth{number}", 10 + number) for number in range(OPEN_SLOTS)]
    made = start(world, "any")
    assert len(world.attached) == OPEN_SLOTS
    happens(world, made, (NEW_LINK, interface("eth99", 999)))
    happens(world, made, (NEW_LINK, interface("eth98", 998)))
    told_of_slots = "eth99: not monitored: all 64 slots are in use; hook records name it and all further ones"
    assert caplog.messages == [told_of_slots], "once, however many there are"
    assert len(world.attached) == OPEN_SLOTS
    unattached = {absent.name: absent.detail for absent in made.tick().unattached}
    assert unattached == dict.fromkeys(["eth99", "eth98"], "not monitored: all 64 slots are in use")
    gone = world.links[7]
    world.links = [link for link in world.links if link is not gone]
    happens(world, made, (DEL_LINK, gone))
    made.tick()
    assert world.attached[-1] == "eth99 slot 7", "it is not forgotten when there is room again"
    made.close()


def test_more_changes_than_the_socket_holds_are_made_up_for_by_looking_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = start(world, "any")

    def overflows(self: FakeSocket) -> None:
        raise KernelError("recv(netlink notification)", errno.ENOBUFS)

    world.links = [LO, ETH1]
    monkeypatch.setattr(FakeSocket, "notifications", overflows)
    made.react()
    assert world.attached == ["eth1 slot 1"]
    made.close()


def test_events_older_than_the_answer_are_forgotten_where_some_were_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """eth0 went to another namespace and came back, of which only the going was kept."""
    made = start(world, "any")
    world.events = [(DEL_LINK, ETH0._replace(moved=True)), (NEW_LINK, ETH0._replace(name="lan0"))]

    def overflows(self: FakeSocket) -> None:
        raise KernelError("recv(netlink notification)", errno.ENOBUFS)

    world.happened.clear()
    with monkeypatch.context() as once:
        once.setattr(FakeSocket, "notifications", overflows)
        made.react()
    made.react()
    assert world.happened == ["discard events", "list interfaces"]
    assert world.attached == ["eth0 slot 0"]
    assert told(made) == [("eth0", 0, "ingress")]
    made.close()


def test_going_of_an_interface_that_is_there_and_attached_is_an_old_story(world: World, monitor: XdpMonitor) -> None:
    world.events = [(DEL_LINK, ETH0._replace(moved=True))]
    monitor.react()
    assert world.attached == ["eth0 slot 0"]
    assert world.said == []


def test_list_that_fails_is_requested_again_at_the_next_tick_and_ends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = start(world, "any")

    def refuse(*_: object) -> None:
        raise KernelError("RTM_GETLINK", errno.EINTR)

    with monkeypatch.context() as once:
        once.setattr(FakeSocket, "notifications", refuse)
        once.setattr(rtnetlink, "links", refuse)
        once.setattr(rtnetlink, "link", refuse)
        once.setattr(FakeAttachment, "alive", refuse)
        world.flows = [flow(packets=3)]
        ((_, counts),) = made.tick().interfaces
        assert counts.total.packets == 3
    world.links.append(ETH1)
    world.flows = []
    assert told(made) == [("eth0", 0, "ingress"), ("eth1", 1, "ingress")]
    made.close()


def test_slot_of_a_program_that_could_not_be_detached_is_not_given_to_another(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    made = start(world, "any")
    world.stays["eth0 slot 0"] = KernelError("RTM_DELTFILTER", errno.ENOMEM)
    happens(world, made, (DEL_LINK, ETH0))
    made.tick()
    happens(world, made, (NEW_LINK, ETH1))
    assert world.attached == ["eth0 slot 0", "eth1 slot 1"]
    assert caplog.messages == ["eth0: detaching: RTM_DELTFILTER: ENOMEM (Cannot allocate memory)"]
    made.close()


def test_interface_is_attached_to_as_it_is_now_and_not_as_it_was_when_it_changed(world: World) -> None:
    made = start(world, "any")
    world.links.append(ETH1._replace(name="now1"))
    world.events = [(NEW_LINK, ETH1._replace(name="was1"))]
    made.react()
    assert world.attached == ["eth0 slot 0", "now1 slot 1"]
    made.close()


def test_what_the_hook_misses_is_reported_under_the_interfaces_new_name(world: World, monitor: XdpMonitor) -> None:
    happens(world, monitor, (NEW_LINK, ETH0._replace(name="lan0")))
    for number in range(20):
        world.links = [LO, counted(ETH0.index, 1000 * number)._replace(name="lan0")]
        world.now += 5_000_000_000
        monitor.tick()
    assert world.said[1:] == ["lan0: the hook sees none of the packets that the interface counts as received"]


def test_one_glob_leaves_room_for_all_that_are_named(world: World) -> None:
    named = [interface(f"lan{number}", 100 + number) for number in range(100)]
    world.links = [*named, ETH0]
    made = start(world, *(link.name for link in named), "eth*")
    assert len(world.attached) == 101
    made.close()


def test_slots_are_those_that_a_byte_of_the_key_can_tell_apart(world: World) -> None:
    """128 names, which may come back under another slot each, and a glob would need 320."""
    made = start(world, "eth0", *(f"lan{number}" for number in range(127)), "vlan*")
    assert cast("FakeTables", made._tables).plan.slots == 256
    made.close()


def test_interface_that_refuses_one_direction_at_the_start_is_not_reported_as_monitored(world: World) -> None:
    world.links = [ETH0, ETH1]
    world.refuses["eth1", Direction.EGRESS] = InterfaceError("eth1: no egress")
    made = start(world, "eth*", directions=BOTH)
    assert [(found.name, found.direction) for found in made.interfaces] == [("eth0", "ingress"), ("eth0", "egress")]
    made.close()


BRIDGE_SAID = (
    "a bridge shows only packets to and from this host; --promiscuous shows those that its ports forward to each other,"
    " too"
)


@pytest.mark.parametrize(
    "kind, is_promiscuous, asked, said",
    [("bridge", False, False, 1), ("bridge", True, False, 0), ("bridge", False, True, 0), ("bond", False, False, 0)],
)
def test_bridge_whose_forwarded_packets_stay_hidden_is_told_once(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str, is_promiscuous: bool, asked: bool, said: int
) -> None:
    monkeypatch.setattr(watched_module.Watched, "be_promiscuous", lambda watched: world.note("promiscuous"))
    flags = UP | 0x100 * is_promiscuous  # IFF_PROMISC
    world.links = [interface(name, index)._replace(kind=kind, flags=flags) for name, index in (("br0", 7), ("br1", 8))]
    options = XdpOptions(Selection(("br0", "br1")), Choice(), INGRESS, promiscuous=asked)
    made = XdpMonitor(XdpStart(options), world.said.append)
    lines = [line for line in world.said if "bridge" in line]
    assert [line.partition(": ")[2] for line in lines] == [BRIDGE_SAID] * said
    assert all("br0" in line for line in lines)
    assert world.happened.count("promiscuous") == 2 * asked
    made.close()


def test_bridge_ports_excluded_by_any_are_named(world: World) -> None:
    port = ETH1._replace(master=9, slave_kind="bridge")
    world.links = [ETH0, port, port._replace(index=7, name="tap0", kind="tun"), port._replace(index=8, flags=0)]
    start(world, "any").close()
    assert world.said[0] == (
        "-i any excludes the bridge ports eth1: on the bridge itself, packets that its ports forward to"
        " each other are not visible; -i any,eth1 includes the ports"
    )
    world.said.clear()
    start(world, "any", "eth1").close()
    assert not any("excludes" in line for line in world.said)


def test_last_packets_of_an_interface_that_went_are_all_in_the_interval_that_tells_it(
    world: World, monitor: XdpMonitor
) -> None:
    happens(world, monitor, (DEL_LINK, ETH0))
    monitor.tick()
    assert world.happened == ["detach eth0 slot 0", "grace period", "take"]
    world.happened.clear()
    monitor.tick()
    assert world.happened == ["take"]


def test_interface_that_came_or_went_within_an_interval_has_its_own_length_and_only_then(world: World) -> None:
    made = start(world, "eth*")
    world.now = 3000
    happens(world, made, (NEW_LINK, ETH1))
    world.now = 6000
    assert [counts.interval_ns for _, counts in made.tick().interfaces] == [None, 3000]
    world.now = 7000
    happens(world, made, (DEL_LINK, ETH0))
    world.now = 11_000
    assert [counts.interval_ns for _, counts in made.tick().interfaces] == [1000, None]
    world.now = 12_000
    assert [counts.interval_ns for _, counts in made.finish().interfaces] == [1000]
    made.close()


def test_interface_that_flaps_is_watched_again_at_once(world: World, monitor: XdpMonitor) -> None:
    happens(world, monitor, *[(DEL_LINK, ETH0), (NEW_LINK, ETH0)] * 3)
    assert world.attached == ["eth0 slot 1"], "once, to the last of them"
    assert told(monitor) == [("eth0", 0, "ingress"), ("eth0", 1, "ingress")]
    assert told(monitor) == [("eth0", 1, "ingress")]


def test_member_of_a_bond_is_left_to_the_bond_where_any_took_it(world: World) -> None:
    made = start(world, "any")
    happens(world, made, (NEW_LINK, ETH0._replace(master=9)))
    assert world.attached == []
    assert world.said[-1] == (
        "eth0: became a member of another interface, which counts its packets too; packets seen until then are counted"
    )
    assert told(made) == [("eth0", 0, "ingress")]
    happens(world, made, (NEW_LINK, ETH0))
    assert world.attached == ["eth0 slot 0"], "it left the bond"
    made.close()


@pytest.mark.parametrize("link_type", [32, 65534])
def test_interface_whose_frames_begin_with_another_header_now_is_attached_to_anew(
    world: World, monitor: XdpMonitor, link_type: int
) -> None:
    """As a bond's do with its first member."""
    changed = ETH0._replace(link_type=link_type)
    world.links = [LO, changed]
    happens(world, monitor, (NEW_LINK, changed))
    assert world.attached == ["eth0 slot 1"]
    assert world.said[-2].startswith("eth0: its frames begin with another header now; ")
    assert told(monitor) == [("eth0", 0, "ingress"), ("eth0", 1, "ingress")]
    happens(world, monitor, (NEW_LINK, changed))
    assert world.attached == ["eth0 slot 1"]


def test_interface_whose_frames_are_no_longer_supported_is_not_watched(world: World, monitor: XdpMonitor) -> None:
    changed = ETH0._replace(link_type=801)
    world.links = [LO, changed]
    world.refuses["eth0", Direction.INGRESS] = InterfaceError("eth0: frames of link type 801 are not supported")
    happens(world, monitor, (NEW_LINK, changed), (NEW_LINK, changed))
    assert world.attached == []
    assert [line for line in world.said if "header" in line] == world.said[-1:]


def test_event_of_a_link_type_that_is_past_changes_nothing(world: World, monitor: XdpMonitor) -> None:
    happens(world, monitor, (NEW_LINK, ETH0._replace(link_type=32, rx_packets=None)))
    assert world.attached == ["eth0 slot 0"]


def test_member_of_a_bond_that_was_named_stays_watched(world: World, monitor: XdpMonitor) -> None:
    happens(world, monitor, (NEW_LINK, ETH0._replace(master=9)))
    assert world.attached == ["eth0 slot 0"]


DETACHED = "eth0: the program was detached by someone else; packets seen until then are counted"
SECOND = 1_000_000_000


def test_program_detached_by_others_is_reported_and_attached_again_after_a_pause(
    world: World, monitor: XdpMonitor
) -> None:
    world.detached_by_others.add("eth0 slot 0")
    monitor.react()
    assert world.said == [f"{DETACHED}; next attempt to attach in 2 s"]
    snapshot = monitor.tick()
    assert [found.name for found, _ in snapshot.interfaces] == ["eth0"]
    assert (snapshot.attached, snapshot.reattached) == (0, ())
    assert snapshot.unattached == (
        Unattached("eth0", Absence.DETACHED, "the program was detached by someone else", is_named=True),
    )
    world.now += 2 * SECOND - 1
    happens(world, monitor, (NEW_LINK, ETH0))
    assert world.attached == []
    world.now += 1
    monitor.react()
    assert world.attached == ["eth0 slot 0"]
    snapshot = monitor.tick()
    assert (snapshot.attached, snapshot.unattached, snapshot.reattached) == (1, (), ("eth0",))
    assert monitor.tick().reattached == ()


@pytest.mark.parametrize("place", ["eth0 slot 0", "eth0 slot 0 egress"])
def test_one_of_two_directions_detached_by_others_is_no_silence(world: World, place: str) -> None:
    made = start(world, directions=BOTH)
    world.said.clear()
    world.detached_by_others.add(place)
    made.react()
    assert world.said == [f"{DETACHED}; next attempt to attach in 2 s"]
    assert made.tick().unattached == (
        Unattached("eth0", Absence.DETACHED, "the program was detached by someone else", is_named=True),
    )
    made.close()


def test_pauses_grow_while_others_detach_the_program_again_and_not_after_a_quiet_minute(
    world: World, monitor: XdpMonitor
) -> None:
    def pause() -> int:
        world.detached_by_others |= set(world.attached)
        monitor.react()
        monitor.tick()
        begun = world.now
        while not world.attached:
            world.now += SECOND
            monitor.react()
        return (world.now - begun) // SECOND

    assert [pause() for _ in range(7)] == [2, 4, 8, 16, 32, 60, 60]
    world.now += 61 * SECOND
    assert pause() == 2


def test_failing_attempts_to_attach_again_are_reported_once_and_fail_the_run(
    world: World, monitor: XdpMonitor, caplog: pytest.LogCaptureFixture
) -> None:
    world.refuses["eth0", Direction.INGRESS] = InterfaceError("eth0: taken")
    world.detached_by_others.add("eth0 slot 0")
    monitor.react()
    for _ in range(100):
        world.now += SECOND
        monitor.react()
    assert caplog.messages == ["eth0: taken"]
    snapshot = monitor.finish()
    assert snapshot.unattached == (Unattached("eth0", Absence.DETACHED, "taken", is_named=True),)
    assert snapshot.failure == "no interface is monitored any more: eth0: taken"


def test_detached_interface_fails_no_run_that_still_monitors_another(world: World) -> None:
    world.links = [ETH0, ETH1]
    made = start(world, "eth*")
    world.detached_by_others.add("eth0 slot 0")
    assert made.finish().failure == ""
    made.close()


def test_named_interface_that_is_gone_is_listed_as_not_found_and_is_no_failure(
    world: World, monitor: XdpMonitor
) -> None:
    happens(world, monitor, (DEL_LINK, ETH0))
    snapshot = monitor.finish()
    assert snapshot.unattached == (Unattached("eth0", Absence.NOT_FOUND, "no such interface", is_named=True),)
    assert snapshot.failure == ""


def test_interface_that_refuses_is_wanted_only_if_it_is_named(world: World) -> None:
    world.links = [ETH0, ETH1]
    world.refuses["eth1", Direction.INGRESS] = InterfaceError("eth1: no")
    for pattern, wanted in (("eth*", False), ("eth1", True)):
        made = start(world, "eth0", pattern)
        (absent,) = made.tick().unattached
        assert (absent.name, absent.reason, absent.is_wanted) == ("eth1", Absence.REFUSED, wanted)
        made.close()


def test_interface_that_went_without_a_word_is_noticed_at_the_tick(world: World, monitor: XdpMonitor) -> None:
    world.detached_by_others.add("eth0 slot 0")
    world.links = [LO]
    assert told(monitor) == [("eth0", 0, "ingress")]
    assert world.said == [f"eth0: {GONE_AND_AWAITED}"]


@pytest.mark.parametrize("ends", ["finish", "close"])
def test_program_that_cannot_be_detached_is_reported_and_keeps_no_other_attached(
    ends: str, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.links = [ETH0, ETH1]
    made = start(world, "eth*", directions=BOTH)
    world.stays["eth0 slot 0"] = KernelError("RTM_DELTFILTER", errno.EBUSY)
    getattr(made, ends)()
    made.close()
    assert world.attached == ["eth0 slot 0"]
    assert caplog.messages == ["eth0: detaching: RTM_DELTFILTER: EBUSY (Device or resource busy)"]
    assert world.happened[-3:] == ["close tables", "close netlink", "stop listening"]


def test_drops_of_the_queue_stand_beside_egress_from_the_first_interval_to_the_last(world: World) -> None:
    world.queues = {ETH0.index: RootQdisc("tbf", 1, 5)}
    made = start(world, directions=BOTH)
    shown = []
    for drops, end in ((5, made.tick), (12, made.tick), (15, made.finish)):
        world.queues = {ETH0.index: RootQdisc("tbf", 1, drops)}
        shown.append([counts.qdisc_drops for _, counts in end().interfaces])
    made.close()
    assert shown == [[None, 0], [None, 7], [None, 3]]
    assert [line for line in world.said if "queue" in line] == [
        "eth0: the queue (tbf) dropped 7 packets after they were counted: egress is what is handed to the queue,"
        " nic_packets what the interface sent"
    ]


@pytest.mark.parametrize(
    "last, now, dropped",
    [
        (RootQdisc("tbf", 1, 2**32 - 2), RootQdisc("tbf", 1, 3), 5),
        (RootQdisc("tbf", 1, 2**31), RootQdisc("tbf", 1, 2**31 - 1), 2**32 - 1),
        (RootQdisc("tbf", 1, 2**31 - 1), RootQdisc("tbf", 1, 0), None),
        (RootQdisc("tbf", 1, 2**31 + 5), RootQdisc("tbf", 1, 2**31), None),
        (RootQdisc("tbf", 1, 700), RootQdisc("tbf", 1, 3), None),
        (RootQdisc("tbf", 1, 2), RootQdisc("htb", 1, 3), None),
        (RootQdisc("tbf", 1, 2), RootQdisc("tbf", 2, 3), None),
        (RootQdisc("tbf", 1, 2), None, None),
        (None, RootQdisc("tbf", 1, 2), None),
        (RootQdisc("tbf", 1, 2), RootQdisc("noqueue", 0, 0), None),
        (RootQdisc("noqueue", 0, 0), RootQdisc("noqueue", 0, 0), None),
        (RootQdisc("noqueue", 0, 0), RootQdisc("tbf", 1, 2), 2),
    ],
)
def test_queue_that_is_another_one_now_has_unknown_drops(
    last: RootQdisc | None, now: RootQdisc | None, dropped: int | None
) -> None:
    said: list[str] = []
    queue = Queue("eth0", said.append)
    queue.sample(last)
    queue.sample(now)
    assert queue.dropped == dropped


@pytest.mark.parametrize("kind, handle", [("tbf", 2), ("htb", 1), ("tbf", 1)])
def test_drops_of_a_queue_that_replaced_another_are_reported_though_not_all_are_known(kind: str, handle: int) -> None:
    said: list[str] = []
    queue = Queue("eth0", said.append)
    queue.sample(RootQdisc("tbf", 1, 50))
    queue.sample(RootQdisc(kind, handle, 3))
    assert queue.dropped is None
    assert [line.split(" after")[0] for line in said] == [f"eth0: the queue ({kind}) dropped 3 packets"]


def test_packets_that_the_queue_drops_are_not_taken_for_repeated_ones(world: World) -> None:
    world.queues = {ETH0.index: RootQdisc("tbf", 1, 0)}
    made = start(world, directions=(Direction.EGRESS,))
    for number in range(1, 4):
        world.flows = [flow(key(flags=EGRESS), packets=5000, size=5_000_000)]
        world.links = [LO, ETH0._replace(rx_bytes=0, tx_packets=400 * number, tx_bytes=400_000 * number)]
        world.queues = {ETH0.index: RootQdisc("tbf", 1, 4600 * number)}
        world.now += 5 * SECOND
        ((_, counts),) = made.tick().interfaces
    made.close()
    assert counts.coverage is Share.FULL


@pytest.mark.parametrize(
    "seen, dropped, left",
    [
        (PacketCount(10, 1000), 0, PacketCount(10, 1000)),
        (PacketCount(10, 1000), 4, PacketCount(6, 600)),
        (PacketCount(3, 200), 1, PacketCount(2, 133)),
        (PacketCount(10, 1000), 11, PacketCount(0, 0)),
        (PacketCount(0, 0), 5, PacketCount(0, 0)),
    ],
)
def test_packets_that_a_queue_dropped_have_the_average_size(seen: PacketCount, dropped: int, left: PacketCount) -> None:
    assert xdp_module.without(seen, dropped) == left


def test_mode_is_named_as_its_option_does(monitor: XdpMonitor) -> None:
    assert monitor.mode == "xdp"
