"""The Prometheus text format with timestamps, grouped by metric.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping

from xtrace.sinks.metrics.encoding import GZIP, gzip
from xtrace.sinks.metrics.pieces import NAME, Piece, Pieces
from xtrace.sinks.metrics.sample import Interval, Labels, Metric, Sample
from xtrace.sinks.render import valid_unicode

HEADERS: Mapping[str, str] = {"Content-Type": "text/plain; version=0.0.4", "Content-Encoding": "gzip"}
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_LINE = re.compile(r"([^{]+)\{(.*)\} \S+ (\d+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")

_PIECES = 4
"""Pieces per line: metric name, labels, value, time."""

_KEPT = 2
"""Rendered label sets kept per generation, as a multiple of the largest number of samples in a body."""


def label(name: str, value: str) -> str:
    """Return `name="value"`, escaped."""
    return f'{name}="{valid_unicode(value).translate(_ESCAPED)}"'


def label_text(labels: Iterable[tuple[str, str]]) -> str:
    """Return `a="1",b="2"`; labels with an empty value are left out."""
    return ",".join(label(name, value) for name, value in labels if value)


def selector_of_all(constant: Labels) -> str:
    """Return a PromQL selector of all series with these labels."""
    return ",".join(filter(None, (f'{{{NAME}=~"xtrace_.+"', label_text(constant)))) + "}"


class Exposition:
    """The text format as an Encoding, compressed by gzip.

    `constant` labels are added to every series; a label of the same name in the sample overrides them.
    """

    form = "import"

    def __init__(self, constant: Labels) -> None:
        self._constant = constant
        self._described: dict[str, Metric] = {}
        self._pieces: dict[str, list[str]] = {}
        """pieces of lines by metric, _PIECES each. Joined once at the end: copying the long lines costs most."""
        self._rendered: dict[int, tuple[Labels, str]] = {}
        """labels and their text by id(labels), which is unique while they are kept here. Hashing the labels
        would touch all their strings, most of them outside the CPU caches."""
        self._rendered_before: dict[int, tuple[Labels, str]] = {}
        """the previous generation"""
        self._samples = self._most_samples = 0

    def add(self, samples: Iterable[Sample], described: Mapping[str, Metric], interval: Interval) -> None:
        """Add lines for samples, ordered by metric as in `described`."""
        self._described.update(described)
        pieces, rendered, count = self._pieces, self._rendered, 0
        for name in described:
            pieces.setdefault(name, [])
        start, end = (f" {ms}\n" for ms in interval)
        for labels, values, before, _ in samples:
            count += 1
            try:
                _, text = rendered[id(labels)]
            except KeyError:
                _, text = self._render(labels)
            if before is not None:
                for name, value in before.items():
                    pieces[name].extend((name, text, str(value), start))
            for name, value in values.items():
                pieces[name].extend((name, text, str(value), end))
        self._samples += count

    def _render(self, labels: Labels) -> tuple[Labels, str]:
        known = self._rendered_before.get(id(labels))
        if known is None:
            own = {name for name, _ in labels}
            constant = (label for label in self._constant if label[0] not in own)
            known = labels, f"{{{label_text((*labels, *constant))}}} "
        self._rendered[id(labels)] = known
        return known

    def __len__(self) -> int:
        return sum(map(len, self._pieces.values())) // _PIECES

    def body(self) -> bytes:
        """Return all lines as UTF-8 and start over."""
        parts: list[str] = []
        for name, pieces in self._pieces.items():
            if pieces:
                metric = self._described[name]
                parts.append(f"# HELP {name} {metric.help}\n# TYPE {name} {metric.kind}\n")
                parts += pieces
        self._pieces.clear()
        self._forget()
        return "".join(parts).encode()

    def last_body(self) -> bytes:
        """Return nothing: the format has no mark for the end of a series."""
        return b""

    def _forget(self) -> None:
        """Start a new generation once this one could hold all series twice; the rest are gone or idle."""
        self._most_samples = max(self._most_samples, self._samples)
        self._samples = 0
        if len(self._rendered) > _KEPT * self._most_samples:
            self._rendered_before, self._rendered = self._rendered, {}

    def compress(self, body: bytes) -> bytes:
        """Compress by gzip."""
        return gzip(body)

    def headers(self, body: bytes) -> Mapping[str, str]:
        """Return the content headers."""
        return HEADERS

    def selector(self, name: str) -> str:
        """Return the name and the constant labels."""
        return f"{name}{{{label_text(self._constant)}}}"

    def pieces(self, body: bytes) -> Pieces | None:
        """Return the lines of samples; None if there are none, or others too."""
        lines = [line for line in zlib.decompress(body, GZIP).decode().split("\n") if line and line[0] != "#"]
        matches = [_LINE.fullmatch(line) for line in lines]
        found = [_piece(match) for match in matches if match]
        return Pieces(selector_of_all(self._constant), found) if found and len(found) == len(lines) else None


def _piece(line: re.Match[str]) -> Piece:
    name, labels, at_ms = line.groups()
    values = ((label, _ESCAPE.sub(_meant, value)) for label, value in _LABEL.findall(labels))
    return Piece(((NAME, name), *values), int(at_ms), line.group().encode() + b"\n")


def _meant(escape: re.Match[str]) -> str:
    return "\n" if escape[1] == "n" else escape[1]
