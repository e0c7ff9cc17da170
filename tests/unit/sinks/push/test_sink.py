"""The push sink: samples of any kind of snapshot, the exposition, the identity, the tool's own metrics."""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.unit.make import ETH0, NS, flow, key, snapshot
from tests.unit.make_samples import flat
from xtrace.errors import UsageError
from xtrace.model.flow import Unattached
from xtrace.model.flow_totals import FlowSetup
from xtrace.model.nccl import NcclSetup
from xtrace.model.snapshot import Setup, Snapshot
from xtrace.model.words import Absence
from xtrace.sinks import Run
from xtrace.sinks.identity import Identity
from xtrace.sinks.kinds import Kind, MetricsKind, MetricsOptions
from xtrace.sinks.metrics import own as self_metrics
from xtrace.sinks.metrics.exposition import Exposition
from xtrace.sinks.metrics.feed import Feed
from xtrace.sinks.metrics.flows import FlowMetrics
from xtrace.sinks.metrics.own import Figures, SelfMetrics, push_samples
from xtrace.sinks.metrics.sample import Interval, Metric, Sample, Values
from xtrace.sinks.push import selfcheck, sink
from xtrace.sinks.push.batch import Outcome
from xtrace.sinks.push.connections import proxy_for
from xtrace.sinks.push.delivery import Delivery
from xtrace.sinks.push.sink import Push
from xtrace.sinks.push.transport import Http, export_urls, retry_after, sample_times
from xtrace.sinks.registry import KINDS
from xtrace.sinks.renewed import Note, Renewed
from xtrace.target import Target

NAME = Identity("n1", "192.0.2.1", "pod-7", (("rack", 'r"1'),))
FLOWS = FlowSetup(20_000_000, (ETH0,), max_flows=65536)
CALLS = NcclSetup(3_000_000, "uprobe_multi", 1024)
EVERYTHING = Figures(spooled_bytes=1, request_s=0.1, stored=True, dropped={"refused": (1, 1)})
TICK = Interval(0, 5250)
RUN = Run("0.1.0", 5.0, ("xdp",), {"xdp": FLOWS})


@dataclass(frozen=True)
class Temperature(Snapshot):
    """A made-up mode."""

    mode = "weather"

    degrees: float


class Weather:
    """The made-up mode's metrics."""

    described: ClassVar = {
        "xtrace_degrees": Metric("gauge", "degrees", "How warm it is, in degrees."),
        "xtrace_turns_total": Metric("counter", "turns", "How often it turned."),
    }

    def samples(self, snapshot: Temperature) -> Iterator[Sample]:
        yield Sample((("room", "a"),), {"xtrace_degrees": snapshot.degrees})
        yield Sample((("host", "own"),), {"xtrace_turns_total": 7})

    def own(self, setup: Setup | None) -> Values:
        return {}


def shown(metrics: Callable[[MetricsOptions], MetricsKind] | None) -> Kind:
    """Return the made-up mode's registry row, with metrics only."""
    return KINDS["rdma"]._replace(metrics=metrics)


class Server:
    """Accepts everything or nothing."""

    shown = "http://m/api"
    is_known = True

    def __init__(self, takes: bool = True) -> None:
        self.texts: list[str] = []
        self.takes = takes

    def send(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        assert headers["Content-Encoding"] == "gzip"
        self.texts.append(zlib.decompress(body, 31).decode())
        return Outcome(True) if self.takes else Outcome(False, True, "busy", 100.0)

    def times(self, selector: str, start_ms: int, end_ms: int) -> set[int] | None:
        return None

    def samples(self, selector: str, start_ms: int, end_ms: int, names: frozenset[str]) -> set[int] | None:
        return None

    def close(self) -> None:
        """Nothing to close."""


class Pushing(Feed):
    """A feed whose only outlet is a push."""

    def __init__(self, server: Server) -> None:
        self.push = Push(server, Exposition(NAME.series()))
        super().__init__(MetricsOptions(10), [self.push])

    def end_within(self, limit_s: float) -> None:
        self.close()
        self.push.close(limit_s)


def test_any_kind_of_snapshot_becomes_metrics_once_it_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "weather", shown(lambda _: Weather()))
    server = Server()
    push = Pushing(server)
    push.start(RUN)
    push.write(Temperature(5_250_000_000, NS, 21.5))
    push.flush()
    push.end_within(5)
    (text,) = server.texts
    own = 'host="n1",host_ip="192.0.2.1",collect_agg="pod-7",rack="r\\"1"'
    assert text.startswith(
        "# HELP xtrace_degrees How warm it is, in degrees.\n# TYPE xtrace_degrees gauge\n"
        f'xtrace_degrees{{room="a",{own}}} 21.5 5250\n'
        "# HELP xtrace_turns_total How often it turned.\n# TYPE xtrace_turns_total counter\n"
        'xtrace_turns_total{host="own",host_ip="192.0.2.1",collect_agg="pod-7",rack="r\\"1"} 7 5250\n'
    )


