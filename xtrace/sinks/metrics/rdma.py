"""Metrics of mode rdma. Counters are the hardware's totals, so increase() is correct across restarts of the tool.

The exception is a 32-bit counter that has wrapped: a restart forgets the wraps, and the drop looks like a reset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from xtrace.model.rdma import GAUGE, SATURATED, UNAVAILABLE, PortRecord, Rails, RdmaSnapshot
from xtrace.model.rdma_counters import FIGURES, TICKS
from xtrace.model.rdma_processes import by_process
from xtrace.model.snapshot import Setup
from xtrace.model.words import Direction
from xtrace.sinks.metrics.sample import Labels, Metric, Sample, Values

NAMED = {(source.set, name) for sources in FIGURES.values() for source in sources for name in source.names}
"""Counters with a common name."""

MOST_COMMANDS = 50
"""Commands with their own series; queue pairs of the others are summed as `other`."""

FIGURE_METRICS = {
    "rx_bytes": Metric("counter", "bytes", "Bytes that the RDMA port received, as its driver counts them."),
    "tx_bytes": Metric("counter", "bytes", "Bytes that the RDMA port sent, as its driver counts them."),
    "rx_packets": Metric("counter", "packets", "Packets that the RDMA port received."),
    "tx_packets": Metric("counter", "packets", "Packets that the RDMA port sent."),
    "cnp_rx": Metric(
        "counter", "packets", "Congestion notifications (CNPs) received: each asks this host to slow down."
    ),
    "cnp_ignored": Metric(
        "counter", "packets", "Congestion notifications (CNPs) received that the port did not act on."
    ),
    "cnp_tx": Metric(
        "counter", "packets", "Congestion notifications (CNPs) sent because packets arrived with ECN marks."
    ),
    "ecn_rx": Metric("counter", "packets", "Packets received with the ECN mark that switches set under congestion."),
    "xmit_wait": Metric(
        "counter", "ticks", "Ticks of the hardware's clock in which the port had data to send but could not send it."
    ),
    "slow_restart": Metric(
        "counter", "times", "Times that the port began to send again at a low rate (RoCE slow restart)."
    ),
    "rx_oos": Metric(
        "counter", "packets", "Packets received out of sequence: some before them were lost or came later."
    ),
    "seq_nak_rx": Metric(
        "counter", "packets", "NAKs received for a sequence error: the remote side missed packets of this host."
    ),
    "ack_timeout": Metric(
        "counter",
        "timeouts",
        "Times that no acknowledgement came within a queue pair's timeout; rxe: retried requests.",
    ),
    "implied_nak": Metric(
        "counter", "times", "Times that a later acknowledgement or response showed that one was lost."
    ),
    "rnr_rx": Metric("counter", "packets", "RNR NAKs received: the remote side had no receive buffer ready."),
    "retry_exceeded": Metric("counter", "times", "Times that a queue pair gave up after all its retries and failed."),
    "dup_req": Metric("counter", "requests", "Requests received that had been received before."),
    "no_rx_wqe": Metric(
        "counter", "packets", "Packets that arrived for a queue pair that had no receive buffer ready."
    ),
    "retrans": Metric(
        "counter", "retransmissions", "Retransmissions, of packets or of requests, as the driver counts them."
    ),
    "icrc": Metric("counter", "packets", "Packets received with a wrong invariant CRC (ICRC): damaged on the way."),
    "command_errors": Metric("counter", "commands", "Commands to the device that failed, or that it did not complete."),
    "link_downed": Metric("counter", "times", "Times that the link went down because recovery from errors failed."),
    "link_error_recovery": Metric("counter", "times", "Times that the link recovered from errors and stayed up."),
    "symbol_error": Metric("counter", "errors", "Minor errors on the physical lanes of the link."),
    "rcv_errors": Metric("counter", "packets", "Packets received with an error."),
    "xmit_discards": Metric("counter", "packets", "Packets discarded instead of sent: the port was down or congested."),
    "constraint_errors": Metric(
        "counter",
        "packets",
        "Packets, received or to be sent, that the port discarded by its partition or raw packet rules.",
    ),
    "link_integrity_errors": Metric(
        "counter", "times", "Times that local physical errors exceeded the port's threshold."
    ),
    "buffer_overrun_errors": Metric(
        "counter", "times", "Times that receive buffers overran in several flow control periods in a row."
    ),
}
"""Help texts of figures that have the same meaning with all drivers."""

DESCRIBED = {
    **{f"xtrace_rdma_{name}_total": FIGURE_METRICS[name] for name in FIGURES},
    "xtrace_rdma_driver_total": Metric(
        "counter",
        "",
        "Driver's counters without a metric of their own; the label counter has the driver's name for it.",
    ),
    "xtrace_rdma_level": Metric(
        "gauge",
        "",
        "Levels that the driver reports, such as active_qps; the label counter has the driver's name for it.",
    ),
    "xtrace_rdma_ethernet_events_total": Metric(
        "counter",
        "events",
        "Pauses, discards and link events of the RDMA port's interface, by the driver's name for them.",
    ),
    "xtrace_rdma_port_info": Metric("gauge", "", "Always 1; the labels describe the RDMA port."),
    "xtrace_rdma_port_active": Metric("gauge", "", "1 while the RDMA port is in state ACTIVE, else 0."),
    "xtrace_rdma_port_available": Metric("gauge", "", "1 while any figure of the RDMA port can be read, else 0."),
    "xtrace_rdma_port_health": Metric(
        "gauge", "", "Health of the RDMA port in the last interval: 0 ok, 1 warn, 2 critical."
    ),
    "xtrace_rdma_unavailable_counters": Metric(
        "gauge", "counters", "Counters of the RDMA port and its interface that could not be read in the last interval."
    ),
    "xtrace_rdma_saturated_counters": Metric(
        "gauge", "counters", "Counters of events at the RDMA port that have reached their maximum and grow no more."
    ),
    "xtrace_rdma_rate_bytes_per_second": Metric(
        "gauge", "bytes per second", "Line rate of the RDMA port as its driver reports it."
    ),
    "xtrace_rdma_bytes_per_second": Metric(
        "gauge", "bytes per second", "Bytes per second that the RDMA port carried in the last interval, by direction."
    ),
    "xtrace_rdma_line_rate_share": Metric(
        "gauge", "ratio", "Part of the RDMA port's line rate used in the last interval, 0 to 1, by direction."
    ),
    "xtrace_rdma_invisible_share": Metric(
        "gauge", "ratio", "Part of the RDMA port's traffic that mode xdp's hook did not see, 0 to 1, by direction."
    ),
    "xtrace_rdma_rail_imbalance": Metric(
        "gauge",
        "ratio",
        "Traffic of the busiest active RDMA port in the last interval, divided by the mean of all active ones.",
    ),
    "xtrace_rdma_rails_idle": Metric(
        "gauge", "ports", "Active RDMA ports without traffic in the last interval while others had some."
    ),
    "xtrace_rdma_rails_down": Metric("gauge", "ports", "RDMA ports that are not in state ACTIVE, or gone."),
    "xtrace_rdma_queue_pairs": Metric(
        "gauge", "queue pairs", "Queue pairs that the kernel listed last, by device, command and state."
    ),
}
"""In output order."""


class RdmaMetrics:
    """Ports, rails, queue pairs."""

    described = DESCRIBED

    def samples(self, snapshot: RdmaSnapshot) -> Iterator[Sample]:
        """Return all samples of one interval."""
        return rdma_samples(snapshot)

    def own(self, setup: Setup | None) -> Values:
        """Return nothing: mode rdma has no figures of the tool itself."""
        return {}


def rdma_samples(snapshot: RdmaSnapshot) -> Iterator[Sample]:
    """Yield all samples of one interval; unknown values have none."""
    for record in snapshot.ports:
        labels = (("device", record.id.device), ("port", str(record.id.port)))
        yield Sample(labels, {**_figures(record), **_port(record)})
        yield from _other_counters(record, labels)
        yield _info(record, labels)
        yield from _rates(record, labels)
    for spot in snapshot.blind_spots:
        where = (("device", spot.id.device), ("port", str(spot.id.port)), ("direction", spot.direction.rx_tx))
        yield Sample(where, {"xtrace_rdma_invisible_share": round(spot.invisible, 4)})
    yield Sample((), _rails(snapshot.rails))
    yield from _queue_pairs(snapshot)


def _figures(record: PortRecord) -> Values:
    totals = ((name, figure.reading.total) for name, figure in record.figures.items())
    return {f"xtrace_rdma_{name}_total": total for name, total in totals if total is not None}


def _other_counters(record: PortRecord, labels: Labels) -> Iterator[Sample]:
    """Yield counters under the driver's name."""
    for kind, readings in (("hw", record.hardware), ("std", record.standard)):
        for name, reading in readings.items():
            if (kind, name) not in NAMED and reading.status != GAUGE and reading.total is not None:
                own = (*labels, ("set", kind), ("counter", name))
                yield Sample(own, {"xtrace_rdma_driver_total": reading.total})
            elif reading.status == GAUGE and reading.total is not None:
                yield Sample((*labels, ("counter", name)), {"xtrace_rdma_level": reading.total})
    where = (*labels, ("interface", record.info.netdev or ""))
    for name, reading in record.ethernet.items():
        if reading.total is not None:
            yield Sample((*where, ("counter", name)), {"xtrace_rdma_ethernet_events_total": reading.total})


