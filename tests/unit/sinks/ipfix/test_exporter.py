"""The thread that sends: a collector that is away, killed, slow; over real sockets on loopback."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest

from tests.support.ipfix import Decoder, number
from tests.unit.make import flow, key, snapshot
from xtrace.model.flow import InterfaceCounts
from xtrace.sinks.ipfix import exporter as module
from xtrace.sinks.ipfix.exporter import Exporter, Interval
from xtrace.sinks.ipfix.link import Link, Tcp, Udp
from xtrace.sinks.ipfix.message import HEADER
from xtrace.sinks.ipfix.records import Unsent

GIVE_UP_S = 60.0
NOWHERE = ("127.0.0.1", 9)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.02)
    monkeypatch.setattr(module, "REFUSED_WITHIN_S", 0.05)


def interval(*packets: int) -> Interval:
    """An interval with a flow for each number of packets."""
    flows = [flow(key(ports=(80, 1024 + index)), count, 100 * count) for index, count in enumerate(packets)]
    return Interval(snapshot(flows), {7: "eth0"}, {0: 7}, InterfaceCounts())


def udp_socket(port: int = 0) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", port))
    made.settimeout(GIVE_UP_S)
    return made


def listener() -> socket.socket:
    made = socket.create_server(("127.0.0.1", 0))
    made.settimeout(GIVE_UP_S)
    return made


def port_of(taken: socket.socket) -> int:
    return int(taken.getsockname()[1])


def read(collector: socket.socket, intervals: int) -> list[int]:
    """Return the packets of all flows of that many intervals, of datagrams or a stream; a name ends an interval."""
    decoder, found, data = Decoder(), list[int](), b""
    while intervals:
        data += collector.recv(1 << 16)
        while len(data) >= 4 and len(data) >= (length := struct.unpack_from(">H", data, 2)[0]):
            records = [values for _, values in decoder.message(data[:length])]
            found += [number(values, 2) for values in records if 2 in values]
            intervals -= sum(82 in values for values in records)
            data = data[length:]
    return found


@contextmanager
def exporting(made: Exporter) -> Iterator[Exporter]:
    made.start(0.01)
    yield made
    made.close(GIVE_UP_S)


def test_datagrams_arrive_in_order_with_templates_first() -> None:
    with udp_socket() as collector, exporting(Exporter(Udp, ("127.0.0.1", port_of(collector)))) as made:
        made.submit(interval(*range(1, 101)))
        made.submit(interval(200))
        assert read(collector, 2) == [*range(1, 101), 200]


def test_datagrams_that_were_refused_are_sent_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    collector = udp_socket()
    port = port_of(collector)
    with exporting(Exporter(Udp, ("127.0.0.1", port))) as made:
        made.submit(interval(1, 2))
        assert read(collector, 1) == [1, 2]
        collector.close()
        made.submit(interval(*range(3, 103)))
        made.submit(interval(200))
        assert_eventually(lambda: "queued, retrying" in caplog.text)
        with udp_socket(port) as collector:
            assert read(collector, 2) == [*range(3, 103), 200]
            assert made.close(GIVE_UP_S) == Unsent()
    assert "Connection refused; flows are queued, retrying" in caplog.text
    assert "sending again after" in caplog.text


def test_stream_goes_on_over_a_new_connection_without_loss_or_double() -> None:
    with listener() as server, exporting(Exporter(Tcp, ("127.0.0.1", port_of(server)))) as made:
        made.submit(interval(1, 2))
        first, _ = server.accept()
        with first:
            first.settimeout(GIVE_UP_S)
            assert read(first, 1) == [1, 2]
        made.submit(interval(3, 4))
        second, _ = server.accept()
        with second:
            second.settimeout(GIVE_UP_S)
            assert read(second, 1) == [3, 4]


def test_stream_that_the_collector_does_not_read_delays_nobody() -> None:
    with listener() as server:
        made = Exporter(Tcp, ("127.0.0.1", port_of(server)))
        made.start(0.01)
        for _ in range(30):
            made.submit(interval(*range(1, 2000)))
        peer, _ = server.accept()
        unsent = made.close(0.2)
        peer.close()
        # the thread, which was not waited for, ends now
        assert_eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "ipfix"])
    assert 0 < unsent.flows < 30 * 1999


def test_what_waits_is_bounded_and_the_oldest_dropped(caplog: pytest.LogCaptureFixture) -> None:
    made = Exporter(Udp, NOWHERE, limit=10 * 96)
    for count in (1, 2, 3):
        made.submit(interval(*[count] * 5))
    made.start(0.01)
    assert made.close(0.1) == Unsent(15, 30, 3000)
    assert caplog.messages.count("ipfix to 127.0.0.1:9: more than 0 MiB queued; dropping the oldest flows") == 1


def test_end_is_bounded_without_a_collector_and_counts_what_was_not_sent() -> None:
    made = Exporter(Udp, NOWHERE)
    made.start(0.01)
    made.submit(interval(*range(1, 101)))
    made.submit(interval(7))
    assert made.close(0.3) == Unsent(101, 5057, 505700)


def test_run_that_ended_before_its_start_lost_nothing() -> None:
    assert Exporter(Udp, NOWHERE).close(0.1) == Unsent()


@pytest.mark.parametrize("kind", [Udp, Tcp])
def test_link_tells_what_was_lost(kind: Any) -> None:
    message = struct.pack(">HHIII", 10, 16, 0, 0, 1)
    with listener() if kind is Tcp else udp_socket() as collector:
        link: Link = kind(("127.0.0.1", port_of(collector)))
        link.send(message)
        if kind is Tcp:
            with collector.accept()[0] as peer:
                peer.recv(16)
        else:
            collector.recv(16)
    with pytest.raises(ConnectionError):
        for sequence in range(1, 100):
            link.send(message[:8] + struct.pack(">I", sequence) + message[12:])
            link.check(0.05)
    assert link.lost() == 1
    link.close()


def assert_eventually(holds: Any) -> None:
    waited = threading.Event()
    for _ in range(int(GIVE_UP_S / 0.01)):
        if holds():
            return
        waited.wait(0.01)
    raise AssertionError("did not happen")


@pytest.mark.parametrize("kind, waits", [(Udp, 1), (Tcp, 0)])
def test_datagrams_are_spread_over_the_interval_and_a_stream_is_not(
    monkeypatch: pytest.MonkeyPatch, kind: type[Udp] | type[Tcp], waits: int
) -> None:
    """A collector's buffer holds few datagrams; a stream waits by itself."""
    made = Exporter(kind, NOWHERE)
    waited: list[float] = []
    monkeypatch.setattr(made, "_wait", waited.append)
    made._pace(0.5)
    assert len(waited) == waits
    assert all(0 < pause_s <= module.MOST_SPREAD_S / 2 for pause_s in waited)


