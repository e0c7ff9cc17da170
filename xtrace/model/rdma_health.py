"""Health of ports and rails: thresholds, and verdicts with reasons.

Thresholds have units that do not depend on the interval: events per minute, per million packets, or percent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from xtrace.model.limits import PER_MILLION, PER_MINUTE, Finding, Limit, Limits, level_of, worst_first
from xtrace.model.rdma import PortId, PortRecord, Rails
from xtrace.model.rdma_counters import LINK, direction_of
from xtrace.model.words import Health

LEAST_EVENTS = 10
"""Events in an interval from which a share of packets is judged: a few among a few hundred packets are no trend."""


ANY = ""
MEANINGS = {
    (ANY, "duplicate_request"): "the remote side repeated them: a response was lost or late",
    (ANY, "dup_req"): "the remote side repeated them: a response was lost or late",
    (ANY, "resp_rx_dup_request"): "the remote side repeated them: a response was lost or late",
    ("rdma_rxe", "completer_retry_err"): "rxe counts every retry here, including those after a NAK",
    ("efa", "unresponsive_remote_events"): "efa counts unresponsive remote hosts here, not retries",
    ("efa", "rx_drops"): "efa counts packets dropped for any reason here",
    ("mlx5_core", "roce_adp_retrans"): "mlx5 counts only retransmissions by its adaptive timer",
}
"""By driver and its name for a counter: what it means, if that differs from the figure's name."""


def judge(record: PortRecord, limits: Limits, was_active: bool) -> PortRecord:
    """The record with health and reasons. `was_active`: whether the port was ACTIVE earlier in this run."""
    findings = [*_state(record, was_active), *_counts(record, limits), *_saturated(record), *_paused(record, limits)]
    health, reasons = worst_first(findings)
    return replace(record, health=health, reasons=reasons)


def _state(record: PortRecord, was_active: bool) -> Iterator[Finding]:
    if record.unavailable:
        yield Finding(Health.CRITICAL, f"unavailable: {record.unavailable}")
    elif record.info.is_down:
        where = f"port {record.info.state}"
        if record.info.physical_state:
            where += f", link {record.info.physical_state}"
        yield Finding(Health.CRITICAL if was_active else Health.WARN, where + (", was ACTIVE" if was_active else ""))
    if record.uncounted:
        yield Finding(Health.WARN, f"not judged: {record.uncounted}")


def _counts(record: PortRecord, limits: Limits) -> Iterator[Finding]:
    seconds = (record.interval_ns or 0) / 1e9
    for name, limit in limits.items():
        delta = record.delta(name)
        if not delta or not seconds:
            continue
        value: float | None
        if limit.unit == PER_MINUTE:
            value = delta * 60 / seconds
        else:
            limit = limit if delta >= LEAST_EVENTS else _of_few(limit)
            value = record.per_million(name, direction_of(name))
            # without a packet count the share is unknown; every packet may be affected
            value = 1e6 if value is None else value
        level = level_of(value, limit)
        if level:
            share = f" ({value:.0f} per million packets)" if limit.unit == PER_MILLION else ""
            meaning = _meaning(record, name)
            yield Finding(level, f"{limit.words} {delta} in {_seconds(seconds)}{share}" + (meaning and f": {meaning}"))


def _of_few(limit: Limit) -> Limit:
    """The thresholds that a few events can exceed: those at 0."""
    return limit._replace(warn=None if limit.warn else limit.warn, critical=None if limit.critical else limit.critical)


def _meaning(record: PortRecord, figure: str) -> str:
    """What the driver's counters behind a figure mean, if it differs from the figure's name."""
    names = record.figures[figure].names
    known = (MEANINGS.get((driver, name)) for name in names for driver in (record.info.driver or ANY, ANY))
    return next(filter(None, known), "")


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 1 or seconds % 1 >= 0.05 else f"{seconds:.0f} s"


def _saturated(record: PortRecord) -> Iterator[Finding]:
    for name in LINK:
        figure = record.figures.get(name)
        if figure and figure.reading.status == "saturated":
            yield Finding(Health.WARN, f"{name} saturated at {figure.reading.total}: reset it to count again")


def _paused(record: PortRecord, limits: Limits) -> Iterator[Finding]:
    """Pause durations are microseconds."""
    microseconds = (record.interval_ns or 0) / 1e3
    for name, reading in record.ethernet.items():
        if not name.endswith("_pause_duration") or not reading.delta or not microseconds:
            continue
        percent = 100 * reading.delta / microseconds
        level = level_of(percent, limits["paused"])
        if level:
            yield Finding(level, f"{name.removesuffix('_duration')}: {percent:.0f} % {limits['paused'].words}")


def rails(records: Sequence[PortRecord], limits: Limits) -> Rails:
    """How evenly active ports carried bytes, both directions together; packets if not all drivers count bytes.

    Virtual functions without traffic are not rails: they wait for a guest.
    """
    records = [record for record in records if not _waits(record)]
    active = [record for record in records if record.info.is_active and not record.unavailable]
    down = tuple(record.id for record in records if record.gone or record.info.is_down)
    unavailable = tuple(record.id for record in records if record.unavailable)
    carried = _carried(active, "bytes")
    if len(carried) < len(active):
        carried = _carried(active, "packets")
    mean = sum(carried.values()) / len(carried) if carried else 0
    found = Rails(len(carried), None, (), down, unavailable)
    if len(carried) >= 2 and mean:
        idle = tuple(port for port, amount in carried.items() if not amount)
        found = replace(found, imbalance=max(carried.values()) / mean, idle=idle)
    health, reasons = worst_first(_uneven(found, limits))
    return replace(found, health=health, reasons=reasons)


def _waits(record: PortRecord) -> bool:
    """Whether it is a virtual function without traffic: by bytes, or by packets if bytes are unknown."""
    amounts = _carried([record], "bytes") or _carried([record], "packets")
    return record.info.is_function and not record.gone and not any(amounts.values())


def _uneven(found: Rails, limits: Limits) -> Iterator[Finding]:
    if found.unavailable:
        ports = ", ".join(map(str, found.unavailable))
        yield Finding(Health.CRITICAL, f"{len(found.unavailable)} ports gone or unreadable: {ports}")
    even = level_of(found.imbalance or 0, limits["imbalance"])
    if even:
        yield Finding(even, f"{found.imbalance:.2f} {limits['imbalance'].words}")
    idle = level_of(len(found.idle), limits["idle"])
    if idle:
        yield Finding(idle, f"{len(found.idle)} {limits['idle'].words}: {', '.join(map(str, found.idle))}")


def _carried(records: Sequence[PortRecord], unit: str) -> dict[PortId, int]:
    """Traffic of ports that count both directions."""
    found = {}
    for record in records:
        received, sent = record.delta(f"rx_{unit}"), record.delta(f"tx_{unit}")
        if received is not None and sent is not None:
            found[record.id] = received + sent
    return found
