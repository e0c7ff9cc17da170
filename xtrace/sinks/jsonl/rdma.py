"""Mode rdma as JSON records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from xtrace.model.rdma import PortRecord, Process, QueuePairRecord, RdmaSnapshot, Reading
from xtrace.model.rdma_counters import TICKS, direction_of
from xtrace.model.rdma_processes import Owned, by_process
from xtrace.model.snapshot import Setup
from xtrace.model.words import Direction
from xtrace.sinks.jsonl.lines import rendered
from xtrace.sinks.kinds import JsonOptions, Record
from xtrace.sinks.render import timestamp, valid_unicode

TRAFFIC = ("rx_bytes", "tx_bytes", "rx_packets", "tx_packets")


class RdmaJson:
    """Records of ports, queue pairs and rails."""

    def __init__(self, options: JsonOptions) -> None:
        self._identity = options.identity

    def setup(self, setup: Setup) -> Record:
        """Nothing: mode rdma has no setup."""
        return {}

    def lines(self, snapshot: RdmaSnapshot) -> Iterator[bytes]:
        """All records of one interval."""
        return rendered(rdma_records(snapshot, self._identity))

    def totals(self, totals: object) -> Record:
        """Nothing: every port record has totals."""
        return {}


def rdma_records(snapshot: RdmaSnapshot, identity: Record) -> Iterator[Record]:
    """All records of one interval: ports, processes, queue pairs with --qps, rails."""
    common = {"ts": timestamp(snapshot.end_ns), **identity}
    seconds = round(snapshot.interval_ns / 1e9, 3)
    for record in snapshot.ports:
        spots = [spot for spot in snapshot.blind_spots if spot.id == record.id]
        yield {
            **port_record(record, common),
            **{f"{spot.direction.rx_tx}_invisible": round(spot.invisible, 4) for spot in spots},
        }
    pairs = snapshot.queue_pairs
    for owned in by_process(pairs.records):
        yield process_record(owned, common)
    if snapshot.every_queue_pair:
        for pair in pairs.records:
            yield queue_pair_record(pair, common)
    rails = snapshot.rails
    yield {
        "type": "rdma_rails",
        **common,
        "interval_s": seconds,
        "ports": rails.ports,
        "imbalance": None if rails.imbalance is None else round(rails.imbalance, 3),
        "idle": [str(port) for port in rails.idle],
        "down": [str(port) for port in rails.down],
        "unavailable": [str(port) for port in rails.unavailable],
        "health": rails.health,
        "reasons": list(rails.reasons),
        "queue_pairs_ts": timestamp(pairs.end_ns) if pairs.end_ns else None,
        "queue_pairs_unavailable": list(pairs.errors),
    }


def _port(record: PortRecord) -> Record:
    """Description and state of a port."""
    info = record.info
    fields = {
        "device": record.id.device,
        "port": record.id.port,
        "state": info.state,
        "physical_state": info.physical_state,
        "link_layer": info.link_layer,
        "rate": info.rate,
        "rate_bps": info.rate_bps,
        "interface": info.netdev,
        "driver": info.driver,
        "firmware": info.firmware,
        "pci": info.pci,
        "numa_node": info.numa_node,
        "lid": info.lid,
    }
    return {name: valid_unicode(value) if isinstance(value, str) else value for name, value in fields.items()}


def port_summary(record: PortRecord, host: str) -> Record:
    """A port in the list of -l -m rdma."""
    return {
        "type": "rdma_link",
        "host": valid_unicode(host),
        **_port(record),
        "hw_counters": len(record.hardware),
        "counters": len(record.standard),
        "unavailable": record.unavailable or record.uncounted or None,
    }


def port_record(record: PortRecord, common: Record) -> Record:
    """One port. Unknown is null, never zero."""
    return {
        "type": "rdma_port",
        **common,
        "interval_s": None if record.interval_ns is None else round(record.interval_ns / 1e9, 3),
        **_port(record),
        **{name: record.delta(name) for name in TRAFFIC},
        **{f"{way.rx_tx}_bps": _rounded(record.bit_rate(way), 0) for way in Direction},
        **{f"{way.rx_tx}_pps": _rounded(record.per_second(f"{way.rx_tx}_packets"), 1) for way in Direction},
        **{f"{way.rx_tx}_share": _rounded(record.share(way), 6) for way in Direction},
        "figures": {name: _figure(record, name) for name in record.figures},
        "hw_counters": _readings(record.hardware),
        "counters": _readings(record.standard),
        "ethernet": _readings(record.ethernet),
        "health": record.health,
        "reasons": list(record.reasons),
        "unavailable": record.unavailable or record.uncounted or None,
    }


def _rounded(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)


def _figure(record: PortRecord, name: str) -> Record:
    reading, names = record.figures[name]
    rendered = {**_reading(reading), "names": list(names)}
    if name not in TRAFFIC and name not in TICKS:
        share = record.per_million(name, direction_of(name))
        rendered["per_million"] = _rounded(share, 3)
    return rendered


def _readings(readings: Mapping[str, Reading]) -> Record:
    return {valid_unicode(name): _reading(reading) for name, reading in readings.items()}


def _reading(reading: Reading) -> Record:
    total, delta, status, reason = reading
    rendered: Record = {"total": total, "delta": delta, "status": status}
    if reason:
        rendered["reason"] = valid_unicode(reason)
    return rendered


def _owner(process: Process) -> Record:
    return {
        "pid": process.pid,
        "command": valid_unicode(process.command) if process.command else None,
        "container": process.container,
    }


def process_record(owned: Owned, common: Record) -> Record:
    """The queue pairs of one process or kernel module on one device."""
    return {
        "type": "rdma_process",
        **common,
        "device": valid_unicode(owned.device),
        **_owner(owned.owner),
        "queue_pairs": owned.count,
        "states": dict(owned.states),
        "types": dict(owned.types),
    }


def queue_pair_record(pair: QueuePairRecord, common: Record) -> Record:
    """One queue pair."""
    return {
        "type": "rdma_qp",
        **common,
        "device": valid_unicode(pair.id.device),
        "port": pair.id.port or None,
        "qpn": pair.number,
        "qp_type": pair.type,
        "state": pair.state,
        "remote_qpn": pair.remote,
        "remote_ip": pair.remote_address,
        **_owner(pair.process),
    }