class Collector:
    """In place of a link: keeps what each connection got; one fails once, and then says how much of it was lost."""

    most, has_datagrams = 16384, False
    connections: ClassVar[list[list[bytes]]] = []
    fails_at: ClassVar[int] = 0
    """messages of the first connection before it fails"""
    lost_then: ClassVar[int] = 0

    def __init__(self, where: tuple[str, int]) -> None:
        self.connections.append([])

    def send(self, message: bytes) -> None:
        if len(self.connections) == 1 and len(self.connections[0]) == self.fails_at:
            raise ConnectionResetError(104, "gone")
        self.connections[-1].append(message)

    def check(self, wait_s: float) -> None:
        pass

    def lost(self) -> int:
        return self.lost_then

    def close(self) -> None:
        pass


class Datagrams(Collector):
    """The same, as datagrams: the templates come before each interval."""

    has_datagrams = True


def exported_over(kind: Any, monkeypatch: pytest.MonkeyPatch, fails_at: int, lost: int) -> list[list[bytes]]:
    """Two intervals of 2 and 3 flows over links that fail so; return what each connection got."""
    monkeypatch.setattr(Collector, "connections", [])
    monkeypatch.setattr(Collector, "fails_at", fails_at)
    monkeypatch.setattr(Collector, "lost_then", lost)
    with exporting(Exporter(kind, NOWHERE)) as made:
        made.submit(interval(1, 2))
        made.submit(interval(3, 4, 5))
    return Collector.connections


def sequences(messages: list[bytes]) -> list[int]:
    return [HEADER.unpack_from(message)[3] for message in messages]


