"""Known traffic: simulated ticks as samples, and the sums that a query over a window must show."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple
from unittest.mock import patch

from tests.unit.make import BOOT, ETH0, NS, UDP, counts_of, flow, key, roce, snapshot
from xtrace.model.flow import EGRESS, FlowKey, FlowRecord, Interface
from xtrace.model.words import Direction, Hook
from xtrace.sinks.kinds import MetricsOptions
from xtrace.sinks.metrics import series
from xtrace.sinks.metrics.exposition import Exposition
from xtrace.sinks.metrics.flows import DESCRIBED, FlowMetrics, flow_labels
from xtrace.sinks.metrics.sample import Interval

TICK_S = 5
MACVLAN0 = ETH0._replace(name="macvlan0", slot=1)
ETH0_OUT = Interface("eth0", 0, Hook.TC, direction=Direction.EGRESS)
INTERFACES = (ETH0, MACVLAN0, ETH0_OUT)
MAX_SERIES = 3


class Traffic(NamedTuple):
    """Bytes and packets of a flow, or of `other`, at an interface in an interval."""

    tick: int
    labels: dict[str, str]
    bytes: int
    packets: int


class Known:
    """Ticks up to now, in which flows begin and end; `samples` has them in the text format."""

    def __init__(self, ticks: int = 360) -> None:
        self.ticks = ticks
        # samples never fall on the edge of a window
        self.start_ms = (round(time.time()) - ticks * TICK_S - 10) * 1000 + 137
        self.traffic: list[Traffic] = []
        self._metrics = FlowMetrics(MetricsOptions(MAX_SERIES))
        encoding = Exposition((("host", "n1"),))
        with patch.object(series, "NEW_PER_HOUR", 1000):  # so few series at once must do for all
            self.samples = "".join([self._body(encoding, tick) for tick in range(1, ticks + 1)])

    def _body(self, encoding: Exposition, tick: int) -> str:
        """Return an interval's samples."""
        flows = self._flows(tick)
        interfaces = [(member, counts_of([f for f in flows if _is_of(f.key, member)])) for member in INTERFACES]
        taken = snapshot(flows, interfaces, start_ns=(tick - 1) * TICK_S * NS, end_ns=tick * TICK_S * NS)
        taken = replace(taken, end_ns=taken.end_ns - BOOT + self.start_ms * 1_000_000)
        encoding.add(self._metrics.samples(taken), DESCRIBED, Interval.of(taken))
        return encoding.body().decode()

    def at_ms(self, tick: int) -> int:
        """Return when an interval ended."""
        return self.start_ms + tick * TICK_S * 1000

    def _flows(self, tick: int) -> list[FlowRecord]:
        """Return an interval's flows, and note them."""
        made: list[FlowRecord] = []

        def add(where: FlowKey, member: Interface, size: int, packets: int, shown: bool = True) -> None:
            made.append(flow(where._replace(slot=member.slot), packets, size))
            labels = dict(flow_labels(where)) if shown else {"src_ip": "other", "dst_ip": "other"}
            own = {"host": "n1", "interface": member.name, "direction": str(member.direction)}
            self.traffic.append(Traffic(tick, {**labels, **own}, size, packets))

        if tick == 20:  # one interval, seen at both, and small ones that have no series
            add(key(ports=(1000, 80)), ETH0, 500_000, 500)
            add(key(ports=(1000, 80)), MACVLAN0, 32_000, 500)
            for port in (1, 2):
                add(key(ports=(port, 53), protocol=UDP), ETH0, 90_000, 9)
            for port in range(3, 13):
                add(key(ports=(port, 53), protocol=UDP), ETH0, 1_000, 1, shown=False)
        if 20 <= tick < 30:
            add(key(ports=(443, 2000), flags=EGRESS), ETH0_OUT, 7_000, 7)
        if 120 <= tick < 136:
            add(key(ports=(4000, 4001), protocol=UDP), ETH0, 100_000, 100)
        if 200 <= tick < 203:
            add(roce(8, 193), ETH0, 64_000, 16)
            add(roce(4, 17), ETH0, 1_000, 4)
        return made

    def expected(self, query: str, at_ms: int) -> dict[frozenset[tuple[str, str]], float]:
        """Return what a sum over flow gauges, or a quotient of two, must show; of a topk() that shows all."""
        sums = [self._sum(part, at_ms) for part in SUM.findall(query)]
        assert len(sums) in (1, 2) and "sum" not in SUM.sub("", query), query
        if len(sums) == 1:
            return sums[0]
        return {labels: value / sums[1][labels] for labels, value in sums[0].items() if sums[1].get(labels)}

    def _sum(self, part: Sequence[str], at_ms: int) -> dict[frozenset[tuple[str, str]], float]:
        factor, by, unit, selector, window, divisor = part
        matchers = re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', selector)
        sums: Counter[frozenset[tuple[str, str]]] = Counter()
        for tick, labels, size, packets in self.traffic:
            if at_ms - UNITS_S[window[-1]] * int(window[:-1]) * 1000 < self.at_ms(tick) <= at_ms and all(
                matches(labels.get(name, ""), how, value) for name, how, value in matchers
            ):
                group = frozenset((name, labels[name]) for name in by.split(", ") if name in labels)
                sums[group] += size if unit == "bytes" else packets
        return {group: total * int(factor or 1) / int(divisor or 1) for group, total in sums.items()}


UNITS_S = {"s": 1, "m": 60, "h": 3600}
SUM = re.compile(
    r"(?:(\d+) \* )?sum by \(([^)]*)\) \(sum_over_time\(xtrace_network_flow_(\w+?)(?:\{([^}]*)\})?\[(\w+)\]\)\)"
    r"(?: / (\d+))?"
)


def matches(value: str, how: str, wanted: str) -> bool:
    """Return whether a label's value satisfies a PromQL matcher."""
    if how == "=~":
        return re.fullmatch(wanted, value) is not None
    return (value == wanted) == (how == "=")


def _is_of(where: FlowKey, member: Interface) -> bool:
    return where.slot == member.slot and bool(where.flags & EGRESS) == (member.direction == Direction.EGRESS)
