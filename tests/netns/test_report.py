"""The report of a real run has the run's own totals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.netns.load import flood
from tests.netns.tool import XDP_ON_FAR0, run_to_end, running
from tests.support.net import of_type, veth_pair
from tests.unit.report.test_report import Page


def test_report_of_a_run_has_the_totals_of_its_end_record(tmp_path: Path) -> None:
    source, target = tmp_path / "run.jsonl", tmp_path / "page.html"
    with veth_pair(addresses=False) as pair, running(pair.far, *XDP_ON_FAR0, "-t", "100", "--top", "5") as tool:
        flood(pair, 50_000)
        result = tool.stop()
    source.write_bytes(result.stdout)
    command = (sys.executable, "-m", "xtrace", "report", str(source), "-o", str(target))
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    page = Page(target.read_text())
    (end,) = of_type(result.records, "end")
    (total,) = end["interfaces"]
    (row,) = page.tables["Totals of the run"][1:]
    assert row[:4] == ["far0", "in", f"={total['packets']}", f"={total['bytes']}"]
    assert total["packets"] > 50_000 - 1
    parts = [sum(record["bytes"] for record in of_type(result.records, kind)) for kind in ("flow", "other")]
    assert [int(cell[1:]) for cell in row[4:6]] == parts
    assert row[-1] == "close"


def test_report_ends_with_a_usage_error_on_a_wrong_option() -> None:
    with veth_pair() as pair:
        result = run_to_end(pair.far, "report", "--nonsense")
    assert (result.code, result.stdout) == (2, b"")
    assert result.said == ["xtrace-catch: report: unknown option --nonsense (see xtrace-catch report --help)"]