def _info(record: PortRecord, labels: Labels) -> Sample:
    info = record.info
    described = (
        ("interface", info.netdev),
        ("driver", info.driver),
        ("link_layer", info.link_layer),
        ("firmware", info.firmware),
        ("pci", info.pci),
    )
    known = tuple((name, text) for name, text in described if text)
    return Sample((*labels, *known), {"xtrace_rdma_port_info": 1})


def _port(record: PortRecord) -> Values:
    readings = [*record.hardware.values(), *record.standard.values(), *record.ethernet.values()]
    statuses = Counter(reading.status for reading in readings)
    # a full count of ticks hides no event
    ticks = sum(record.figures[name].reading.status == SATURATED for name in TICKS if name in record.figures)
    values: dict[str, int | float] = {
        "xtrace_rdma_port_available": int(record.available),
        "xtrace_rdma_port_health": record.health.rank,
        "xtrace_rdma_unavailable_counters": statuses[UNAVAILABLE],
        "xtrace_rdma_saturated_counters": statuses[SATURATED] - ticks,
    }
    if record.info.state is not None or record.gone:
        values["xtrace_rdma_port_active"] = int(record.info.is_active)
    if record.info.rate_bps is not None:
        values["xtrace_rdma_rate_bytes_per_second"] = record.info.rate_bps / 8
    return values


