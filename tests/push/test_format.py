"""promtool accepts the exposition."""

from __future__ import annotations

import subprocess

from tests.push.double import Answer, double
from tests.push.wire import wire


def one_sample_each(body: str) -> str:
    """Return the exposition with only the last sample of every series: promtool rejects a second one.

    Samples of one series may have different times, never the same.
    """
    lines = body.splitlines()
    of_series = [line.rsplit(" ", 2) for line in lines if not line.startswith("#")]
    assert len({(series, at_ms) for series, _, at_ms in of_series}) == len(of_series)
    last = {line if line.startswith("#") else line.rsplit(" ", 2)[0]: line for line in lines}
    return "".join(f"{line}\n" for line in last.values())


def test_promtool_accepts_the_metrics() -> None:
    with (
        double(lambda number: Answer()) as server,
        wire() as wired,
        wired.traffic(),
        wired.watching("-o", "none", "-t", "300ms", "--push", server.base) as tool,
    ):
        body = server.wait_for(2).text
        assert tool.stop().code == 0
    command = ["promtool", "check", "metrics"]
    checked = subprocess.run(command, input=one_sample_each(body), text=True, capture_output=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    assert "xtrace_network_bytes_total{" in body
