"""Remote write: labels in order, values and times, the ends of series, blocks of snappy."""

from __future__ import annotations

import math
import struct

import cramjam
import pytest

from tests.support.protobuf import Labels as Named
from tests.support.protobuf import Points, fields, parsed_2, request_2, time_series
from xtrace.sinks.metrics import snappy
from xtrace.sinks.metrics.protobuf import varint
from xtrace.sinks.metrics.remote_write import HEADERS_1, HEADERS_2, RemoteWrite, samples_in
from xtrace.sinks.metrics.sample import Interval, Labels, Life, Metric, Sample

DESCRIBED = {"a_total": Metric("counter", "things", "All."), "b": Metric("gauge", "", "Some.")}
X: Labels = (("x", "1"),)
TICKS = [Interval(1000 * tick, 1000 * tick + 1000) for tick in range(1, 6)]


def body(encoding: RemoteWrite, tick: int, *samples: Sample) -> dict[Named, Points]:
    """Return what a tick sends; a stale marker is shown as nan."""
    encoding.add(samples, DESCRIBED, TICKS[tick])
    expected = len(encoding)
    found = request_2(encoding.body())
    assert len(dict(found)) == len(found), "a series occurs once"
    assert sum(len(points) for _, points in found) >= expected
    return dict(found)


def of(name: str, *others: tuple[str, str]) -> Named:
    return (("__name__", name), *others)


def test_samples_have_sorted_labels_values_and_times() -> None:
    encoding = RemoteWrite((("host", "n"), ("A", "upper"), ("x", "constant")))
    assert body(encoding, 0, Sample(X, {"a_total": 1 << 53, "b": -0.5}, {"a_total": 0})) == {
        (("A", "upper"), ("__name__", "a_total"), ("host", "n"), ("x", "1")): [(1000, 0.0), (2000, 2.0**53)],
        (("A", "upper"), ("__name__", "b"), ("host", "n"), ("x", "1")): [(2000, -0.5)],
    }
    assert len(encoding) == 0


def test_number_of_samples_is_that_of_the_points() -> None:
    encoding = RemoteWrite(())
    encoding.add([Sample(X, {"a_total": 2, "b": 1}, {"a_total": 0}), Sample((), {"b": 1})], DESCRIBED, TICKS[0])
    assert len(encoding) == 4


def test_headers_are_those_of_the_specification() -> None:
    assert HEADERS_1 == {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    assert HEADERS_2 == {
        "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "2.0.0",
    }


def test_empty_labels_are_left_out_and_bytes_that_are_no_text_replaced() -> None:
    labels: Labels = (("x", ""), ("y", "a\udcff" + "ä" * 200))
    assert list(body(RemoteWrite(()), 0, Sample(labels, {"b": 1}))) == [of("b", ("y", "a\ufffd" + "ä" * 200))]


def assert_stale(points: Points, at_ms: int) -> None:
    ((found_ms, value),) = points
    assert found_ms == at_ms and struct.pack(">d", value).hex() == "7ff0000000000002"


def test_series_that_stays_is_idle_without_a_sample_and_stale_once_it_ends() -> None:
    encoding = RemoteWrite(())
    body(encoding, 0, Sample(X, {"a_total": 1, "b": 1}, None, Life.STAYS))
    assert body(encoding, 1, Sample(X, {"b": 0}, None, Life.STAYS)) == {of("b", *X): [(3000, 0.0)]}
    assert body(encoding, 2) == {}
    ended = body(encoding, 3, Sample(X, {"b": 0}, None, Life.ENDS))
    assert_stale(ended[of("a_total", *X)], 2001)
    assert_stale(ended[of("b", *X)], 3001)
    assert body(encoding, 4, Sample(tuple(X), {"a_total": 1}, {"a_total": 0}, Life.STAYS)) == {
        of("a_total", *X): [(5000, 0.0), (6000, 1.0)]
    }


def test_other_series_and_metrics_are_stale_as_soon_as_they_have_no_sample() -> None:
    encoding = RemoteWrite(())
    body(encoding, 0, Sample(X, {"a_total": 1, "b": 1}), Sample((), {"b": 1}))
    found = body(encoding, 1, Sample(X, {"b": 2}))
    assert found.pop(of("b", *X)) == [(3000, 2.0)]
    assert_stale(found.pop(of("a_total", *X)), 2001)
    assert_stale(found.pop(of("b")), 2001)
    assert found == {}
    assert body(encoding, 2, Sample(X, {"b": 3})) == {of("b", *X): [(4000, 3.0)]}


def test_at_the_end_of_a_run_all_series_are_stale() -> None:
    encoding = RemoteWrite(())
    body(encoding, 0, Sample(X, {"a_total": 1}, None, Life.STAYS), Sample((), {"b": 1}))
    last = dict(request_2(encoding.last_body()))
    assert set(last) == {of("a_total", *X), of("b")}
    for points in last.values():
        assert_stale(points, 2001)
    assert encoding.last_body() == b""


def test_special_values_survive() -> None:
    found = body(RemoteWrite(()), 0, Sample((), {"b": math.inf}))
    assert found == {of("b"): [(2000, math.inf)]}


@pytest.mark.parametrize("size", [0, 1, 60, 61, 255, 65_536, 1 << 20])
def test_literal_is_a_block_that_a_library_reads(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert bytes(cramjam.snappy.decompress_raw(snappy.literal(data))) == data if size else snappy.literal(data) == b"\0"


def test_body_is_compressed_by_the_library_if_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"abcdefgh" * 1000
    packed = RemoteWrite(()).compress(data)
    assert bytes(cramjam.snappy.decompress_raw(packed)) == data and len(packed) < 1000
    monkeypatch.setattr(snappy, "find_spec", lambda _: None)
    assert RemoteWrite(()).compress(data) == snappy.literal(data)


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 1 << 41, (1 << 63) - 1])
def test_numbers_are_varints(number: int) -> None:
    assert list(fields(b"\x08" + varint(number))) == [(1, number)]


