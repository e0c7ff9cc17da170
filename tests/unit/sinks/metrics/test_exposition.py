"""The text format: lines by metric, labels, times, cached labels."""

from __future__ import annotations

import zlib

import pytest

from xtrace.sinks.metrics import exposition as exposition_module
from xtrace.sinks.metrics.exposition import Exposition, label, label_text
from xtrace.sinks.metrics.sample import Interval, Labels, Metric, Sample

DESCRIBED = {"a_total": Metric("counter", "things", "All."), "b": Metric("gauge", "", "Some.")}
X: Labels = (("x", "1"),)


@pytest.mark.parametrize(
    "value, text",
    [("a", 'x="a"'), ('a"b', 'x="a\\"b"'), ("a\\b", 'x="a\\\\b"'), ("a\nb", 'x="a\\nb"'), ("a\udcff", 'x="a\ufffd"')],
)
def test_label_values_are_escaped(value: str, text: str) -> None:
    assert label("x", value) == text


def test_label_without_a_value_is_left_out() -> None:
    assert label_text((("a", "1"), ("b", ""), ("c", "3"))) == 'a="1",c="3"'


def test_exposition_is_empty_after_it_was_rendered() -> None:
    exposition = Exposition(())
    exposition.add([Sample((), {"b": 1})], DESCRIBED, Interval(0, 5))
    assert len(exposition) == 1
    assert exposition.body() == b"# HELP b Some.\n# TYPE b gauge\nb{} 1 5\n"
    assert (len(exposition), exposition.body()) == (0, b"")


def test_lines_are_grouped_by_metric_and_keep_their_times() -> None:
    exposition = Exposition((("host", "n"),))
    exposition.add([Sample((), {"b": 0.5, "a_total": 9}, {"a_total": 7})], DESCRIBED, Interval(1000, 2000))
    exposition.add([Sample(X, {"a_total": 3})], DESCRIBED, Interval(1001, 2001))
    assert len(exposition) == 4
    assert exposition.body().decode() == (
        "# HELP a_total All.\n# TYPE a_total counter\n"
        'a_total{host="n"} 7 1000\n'
        'a_total{host="n"} 9 2000\n'
        'a_total{x="1",host="n"} 3 2001\n'
        '# HELP b Some.\n# TYPE b gauge\nb{host="n"} 0.5 2000\n'
    )


def test_own_labels_override_constant_ones() -> None:
    exposition = Exposition((("x", "constant"), ("y", "2")))
    exposition.add([Sample(X, {"b": 1})], DESCRIBED, Interval(0, 5))
    assert exposition.body().endswith(b'\nb{x="1",y="2"} 1 5\n')


def test_body_is_compressed_as_its_headers_say() -> None:
    exposition = Exposition(())
    assert exposition.headers(b"") == {"Content-Type": "text/plain; version=0.0.4", "Content-Encoding": "gzip"}
    assert zlib.decompress(exposition.compress(b"a{} 1 5\n"), 16 + zlib.MAX_WBITS) == b"a{} 1 5\n"


def test_cached_labels_are_bounded() -> None:
    exposition = Exposition(())
    staying: list[Labels] = [(("stays", str(number)),) for number in range(10)]
    for tick in range(100):
        passing: list[Labels] = [(("tick", str(tick)), ("n", str(number))) for number in range(10)]
        samples = [Sample(labels, {"b": tick}) for labels in (*staying, *passing)]
        exposition.add(samples, DESCRIBED, Interval(0, 5))
        text = exposition.body().decode()
        assert all(f"b{{{label_text(labels)}}} {tick} 5\n" in text for labels in (*staying, *passing))
        assert len(exposition._rendered) + len(exposition._rendered_before) <= 5 * len(samples)


def test_labels_of_a_series_that_paused_are_not_rendered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendering is what costs most."""
    rendered: list[Labels] = []

    def noted(labels: Labels) -> str:
        rendered.append(tuple(labels))
        return label_text(labels)

    monkeypatch.setattr(exposition_module, "label_text", noted)
    exposition = Exposition(())
    pausing: Labels = (("x", "2"),)
    for series in ([X, pausing], [X], [X], [X, pausing]):
        exposition.add([Sample(labels, {"b": 1}) for labels in series], DESCRIBED, Interval(0, 5))
        exposition.body()
    assert rendered == [X, pausing]
