"""What a server lacks of a batch that it may have in part, by the import format and remote write."""

from __future__ import annotations

import zlib

import cramjam
import pytest

from tests.unit.sinks.push.test_delivery import Server as Scripted
from xtrace.sinks.metrics.encoding import Encoding
from xtrace.sinks.metrics.exposition import Exposition
from xtrace.sinks.metrics.otlp import Otlp
from xtrace.sinks.metrics.pieces import identity
from xtrace.sinks.metrics.remote_write import RemoteWrite
from xtrace.sinks.metrics.sample import Interval, Labels, Metric, Sample
from xtrace.sinks.push.batch import Outcome
from xtrace.sinks.push.rest import rest

HOST = (("host", "n1"),)
ODD = 'a "b" \\ {c="d"}\ne\u2028ä'
DESCRIBED = {"xtrace_a": Metric("counter", "", "A."), "xtrace_b": Metric("gauge", "", "B.")}
SAMPLES = [
    Sample((("x", ODD), ("none", "")), {"xtrace_a": 2, "xtrace_b": 1.5}, {"xtrace_a": 0}),
    Sample((), {"xtrace_b": 3}),
]


def series(name: str, labels: Labels = ()) -> Labels:
    return (("__name__", name), *HOST, *labels)


ALL = [
    (series("xtrace_a", (("x", ODD),)), 1000),
    (series("xtrace_a", (("x", ODD),)), 2000),
    (series("xtrace_b", (("x", ODD),)), 2000),
    (series("xtrace_b"), 2000),
]


class Server(Scripted):
    """Shows these samples, or none."""

    def __init__(self, *shown: tuple[Labels, int], can_be_asked: bool = True) -> None:
        super().__init__([Outcome(True)])
        self.asked: list[tuple[str, int, int, frozenset[str]]] = []
        self._shown = {identity(*each) for each in shown} if can_be_asked else None

    def samples(self, selector: str, start_ms: int, end_ms: int, names: frozenset[str]) -> set[int] | None:
        self.asked.append((selector, start_ms, end_ms, names))
        return self._shown


def encoding(form: str) -> Encoding:
    made = Exposition(HOST) if form == "import" else RemoteWrite(HOST)
    if form == "1.0":
        assert isinstance(made, RemoteWrite)
        made.fall_back()
        made.body()
    return made


def request(made: Encoding) -> bytes:
    made.add(SAMPLES, DESCRIBED, Interval(1000, 2000))
    return made.compress(made.body())


FORMS = pytest.mark.parametrize("form", ["import", "1.0", "2.0"])


@FORMS
def test_all_samples_are_found_with_their_series_and_times(form: str) -> None:
    made = encoding(form)
    pieces = made.pieces(request(made))
    assert pieces is not None
    assert {identity(piece.labels, piece.at_ms) for piece in pieces.samples} == {identity(*each) for each in ALL}
    assert pieces.selector == '{__name__=~"xtrace_.+",host="n1"}'


@FORMS
@pytest.mark.parametrize("has", [1, 2, 3])
def test_only_what_the_server_lacks_is_left(form: str, has: int) -> None:
    made = encoding(form)
    body = request(made)
    server = Server(*ALL[:has])
    left = rest(server, made, body)
    assert left is not None
    pieces = made.pieces(left)
    assert pieces is not None
    found = [identity(piece.labels, piece.at_ms) for piece in pieces.samples]
    assert sorted(found) == sorted(identity(*each) for each in ALL[has:])
    assert server.asked == [(pieces.selector, 1000, 2000, frozenset({"__name__", "host", "x"}))]


def test_left_lines_are_those_that_were_sent() -> None:
    made = encoding("import")
    left = rest(Server(*ALL[:2]), made, request(made))
    assert left is not None
    *_, last = zlib.decompress(left, 31).decode().splitlines()
    assert last == 'xtrace_b{host="n1"} 3 2000'


def test_left_series_are_a_request_of_1_0() -> None:
    made = encoding("2.0")
    left = rest(Server(*ALL[:3]), made, request(made))
    assert left is not None
    whole = encoding("1.0")
    whole.add(SAMPLES[1:], DESCRIBED, Interval(1000, 2000))
    assert bytes(cramjam.snappy.decompress_raw(left)) == whole.body()
    assert made.headers(left) == whole.headers(left)


@FORMS
def test_nothing_or_all_is_left_as_the_server_has_all_or_nothing(form: str) -> None:
    made = encoding(form)
    body = request(made)
    assert rest(Server(*ALL), made, body) == b""
    assert rest(Server(), made, body) == body


@FORMS
def test_nothing_is_known_where_the_server_does_not_show_series_as_they_were_sent(form: str) -> None:
    made = encoding(form)
    body = request(made)
    assert rest(Server(can_be_asked=False), made, body) is None
    assert rest(Server((series("xtrace_b", (("x", "changed"),)), 2000)), made, body) is None


def test_what_has_no_single_samples_is_not_looked_for() -> None:
    server = Server()
    for made in (Exposition(HOST), RemoteWrite(HOST)):
        assert rest(server, made, made.compress(b"")) is None
    assert rest(server, Exposition(HOST), Exposition(HOST).compress(b"xtrace_a{} 1 1\nno sample\n")) is None
    otlp = Otlp(HOST, frozenset(), "1")
    assert rest(server, otlp, request(otlp)) is None
    assert not server.asked
