"""The thread that sends: a collector that is away, killed, slow; over real sockets on loopback."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.ipfix import Decoder, number
from tests.unit.make import flow, key, snapshot
from xtrace.model.flow import InterfaceCounts
from xtrace.sinks.ipfix import exporter as module
from xtrace.sinks.ipfix.exporter import Exporter, Interval
from xtrace.sinks.ipfix.link import Link, Tcp, Udp
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
