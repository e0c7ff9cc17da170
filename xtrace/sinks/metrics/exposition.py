"""Prometheus' text format with timestamps: lines of one metric together, after what describes it.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xtrace.sinks.metrics.encoding import gzip
from xtrace.sinks.metrics.sample import Interval, Labels, Metric, Sample
from xtrace.sinks.render import valid_unicode

_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

_PIECES = 4
"""That make a line: the metric's name, labels, value, time."""

_KEPT = 2
"""Rendered labels that a generation keeps, as a multiple of the most samples that one body had."""


def label(name: str, value: str) -> str:
    """`name="value"`, escaped."""
    return f'{name}="{valid_unicode(value).translate(_ESCAPED)}"'


def label_text(labels: Iterable[tuple[str, str]]) -> str:
    """`a="1",b="2"`; an empty value is the same as no label, and left out."""
    return ",".join(label(name, value) for name, value in labels if value)


class Exposition:
    """An Encoding: text, compressed by gzip.

    `constant` labels are on every series; where a series has one of that name itself, its own counts.
    """

    headers: Mapping[str, str] = {"Content-Type": "text/plain; version=0.0.4", "Content-Encoding": "gzip"}

    def __init__(self, constant: Labels) -> None:
        self._constant = constant
        self._described: dict[str, Metric] = {}
        self._pieces: dict[str, list[str]] = {}
        """of lines, by metric: _PIECES each. Joined once, at the end: lines are long, and copying them costs most."""
        self._rendered: dict[int, tuple[Labels, str]] = {}
        """labels and their text by id(labels), which is theirs alone while they are kept here. Hashing the labels
        themselves would read all their parts, most of which are in no cache."""
        self._rendered_before: dict[int, tuple[Labels, str]] = {}
        """the generation before"""
        self._samples = self._most_samples = 0

    def add(self, samples: Iterable[Sample], described: Mapping[str, Metric], interval: Interval) -> None:
        """Lines for samples; their metrics in the order of `described`."""
        self._described.update(described)
        pieces, rendered, count = self._pieces, self._rendered, 0
        for name in described:
            pieces.setdefault(name, [])
        start, end = (f" {ms}\n" for ms in interval)
        for labels, values, before in samples:
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
        """All lines, as UTF-8."""
        parts: list[str] = []
        for name, pieces in self._pieces.items():
            if pieces:
                metric = self._described[name]
                parts.append(f"# HELP {name} {metric.help}\n# TYPE {name} {metric.kind}\n")
                parts += pieces
        self._pieces.clear()
        self._forget()
        return "".join(parts).encode()

    def _forget(self) -> None:
        """Begin a new generation once the present one could hold all series twice: the others are gone, or idle."""
        self._most_samples = max(self._most_samples, self._samples)
        self._samples = 0
        if len(self._rendered) > _KEPT * self._most_samples:
            self._rendered_before, self._rendered = self._rendered, {}

    def compress(self, body: bytes) -> bytes:
        """By gzip."""
        return gzip(body)
