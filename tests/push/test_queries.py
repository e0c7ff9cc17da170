"""The queries of docs/fleet.md over JSON Lines: DuckDB and polars read a run as it is, and find what is in it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.push.compare import LINES
from tests.push.test_fleet import block
from tests.push.wire import wire
from tests.support.net import of_type

SILENT_FOR = timedelta(minutes=2)
"""Of the second host, whose records are those of the first, but older."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, LINES]]:
    """The folder with the records of two hosts, and those of the first, n1."""
    folder = tmp_path_factory.mktemp("runs")
    with wire() as wired, wired.traffic():
        variables = {"XTRACE_HOST": "n1"}
        with wired.watching("-o", "json", "-t", "500ms", "-c", "4", variables=variables) as tool:
            result = tool.wait()
    assert result.code == 0, result.said
    (folder / "run.jsonl").write_bytes(result.stdout)
    older = [{**record, "host": "n2", "ts": earlier(record["ts"])} for record in result.records]
    (folder / "n2.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in older))
    yield folder, result.records


def earlier(ts: str) -> str:
    moved = datetime.fromisoformat(ts.replace("Z", "+00:00")) - SILENT_FOR
    return moved.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moved.microsecond // 1000:03d}Z"


@pytest.fixture(scope="module")
def tables(run: tuple[Path, LINES]) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """The result of each documented query by its comment, and that of `records` itself."""
    view, *queries = block("duckdb").replace("run.jsonl", f"{run[0]}/*.jsonl").split(";\n")[:-1]
    with duckdb.connect() as database:
        database.execute(view)
        yield {name_of(query): rows(database, query) for query in (*queries, "-- records\nFROM records")}


def name_of(query: str) -> str:
    found = re.search(r"-- (.*)\n", query)
    assert found is not None
    return found.group(1)


def rows(database: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    found = database.execute(query)
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def test_five_queries_are_documented_and_types_are_right(tables: dict[str, list[dict[str, Any]]]) -> None:
    assert len(tables) == 6
    flow = next(record for record in tables["records"] if record["type"] == "flow")
    assert {name: type(flow[name]) for name in ("ts", "packets", "bytes", "src_port", "src_ip")} == {
        "ts": datetime,
        "packets": int,
        "bytes": int,
        "src_port": int,
        "src_ip": str,
    }


def test_top_talkers_and_services_are_those_of_the_records(
    run: tuple[Path, LINES], tables: dict[str, list[dict[str, Any]]]
) -> None:
    pairs: Counter[tuple[str, str]] = Counter()
    services: Counter[tuple[int, int]] = Counter()
    for record in of_type(run[1], "flow"):
        pairs[record["src_ip"], record["dst_ip"]] += record["bytes"]
        if "src_port" in record:
            services[min(record["src_port"], record["dst_port"]), record["protocol"]] += 2 * record["bytes"]
    largest = sorted(pairs.values(), reverse=True)[:5]
    talkers = tables["top talkers across hosts"]
    assert [talker["bytes"] for talker in talkers] == [size for size in largest for _ in range(2)], "of both hosts"
    found = {(row["service"], row["protocol"]): row["bytes"] for row in tables["services: the lower port of each flow"]}
    assert {name: size for name, size in found.items() if name in services} == services


def test_sums_by_interface_and_second_are_those_of_the_records(
    run: tuple[Path, LINES], tables: dict[str, list[dict[str, Any]]]
) -> None:
    interfaces = of_type(run[1], "interface")
    sums = {name: sum(record[name] for record in interfaces) for name in ("packets", "bytes")}
    rows_of = tables["all packets by interface, and what has no flow record"]
    assert {row["host"]: row["packets"] for row in rows_of} == dict.fromkeys(("n1", "n2"), sums["packets"])
    assert sum(row["bits"] for row in tables["bits per second"]) == 2 * 8 * sums["bytes"]


def test_host_without_records_of_the_last_minute_is_silent(tables: dict[str, list[dict[str, Any]]]) -> None:
    assert [row["host"] for row in tables["hosts that have been silent for a minute"]] == ["n2"]


def test_polars_adds_up_the_flows(run: tuple[Path, LINES]) -> None:
    shown = 'print(json.dumps([str(records.schema["ts"]), pairs.to_dicts()]))'
    program = f"import json\n{block('polars')}{shown}\n"  # a process of its own: its threads keep descriptors open
    done = subprocess.run([sys.executable, "-c", program], cwd=run[0], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kind, pairs = json.loads(done.stdout)
    expected: Counter[tuple[str, str]] = Counter()
    for record in of_type(run[1], "flow"):
        expected[record["src_ip"], record["dst_ip"]] += record["bytes"]
    assert kind == "Datetime(time_unit='us', time_zone='UTC')"
    assert {(row["src_ip"], row["dst_ip"]): row["bytes"] for row in pairs} == expected
