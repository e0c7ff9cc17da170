"""What the sink hands to the thread that sends."""

from __future__ import annotations

import logging
import socket
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.make import flow, key, snapshot
from tests.unit.make_rdma import snapshot as rdma_snapshot
from xtrace.model.flow import Interface, InterfaceCounts, Origin, PacketCount
from xtrace.sinks import Run
from xtrace.sinks.ipfix import sink as module
from xtrace.sinks.ipfix.exporter import Interval
from xtrace.sinks.ipfix.link import Tcp, Udp
from xtrace.sinks.ipfix.records import Unsent
from xtrace.sinks.ipfix.sink import Ipfix

LO = socket.if_nametoindex("lo")


class Taken:
    """In place of the exporter."""

    interval_s = 0.0

    def __init__(self, *_: Any) -> None:
        self.intervals: list[Interval] = []
        self.unsent = Unsent()

    def start(self, interval_s: float) -> None:
        self.interval_s = interval_s

    def submit(self, interval: Interval) -> None:
        self.intervals.append(interval)

    def close(self, limit_s: float) -> Unsent:
        return self.unsent


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    made = Taken()
    monkeypatch.setattr(module, "Exporter", lambda *_: made)
    return made


def interface(name: str, slot: int, packets: int) -> tuple[Interface, InterfaceCounts]:
    return Interface(name, slot=slot), InterfaceCounts(total=PacketCount(packets, 100 * packets))


def test_intervals_have_the_counts_of_the_run_so_far(taken: Taken) -> None:
    sink = Ipfix("udp", "127.0.0.1", 4739)
    for packets in (3, 4):
        sink.write(snapshot([flow(key(), packets, 300)], [interface("lo", 0, packets)]))
    assert [interval.counts.total.packets for interval in taken.intervals] == [3, 7]
    assert [interval.snapshot.flows[0].packets for interval in taken.intervals] == [3, 4]


def test_interfaces_are_named_by_the_kernels_index_and_0_if_they_are_gone(taken: Taken) -> None:
    Ipfix("udp", "127.0.0.1", 4739).write(snapshot([], [interface("lo", 3, 0), interface("no-such", 5, 0)]))
    (interval,) = taken.intervals
    assert interval.indexes == {3: LO, 5: 0}
    assert interval.names == {LO: "lo", 0: "no-such"}


def test_flows_that_were_not_sent_are_told_at_the_end(taken: Taken, caplog: pytest.LogCaptureFixture) -> None:
    sink = Ipfix("udp", "127.0.0.1", 4739)
    sink.close(1)
    assert (sink.unsent, caplog.text) == (False, "")
    taken.unsent = Unsent(2, 30, 4000)
    with caplog.at_level(logging.ERROR):
        sink.close(1)
    assert sink.unsent
    assert "ipfix to 127.0.0.1:4739: ended; not sent: 2 flows, 30 packets" in caplog.text


@pytest.mark.parametrize("protocol, kind", [("udp", Udp), ("tcp", Tcp)])
def test_the_exporter_is_told_where_how_and_how_often(
    protocol: str, kind: type, taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def made(*arguments: Any) -> Taken:
        given.extend(arguments)
        return taken

    monkeypatch.setattr(module, "Exporter", made)
    Ipfix(protocol, "n2", 4739, biflow=True).start(Run("1", 2.5, ("xdp",), {}))
    assert (given, taken.interval_s) == ([kind, ("n2", 4739), True], 2.5)


def test_other_modes_have_no_records(taken: Taken) -> None:
    Ipfix("udp", "127.0.0.1", 4739).write(rdma_snapshot())
    assert taken.intervals == []


def test_flows_are_copied_and_ask_nobody_for_their_origin(taken: Taken) -> None:
    shown = replace(snapshot([flow(key(), 3, 300)]), find_origin=lambda *_: Origin())
    Ipfix("udp", "127.0.0.1", 4739).write(shown)
    shown.flows.release()
    (interval,) = taken.intervals
    assert (interval.snapshot.flows[0].bytes, interval.snapshot.find_origin) == (300, None)
