"""The page: its numbers are those of the records, whatever these contain."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_schema import EXAMPLES
from xtrace.errors import Stopped, UsageError, XtraceError
from xtrace.report import reading
from xtrace.report.command import main, parse
from xtrace.report.style import CSS
from xtrace.stop import Stop

Record = dict[str, Any]
Table = list[list[str]]

START = {**EXAMPLES["start"], "host": "n1", "modes": ["xdp"], "filters": []}
END = {**EXAMPLES["end"], "host": "n1"}
COUNTS = ("packets", "bytes")


class Page(HTMLParser):
    """Tables by caption, with the exact value where a cell has one; the text; what the page would load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, Table] = {}
        self.findings: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self._rows: Table = []
        self._cell: list[str] | None = None
        self._caption: list[str] | None = None
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attributes)
        if tag not in ("meta", "br", "line", "circle", "path"):
            self._open.append(tag)
        for name in ("src", "href", "data"):
            if name in given and not str(given[name]).startswith("#"):
                self.loads.append(str(given[name]))
        if tag == "table":
            self._rows = []
        elif tag == "caption":
            self._caption = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th", "li"):
            self._cell = []
        elif tag == "data" and self._cell is not None and "li" not in self._open:
            self._cell = [f"={given['value']}"]

    def handle_endtag(self, tag: str) -> None:
        if tag in ("meta", "br", "line", "circle", "path"):
            return
        assert self._open.pop() == tag
        if tag == "caption":
            self.tables["".join(self._caption or [])] = self._rows
            self._caption = None
        elif tag in ("td", "th") and self._cell is not None:
            self._rows[-1].append("".join(self._cell))
            self._cell = None
        elif tag == "li" and self._cell is not None:
            self.findings.append("".join(self._cell))

    def handle_data(self, data: str) -> None:
        if self._caption is not None:
            self._caption.append(data)
        elif self._cell is not None and not (self._cell and self._cell[0].startswith("=")):
            self._cell.append(data)


def flow(number: int, size: int, direction: str = "ingress", interface: str = "eth0", **changes: Any) -> Record:
    return {
        **EXAMPLES["flow"],
        "host": "n1",
        "interface": interface,
        "direction": direction,
        "src_ip": f"10.0.0.{number}",
        "dst_ip": "10.1.0.1",
        "packets": size // 100,
        "bytes": size,
        **changes,
    }


def interval(flows: list[Record], second: int, filtered: int = 0, **changes: Any) -> list[Record]:
    """Flows of one interface and direction, and their interface record."""
    ts = f"2026-01-01T00:00:{second:02d}.000Z"
    sums = {name: sum(record[name] for record in flows) for name in COUNTS}
    where = {name: flows[0][name] for name in ("host", "interface", "direction")}
    summary = {
        **EXAMPLES["interface"],
        **where,
        "ts": ts,
        "interval_s": 1.0,
        "packets": sums["packets"] + filtered,
        "bytes": sums["bytes"] + 100 * filtered,
        "unattributed_packets": 0,
        "unattributed_bytes": 0,
        "filtered_packets": filtered,
        "filtered_bytes": 100 * filtered,
        **changes,
    }
    return [*({**record, "ts": ts, "interval_s": 1.0} for record in flows), summary]


def run() -> list[Record]:
    """Two interfaces, both directions, several intervals."""
    records = [START]
    for second in range(1, 9):
        records += interval([flow(n, 1000 * n + second) for n in range(1, 41)], second, filtered=second)
        records += interval([flow(n, 5000 * n, "egress") for n in range(1, 4)], second)
        records += interval([flow(9, 700, interface="eth1")], second)
    return [*records, END]


def made(tmp_path: Path, records: list[Record] | bytes, stop: Stop, packed: bool = False) -> Page:
    """The page of these records."""
    data = records if isinstance(records, bytes) else "".join(f"{json.dumps(one)}\n" for one in records).encode()
    source, target = tmp_path / "run.jsonl", tmp_path / "page.html"
    source.write_bytes(gzip.compress(data) if packed else data)
    assert main([str(source), "-o", str(target)], stop) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "run.jsonl"]
    return Page(target.read_text())