def test_mode_without_metrics_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "weather", shown(None))
    server = Server()
    push = Pushing(server)
    push.write(Temperature(5 * NS, NS, 21.5))
    push.flush()
    push.end_within(5)
    assert all("xtrace_degrees" not in text and "xtrace_catch_build_info" in text for text in server.texts)


def test_one_request_per_tick_has_the_snapshots_of_all_monitors() -> None:
    server = Server()
    push = Pushing(server)
    push.start(RUN)
    for _ in range(2):
        push.write(snapshot([flow()]))
        push.write(snapshot([flow()]))
        push.flush()
    push.end_within(5)
    assert len(server.texts) == 2


def test_samples_not_flushed_because_another_sink_failed_are_sent_at_close() -> None:
    server = Server()
    push = Pushing(server)
    push.write(snapshot([flow()]))
    push.end_within(5)
    assert ["xtrace_network_bytes_total" in text for text in server.texts] == [True]


def test_undelivered_samples_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    push = Pushing(Server(takes=False))
    push.write(snapshot([flow()]))
    push.flush()
    push.end_within(0.1)
    assert push.push.undelivered
    assert "ended; not delivered within 0.1 s: " in caplog.messages[-1]


class Doubtful(Server):
    """Accepts everything, and shows nothing of it, or cannot be asked."""

    def __init__(self, shows: set[int] | None, doubt: str = "") -> None:
        super().__init__()
        self._shows, self._doubt = shows, doubt

    def send(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        return replace(super().send(body, headers), doubt=self._doubt)

    def times(self, selector: str, start_ms: int, end_ms: int) -> set[int] | None:
        return self._shows


SEEMS_LOST = "push to http://m/api: ended; the server accepted samples but seems not to store them"


@pytest.mark.parametrize(
    "shows, doubt, lost",
    [
        (None, "", False),
        (None, "200 OK", True),
        (set(), "", True),
        (set(), "200 OK", True),
        ({1}, "200 OK", False),
        ({1}, "", False),
    ],
)
def test_run_whose_samples_were_accepted_and_are_not_there_fails(
    shows: set[int] | None,
    doubt: str,
    lost: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(selfcheck, "VISIBLE_AFTER_S", 0.0)
    push = Pushing(Doubtful(shows, doubt))
    for _ in range(2):
        push.write(snapshot([flow()]))
        push.flush()
    assert not push.push.undelivered
    push.end_within(60)
    assert push.push.undelivered is lost
    assert [line for line in caplog.messages if "ended" in line] == ([SEEMS_LOST] if lost else [])


def test_rejected_samples_are_told_at_the_end_and_fail_the_run(caplog: pytest.LogCaptureFixture) -> None:
    class Refusing(Server):
        def send(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
            return Outcome(False, False, "400 no")

    push = Pushing(Refusing())
    push.write(snapshot([flow()]))
    push.flush()
    samples = sum(not line.startswith("#") for line in sample_lines(snapshot([flow()])))
    push.end_within(60)
    assert push.push.undelivered
    assert caplog.messages[-1] == (
        f"push to http://m/api: ended; lost: {samples} samples of 1 intervals: rejected by the server"
    )


def test_samples_that_a_full_queue_had_no_room_for_are_told_at_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sink, "Delivery", partial(Delivery, limit=1))
    push = Pushing(Server(takes=False))
    for _ in range(3):
        push.write(snapshot([flow()]))
        push.flush()
    push.end_within(0.1)
    assert re.search(r"ended; lost: \d+ samples of [12] intervals: queue full$", caplog.messages[-1])


def sample_lines(interval: Snapshot) -> list[str]:
    """What a push of this one interval sends."""
    server = Server()
    push = Pushing(server)
    push.write(interval)
    push.flush()
    push.end_within(60)
    return server.texts[0].splitlines()


def test_time_of_rendering_is_that_of_all_modes_and_of_the_tick_before(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    push = Pushing(server)
    clock = Clock()
    monkeypatch.setattr("xtrace.sinks.metrics.feed.time", clock)
    for _ in range(2):
        for _ in range(2):
            push.write(snapshot([flow()]))
        push.flush()
    push.end_within(60)
    told = [
        [line for line in text.splitlines() if line.startswith("xtrace_catch_push_render_s")] for text in server.texts
    ]
    assert told[0] == []
    ((_, value, _),) = (line.rsplit(" ", 2) for line in told[1])
    assert float(value) == 0.003, "two writes and a flush of a millisecond each"


class Clock:
    """Goes on by a millisecond with every look at it."""

    def __init__(self) -> None:
        self._now = 10**15

    def monotonic_ns(self) -> int:
        self._now += 10**6
        return self._now


def test_run_without_push_loads_none_of_its_modules() -> None:
    unused = "m.startswith(('urllib3', 'xtrace.sinks.push')) or m == 'ssl'"
    code = f"import sys, xtrace.assembly; print([m for m in sys.modules if {unused}])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_identity_is_the_same_in_records_and_series_and_leaves_out_unknown_values() -> None:
    assert NAME.record() == {"host": "n1", "host_ip": "192.0.2.1", "collect_agg": "pod-7", "labels": {"rack": 'r"1'}}
    assert NAME.series() == (
        *(("host", "n1"), ("host_ip", "192.0.2.1"), ("collect_agg", "pod-7")),
        ("rack", 'r"1'),
    )
    assert Identity("n1").record() == {"host": "n1"}
    assert Identity("n\udcff").series() == (("host", "n\ufffd"),)


def outdated(*are_of_use: bool) -> dict[str, float]:
    """The tool's metric of files, of which new ones are of use or not."""

    def make(is_of_use: bool, note: Note, before: int | None) -> int:
        if before is not None and not is_of_use:
            raise ValueError
        return 1

    renewed = [Renewed("files", partial(make, is_of_use)) for is_of_use in are_of_use]
    for each in renewed:
        each.renew()
    found = [sample for sample in flat([*SelfMetrics(renewed).samples(TICK)]) if "files" in sample.name]
    return {sample.name: sample.value for sample in found}


def test_new_files_of_no_use_show_and_without_files_nothing_does() -> None:
    assert outdated() == {}
    assert outdated(True, True) == {"xtrace_catch_files_outdated": 0}
    assert outdated(True, False) == outdated(False, True) == {"xtrace_catch_files_outdated": 1}


def test_tools_own_metrics_are_described_and_unknown_ones_absent() -> None:
    own = SelfMetrics([Renewed("files", lambda note, before: 1)])
    unknown = {sample.name for sample in flat([*own.samples(TICK), *push_samples(Figures())])}
    assert not {"xtrace_catch_push_stored", "xtrace_catch_drain_seconds", "xtrace_catch_push_request_seconds"} & unknown
    own.start(RUN)
    own.note_render(1000)
    flows = FlowMetrics(MetricsOptions(10))
    assert "xtrace_catch_drain_seconds" not in flows.own(FLOWS), "nothing was drained yet"
    flows.samples(snapshot([flow()]))
    samples = [*own.samples(TICK, [flows.own(FLOWS)]), *push_samples(EVERYTHING)]
    known = {sample.name for sample in flat(samples)}
    assert known | {name for name in self_metrics.DESCRIBED if "_listen_" in name} == set(self_metrics.DESCRIBED)
    end = [sample.value for sample in flat(samples) if sample.name == "xtrace_catch_interval_end_timestamp_seconds"]
    assert end == [5.25]


def test_each_figure_of_the_push_is_shown_under_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """All different, so that none can stand in for another."""
    monkeypatch.setattr("time.time", lambda: 1_767_225_600.1234)
    monkeypatch.setattr("time.process_time", lambda: 2.5)
    own = SelfMetrics()
    own.start(RUN)
    own.note_render(3_500_000)
    dropped = {"overflow": (11, 12), "refused": (13, 14)}
    figures = Figures(3, 4, 5, 6, 7, 8, dropped, request_s=0.25, stored=False)
    values: dict[tuple[Any, ...], Any] = {
        (sample.name, *sample.labels): sample.value
        for sample in flat([*own.samples(TICK, [{"one": 1}]), *push_samples(figures)])
    }
    assert int(values.pop(("xtrace_catch_resident_memory_bytes",))) > 0
    named = {
        "interval_end_timestamp_seconds": TICK.end_ms / 1000,
        "start_time_seconds": 1_767_225_600.123,
        "cpu_seconds_total": 2.5,
        "map_memory_bytes": 20_000_000,
        "push_flow_series": 0,
        "push_flow_series_remembered": 0,
        "push_render_seconds": 0.0035,
        "push_queue_batches": 3,
        "push_queue_bytes": 4,
        "push_requests_total": 5,
        "push_samples_total": 6,
        "push_failures_total": 7,
        "push_spool_bytes": 8,
        "push_request_seconds": 0.25,
        "push_stored": 0,
    }
    expected: dict[tuple[Any, ...], Any] = {
        ("one",): 1,
        ("xtrace_catch_build_info", ("version", "0.1.0")): 1,
        **{(f"xtrace_catch_{name}",): value for name, value in named.items()},
        ("xtrace_catch_push_dropped_batches_total", ("reason", "overflow")): 11,
        ("xtrace_catch_push_dropped_samples_total", ("reason", "overflow")): 12,
        ("xtrace_catch_push_dropped_batches_total", ("reason", "refused")): 13,
        ("xtrace_catch_push_dropped_samples_total", ("reason", "refused")): 14,
    }
    assert values == expected


def test_memory_of_the_process_is_what_its_status_says() -> None:
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    assert abs(self_metrics.resident_bytes() - 1024 * kilobytes) < 16 << 20


def test_figures_of_mode_xdp_are_those_of_the_last_interval() -> None:
    flows = FlowMetrics(MetricsOptions(1))
    refused = Unattached("eth2", Absence.REFUSED, "")
    absent = (Unattached("eth1", Absence.DETACHED, ""), refused, refused._replace(is_named=True))
    both = [flow(), flow(key(ports=(1, 1)))]
    flows.samples(replace(snapshot(both), grace_ns=4_000_000, drain_ns=7_000_000, attached=5, unattached=absent))
    assert flows.own(FLOWS) == {
        "xtrace_catch_push_flow_series": 1,
        "xtrace_catch_push_flow_series_remembered": 0,
        "xtrace_catch_interfaces_attached": 5,
        "xtrace_catch_interfaces_unattached": 2,
        "xtrace_catch_flow_table_flows": 2,
        "xtrace_catch_flow_table_capacity": 65536,
        "xtrace_catch_grace_period_seconds": 0.004,
        "xtrace_catch_drain_seconds": 0.007,
    }
    assert set(flows.own(None)) == {
        *("xtrace_catch_push_flow_series", "xtrace_catch_push_flow_series_remembered"),
        *("xtrace_catch_interfaces_attached", "xtrace_catch_interfaces_unattached"),
    }


@pytest.mark.parametrize(
    "setups, expected",
    [
        ({"xdp": FLOWS}, [20_000_000]),
        ({"nccl": CALLS}, [3_000_000]),
        ({"xdp": FLOWS, "rdma": Setup(), "nccl": CALLS}, [23_000_000]),
        ({"rdma": Setup()}, []),
        ({}, []),
    ],
)
def test_map_memory_is_the_sum_over_modes(setups: dict[str, Setup], expected: list[int]) -> None:
    own = SelfMetrics()
    own.start(Run("0.1.0", 5.0, ("xdp",), setups))
    samples = flat(own.samples(TICK))
    assert [s.value for s in samples if s.name == "xtrace_catch_map_memory_bytes"] == expected


def test_retry_after_is_seconds_or_a_date() -> None:
    assert (retry_after("7"), retry_after(None), retry_after("soon")) == (7.0, None, None)
    at = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=60))
    assert 50 < (retry_after(at) or 0) <= 60
    assert retry_after(format_datetime(datetime.now(timezone.utc) - timedelta(hours=1))) == 0.0


EXPORT_QUERY = "match%5B%5D=up%7Bhost%3D%22a%22%7D&start=1.5&end=2.0"


@pytest.mark.parametrize(
    "url, expected",
    [
        ("http://m/api/v1/import/prometheus", ["http://m/api/v1/export?"]),
        ("http://m/x/api/v1/import/prometheus?k=1", ["http://m/x/api/v1/export?k=1&"]),
        ("http://m/api/v1/import/prometheus/metrics/job/a", ["http://m/api/v1/export?"]),
        ("http://m/insert/7/prometheus/api/v1/import/prometheus", ["http://m/select/7/prometheus/api/v1/export?"]),
        ("http://m/insert/7:1/prometheus/api/v1/write", ["http://m/select/7:1/prometheus/api/v1/export?"]),
        ("http://m/insert/7/opentelemetry/v1/metrics", ["http://m/select/7/prometheus/api/v1/export?"]),
        ("http://m/opentelemetry/v1/metrics", ["http://m/api/v1/export?"]),
        ("http://m/push", ["http://m/api/v1/export?"]),
        ("http://m/vm/push", ["http://m/vm/api/v1/export?", "http://m/api/v1/export?"]),
    ],
)
def test_export_url_is_derived_from_the_import_url(url: str, expected: list[str]) -> None:
    assert export_urls(url, 'up{host="a"}', 1500, 2000) == [each + EXPORT_QUERY for each in expected]


@pytest.mark.parametrize(
    "exported, expected",
    [
        (b"", set()),
        (b'{"metric":{},"values":[1,1],"timestamps":[5,7]}\n{"metric":{},"values":[1],"timestamps":[9]}\n', {5, 7, 9}),
        (b"OK", None),
        (b"<html>", None),
        (b'{"status":"success"}', None),
        (b"[1]", None),
    ],
)
def test_times_come_from_an_export_only(exported: bytes, expected: set[int] | None) -> None:
    assert sample_times(exported) == expected


def test_proxies_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://p:3128")
    monkeypatch.setenv("no_proxy", "localhost,.local")
    assert proxy_for("http", "m:8428") == "http://p:3128"
    assert proxy_for("https", "m:8428") is None
    assert proxy_for("http", "localhost:8428") is None
    assert proxy_for("http", "m.local:8428") is None


@pytest.mark.parametrize("proxy", ["http://s3cr3t@[bad", "socks5://u:s3cr3t@p:1", "http://p:s3cr3t"])
def test_invalid_proxy_is_a_usage_error_without_its_password(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(UsageError, match=r"^http_proxy: not an http or https URL") as caught:
        Http(Target("http://m:8428/x", "http://m:8428/x"), "1")
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    "content, why", [(None, "No such file or directory"), (b"", "is empty"), (b"\xff", "is not text")]
)
@pytest.mark.parametrize("setting", ["password_file", "bearer_token_file"])
def test_unusable_secret_file_is_refused_at_startup(
    setting: str, content: bytes | None, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    files: dict[str, Any] = {setting: str(path)}
    target = Target("http://m:8428/x", "http://m:8428/x", username="u", **files)
    with pytest.raises(UsageError) as caught:
        Http(target, "1")
    variable = f"VICTORIAMETRICS_{setting.upper()}"
    assert str(caught.value) == f"{variable} {path}: {why} (the file must contain only the secret)"