def test_texts_occur_once_and_counters_have_a_start_and_all_metrics_a_kind_and_help() -> None:
    encoding = RemoteWrite((("host", "n"),))
    described = {**DESCRIBED, "c_packets_total": Metric("counter", "packets", "All.")}
    encoding.add(
        [Sample(X, {"a_total": 1, "b": 2, "c_packets_total": 3}, {"a_total": 0, "c_packets_total": 2})],
        described,
        TICKS[0],
    )
    request = parsed_2(encoding.body())
    symbols = request.symbols
    metadata = [series.metadata for series in request.timeseries]
    assert [(each.type, symbols[each.help_ref], symbols[each.unit_ref]) for each in metadata] == [
        (1, "All.", ""),
        (2, "Some.", ""),
        (1, "All.", "packets"),
    ]
    starts = [[sample.start_timestamp for sample in series.samples] for series in request.timeseries]
    assert starts == [[1000, 1000], [0], [0, 0]], "a counter that was not 0 has no known start"


def test_request_of_2_becomes_the_same_of_1() -> None:
    encoding = RemoteWrite((("host", "n"), ("A", "upper")))
    body(encoding, 0, Sample(X, {"a_total": 1, "b": 1}), Sample((), {"b": 1}))
    encoding.add([Sample((("x", "x" * 300),), {"a_total": 2, "b": math.inf}, {"a_total": 0})], DESCRIBED, TICKS[1])
    newer = encoding.compress(encoding.body())
    older = encoding.as_version_1(newer)
    found, expected = (
        read(bytes(cramjam.snappy.decompress_raw(packed)))
        for read, packed in ((time_series, older), (request_2, newer))
    )
    assert repr(found) == repr(expected), "nan is not equal to itself"
    assert samples_in(newer) == sum(len(points) for _, points in found) == 6
    assert (encoding.headers(newer), encoding.headers(older)) == (HEADERS_2, HEADERS_1)


def test_samples_are_counted_without_a_look_at_labels_and_values() -> None:
    """It is done for every request that was delivered."""
    encoding = RemoteWrite(())
    body(encoding, 0, Sample(X, {"a_total": 1}))
    encoding.add([Sample((), {"a_total": 1, "b": 1}, {"a_total": 0})], DESCRIBED, TICKS[1])
    no_text = encoding.body().replace(b"a_total", b"\xff" * 7)
    assert samples_in(encoding.compress(no_text)) == 4, "a mark of an end among them"


def test_after_a_fall_back_requests_are_of_1_and_series_go_on() -> None:
    encoding = RemoteWrite((("host", "n"),))
    body(encoding, 0, Sample(X, {"a_total": 1}, None, Life.STAYS), Sample((), {"b": 1}))
    encoding.fall_back()
    body(encoding, 1, Sample((), {"b": 1}))
    encoding.add([Sample(X, {}, life=Life.ENDS), Sample((), {"b": 2})], DESCRIBED, TICKS[2])
    found = dict(time_series(encoding.body()))
    host = ("host", "n")
    assert found[of("b", host)] == [(4000, 2.0)]
    assert_stale(found[of("a_total", host, *X)], 2001)


@pytest.mark.parametrize("is_last", [True, False], ids=["end of the run", "tick of others"])
def test_series_that_end_right_after_a_fall_back_are_stale(is_last: bool) -> None:
    encoding = RemoteWrite(())
    encoding.fall_back()
    body(encoding, 0, Sample(X, {"a_total": 1}), Sample((), {"b": 1}))
    if not is_last:
        encoding.add([Sample((("y", "1"),), {"c": 1})], {"c": Metric("gauge", "", "Other.")}, TICKS[1])
    found = dict(time_series(encoding.last_body() if is_last else encoding.body()))
    assert (of("c", ("y", "1")) in found) is not is_last
    for series in (of("a_total", *X), of("b")):
        assert_stale(found[series], 2001)


@pytest.mark.parametrize(
    "data", [b"", b"a", b"abcabcabcabcabc" * 99, bytes(range(256)) * 300, b"x" * 70_000, bytes(61) + b"ab" * 40]
)
def test_blocks_of_a_library_are_read(data: bytes) -> None:
    block = bytes(cramjam.snappy.compress_raw(data))
    assert snappy.decompress(block) == data
    assert snappy.decompress(snappy.literal(data)) == data
    assert snappy.first_byte(block) == (data[0] if data else None)


def test_series_are_selected_by_the_labels_that_all_have() -> None:
    made = RemoteWrite((("host", "n1"), ("rack", 'r"1')))
    assert made.selector("up") == 'up{host="n1",rack="r\\"1"}'
    assert RemoteWrite(()).selector("up") == "up{}"