@pytest.mark.parametrize("packed", [False, True])
def test_totals_are_those_of_the_records_and_close(packed: bool, tmp_path: Path, stop: Stop) -> None:
    records = run()
    page = made(tmp_path, records, stop, packed)
    expected: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * 4)
    for record in records:
        if record["type"] == "interface":
            where = record["interface"], {"ingress": "in", "egress": "out"}[record["direction"]]
            for place, name in enumerate(("packets", "bytes", "filtered_bytes")):
                expected[where][(0, 1, 3)[place]] += record[name]
        elif record["type"] == "flow":
            expected[record["interface"], {"ingress": "in", "egress": "out"}[record["direction"]]][2] += record["bytes"]
    heading, *rows = page.tables["Totals of the run"]
    assert heading[:5] == ["INTERFACE", "DIRECTION", "PACKETS", "BYTES", "IN FLOWS"]
    found = {(row[0], row[1]): [int(row[place][1:]) for place in (2, 3, 4, 7)] for row in rows}
    assert found == dict(expected)
    assert {row[-1] for row in rows} == {"close"}
    assert any("add up to the totals" in finding for finding in page.findings)


def test_largest_flows_types_and_ports_have_the_sums_of_the_records_and_close(tmp_path: Path, stop: Stop) -> None:
    records = [record for record in run() if record.get("interface") != "eth1"]
    page = made(tmp_path, records, stop)
    flows: dict[tuple[str, str], int] = defaultdict(int)
    for record in records:
        if record["type"] == "flow":
            ends = f"{record['src_ip']}:{record['src_port']} → {record['dst_ip']}:{record['dst_port']}"
            flows[ends, {"ingress": "in", "egress": "out"}[record["direction"]]] += record["bytes"]
    _, *rows, others = page.tables["Largest flows"]
    assert len(rows) == 25 and others[0] == "all others"
    assert [int(row[4][1:]) for row in rows] == sorted(flows.values(), reverse=True)[:25]
    assert all(flows[row[0], row[1]] == int(row[4][1:]) for row in rows)
    whole = sum(flows.values())
    for caption, place in (("Largest flows", 4), ("Traffic types", 2), ("Ports", 2)):
        assert sum(int(row[place][1:]) for row in page.tables[caption][1:]) == whole


def test_page_loads_nothing_runs_nothing_and_is_complete(tmp_path: Path, stop: Stop) -> None:
    page = made(tmp_path, run(), stop)
    assert page.loads == []
    assert "script" not in page.tags and "link" not in page.tags and "img" not in page.tags
    assert page.tags.count("h1") == 1 and "main" in page.tags
    html = (tmp_path / "page.html").read_text()
    assert "url(" not in html and "@import" not in html
    assert re.search(r'<svg viewBox="0 0 \d+ \d+" role="img" aria-label="Traffic of eth0: in up to [^"]+"', html)
    assert html.count("<th ") == html.count("<th scope=")


def test_names_chosen_by_others_are_text(tmp_path: Path, stop: Stop) -> None:
    evil = '"><script>alert(1)</script>\u202e'
    records = interval([flow(1, 1000, interface=evil, traffic_type=evil, pid=7, command=evil)], 1)
    page = made(tmp_path, [{**START, "host": evil, "filters": [evil]}, *records], stop)
    assert "script" not in page.tags
    assert "\u202e" not in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("evil", ['"><script>alert(1)</script>', "<time><script>alert(1)</script>", "'><script>"])
def test_no_text_of_any_record_becomes_markup(evil: str, tmp_path: Path, stop: Stop) -> None:
    """A file is as trustworthy as who sent it: words that this tool chooses may be others' there, too."""
    records = [one for record in (START, *EXAMPLES.values(), END) for one in spoiled(record, evil)]
    page = made(tmp_path, [*run(), *records], stop)
    assert "script" not in page.tags and "&lt;script" in (tmp_path / "page.html").read_text()


def spoiled(value: Any, evil: str) -> Iterator[Any]:
    """Yield copies, each with another one of its texts changed, however deep."""
    if isinstance(value, dict):
        yield from ({**value, name: other} for name, one in value.items() for other in spoiled(one, evil))
    elif isinstance(value, list):
        for place, one in enumerate(value):
            yield from ([*value[:place], other, *value[place + 1 :]] for other in spoiled(one, evil))
    elif isinstance(value, str):
        yield f"{value}{evil}"
        yield evil


