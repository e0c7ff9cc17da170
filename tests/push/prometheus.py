"""Run the installed Prometheus on loopback over samples in the text format, which it imports as blocks."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.push.scrapers import Prometheus


def open_metrics(exposition: str) -> str:
    """Return samples of the text format as OpenMetrics: timestamps in seconds, in order, no descriptions."""
    samples = [line.rsplit(" ", 2) for line in exposition.splitlines() if not line.startswith("#")]
    samples.sort(key=lambda sample: int(sample[2]))
    lines = [f"{series} {value} {int(at_ms) / 1000:.3f}\n" for series, value, at_ms in samples]
    return "".join(lines) + "# EOF\n"


@contextmanager
def prometheus(exposition: str) -> Iterator[Prometheus]:
    """Run a Prometheus with imported samples for the block."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "samples").write_text(open_metrics(exposition))
        blocks = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(directory / "samples")]
        subprocess.run([*blocks, str(directory / "data")], check=True, capture_output=True)
        server = Prometheus(directory)
        try:
            yield server
        finally:
            server.close()
