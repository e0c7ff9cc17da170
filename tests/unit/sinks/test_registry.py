"""Which classes write the snapshots of a mode, in each format; and which modes have sums of the run."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.unit.make import flow, snapshot
from tests.unit.make_rdma import port, traffic
from tests.unit.make_rdma import snapshot as rdma_snapshot
from tests.unit.make_tcp import snapshot as tcp_snapshot
from xtrace.model.flow_totals import FlowTotals
from xtrace.model.nccl import NcclSnapshot, RunCalls
from xtrace.sinks.jsonl.interfaces import FlowJson
from xtrace.sinks.jsonl.nccl import NcclJson
from xtrace.sinks.jsonl.rdma import RdmaJson
from xtrace.sinks.jsonl.tcp import TcpJson
from xtrace.sinks.kinds import JsonOptions, MetricsOptions, TextOptions
from xtrace.sinks.metrics.flows import FlowMetrics
from xtrace.sinks.metrics.nccl import NcclMetrics
from xtrace.sinks.metrics.rdma import RdmaMetrics
from xtrace.sinks.metrics.tcp import TcpMetrics
from xtrace.sinks.registry import KINDS, ByMode, Totals
from xtrace.sinks.text.columns import FlowColumns
from xtrace.sinks.text.flows import FlowText
from xtrace.sinks.text.nccl import NcclText
from xtrace.sinks.text.nccl_jobs import NcclJobs
from xtrace.sinks.text.rdma import RdmaText
from xtrace.sinks.text.screen import Terminal
from xtrace.sinks.text.tcp import TcpText

SCREEN = Terminal(-1)


@pytest.mark.parametrize(
    "mode, plain, on_screen, json, metrics",
    [
        ("xdp", FlowText, FlowColumns, FlowJson, FlowMetrics),
        ("tcp", TcpText, TcpText, TcpJson, TcpMetrics),
        ("rdma", RdmaText, RdmaText, RdmaJson, RdmaMetrics),
        ("nccl", NcclText, NcclJobs, NcclJson, NcclMetrics),
    ],
)
def test_each_mode_has_its_own_form_in_every_format(
    mode: str, plain: type, on_screen: type, json: type, metrics: type
) -> None:
    kind = KINDS[mode]
    assert type(kind.text(TextOptions())) is plain
    assert type(kind.text(TextOptions(screen=SCREEN))) is on_screen
    assert type(kind.json(JsonOptions({}, 0))) is json
    assert kind.metrics is not None and type(kind.metrics(MetricsOptions(10))) is metrics


def test_a_form_is_made_once() -> None:
    made = ByMode(lambda kind: object())
    assert made["xdp"] is made["xdp"] is not made["tcp"]


def test_modes_with_sums_of_the_run_have_them_and_others_none() -> None:
    totals = Totals()
    for _ in range(2):
        totals.add(snapshot([flow(size=700)]))
        totals.add(rdma_snapshot())
    assert {mode: type(sums) for mode, sums in totals.by_mode.items()} == {"xdp": FlowTotals}
    assert [count.bytes for count in totals.by_mode["xdp"].total.values()] == [1400]
    assert {mode: kind.totals and type(kind.totals()) for mode, kind in KINDS.items()} == {
        "xdp": FlowTotals,
        "tcp": None,
        "rdma": None,
        "nccl": RunCalls,
    }


def test_a_screen_that_is_no_terminal_has_no_size() -> None:
    assert (SCREEN.columns(), SCREEN.rows()) == (None, None)


INTERVALS = {
    "xdp": snapshot([flow()]),
    "tcp": tcp_snapshot(),
    "rdma": rdma_snapshot([port({}, traffic(1, 2))]),
    "nccl": NcclSnapshot(1, 10**9),
}


@pytest.mark.parametrize("mode, interval", INTERVALS.items())
def test_an_interval_of_every_mode_has_lines_records_and_samples(mode: str, interval: Any) -> None:
    kind = KINDS[mode]
    lines = [line if isinstance(line, bytes) else line.encode() for line in kind.text(TextOptions()).lines(interval)]
    assert lines and all(line.endswith(b"\n") for line in lines)
    assert lines[-1].split()[0] in (b"eth0", b"tcp", b"tx", b"nccl")
    assert list(kind.text(TextOptions()).totals(None)) == [], "words have no totals"
    records = b"".join(kind.json(JsonOptions({"host": "n1"}, 0)).lines(interval)).splitlines()
    assert records and all(orjson.loads(record)["host"] == "n1" for record in records)
    assert kind.metrics is not None
    metrics = kind.metrics(MetricsOptions(10))
    names = {name for sample in metrics.samples(interval) for name in sample.values}
    assert names and names <= set(metrics.described)