def _rates(record: PortRecord, labels: Labels) -> Iterator[Sample]:
    for direction in Direction:
        way = (*labels, ("direction", direction.rx_tx))
        rate, share = record.bit_rate(direction), record.share(direction)
        if rate is not None:
            yield Sample(way, {"xtrace_rdma_bytes_per_second": round(rate / 8)})
        if share is not None:
            yield Sample(way, {"xtrace_rdma_line_rate_share": round(share, 6)})


def _rails(rails: Rails) -> Values:
    values: dict[str, int | float] = {
        "xtrace_rdma_rails_idle": len(rails.idle),
        "xtrace_rdma_rails_down": len(rails.down),
    }
    if rails.imbalance is not None:
        values["xtrace_rdma_rail_imbalance"] = round(rails.imbalance, 4)
    return values


def _queue_pairs(snapshot: RdmaSnapshot) -> Iterator[Sample]:
    """Yield numbers of queue pairs by device, command and state; PIDs would make series without bound."""
    owned = by_process(snapshot.queue_pairs.records)
    commands = list(dict.fromkeys(process.owner.command for process in owned))[:MOST_COMMANDS]
    counts: Counter[tuple[str, str, str]] = Counter()
    for process in owned:
        command = process.owner.command if process.owner.command in commands else "other"
        for state, count in process.states.items():
            counts[process.device, command or "unknown", state] += count
    for (device, command, state), count in counts.items():
        labels = (("device", device), ("command", command), ("state", state))
        yield Sample(labels, {"xtrace_rdma_queue_pairs": count})
