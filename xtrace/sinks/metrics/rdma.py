"""Mode rdma as metrics. Counters are the hardware's totals, so increase() is right across restarts of the tool, too.

Not so after a 32-bit counter wrapped: a restart forgets the wraps, and the total's fall is taken for a reset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from xtrace.model.rdma import GAUGE, SATURATED, PortRecord, RdmaSnapshot
from xtrace.model.rdma_counters import FIGURES, TICKS
from xtrace.model.rdma_health import LEVELS
from xtrace.model.rdma_processes import by_process
from xtrace.sinks.metrics.sample import Labels, Sample

NAMED = {(source.set, name) for sources in FIGURES.values() for source in sources for name in source.names}
"""Counters that have a name of ours."""

MOST_COMMANDS = 50
"""Commands with series of their own; the others' queue pairs are added up as `other`."""

TRAFFIC = {
    "rx_bytes": "Bytes that the RDMA port received",
    "tx_bytes": "Bytes that the RDMA port sent",
    "rx_packets": "Packets that the RDMA port received",
    "tx_packets": "Packets that the RDMA port sent",
}

DESCRIBED = {
    **{f"xtrace_rdma_{name}_total": f"RDMA port counter {name}, of all drivers the same" for name in FIGURES},
    **{f"xtrace_rdma_{name}_total": text for name, text in TRAFFIC.items()},
    "xtrace_rdma_counter_total": "RDMA port counters that have no name of ours, by the driver's",
    "xtrace_rdma_level": "Levels that RDMA drivers tell beside counters, as active_qps",
    "xtrace_rdma_ethernet_counter_total": "Pause, discard and link counters of the RDMA port's interface",
    "xtrace_rdma_port_info": "1; what the RDMA port is stands in the labels",
    "xtrace_rdma_port_active": "1 while the RDMA port is ACTIVE, else 0",
    "xtrace_rdma_port_available": "1 while any figure of the RDMA port can be read, else 0",
    "xtrace_rdma_port_health": "0 ok, 1 warn, 2 critical",
    "xtrace_rdma_rate_bits_per_second": "Line rate of the RDMA port as its driver tells it",
    "xtrace_rdma_bits_per_second": "Bits per second in the last interval",
    "xtrace_rdma_line_rate_share": "Part of the line rate used in the last interval, 0 to 1",
    "xtrace_rdma_unavailable_counters": "Counters of the RDMA port that could not be read",
    "xtrace_rdma_saturated_counters": "Counters of events at the RDMA port that stand at their maximum",
    "xtrace_rdma_invisible_share": "Part of the port's traffic that mode xdp's hook did not see, 0 to 1",
    "xtrace_rdma_rail_imbalance": "Traffic of the busiest active port by the mean of all",
    "xtrace_rdma_rails_idle": "Active ports without traffic while others had some",
    "xtrace_rdma_rails_down": "RDMA ports that are not ACTIVE, or gone",
    "xtrace_rdma_queue_pairs": "Queue pairs when they were last asked for",
}


def rdma_samples(snapshot: RdmaSnapshot) -> Iterator[Sample]:
    """All series of one interval. What is not known has no sample."""
    for record in snapshot.ports:
        labels = (("device", record.id.device), ("port", str(record.id.port)))
        yield from _totals(record, labels)
        yield from _port(record, labels)
    for spot in snapshot.blind_spots:
        where = (("device", spot.id.device), ("port", str(spot.id.port)), ("direction", spot.direction))
        yield Sample("xtrace_rdma_invisible_share", "gauge", where, round(spot.invisible, 4))
    rails = snapshot.rails
    if rails.imbalance is not None:
        yield Sample("xtrace_rdma_rail_imbalance", "gauge", (), round(rails.imbalance, 4))
    yield Sample("xtrace_rdma_rails_idle", "gauge", (), len(rails.idle))
    yield Sample("xtrace_rdma_rails_down", "gauge", (), len(rails.down))
    yield from _queue_pairs(snapshot)


def _totals(record: PortRecord, labels: Labels) -> Iterator[Sample]:
    for name, figure in record.figures.items():
        if figure.reading.total is not None:
            yield Sample(f"xtrace_rdma_{name}_total", "counter", labels, figure.reading.total)
    for kind, readings in (("hw", record.hardware), ("std", record.standard)):
        for name, reading in readings.items():
            if (kind, name) not in NAMED and reading.status != GAUGE and reading.total is not None:
                own = (*labels, ("set", kind), ("counter", name))
                yield Sample("xtrace_rdma_counter_total", "counter", own, reading.total)
            elif reading.status == GAUGE and reading.total is not None:
                yield Sample("xtrace_rdma_level", "gauge", (*labels, ("counter", name)), reading.total)
    where = (*labels, ("interface", record.info.netdev or ""))
    for name, reading in record.ethernet.items():
        if reading.total is not None:
            yield Sample("xtrace_rdma_ethernet_counter_total", "counter", (*where, ("counter", name)), reading.total)


def _port(record: PortRecord, labels: Labels) -> Iterator[Sample]:
    info = record.info
    described = (
        ("interface", info.netdev),
        ("driver", info.driver),
        ("link_layer", info.link_layer),
        ("firmware", info.firmware),
        ("pci", info.pci),
    )
    known = tuple((name, text) for name, text in described if text)
    readings = [*record.hardware.values(), *record.standard.values(), *record.ethernet.values()]
    statuses = Counter(reading.status for reading in readings)
    # a full count of ticks tells of no event that would be missed
    ticks = sum(record.figures[name].reading.status == SATURATED for name in TICKS if name in record.figures)
    yield Sample("xtrace_rdma_port_info", "gauge", (*labels, *known), 1)
    if info.state is not None or record.gone:
        yield Sample("xtrace_rdma_port_active", "gauge", labels, int(info.state == "ACTIVE"))
    yield Sample("xtrace_rdma_port_available", "gauge", labels, int(record.available))
    yield Sample("xtrace_rdma_port_health", "gauge", labels, LEVELS.index(record.health))
    yield Sample("xtrace_rdma_unavailable_counters", "gauge", labels, statuses["unavailable"])
    yield Sample("xtrace_rdma_saturated_counters", "gauge", labels, statuses[SATURATED] - ticks)
    if info.rate_bps is not None:
        yield Sample("xtrace_rdma_rate_bits_per_second", "gauge", labels, info.rate_bps)
    for direction in ("rx", "tx"):
        way = (*labels, ("direction", direction))
        rate, share = record.bit_rate(direction), record.share(direction)
        if rate is not None:
            yield Sample("xtrace_rdma_bits_per_second", "gauge", way, round(rate))
        if share is not None:
            yield Sample("xtrace_rdma_line_rate_share", "gauge", way, round(share, 6))


def _queue_pairs(snapshot: RdmaSnapshot) -> Iterator[Sample]:
    """By device, command and state: processes come and go, commands stay."""
    owned = by_process(snapshot.queue_pairs.records)
    commands = list(dict.fromkeys(process.owner.command for process in owned))[:MOST_COMMANDS]
    counts: Counter[tuple[str, str, str]] = Counter()
    for process in owned:
        command = process.owner.command if process.owner.command in commands else "other"
        for state, count in process.states.items():
            counts[process.device, command or "unknown", state] += count
    for (device, command, state), count in counts.items():
        labels = (("device", device), ("command", command), ("state", state))
        yield Sample("xtrace_rdma_queue_pairs", "gauge", labels, count)