def told(messages: list[bytes]) -> list[tuple[int, int]]:
    """How many flow records were exported, and how many were not sent: as each interval says of the run so far."""
    decoder = Decoder()
    records = [values for message in messages for _, values in decoder.message(message)]
    return [(number(values, 42), number(values, 166)) for values in records if 42 in values]


def packets(messages: list[bytes]) -> list[int]:
    decoder = Decoder()
    return [number(values, 2) for message in messages for _, values in decoder.message(message) if 2 in values]


def test_messages_are_numbered_by_the_data_records_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an interval: its flows, then the name of an interface and three records on what was not exported."""
    (got,) = exported_over(Collector, monkeypatch, 99, 0)
    assert sequences(got) == [0, 0, 2, 6, 9]
    assert packets(got) == [1, 2, 3, 4, 5]
    assert told(got) == [(2, 0), (5, 0)]


def test_datagrams_of_an_interval_begin_with_the_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    (got,) = exported_over(Datagrams, monkeypatch, 99, 0)
    assert sequences(got) == [0, 0, 0, 2, 6, 6, 9]
    assert got[0][16:] == got[1][16:] == got[4][16:]


def test_what_was_lost_with_a_connection_is_sent_and_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first connection had the templates, two flows and their interval's options, which did not arrive."""
    first, second = exported_over(Collector, monkeypatch, 3, 2)
    assert (packets(first), packets(second)) == ([1, 2], [1, 2, 3, 4, 5])
    assert sequences(second) == [0, 0, 2, 6, 9], "numbers begin anew"
    assert told(second) == [(2, 0), (5, 0)]


def test_what_arrived_before_a_connection_ended_stays_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = exported_over(Collector, monkeypatch, 3, 0)
    assert (packets(first), packets(second)) == ([1, 2], [3, 4, 5])
    assert told(second) == [(5, 0)]


