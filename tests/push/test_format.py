"""The exposition as Prometheus' own tool reads it."""

from __future__ import annotations

import subprocess

from tests.push.double import Answer, double
from tests.push.wire import wire


def test_promtool_finds_nothing_to_say_about_the_metrics() -> None:
    with (
        double(lambda number: Answer()) as server,
        wire() as wired,
        wired.traffic(),
        wired.watching("-o", "none", "-t", "300ms", "--push", server.base) as tool,
    ):
        body = server.wait_for(2).text
        assert tool.stop().code == 0
    checked = subprocess.run(["promtool", "check", "metrics"], input=body, text=True, capture_output=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    assert "xtrace_network_bytes_total{" in body