def test_owners_have_all_their_flows_and_owner_records_and_close(tmp_path: Path, stop: Stop) -> None:
    nginx: Record = {"owner": "created", "pid": 7, "command": "nginx", "cgroup": "/system.slice/nginx.service"}
    pod: Record = {
        "owner": "cgroup",
        "container": "0123456789ab",
        "pod": "3d0c",
        "pod_name": "shop/web-1",
        "cgroup": "/kube",
    }
    flows = [flow(1, 5000, **nginx, unit="nginx.service"), flow(2, 800, **pod), flow(3, 300, owner="kernel")]
    summed = {**flow(4, 2000), "type": "owner", "flows": 3, **nginx, "unit": "nginx.service"}
    unknown = {**flow(4, 100), "type": "owner", "flows": 1, "owner": "unknown"}
    page = made(tmp_path, [START, *interval([*flows, summed, unknown], 1), END], stop)
    heading, *rows = page.tables["Owners"]
    assert heading[:2] == ["OWNER", "POD, CONTAINER OR UNIT"]
    assert [(row[0], row[1], int(row[3][1:])) for row in rows] == [
        ("nginx (pid 7)", "nginx.service", 7000),
        ("process not known", "shop/web-1", 800),
        ("the kernel's own", "", 300),
        ("not known", "", 100),
    ]
    assert page.tables["Totals of the run"][1][-1] == "close"


def test_wide_tables_stay_tables_for_screen_readers_where_their_rows_are_stacked(tmp_path: Path, stop: Stop) -> None:
    made(tmp_path, run(), stop)
    html = (tmp_path / "page.html").read_text()
    flows, _ = re.findall(r"<table[^>]*><caption>Largest flows</caption>.*?</table>", html)
    for tag, role in (("table", "table"), ("thead", "rowgroup"), ("tbody", "rowgroup"), ("tr", "row"), ("td", "cell")):
        assert len(re.findall(rf"<{tag}[ >]", flows)) == flows.count(f'<{tag} role="{role}"') > 0
    assert flows.count('<th scope="col" role="columnheader"') == 7
    assert flows.count('<th scope="row" role="rowheader"') == flows.count("<tr ") - 1
    assert flows.count('data-label="BYTES"') == flows.count("<tr ") - 1
    assert not re.search(r"<th [^>]*></th>", html), "every column has a name"
    assert html.count('tabindex="0"') == len(re.findall(r'tabindex="0" role="region" aria-label="[^"]+"', html))


