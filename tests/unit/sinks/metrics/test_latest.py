"""What a scrape sees: which series exist, their last values, since when they count; both formats."""

from __future__ import annotations

import pytest

from xtrace.sinks.metrics.latest import Latest
from xtrace.sinks.metrics.sample import Interval, Labels, Life, Metric, Sample
from xtrace.sinks.metrics.scrape import Renderer, open_metrics_is_preferred

DESCRIBED = {"a_things_total": Metric("counter", "things", "All."), "b": Metric("gauge", "", "Some.")}
X: Labels = (("x", "1"),)
FIRST, SECOND, THIRD = Interval(1000, 2000), Interval(2000, 3000), Interval(3000, 4000)


def lines(latest: Latest, as_open_metrics: bool = False) -> list[str]:
    """Return the series of a scrape, without descriptions."""
    body = Renderer((("host", "n"),)).body(latest.view, as_open_metrics).decode()
    return [line for line in body.splitlines() if not line.startswith("#")]


def tick(latest: Latest, interval: Interval, *samples: Sample) -> None:
    latest.add(samples, DESCRIBED, interval)
    latest.publish()


def test_idle_series_stays_with_its_last_values_until_it_ends() -> None:
    latest = Latest()
    tick(latest, FIRST, Sample(X, {"a_things_total": 5, "b": 5}, {"a_things_total": 0}, Life.STAYS))
    tick(latest, SECOND, Sample(X, {"b": 0}, None, Life.STAYS))
    idle = ['a_things_total{x="1",host="n"} 5', 'b{x="1",host="n"} 0']
    assert lines(latest) == idle
    tick(latest, THIRD)
    assert lines(latest) == idle
    tick(latest, THIRD, Sample(X, {}, None, Life.ENDS))
    assert lines(latest) == []


def test_series_that_needs_a_sample_in_each_interval_is_gone_without_one() -> None:
    latest = Latest()
    tick(latest, FIRST, Sample(X, {"b": 7}), Sample(X, {"a_things_total": 1}))
    assert lines(latest) == ['a_things_total{x="1",host="n"} 1', 'b{x="1",host="n"} 7']
    tick(latest, SECOND)
    assert lines(latest) == []


def test_nothing_is_visible_before_the_tick_is_complete() -> None:
    latest = Latest()
    tick(latest, FIRST, Sample(X, {"b": 1}, None, Life.STAYS))
    latest.add([Sample(X, {"b": 2}, None, Life.STAYS)], DESCRIBED, SECOND)
    assert lines(latest) == ['b{x="1",host="n"} 1']


@pytest.mark.parametrize("life", [Life.STAYS, Life.EACH])
def test_counter_is_created_when_it_was_0_and_keeps_that_time(life: Life) -> None:
    latest = Latest()
    tick(latest, FIRST, Sample(X, {"a_things_total": 5}, {"a_things_total": 0}, life))
    tick(latest, SECOND, Sample(X, {"a_things_total": 6}, None, life))
    assert lines(latest, True) == ['a_things_total{x="1",host="n"} 6', 'a_things_created{x="1",host="n"} 1.000']


def test_counter_that_begins_with_an_old_value_has_no_time_of_creation() -> None:
    latest = Latest()
    tick(latest, FIRST, Sample(X, {"a_things_total": 5}, {"a_things_total": 3}))
    assert lines(latest, True) == ['a_things_total{x="1",host="n"} 5']


def test_open_metrics_names_families_and_units_and_ends_with_eof() -> None:
    latest = Latest()
    tick(latest, FIRST, Sample((), {"a_things_total": 5, "b": 0.5}))
    assert Renderer(()).body(latest.view, True).decode() == (
        "# HELP a_things All.\n# TYPE a_things counter\n# UNIT a_things things\na_things_total 5\n"
        "# HELP b Some.\n# TYPE b gauge\nb 0.5\n# EOF\n"
    )
    assert Renderer(()).body(latest.view, False).decode() == (
        "# HELP a_things_total All.\n# TYPE a_things_total counter\na_things_total 5\n"
        "# HELP b Some.\n# TYPE b gauge\nb 0.5\n"
    )


@pytest.mark.parametrize(
    "accept, expected",
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;q=0.2", True),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-text;q=0.1,text/plain;q=0.5", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=x", False),
        ("text/plain,application/openmetrics-text", True),
        ("text/plain;q=0.5,application/openmetrics-text;q=0.5", True),
        ("text/plain;q=0.6,application/openmetrics-text;q=0.5", False),
        ("text/plain;version=9;q=0.6,application/openmetrics-text;q=0.5", False),
        ("application/openmetrics-text;q=0.7,application/openmetrics-text;q=0.1,text/plain;q=0.5", True),
        ("APPLICATION/OpenMetrics-Text; Version=0.0.1; Q=0.5", True),
        ("text/plain", False),
        ("*/*", False),
        ("application/openmetrics-text;x=a=b=c;q=0.5", True),
    ],
)
def test_accept_header_chooses_the_format(accept: str, expected: bool) -> None:
    assert open_metrics_is_preferred(accept) is expected
