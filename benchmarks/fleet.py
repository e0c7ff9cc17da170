"""What a host costs its metrics server, by --series-by, --metrics and format: series, bytes and CPU time per interval.

The traffic is made up: 2000 connections of a server with 100 clients to three of its services, and of itself to 20
services of others, in one direction.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import cramjam

from benchmarks.push import CONSTANT, INTERFACE, SECOND
from xtrace.model.flow import COUNTERS, ENTRY, KEY, FlowSnapshot, FlowTable, InterfaceCounts, TickClock
from xtrace.sinks.kinds import MetricsOptions
from xtrace.sinks.metrics.encoding import Encoding, gzip
from xtrace.sinks.metrics.exposition import Exposition
from xtrace.sinks.metrics.flows import DESCRIBED, FlowMetrics
from xtrace.sinks.metrics.latest import Latest
from xtrace.sinks.metrics.otlp import Otlp
from xtrace.sinks.metrics.remote_write import RemoteWrite
from xtrace.sinks.metrics.sample import Interval
from xtrace.sinks.metrics.scrape import Renderer
from xtrace.sinks.metrics.snappy import literal

CONNECTIONS, CLIENTS, SERVICES = 2000, 100, 20
ROUNDS = 7
ZSTD_LEVEL = 3


def keys(choice: random.Random) -> bytes:
    """Return the packed keys of all connections."""

    def mapped(*last: int) -> bytes:
        return bytes(10) + b"\xff\xff\x0a\x00" + bytes(last)

    own = mapped(0, 17)
    packed = []
    for number in range(CONNECTIONS):
        ephemeral = 32768 + number
        if number % 2:
            ends = mapped(1, choice.randrange(CLIENTS)), own, ephemeral, choice.choice((22, 443, 9100))
        else:
            service = choice.randrange(SERVICES)
            ends = mapped(2, service), own, (5432, 6379, 9092)[service % 3], ephemeral
        packed.append(KEY.pack(*ends, 0, 0, 0x0800, 0, 6, 0, 0))
    return b"".join(packed)


def snapshot(packed: bytes, number: int, choice: random.Random) -> FlowSnapshot:
    """Return an interval in which every connection had traffic."""
    entries = b"".join(
        (
            packed[at : at + KEY.size]
            + COUNTERS.pack(choice.randrange(1, 10**4), choice.randrange(64, 10**7), 0, 0, 0, 0)
        ).ljust(ENTRY.size, b"\0")
        for at in range(0, len(packed), KEY.size)
    )
    flows = FlowTable(memoryview(entries), CONNECTIONS)
    end = 1_800_000_000 * SECOND + number * 5 * SECOND
    counts = InterfaceCounts(total=flows.sum(range(CONNECTIONS)))
    return FlowSnapshot(end, 5 * SECOND, end - 5 * SECOND, TickClock(), 0, flows, ((INTERFACE, counts),))


def pushed(options: MetricsOptions, encoding: Encoding) -> tuple[int, int, float, bytes]:
    """Return samples, compressed bytes and ms of CPU of an interval, the least of several rounds; and its body."""
    choice, metrics = random.Random(7), FlowMetrics(options)
    packed, spent, size, samples, body = keys(choice), [], 0, 0, b""
    for number in range(1, ROUNDS + 2):
        interval = snapshot(packed, number, choice)
        begun = time.process_time()
        encoding.add(metrics.samples(interval), DESCRIBED, Interval.of(interval))
        samples = len(encoding)
        body = encoding.body()
        size = len(encoding.compress(body))
        spent.append((time.process_time() - begun) * 1000)
    return samples, size, min(spent[1:]), body


def remote_write(version: int) -> RemoteWrite:
    """Return an encoding that writes 1.0 or 2.0."""
    encoding = RemoteWrite(CONSTANT)
    if version == 1:
        encoding.fall_back()
        encoding.body()
    return encoding


def compressions() -> Iterator[str]:
    """Yield what a body of each format takes, compressed by what servers read."""
    options = MetricsOptions(CONNECTIONS)
    formats: dict[str, Encoding] = {
        "import": Exposition(CONSTANT),
        **{f"remote write {number}.0": remote_write(number) for number in (1, 2)},
    }
    for name, encoding in formats.items():
        *_, body = pushed(options, encoding)
        sizes = {
            "not compressed": len(body),
            "gzip": len(gzip(body)),
            "snappy": len(cramjam.snappy.compress_raw(body)),
            "zstd": len(cramjam.zstd.compress(body, level=ZSTD_LEVEL)),
        }
        yield f"{name:16}: " + ", ".join(f"{how} {size / 1000:.1f} kB" for how, size in sizes.items())


def scraped(options: MetricsOptions) -> tuple[int, float]:
    """Return compressed bytes and ms of CPU of a scrape."""
    choice, metrics, latest, renderer = random.Random(7), FlowMetrics(options), Latest(), Renderer(CONSTANT)
    packed, spent, size = keys(choice), [], 0
    for number in range(1, ROUNDS + 2):
        interval = snapshot(packed, number, choice)
        begun = time.process_time()
        latest.add(metrics.samples(interval), DESCRIBED, Interval.of(interval))
        latest.publish()
        size = len(gzip(renderer.body(latest.view, False)))
        spent.append((time.process_time() - begun) * 1000)
    return size, min(spent[1:])


def measure() -> Iterator[str]:
    """Yield a line per choice."""
    yield f"{CONNECTIONS} connections, per interval: samples; kB and ms of CPU by import, remote write 1.0 and 2.0 (in"
    yield "  brackets kB without compression), OTLP, scrape"
    for series_by in ("flow", "service", "hosts"):
        for kept in ("all", "counters"):
            options = MetricsOptions(CONNECTIONS, series_by, kept == "all")
            samples, text, text_ms, _ = pushed(options, Exposition(CONSTANT))
            written = (pushed(options, remote_write(version)) for version in (1, 2))
            blocks = (
                f" {size / 1000:5.1f} kB {ms:5.1f} ms ({len(literal(body)) / 1000:6.1f} kB),"
                for _, size, ms, body in written
            )
            _, otlp, otlp_ms, _ = pushed(options, Otlp(CONSTANT, frozenset(), "1"))
            page, page_ms = scraped(options)
            yield (
                f"--series-by {series_by:7} --metrics {kept:8}: {samples:5}; {text / 1000:5.1f} kB {text_ms:5.1f} ms,"
                f"{''.join(blocks)} {otlp / 1000:5.1f} kB {otlp_ms:5.1f} ms, {page / 1000:5.1f} kB {page_ms:5.1f} ms"
            )
    yield from compressions()
