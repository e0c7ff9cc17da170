"""Flows with owners: in every format, one by one and added up."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from tests.support.schema import validate
from tests.unit.make import ETH0, flow, key, snapshot
from xtrace.kernel.syscall import lib
from xtrace.model.flow import FlowRecord, FlowSnapshot, FlowTable, InterfaceCounts, PacketCount
from xtrace.model.flow_owners import OWNER, FlowOwner, How
from xtrace.sinks.identity import Identity
from xtrace.sinks.jsonl.interfaces import FlowJson
from xtrace.sinks.kinds import JsonOptions, MetricsOptions, TextOptions
from xtrace.sinks.listen.http import Request
from xtrace.sinks.listen.pages import Pages
from xtrace.sinks.metrics import grouping
from xtrace.sinks.metrics.flows import BYTES, FlowMetrics
from xtrace.sinks.metrics.latest import Latest
from xtrace.sinks.text.columns import FlowColumns
from xtrace.sinks.text.flows import FlowText
from xtrace.sinks.text.sink import encoded

ID = "0123456789abcdef" * 4
CURL = FlowOwner(How.CREATED, pid=7, uid=1000, command="curl", cgroup=f"/docker/{ID}", container=ID)
NGINX = FlowOwner(
    How.LISTENED, pid=9, uid=33, command="nginx", cgroup="/system.slice/nginx.service", unit="nginx.service"
)
FORWARDED = FlowOwner(How.NOT_LOCAL)
BY_PID = {7: CURL, 9: NGINX, 0: FORWARDED}
FLOWS = [(flow(key(ports=(port, 443)), packets=packets, size=100 * packets), pid) for port, packets, pid in (
    (1, 1, 7), (2, 10, 9), (3, 3, 7), (4, 30, 0), (5, 5, 9),
)]  # fmt: skip


class Wide:
    """A screen without limits."""

    has_color = False

    def columns(self) -> int | None:
        return None

    def rows(self) -> int | None:
        return None


def owned(flows: list[tuple[FlowRecord, int]] = FLOWS) -> FlowSnapshot:
    plain = snapshot([record for record, _ in flows])
    owners = b"".join(OWNER.pack(0, pid, 0, b"", lib.OWNER_SOCKET, 0) for _, pid in flows)
    table = FlowTable(plain.flows.entries, len(flows), memoryview(owners))
    total = PacketCount(sum(record.packets for record, _ in flows), sum(record.bytes for record, _ in flows))
    counts = ((ETH0, InterfaceCounts(total=total)),)
    return replace(plain, flows=table, interfaces=counts, name_owner=lambda packed: BY_PID[OWNER.unpack(packed)[1]])


def records(*, by_owner: bool, top: int = 0) -> list[dict[str, Any]]:
    lines = b"".join(FlowJson(JsonOptions({"host": "n1"}, top, by_owner)).lines(owned()))
    found = [json.loads(line) for line in lines.splitlines()]
    validate(found)
    return found


def test_each_flow_has_the_fields_of_its_owner_that_are_known() -> None:
    flows = [record for record in records(by_owner=False) if record["type"] == "flow"]
    found = [{name: record.get(name) for name in ("owner", "pid", "command", "uid", "unit")} for record in flows]
    curl = {"owner": "created", "pid": 7, "command": "curl", "uid": 1000, "unit": None}
    nginx = {"owner": "listened", "pid": 9, "command": "nginx", "uid": 33, "unit": "nginx.service"}
    forwarded = {"owner": "not_local", "pid": None, "command": None, "uid": None, "unit": None}
    assert found == [curl, nginx, curl, forwarded, nginx]


def test_sums_by_owner_are_the_largest_first_and_make_the_total() -> None:
    found = records(by_owner=True)
    *owners, interface = found
    assert [(record["type"], record["owner"], record["flows"], record["packets"]) for record in owners] == [
        ("owner", "not_local", 1, 30),
        ("owner", "listened", 2, 15),
        ("owner", "created", 2, 4),
    ]
    for name in ("packets", "bytes", "flows"):
        assert sum(record[name] for record in owners) == interface[name]


def test_owners_beyond_top_are_one_record() -> None:
    first, rest, _ = records(by_owner=True, top=1)
    assert first["owner"] == "not_local"
    assert (rest["type"], rest["flows"], rest["packets"], rest["bytes"]) == ("other", 4, 19, 1900)


def test_text_has_the_owner_at_the_end_of_a_line_and_sums_by_it() -> None:
    lines = b"".join(encoded(FlowText(TextOptions()).lines(owned()))).decode().splitlines()
    assert lines[0].endswith("[TCP] eth0 owner=not_local")
    assert lines[1].endswith("[TCP] eth0 pid=9 nginx (listener) unit=nginx.service")
    assert lines[3].endswith(f"[TCP] eth0 pid=7 curl container={ID[:12]}")
    sums = b"".join(encoded(FlowText(TextOptions(by_owner=True)).lines(owned()))).decode().splitlines()
    assert sums[1] == "pid=9 nginx (listener) unit=nginx.service flows=2 packets=15 bytes=1500 eth0"
    assert " flows=5 packets=49 bytes=4900 " in sums[3]


def test_table_has_the_owner_behind_the_addresses_and_sums_by_it() -> None:
    lines = list(FlowColumns(TextOptions(top=None, screen=Wide()), Wide()).lines(owned()))
    assert any("curl[7]" in line for line in lines)
    sums = list(FlowColumns(TextOptions(top=2, screen=Wide(), by_owner=True), Wide()).lines(owned()))
    assert [line.split()[1] for line in sums[2:]] == ["owner", "owner", "other", "all"]
    assert "nginx[9] (listener) unit=nginx.service, 2 flows" in sums[3]
    assert "2 flows of other owners" in sums[4]


def series(metrics: FlowMetrics) -> dict[tuple[tuple[str, str], ...], int | float]:
    return {sample.labels: sample.values[BYTES] for sample in metrics.samples(owned()) if BYTES in sample.values}


def test_series_by_owner_have_its_labels_instead_of_addresses() -> None:
    where = (("interface", "eth0"), ("direction", "ingress"))
    metrics = FlowMetrics(MetricsOptions(10, "owner"))
    expected = {
        (("container", ID), ("command", "curl"), *where): 400,
        (("unit", "nginx.service"), ("command", "nginx"), *where): 1500,
        (("owner", "not_local"), *where): 3000,
    }
    assert series(metrics) == expected
    assert series(metrics) == {labels: 2 * size for labels, size in expected.items()}


def test_owners_without_room_share_a_series_and_nothing_is_lost(monkeypatch: Any) -> None:
    found = series(FlowMetrics(MetricsOptions(1, "owner")))
    assert found[("owner", "other"), ("interface", "eth0"), ("direction", "ingress")] == 1900
    assert sum(found.values()) == 4900
    monkeypatch.setattr(grouping, "MOST_OWNERS", 1)
    found = series(FlowMetrics(MetricsOptions(10, "owner")))
    assert sum(found.values()) == 4900
    assert found[("owner", "more"), ("interface", "eth0"), ("direction", "ingress")] > 0


def test_flows_served_over_http_keep_their_owners_after_the_drain() -> None:
    pages = Pages(Identity("n1"), Latest())
    shown = owned()
    pages.publish_flows(shown)
    shown.flows.release()
    answer = pages.answer(Request("GET", "/flows", {}))
    assert answer.pieces is not None
    found = [json.loads(line) for line in b"".join(answer.pieces).splitlines()]
    assert [record.get("pid") for record in found if record["type"] == "flow"] == [7, 9, 7, None, 9]