@pytest.mark.parametrize("kind", [Collector, Datagrams])
def test_templates_are_sent_once_over_a_new_connection(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More was lost than was kept; what is sent again are the data records only."""
    _, second = exported_over(kind, monkeypatch, 3, 99)
    assert packets(second) == [1, 2, 3, 4, 5]
    assert [message[16:] == second[0][16:] for message in second].count(True) == (2 if kind is Datagrams else 1)


def test_only_the_messages_sent_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 1)
    first, second = exported_over(Collector, monkeypatch, 3, 99)
    assert (packets(first), packets(second)) == ([1, 2], [3, 4, 5])


class Clock:
    """Stands still until it is waited."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waited: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def wait(self, pause_s: float) -> None:
        self.waited.append(pause_s)
        self.now += pause_s


@pytest.mark.parametrize(
    "interval_s, is_ending, waits",
    [
        (4.0, False, [0.5, 0.5, 1.0]),  # over half of the interval
        (60.0, False, [1.25, 1.25, 2.5]),  # at most 5 s
        (4.0, True, [0.175, 0.175, 0.35]),  # 0.7 s, as somebody waits for the end
        (1.0, True, [0.125, 0.125, 0.25]),
        (0.015, False, [0.00375, 0.00375]),  # what is shorter than a timer's precision adds up
    ],
)
def test_datagrams_are_spread_over_a_part_of_the_interval(
    interval_s: float, is_ending: bool, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    made = Exporter(Udp, NOWHERE)
    monkeypatch.setattr(made, "_wait", clock.wait)
    monkeypatch.setattr(made._thread, "start", lambda: None)
    made.start(interval_s)
    made._closes_at = 1000.0 if is_ending else None
    for share in (0.25, 0.25, 0.5):
        made._pace(share)
    assert clock.waited == pytest.approx(waits)


@pytest.mark.parametrize(
    "closes_in_s, pause_s, waited_s", [(10.0, 1.0, 0.2), (0.15, 1.0, 0.15), (10.0, 0.1, 0.1), (-1.0, 1.0, 0.0)]
)
def test_pauses_are_short_once_the_end_has_come(
    closes_in_s: float, pause_s: float, waited_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    made = Exporter(Udp, NOWHERE)
    made._closes_at = clock.now + closes_in_s
    monkeypatch.setattr(made._changed, "wait", clock.wait, raising=False)
    made._wait(pause_s)
    assert clock.waited == pytest.approx([waited_s])


def test_pauses_last_until_the_end_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Exporter(Udp, NOWHERE)
    waited: list[tuple[bool, float]] = []

    def wait_for(holds: Any, pause_s: float) -> None:
        before, made._closes_at = holds(), 5.0
        waited.extend([(before, pause_s), (holds(), pause_s)])

    monkeypatch.setattr(made._changed, "wait_for", wait_for, raising=False)
    made._wait(1.5)
    assert waited == [(False, 1.5), (True, 1.5)]


def test_the_newest_interval_is_kept_however_large(caplog: pytest.LogCaptureFixture) -> None:
    made = Exporter(Udp, NOWHERE, limit=3 * 96)
    for packets_of in ((1, 1, 1), (2, 2, 2, 2), (3,)):
        made.submit(interval(*packets_of))
    assert made._unsent == Unsent(7, 11, 1100)
    assert [each.snapshot.flows[0].packets for each in made._waiting] == [3]
    exactly = Exporter(Udp, NOWHERE, limit=3 * 96)
    exactly.submit(interval(1, 1))
    exactly.submit(interval(1))
    assert (exactly._unsent, len(exactly._waiting)) == (Unsent(), 2)


def test_a_queue_that_was_full_is_told_of_again_only_once_it_was_empty(caplog: pytest.LogCaptureFixture) -> None:
    made = Exporter(Udp, NOWHERE, limit=2 * 96)

    def submit(number: int) -> int:
        for _ in range(number):
            made.submit(interval(1))
        return len(caplog.messages)

    assert submit(2) == 0
    assert submit(2) == 1
    made._next()
    assert submit(2) == 1, "it has stayed full"
    made._next()
    made._next()
    assert submit(3) == 2


def test_a_socket_that_cannot_connect_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []

    class Unconnected(socket.socket):
        def connect(self, address: Any) -> None:
            made.append(self)
            raise OSError(101, "Network is unreachable")

    monkeypatch.setattr("xtrace.sinks.ipfix.link.socket.socket", Unconnected)
    for host in ("127.0.0.1", "::1"):
        with pytest.raises(OSError, match="unreachable"):
            Udp((host, 9))
    assert [each.fileno() for each in made] == [-1, -1]


@pytest.mark.parametrize("late", range(4))
def test_datagrams_since_the_first_that_was_refused_are_lost(late: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The errors that the kernel queued quote the headers, of these messages or of earlier ones."""
    with udp_socket() as collector:
        link = Udp(("127.0.0.1", port_of(collector)))
        for sequence in (10, 20, 30, 40):
            link.send(HEADER.pack(10, 16, 0, sequence, 1))
        refused = [7, *(10 * (each + 1) for each in range(3, late - 1, -1))]
        monkeypatch.setattr(link, "_refused", lambda: refused)
        assert link.lost() == 4 - late
        monkeypatch.setattr(link, "_refused", lambda: refused)
        assert link.lost() == 0, "they are sent again, and counted once"
        link.close()


@pytest.mark.parametrize("kind", [Udp, Tcp])
def test_link_that_is_closed_has_no_socket(kind: Any) -> None:
    with listener() if kind is Tcp else udp_socket() as collector:
        link = kind(("127.0.0.1", port_of(collector)))
        assert link._socket.fileno() >= 0
        link.close()
        assert link._socket.fileno() == -1


@pytest.mark.parametrize("kind, most, has_datagrams", [(Udp, 1400, True), (Tcp, 16384, False)])
def test_messages_of_datagrams_fit_a_frame_and_those_of_streams_are_larger(
    kind: Any, most: int, has_datagrams: bool
) -> None:
    assert (kind.most, kind.has_datagrams) == (most, has_datagrams)


def test_a_stream_forgets_what_the_collectors_host_has_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells the bytes that are not acknowledged."""
    with listener() as server:
        link = Tcp(("127.0.0.1", port_of(server)))
        waiting = [48]
        monkeypatch.setattr("xtrace.sinks.ipfix.link.fcntl.ioctl", lambda *_: struct.pack("i", waiting[0]))
        for _ in range(3):
            link.send(bytes(16))
        for unacknowledged, lost in ((48, 3), (33, 3), (32, 2), (17, 2), (16, 1), (1, 1), (0, 0)):
            waiting[0] = unacknowledged
            assert link.lost() == lost
        link.close()
