"""Queue pairs read in a thread, and joined modes, with fake answers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.make import NS, flow, key, roce, snapshot
from tests.unit.make_rdma import MLX5, counters, device, grew, pair, port, traffic
from xtrace.assembly import rdma_options
from xtrace.config import parse
from xtrace.errors import KernelError
from xtrace.kernel import paths, rdma
from xtrace.kernel.proc import owner_of
from xtrace.model.flow import EGRESS, FlowKey, FlowSnapshot, Interface
from xtrace.model.rdma import PortId, Process, QueuePairRecord, Seen
from xtrace.model.words import Direction, Hook, XdpMode
from xtrace.monitors.joins.flows_rdma import JoinedXdp
from xtrace.monitors.rdma import blind_spots
from xtrace.monitors.rdma import queue_pairs as rdma_queue_pairs
from xtrace.monitors.rdma.blind_spots import BlindSpots
from xtrace.monitors.rdma.monitor import RdmaMonitor, RdmaOptions, quiet_monitor
from xtrace.monitors.rdma.queue_pairs import QueuePairWatch

FIRST, SECOND = rdma.RdmaDevice(0, "mlx5_0", 1), rdma.RdmaDevice(1, "mlx5_1", 2)
CONTAINER = "0123456789ab" + 52 * "0"


class Answers:
    """Fake answers of RDMA netlink; a round waits until the test lets it continue."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pairs = {"mlx5_0": [rdma.QueuePair(17, 1, "RC", "RTS", 18, 4242)], "mlx5_1": []}
        self.broken: set[str] = set()
        self.go = threading.Event()
        self.go.set()
        monkeypatch.setattr(rdma_queue_pairs, "NetlinkSocket", lambda protocol: self)
        monkeypatch.setattr(rdma_queue_pairs, "ROUND_EVERY_S", 0.001)
        monkeypatch.setattr(rdma, "devices", lambda socket: [FIRST, SECOND])
        monkeypatch.setattr(rdma, "queue_pairs", self.queue_pairs)
        monkeypatch.setattr(rdma, "connections", lambda socket, device: [rdma.Connection(17, "10.0.0.1", "10.0.0.2")])

    def queue_pairs(self, socket: object, device: rdma.RdmaDevice) -> list[rdma.QueuePair]:
        self.go.wait()
        if device.name in self.broken:
            raise KernelError(f"RDMA RES_QP_GET({device.name})", 5)
        return self.pairs[device.name]

    def close(self) -> None:
        """The socket's."""


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Answers]:
    monkeypatch.setattr(rdma_queue_pairs, "owner_of", partial(owner_of, proc=str(tmp_path)))
    for name, text in {
        "4242/status": "Name:\tworker\nTgid:\t4240\nPid:\t4242\n",
        "4240/comm": "train.py\n",
        "4240/cgroup": f"0::/system.slice/docker-{CONTAINER}.scope\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    played = Answers(monkeypatch)
    yield played
    played.go.set()


def after_a_round(watch: QueuePairWatch, rounds: int = 1) -> None:
    """Wait for that many rounds to end."""
    deadline = time.monotonic() + 60
    for _ in range(rounds):
        ended = watch.latest.end_ns
        while watch.latest.end_ns == ended:
            assert time.monotonic() < deadline, "no round ends"


def test_thread_is_resolved_to_its_process_command_and_container(answers: Answers) -> None:
    watch = QueuePairWatch(lambda name: True)
    after_a_round(watch)
    (record,) = watch.latest.records
    watch.close()
    assert record.process == Process(4240, "train.py", CONTAINER)
    assert (str(record.id), record.number, record.remote, record.remote_address) == ("mlx5_0/1", 17, 18, "10.0.0.2")


def test_owner_of_an_ended_or_unreported_thread_is_unknown_and_a_kernel_module_is_named(answers: Answers) -> None:
    answers.pairs["mlx5_0"] = [
        rdma.QueuePair(1, 1, "GSI", "RTS", kernel="ib_core"),
        rdma.QueuePair(2, 1, "UD", "RTS", pid=9999),
        rdma.QueuePair(3, 1, "UD", "RTS"),
    ]
    watch = QueuePairWatch(lambda name: True)
    after_a_round(watch)
    found = [record.process for record in watch.latest.records]
    watch.close()
    assert found == [Process(None, "[ib_core]"), Process(None, ""), Process(None, "")]
    assert owner_of(9999) is None


def test_each_queue_pair_has_its_own_process(answers: Answers, tmp_path: Path) -> None:
    for pid, name in ((5001, "first"), (5002, "second")):
        (tmp_path / f"{pid}").mkdir()
        (tmp_path / f"{pid}/status").write_text(f"Name:\tx\nTgid:\t{pid}\nPid:\t{pid}\n")
        (tmp_path / f"{pid}/comm").write_text(f"{name}\n")
    answers.pairs["mlx5_0"] = [
        rdma.QueuePair(number, 1, "RC", "RTS", 18, pid) for number, pid in ((1, 5001), (2, 5002), (3, 5001), (4, None))
    ]
    watch = QueuePairWatch(lambda name: True)
    after_a_round(watch)
    found = [(record.number, record.process.pid, record.process.command) for record in watch.latest.records]
    watch.close()
    assert found == [(1, 5001, "first"), (2, 5002, "second"), (3, 5001, "first"), (4, None, "")]


def test_unreported_port_is_the_only_one_or_unknown(answers: Answers) -> None:
    answers.pairs["mlx5_0"] = [rdma.QueuePair(1, None, "RC", "RTS")]
    answers.pairs["mlx5_1"] = [rdma.QueuePair(2, None, "RC", "RTS"), rdma.QueuePair(3, 2, "RC", "RTS")]
    watch = QueuePairWatch(lambda name: True)
    after_a_round(watch)
    found = [str(record.id) for record in watch.latest.records]
    watch.close()
    assert found == ["mlx5_0/1", "mlx5_1/0", "mlx5_1/2"], "mlx5_1 has two ports"


@pytest.mark.parametrize("seconds, rest", [(0.0, 1.0), (0.05, 1.0), (0.1, 1.0), (0.5, 5.0), (3.0, 30.0)])
def test_rest_after_a_round_is_ten_times_as_long(
    answers: Answers, monkeypatch: pytest.MonkeyPatch, seconds: float, rest: float
) -> None:
    """A clock that each round moves on, and a wait that ends the thread."""
    monkeypatch.setattr(rdma_queue_pairs, "ROUND_EVERY_S", 1.0)
    now = [1000.0]
    monkeypatch.setattr(rdma_queue_pairs, "time", SimpleNamespace(monotonic=lambda: now[0], time_ns=time.time_ns))

    def slow(socket: object) -> list[rdma.RdmaDevice]:
        now[0] += seconds
        return []

    monkeypatch.setattr(rdma, "devices", slow)
    waited: list[float] = []

    class Once(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0)
            self.set()
            return True

    monkeypatch.setattr(rdma_queue_pairs, "threading", SimpleNamespace(Event=Once, Lock=threading.Lock, Thread=Inline))
    QueuePairWatch(lambda name: True).close()
    assert waited == [pytest.approx(rest)]


class Inline:
    """A thread that has run when it was started."""

    def __init__(self, target: Callable[[], None], name: str, daemon: bool) -> None:
        self._target = target

    def start(self) -> None:
        """Run it."""
        self._target()

    def join(self, timeout: float) -> None:
        """It has ended."""

    def is_alive(self) -> bool:
        """It has ended."""
        return False


def test_owner_is_looked_up_in_own_proc_regardless_of_procfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel reports a queue pair's process by its number in the reader's PID namespace."""
    other = tmp_path / str(os.getpid())
    other.mkdir()
    (other / "status").write_text("Tgid:\t1\n")
    monkeypatch.setitem(paths._chosen, "proc", str(tmp_path))
    found = owner_of(os.getpid())
    assert found is not None
    assert (found.pid, found.command) == (os.getpid(), Path("/proc/self/comm").read_text().strip())


def test_device_that_does_not_answer_does_not_hide_the_others(answers: Answers) -> None:
    answers.broken.add("mlx5_1")
    watch = QueuePairWatch(lambda name: True)
    after_a_round(watch)
    latest = watch.latest
    watch.close()
    assert len(latest.records) == 1 and latest.errors == ("RDMA RES_QP_GET(mlx5_1): EIO (Input/output error)",)


def test_device_that_is_not_selected_is_not_read(answers: Answers) -> None:
    watch = QueuePairWatch(lambda name: name == "mlx5_1")
    after_a_round(watch)
    assert watch.latest.records == ()
    watch.close()


def test_failing_round_is_reported_and_does_not_end_the_thread(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(socket: object) -> list[rdma.RdmaDevice]:
        raise RuntimeError("nobody thought of this")

    watch = QueuePairWatch(lambda name: True)
    after_a_round(watch)
    assert watch.latest.records
    with monkeypatch.context() as patch:
        patch.setattr(rdma, "devices", failing)
        after_a_round(watch, 2)
        assert watch.latest.records == ()
        assert watch.latest.errors == ("RuntimeError: nobody thought of this",)
    after_a_round(watch, 2)
    latest = watch.latest
    watch.close()
    assert latest.records and latest.errors == ()


def test_devices_may_change_while_the_thread_lists_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Meanwhile(str):
        """A device's name; whoever compares it finds that a device has gone, which a tick notices."""

        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            (tmp_path / "class/infiniband/mlx5_1").rename(tmp_path / "gone")
            monitor.tick()
            return False

    monkeypatch.setitem(paths._chosen, "sys", str(tmp_path))
    monkeypatch.setattr("xtrace.monitors.rdma.monitor.open_netlink", lambda: None)
    for name in ("mlx5_0", "mlx5_1"):
        device(tmp_path, name)
    monitor = RdmaMonitor(RdmaOptions(queue_pairs=False), print)
    assert not monitor._takes_device(Meanwhile("mlx5_9")) and not monitor._takes_device("mlx5_9")
    assert monitor._takes_device("mlx5_0")
    monitor.close()


def test_seen_queue_pairs_are_not_kept_without_keep_seen(answers: Answers) -> None:
    watch = QueuePairWatch(lambda name: True)
    after_a_round(watch, 3)
    assert watch.latest.records and watch.seen() == set() and watch.seen() == set()
    watch.close()


@pytest.mark.parametrize("modes, joined", [("rdma", False), ("nccl", False), ("xdp,nccl", False), ("xdp,rdma", True)])
def test_seen_queue_pairs_are_kept_for_modes_xdp_and_rdma_together(modes: str, *, joined: bool) -> None:
    assert rdma_options(parse(["-m", modes], {}, "1")).joined == joined


def test_queue_pairs_seen_between_two_ticks_are_kept_for_the_second(answers: Answers) -> None:
    watch = QueuePairWatch(lambda name: True, keep_seen=True)
    after_a_round(watch, 2)
    watch.seen()
    answers.pairs["mlx5_0"] = []
    after_a_round(watch, 2)
    assert watch.latest.records == ()
    assert {record.number for record in watch.seen()} == {17}, "it was there when the interval began"
    assert watch.seen() == set()
    watch.close()


def test_slow_driver_keeps_nobody_waiting(answers: Answers) -> None:
    answers.go.clear()
    watch = QueuePairWatch(lambda name: True)
    assert watch.latest.records == () and watch.latest.end_ns == 0
    answers.go.set()
    after_a_round(watch)
    assert watch.latest.records
    watch.close()


class PlayedXdp:
    """Mode xdp with one snapshot."""

    ended = False

    def __init__(self, ticked: FlowSnapshot) -> None:
        self._snapshot = ticked

    def fileno(self) -> int:
        return -1

    def tick(self) -> FlowSnapshot:
        return self._snapshot


OUT = Interface("ens1np0", slot=1, hook=Hook.TC, direction=Direction.EGRESS)


def test_modes_together_know_origins_and_what_the_hook_missed(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sysfs = tmp_path / "sys"
    directory = device(sysfs, "mlx5_0", driver="mlx5_core", netdevs=["ens1np0"])
    counters(directory, kind="counters", port_rcv_data=0, port_xmit_data=0, port_rcv_packets=0, port_xmit_packets=0)
    monkeypatch.setitem(paths._chosen, "sys", str(sysfs))
    reported: list[str] = []
    monitor = RdmaMonitor(RdmaOptions(queue_pairs=False), reported.append)
    monkeypatch.setattr(monitor, "queue_pairs_seen", lambda: {pair(17, 18)})
    inside = Interface("ens1np0", slot=0, xdp_mode=XdpMode.NATIVE)
    key = roce(4, dst_qpn=17)
    ticked = snapshot([flow(key, packets=3, size=300)], [(inside, snapshot([flow(key)]).interfaces[0][1])])
    joined = JoinedXdp(PlayedXdp(ticked), monitor)  # type: ignore[arg-type]
    counters(directory, kind="counters", port_rcv_data=2500, port_xmit_data=9, port_rcv_packets=100)
    monkeypatch.setattr(blind_spots, "WINDOW_NS", 1)
    flows = joined.tick()
    ports = monitor.tick()
    again = joined.tick(), monitor.tick()
    monitor.close()
    assert flows is not None
    assert flows.origin(inside, key).src_qpn == 18
    (spot,) = ports.blind_spots
    assert (spot.direction.rx_tx, spot.carried, spot.seen, spot.invisible) == ("rx", 10_000, 300, 0.97)
    assert reported == [str(spot)], "reported once, and nothing for egress, where there is no hook"
    assert again[1].blind_spots == (), "nothing was carried in the second window"


def test_mode_xdp_alone_reports_invisible_traffic_once_and_stops_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = device(tmp_path, "mlx5_0", driver="mlx5_core", netdevs=["ens1np0"])
    counters(directory, kind="counters", port_rcv_data=0, port_rcv_packets=0)
    monkeypatch.setitem(paths._chosen, "sys", str(tmp_path))
    monkeypatch.setattr("xtrace.monitors.rdma.monitor.open_netlink", lambda: None)
    assert quiet_monitor(["eth9"], (), print) is None, "an interface without RDMA"
    reported: list[str] = []
    monitor = quiet_monitor(["ens1np0"], (), reported.append)
    assert monitor is not None
    inside = Interface("ens1np0", slot=0, xdp_mode=XdpMode.NATIVE)
    ticked = snapshot([], [(inside, snapshot().interfaces[0][1])])
    joined = JoinedXdp(PlayedXdp(ticked), monitor, readings=monitor)  # type: ignore[arg-type]
    joined.tick()
    assert reported == [], "nothing was carried yet"
    for data in (1000, 2000, 3000):
        reported_before = list(reported)
        counters(directory, kind="counters", port_rcv_data=data)
        flows = joined.tick()
        assert flows is not None
        assert flows.find_origin is None
    monitor.close()
    assert (
        reported_before
        == reported
        == ["100 % of what mlx5_0/1 received is invisible on ens1np0: offloaded to hardware; -m rdma shows it"]
    )


def test_short_window_is_not_judged_if_the_hook_saw_something() -> None:
    reported: list[str] = []
    spots = BlindSpots(reported.append)
    record = port(standard=traffic(10_000, 0), interval_ns=10 * NS)
    seen = {("eth0", Direction.INGRESS): Seen(50, 5_000)}
    assert [len(spots.compare([record], seen)) for _ in range(3)] == [0, 0, 1]
    assert spots.compare([record], seen)[0].carried == 30_000, "the last window's, until the next is complete"
    assert len(reported) == 1 and reported[0].startswith("50 % of what mlx5_0/1 received is invisible on eth0")


def test_driver_that_counts_no_bytes_is_compared_in_packets() -> None:
    spots = BlindSpots(print)
    record = port({"rcvd_pkts": grew(100)}, interval_ns=30 * NS)
    (spot,) = spots.compare([record], {("eth0", Direction.INGRESS): Seen(100, 106_800)})
    assert (spot.unit, spot.invisible) == ("packets", 0)


def test_devices_of_the_last_interval_are_kept_when_the_kernel_does_not_answer_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Socket:
        def close(self) -> None:
            """Nothing is open."""

    def failing(socket: object) -> list[rdma.RdmaDevice]:
        raise KernelError("RDMA GET", 4)

    (tmp_path / "class").mkdir()
    monkeypatch.setitem(paths._chosen, "sys", str(tmp_path))
    monkeypatch.setattr("xtrace.monitors.rdma.monitor.open_netlink", Socket)
    monkeypatch.setattr(rdma, "devices", lambda socket: [FIRST])
    monkeypatch.setattr(rdma, "ports", lambda socket, device: [rdma.RdmaPort(1, "ACTIVE", "LINK_UP")])
    monkeypatch.setattr(rdma, "counters", lambda socket, device, port: {"rcvd_pkts": 7})
    reported: list[str] = []
    monitor = RdmaMonitor(RdmaOptions(queue_pairs=False), reported.append)
    monkeypatch.setattr(rdma, "devices", failing)
    (record,) = monitor.tick().ports
    monitor.close()
    assert record.delta("rx_packets") == 0 and reported == []


def test_owner_of_several_queue_pairs_is_looked_up_once_and_of_each_process(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Process 1 and port 1 are not the same."""
    asked: list[int] = []

    def owner(pid: int) -> tuple[int, str, str | None]:
        asked.append(pid)
        return pid, f"job{pid}", None

    monkeypatch.setattr(rdma_queue_pairs, "owner_of", owner)
    monkeypatch.setattr(rdma_queue_pairs, "ROUND_EVERY_S", 3600)
    pids = (5, 5, 1, 6, 5)
    answers.pairs["mlx5_0"] = [rdma.QueuePair(number, 1, "RC", "RTS", 18, pid) for number, pid in enumerate(pids)]
    watch = QueuePairWatch(lambda name: name == "mlx5_0")
    deadline = time.monotonic() + 60
    while not watch.latest.end_ns:
        assert time.monotonic() < deadline
    owners = [(record.process.pid, record.process.command) for record in watch.latest.records]
    watch.close()
    assert owners == [(pid, f"job{pid}") for pid in pids]
    assert sorted(asked) == [1, 5, 6]


def test_remote_addresses_that_cannot_be_read_leave_the_queue_pairs(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(socket: object, device: object) -> None:
        raise KernelError("RDMA RES_CM_ID_GET", 1)

    monkeypatch.setattr(rdma, "connections", refuse)
    watch = QueuePairWatch(lambda name: True)
    after_a_round(watch)
    (record,) = watch.latest.records
    watch.close()
    assert (record.number, record.remote_address, watch.latest.errors) == (17, None, ())


def test_end_ends_the_thread_and_closes_its_socket(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    monkeypatch.setattr(answers, "close", lambda: closed.append(True))
    watch = QueuePairWatch(lambda name: True)
    after_a_round(watch)
    watch.close()
    assert closed == [True]
    assert not watch._thread.is_alive()


class PlayedRdma:
    """Takes what the hooks saw; knows two queue pairs."""

    reported_invisible = False

    def __init__(self) -> None:
        self.noted: dict[tuple[str, Direction], Seen] = {}

    def note_seen(self, seen: dict[tuple[str, Direction], Seen]) -> None:
        self.noted = seen

    def queue_pairs_seen(self) -> set[QueuePairRecord]:
        return {pair(17, 193), pair(18, 194)}

    def netdevs(self) -> dict[PortId, str]:
        return {MLX5: "eth0"}


def test_hooks_see_roce_of_both_versions_and_directions_each_by_itself() -> None:
    came, left = Interface("eth0", 1), Interface("eth0", 1, Hook.TC, direction=Direction.EGRESS)
    other, silent = Interface("eth1", 0), Interface("eth2", 2)
    flows = [
        flow(roce(4, 17, slot=1), packets=1, size=100),
        flow(roce(10, 17, slot=1), packets=2, size=200),
        flow(roce(4, 18, slot=1, version=1), packets=4, size=400),
        flow(egress(roce(4, 193, slot=1)), packets=8, size=800),
        flow(egress(roce(4, 194, slot=1, version=1)), packets=16, size=1600),
        flow(roce(4, 17), packets=32, size=3200),
        flow(key(slot=1), packets=64, size=6400),
        flow(roce(4, 17, slot=9), packets=128, size=12_800),
    ]
    counted = snapshot().interfaces[0][1]
    ticked = snapshot(flows, [(one, counted) for one in (came, left, other, silent)])
    rdma = PlayedRdma()
    joined = JoinedXdp(PlayedXdp(ticked), rdma)  # type: ignore[arg-type]
    found = joined.tick()
    assert found is not None
    assert rdma.noted == {
        ("eth0", Direction.INGRESS): Seen(7, 700),
        ("eth0", Direction.EGRESS): Seen(24, 2400),
        ("eth1", Direction.INGRESS): Seen(32, 3200),
        ("eth2", Direction.INGRESS): Seen(0, 0),
    }
    assert [found.origin(left, where).src_qpn for where in (roce(4, 193), roce(4, 194), roce(4, 195))] == [17, 18, None]
    assert [found.origin(came, where).src_qpn for where in (roce(4, 17), roce(4, 18), roce(4, 19))] == [193, 194, None]


def test_queue_pair_is_not_known_where_its_number_is_sent_to_at_two_hosts() -> None:
    """Only egress tells where packets go; what came from elsewhere is no matter."""
    left = Interface("eth0", 1, Hook.TC, direction=Direction.EGRESS)
    counted = snapshot().interfaces[0][1]
    for second, known in (
        (egress(roce(4, 193, dst="10.0.0.9", slot=1)), None),
        (roce(4, 193, dst="10.0.0.9", slot=1), 17),
    ):
        flows = [flow(egress(roce(4, 193, slot=1))), flow(second)]
        ticked = snapshot(flows, [(Interface("eth0", 1), counted), (left, counted)])
        found = JoinedXdp(PlayedXdp(ticked), PlayedRdma()).tick()  # type: ignore[arg-type]
        assert found is not None
        assert found.origin(left, roce(4, 193)).src_qpn == known


def egress(where: FlowKey) -> FlowKey:
    return where._replace(flags=where.flags | EGRESS)