def luminance(color: str) -> float:
    """WCAG 2: relative luminance of #rgb or #rrggbb."""
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_the_contrast_that_wcag_asks_for() -> None:
    """4.5 : 1 on the page, on cards, and on the darkest cell of the matrix, whose shade is 45 % of the accent."""
    themes = [dict(re.findall(r"--(\w+):(#[0-9a-f]+)", part)) for part in re.findall(r":root\{([^}]*)\}", CSS)]
    assert len(themes) == 3
    for theme in ({**themes[0], **changed} for changed in themes):
        shade = "#" + "".join(
            f"{round(0.45 * int(theme['accent'][place : place + 2], 16) + 0.55 * ground):02x}"
            for place, ground in zip((1, 3, 5), bytes.fromhex((theme["bg"][1:] * 2)[:6]), strict=True)
        )
        pairs = [(color, ground) for color in ("fg", "dim", "accent", "ok", "warn", "bad") for ground in ("bg", "card")]
        for text, ground in [*((theme[color], theme[ground]) for color, ground in pairs), (theme["fg"], shade)]:
            light, dark = sorted((luminance(text), luminance(ground)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{text} on {ground}"


def test_sums_that_do_not_close_are_a_problem(tmp_path: Path, stop: Stop) -> None:
    page = made(tmp_path, [START, *interval([flow(1, 1000)], 1, packets=11), END], stop)
    assert any(finding.startswith("Problem") and "eth0 ingress" in finding for finding in page.findings)


def test_fragments_whose_ports_are_not_known_are_part_of_the_sums(tmp_path: Path, stop: Stop) -> None:
    fragments = {"filtered_fragment_packets": 2, "filtered_fragment_bytes": 3000, "packets": 12, "bytes": 4000}
    page = made(tmp_path, [START, *interval([flow(1, 1000)], 1, **fragments), END], stop)
    heading, row = page.tables["Totals of the run"]
    assert heading[8] == "FILTERED FRAGMENTS"
    assert (row[2], row[4], row[8], row[-1]) == ("=12", "=1000", "=3000", "close")
    assert any("add up to the totals" in finding for finding in page.findings)


def test_what_figures_lack_is_among_the_findings(tmp_path: Path, stop: Stop) -> None:
    lost = {"unattributed_packets": 5, "unattributed_bytes": 500, "packets": 15, "bytes": 1500}
    records = interval([flow(1, 1000)], 1, coverage="partial", up=False, **lost)
    hook = {"type": "hook", "ts": EXAMPLES["hook"]["ts"], "host": "n1", "interface": "eth9", "attached": False}
    page = made(tmp_path, [START, *records, {**hook, "reason": "not_found", "detail": "no such interface"}], stop)
    told = "\n".join(page.findings)
    for part in (
        "found no room",
        "the hook saw a part",
        "down or without carrier",
        "0 end records",
        "no such interface",
    ):
        assert part in told


def test_lines_that_are_no_records_are_counted_and_the_rest_is_used(tmp_path: Path, stop: Stop) -> None:
    good = interval([flow(1, 1000)], 1)
    wrong = [{**flow(2, 10), "bytes": "many"}, {**flow(2, 10), "bytes": -1}, {"type": "interface"}, {"no": "type"}, 7]
    lines = [json.dumps(record).encode() for record in [START, *wrong, *good, END]]
    page = made(tmp_path, b"\n".join([*lines[:3], b"{broken", b"", *lines[3:], b'{"type":"flow","cut']), stop)
    (note,) = [finding for finding in page.findings if "could not be used" in finding]
    assert "7 lines" in note and "the first: line 2" in note
    assert page.tables["Totals of the run"][1][3] == "=1000"


def test_cut_compressed_file_is_read_as_far_as_it_goes(tmp_path: Path, stop: Stop) -> None:
    data = gzip.compress("".join(f"{json.dumps(record)}\n" for record in run()).encode())
    page = made(tmp_path, data[:-200], stop)
    assert any("cut off or damaged" in finding for finding in page.findings)
    assert int(page.tables["Totals of the run"][1][2][1:]) > 0


def test_rdma_ports_and_nccl_have_the_sums_of_their_records(tmp_path: Path, stop: Stop) -> None:
    port = {**EXAMPLES["rdma_port"], "host": "n1", "device": "mlx5_0", "port": 1, "health": "ok", "reasons": []}
    ill = {**port, "health": "critical", "reasons": ["too much loss"], "rx_bytes": None}
    process = {**EXAMPLES["nccl_process"], "host": "n1", "calls": 40, "requested_bytes": 4096}
    nccl = {**EXAMPLES["nccl"], "calls": process["calls"] + 2, "unattributed_calls": 2}
    page = made(tmp_path, [START, port, ill, process, nccl, EXAMPLES["nccl_ras"], END], stop)
    (row,) = page.tables["Ports, sums of the run"][1:]
    assert row[:2] == ["mlx5_0/1", "critical (2 intervals, 1 critical)"]
    assert row[5] == f"={port['rx_bytes']}", "an unknown value adds nothing"
    assert int(row[6][1:]) == 2 * port["tx_bytes"]
    (row,) = page.tables["Processes"][1:]
    assert (int(row[1][1:]), int(row[2][1:])) == (process["calls"], process["requested_bytes"])
    page = made(tmp_path, [START, process, {**process, "requested_bytes": None}, END], stop)
    assert page.tables["Processes"][1][1:3] == ["=80", "=4096"]
    assert "</data>+" in (tmp_path / "page.html").read_text()
    page = made(tmp_path, [START, {**process, "requested_bytes": None}, END], stop)
    assert page.tables["Processes"][1][2] == "unknown"
    page = made(tmp_path, [START, port, {**port, "host": "n2"}, END], stop)
    assert [row[0] for row in page.tables["Ports, sums of the run"][1:]] == ["n1 mlx5_0/1", "n2 mlx5_0/1"]


def test_nccl_findings_and_ill_ports_are_named(tmp_path: Path, stop: Stop) -> None:
    port = {**EXAMPLES["rdma_port"], "host": "n1", "device": "mlx5_0", "port": 1, "health": "ok", "reasons": []}
    ill = {**port, "health": "critical", "reasons": ["too much loss"], "rx_bytes": None}
    process = {**EXAMPLES["nccl_process"], "host": "n1", "calls": 40}
    page = made(
        tmp_path, [START, port, ill, process, {**EXAMPLES["nccl"], "calls": 42, "unattributed_calls": 2}, END], stop
    )
    assert any("NCCL calls of all processes and unattributed calls add up" in finding for finding in page.findings)
    assert any("mlx5_0/1 was critical in 1 of 2 intervals: too much loss" in finding for finding in page.findings)


def test_records_of_every_type_are_read_and_counted(tmp_path: Path, stop: Stop) -> None:
    page = made(tmp_path, [*EXAMPLES.values(), {"type": "weather", "host": "n1"}], stop)
    assert {row[0]: row[1] for row in page.tables["Records by type"][1:]} == {
        **dict.fromkeys(EXAMPLES, "=1"),
        "weather": "=1",
    }
    unshown = "Not shown in this report: check, link, rdma_link, weather."
    assert unshown in (tmp_path / "page.html").read_text()
    assert not any("could not be used" in finding for finding in page.findings)


def test_types_beyond_a_hundred_are_counted_as_one(tmp_path: Path, stop: Stop) -> None:
    others = [{"type": f"w{number:03}", "host": "n1"} for number in range(102)]
    page = made(tmp_path, [START, *others, others[5]], stop)
    counted = {row[0]: row[1] for row in page.tables["Records by type"][1:]}
    kept = {"start": "=1", **{f"w{number:03}": "=1" for number in range(99)}, "w005": "=2"}
    assert counted == {**kept, "other types": "=3"}


def test_bytes_between_hosts_are_a_matrix(tmp_path: Path, stop: Stop) -> None:
    flows = [flow(1, 9000), flow(2, 500), flow(1, 700, dst_ip="10.0.0.2")]
    page = made(tmp_path, [START, *interval(flows, 1), END], stop)
    rows = page.tables["Bytes from host (row) to host (column), in both directions of the interface"]
    assert rows == [
        ["from \\ to", "1", "2", "3"],
        ["1 10.0.0.1", "", "=9000", "=700"],
        ["2 10.1.0.1", "", "", ""],
        ["3 10.0.0.2", "", "=500", ""],
    ]


def test_port_without_rates_takes_no_other_port_its_chart(tmp_path: Path, stop: Stop) -> None:
    port = {**EXAMPLES["rdma_port"], "host": "n1", "device": "mlx5_0", "port": 1}
    blind = {**port, "port": 2, "rx_bytes": None, "tx_bytes": None}
    made(tmp_path, [START, port, blind, END], stop)
    shown = (tmp_path / "page.html").read_text()
    assert "RDMA port mlx5_0/1 as numbers" in shown
    assert "RDMA port mlx5_0/2 as numbers" not in shown


def test_retransmissions_beyond_the_table_are_a_row_of_it(tmp_path: Path, stop: Stop) -> None:
    again = {**EXAMPLES["tcp_connection"], "segments_sent": 1000}
    connections = [{**again, "local_port": 1000 + n, "retransmitted_packets": 100 - n} for n in range(22)]
    page = made(tmp_path, [START, *connections, END], stop)
    rows = page.tables["Connections with the most retransmissions, of those with records"][1:]
    assert len(rows) == 21
    assert rows[-1][0] == "all others" and rows[-1][2] == f"={80 + 79}"


def test_tcp_has_the_sums_of_its_records_and_unknown_is_not_zero(tmp_path: Path, stop: Stop) -> None:
    sockets, connection = EXAMPLES["tcp"], EXAMPLES["tcp_connection"]
    unknown = {**sockets, "retransmitted_packets": None}
    again = {**connection, "retransmitted_packets": 3, "segments_sent": 60}
    ill = {**again, "health": "critical", "reasons": ["nothing arrives"]}
    page = made(tmp_path, [START, again, ill, sockets, sockets, unknown, END], stop)
    (row,) = page.tables["All sockets"][1:]
    assert row[1:3] == [f"={3 * sockets['began']}", f"={3 * sockets['ended']}"]
    assert row[4] == f"={2 * sockets['retransmitted_packets']}"
    assert f">{2 * sockets['retransmitted_packets']}</data>+" in (tmp_path / "page.html").read_text()
    (row,) = page.tables["Connections with the most retransmissions, of those with records"][1:]
    assert row == ["10.0.0.2:40000 ↔ 10.0.0.1:443", "n1", "=6", "5.0 %"]
    (row,) = page.tables["Connections that were not healthy"][1:]
    assert row[1:] == ["critical", "=2", "why; nothing arrives"]
    (row,) = page.tables["Failures by reason"][1:]
    assert row[0] == "failed connects: refused" and row[2] == "=9"


def test_followed_connections_have_the_sums_of_their_records(tmp_path: Path, stop: Stop) -> None:
    sums, path = EXAMPLES["tcp_paths"], EXAMPLES["tcp_path"]
    counted = {"packets": 90, "data_packets": 60, "retransmitted_packets": 3, "late_packets": 2}
    way = {**path["forward"], **counted}
    both = {**path, "src_ip": "fd00::1", "forward": way, "reverse": {**way, "direction": "egress"}}
    alone = {**both, "reverse": None, "health": "critical", "reasons": ["nothing arrives"]}
    busy = {**sums, **counted, "no_room_packets": 4, "health": "warn", "reasons": ["resets: 9 in 5.0 s"]}
    away = {**sums, "interface": "eth1"}
    page = made(tmp_path, [START, both, alone, busy, busy, away, END], stop)
    headings, first, second = page.tables["All connections"]
    row = dict(zip(headings, first, strict=True))
    expected = {"PACKETS": 180, "RETRANSMITTED PACKETS": 6, "LATE PACKETS": 4, "NO ROOM PACKETS": 8}
    assert {name: row[name] for name in expected} == {name: f"={value}" for name, value in expected.items()}
    assert (row["HOST, INTERFACE"], row["INTERVALS WITH REASONS"]) == ("n1 eth0", "=2")
    assert row["REASONS"] == "resets: 9 in 5.0 s" and second[0] == "n1 eth1" and second[1] == "=0"
    (row_,) = page.tables["Connections with the most retransmissions, of those with records"][1:]
    assert row_ == ["[fd00::1]:40000 ↔ 10.0.0.2:443", "n1 eth0", "=9", "5.0 %"]
    (row_,) = page.tables["Connections that were not healthy"][1:]
    assert row_[1:] == ["critical", "=2", "why; nothing arrives"]
    assert any("eth0: 8 packets are of TCP connections that found no room" in finding for finding in page.findings)
    assert not any("eth1" in finding for finding in page.findings)


def test_verdicts_are_findings_and_a_table(tmp_path: Path, stop: Stop) -> None:
    verdict = EXAMPLES["verdict"]
    page = made(tmp_path, [START, verdict, verdict, {**verdict, "rank": None, "verdict": "all_wait"}, END], stop)
    rows = page.tables["Verdicts"][1:]
    assert [(row[0], row[1], row[4]) for row in rows] == [
        (f"{verdict['communicator']} rank 3", "missing", "=2"),
        (f"{verdict['communicator']} rank all", "all wait", "=1"),
    ]
    assert any(finding.startswith("Problem") and verdict["evidence"] in finding for finding in page.findings)


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["a", "b"], "report: one file at a time, not 'b' too (use cat, and - for standard input)"),
        (["-o"], "report: --output needs a value (PAGE.html)"),
        (["--html"], "report: unknown option --html (see xtrace-catch report --help)"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(arguments)
    assert str(caught.value) == told


def test_arguments_are_understood_in_any_order() -> None:
    assert (
        parse(["-o", "p.html", "run.jsonl"])[:2]
        == parse(["run.jsonl", "--output=p.html"])[:2]
        == ("run.jsonl", "p.html")
    )
    assert parse([])[:2] == parse(["-", "-o", "-"])[:2] == ("-", "-")


@pytest.mark.parametrize(
    "content, told", [(b"", "no records of xtrace-catch"), (b"text\n", "no records"), (None, "No such file")]
)
def test_file_without_records_is_refused_and_nothing_written(
    content: bytes | None, told: str, tmp_path: Path, stop: Stop
) -> None:
    source = tmp_path / "run.jsonl"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(XtraceError, match=told):
        main([str(source), "-o", str(tmp_path / "page.html")], stop)
    assert not (tmp_path / "page.html").exists()


def test_page_that_cannot_be_written_is_an_error_in_one_line(tmp_path: Path, stop: Stop) -> None:
    source = tmp_path / "run.jsonl"
    source.write_text(json.dumps(START))
    with pytest.raises(XtraceError, match=r"^report: .*/nowhere/page.html: No such file or directory \(choose"):
        main([str(source), "-o", str(tmp_path / "nowhere" / "page.html")], stop)


def test_stop_while_reading_writes_nothing(tmp_path: Path, stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PROGRESS_EVERY", 2)
    source = tmp_path / "run.jsonl"
    source.write_text("".join(f"{json.dumps(record)}\n" for record in run()))
    stop.request()
    with pytest.raises(Stopped, match=r"^stopped after 2 lines; no report was written$"):
        main([str(source), "-o", str(tmp_path / "page.html")], stop)
    assert not (tmp_path / "page.html").exists()


SCRIPT = """
import sys
from xtrace import command
code = command.main(["report", *sys.argv[1:]])
loaded = [name for name in sys.modules if name.startswith(("xtrace.kernel", "xtrace._native", "cffi", "urllib3"))]
sys.exit(f"imported {loaded}" if loaded else code)
"""


def test_pipe_in_pipe_out_without_kernel_modules() -> None:
    data = "".join(f"{json.dumps(record)}\n" for record in run()).encode()
    done = subprocess.run([sys.executable, "-c", SCRIPT], input=data, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert Page(done.stdout.decode()).tables["Totals of the run"]


def test_progress_is_shown_on_a_terminal_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PROGRESS_S", 0.0)
    source = tmp_path / "run.jsonl"
    source.write_bytes(b"x" * 100)
    ours, theirs = os.openpty()
    try:
        with source.open("rb") as file:
            progress = reading.Progress(file, theirs)
            file.read(50)
            file.seek(50)
            progress.show(1234)
            progress.end()
        shown, expected = b"", b"\r\x1b[Kreading: 50 %, 1234 records\r\x1b[K"
        while len(shown) < len(expected):
            shown += os.read(ours, 200)  # a terminal hands out what was written in pieces
        assert shown == expected
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    "field, value",
    [
        *product(["interval_s"], ["x", -1, 1e308, float("inf"), [], True]),
        *product(["ts"], ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1969-12-31T23:59:59Z", 5]),
    ],
)
@pytest.mark.parametrize("kind", ["start", "interface", "rdma_port"])
def test_record_of_an_impossible_time_is_noted_and_the_page_is_made(
    tmp_path: Path, stop: Stop, kind: str, field: str, value: object
) -> None:
    odd = {**EXAMPLES[kind], "host": "n1", field: value}
    text = "".join(json.dumps(record).replace("Infinity", "1e999") + "\n" for record in [*run(), odd])
    page = made(tmp_path, text.encode(), stop)
    assert [finding for finding in page.findings if "1 line could not be used" in finding], page.findings


@pytest.mark.parametrize("field", ["modes", "filters"])
def test_start_without_words_is_noted_and_the_page_is_made(tmp_path: Path, stop: Stop, field: str) -> None:
    page = made(tmp_path, [*run(), {**START, field: [1]}], stop)
    assert [finding for finding in page.findings if "1 line could not be used" in finding], page.findings
