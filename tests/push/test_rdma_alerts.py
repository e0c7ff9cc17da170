"""promtool accepts the alerts of mode rdma."""

from __future__ import annotations

import subprocess
from pathlib import Path

ALERTS = Path(__file__).parents[2] / "deploy/alerts/rdma.yml"


def test_promtool_accepts_the_alerts() -> None:
    done = subprocess.run(["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
