"""Mode rdma as text: a block per port, then processes and rails."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from xtrace.model.rdma import PortRecord, QueuePairRecord, RdmaSnapshot, Reading
from xtrace.model.rdma_counters import CONGESTION, LINK, LOSS, TICKS, direction_of
from xtrace.model.rdma_processes import by_process
from xtrace.model.words import Direction
from xtrace.sinks.render import short_id
from xtrace.sinks.text.units import scaled


class RdmaText:
    """Ports, processes, rails."""

    def lines(self, snapshot: RdmaSnapshot) -> Iterator[str]:
        """All lines of one interval."""
        return rdma_lines(snapshot)

    def totals(self, totals: object) -> tuple[str, ...]:
        """Nothing: every port's lines have totals."""
        return ()


def rdma_lines(snapshot: RdmaSnapshot) -> Iterator[str]:
    """All lines of one interval."""
    clock = time.strftime("%H:%M:%S", time.localtime(snapshot.end_ns / 1e9))
    for record in snapshot.ports:
        yield from port_lines(record, clock)
    for process in by_process(snapshot.queue_pairs.records):
        states = " ".join(f"{state}={count}" for state, count in process.states.items())
        where = f" container={short_id(process.owner.container)}" if process.owner.container else ""
        pid = "-" if process.owner.pid is None else process.owner.pid
        yield (
            f"{process.device} pid={pid} {process.owner.command or '?'} queue_pairs={process.count} {states}{where}\n"
        )
    if snapshot.every_queue_pair:
        yield from map(queue_pair_line, snapshot.queue_pairs.records)
    for error in snapshot.queue_pairs.errors:
        yield f"queue pairs unavailable: {error}\n"
    rails = snapshot.rails
    if rails.imbalance is not None or rails.unavailable or (rails.ports > 1 and rails.down):
        even = "-" if rails.imbalance is None else f"{rails.imbalance:.2f}"
        idle, down = (",".join(map(str, ports)) or "-" for ports in (rails.idle, rails.down))
        lost = f" unavailable={','.join(map(str, rails.unavailable))}" if rails.unavailable else ""
        yield f"rails {clock} ports={rails.ports} imbalance={even} idle={idle} down={down} {rails.health}{lost}\n"


def port_lines(record: PortRecord, clock: str) -> Iterator[str]:
    """The block of one port."""
    info = record.info
    words = [
        info.state or "state unavailable", info.physical_state, info.link_layer, info.rate, info.netdev,
        info.driver, info.pci, None if info.numa_node is None else f"numa={info.numa_node}",
    ]  # fmt: skip
    length = "-" if record.interval_ns is None else f"{record.interval_ns / 1e9:.1f}s"
    yield f"{record.id} {clock} {length} {' '.join(word for word in words if word)} {record.health}\n"
    if not record.unavailable:  # else the reasons show why
        yield from (_traffic(record, direction) for direction in Direction)
        for title, names in (("congestion", CONGESTION), ("loss", LOSS), ("link", LINK)):
            yield from _figures(record, title, names)
    if record.reasons:
        yield f"  {record.health}: {'; '.join(record.reasons)}\n"


def _traffic(record: PortRecord, direction: Direction) -> str:
    """`  rx 97.2 Gbit/s 97.2 % of line rate, 11.9 M packets/s, mean 1024 B, total 12345 bytes 678 packets`"""
    way = direction.rx_tx
    rate, share = record.bit_rate(direction), record.share(direction)
    packets = record.per_second(f"{way}_packets")
    size, count = record.delta(f"{way}_bytes"), record.delta(f"{way}_packets")
    parts = ["- bit/s" if rate is None else f"{scaled(rate)}bit/s"]
    if share is not None:
        parts[0] += f" {100 * share:.1f} % of line rate"
    parts.append("- packets/s" if packets is None else f"{scaled(packets)}packets/s")
    if size is not None and count:
        parts.append(f"mean {size / count:.0f} B")
    totals = [record.total(f"{way}_{unit}") for unit in ("bytes", "packets")]
    known = ["-" if total is None else str(total) for total in totals]
    return f"  {way} {', '.join(parts)}, total {known[0]} bytes {known[1]} packets\n"


def _figures(record: PortRecord, title: str, names: Sequence[str]) -> Iterator[str]:
    """Figures that grew or are unknown, with the driver's names, and how many are unchanged."""
    present = [name for name in names if name in record.figures]
    if not present:
        return
    shown = [text for name in present if (text := _figure(record, name))]
    quiet = len(present) - len(shown)
    rest = [f"{quiet} unchanged"] if quiet else []
    yield f"  {title}: {', '.join([*shown, *rest])}\n"


def _figure(record: PortRecord, name: str) -> str:
    reading, names = record.figures[name]
    if reading.status == "ok" and not reading.delta:
        return ""
    text = f"{name}={amount(reading)}"
    share = None if name in TICKS else record.per_million(name, direction_of(name))
    if share:
        text += f" ({share:.1f}/M)"
    return f"{text} [{'+'.join(names)}]"


def amount(reading: Reading) -> str:
    """The growth, or in words why there is none."""
    if reading.status == "unavailable":
        return "unavailable"
    if reading.status == "saturated":
        return f"saturated at {reading.total}"
    if reading.delta is None:
        return f"{reading.status}, total {reading.total}"
    return str(reading.delta)


def queue_pair_line(record: QueuePairRecord) -> str:
    """`rxe0/1 qp 17 RC RTS -> 18 10.0.0.2 pid=434 ib_write_bw`"""
    remote = "-" if record.remote is None else str(record.remote)
    address = f" {record.remote_address}" if record.remote_address else ""
    pid = "-" if record.process.pid is None else record.process.pid
    owner = f"pid={pid} {record.process.command or '?'}"
    return f"{record.id} qp {record.number} {record.type} {record.state} -> {remote}{address} {owner}\n"
