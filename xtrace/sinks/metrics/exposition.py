"""Prometheus' text format with timestamps: lines of one metric together, after what describes it.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xtrace.sinks.metrics.sample import Sample
from xtrace.sinks.render import valid_unicode

_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def label(name: str, value: str) -> str:
    """`name="value"`, escaped."""
    return f'{name}="{valid_unicode(value).translate(_ESCAPED)}"'


def label_text(labels: Iterable[tuple[str, str]]) -> str:
    """`a="1",b="2"`; an empty value is the same as no label, and left out."""
    return ",".join(label(name, value) for name, value in labels if value)


class Exposition:
    """The samples of one tick.

    `constant` labels are on every series; where a series has one of that name itself, its own counts.
    """

    def __init__(self, constant: Iterable[tuple[str, str]]) -> None:
        self._constant = tuple(constant)
        self.constant = label_text(self._constant)
        self._kinds: dict[str, str] = {}
        self._described: dict[str, str] = {}
        self._lines: dict[str, list[str]] = {}

    def metric(self, name: str, kind: str, description: str | None = None) -> list[str]:
        """The lines of a metric, to append to: `{labels} value milliseconds`, without its name."""
        lines = self._lines.get(name)
        if lines is None:
            lines = self._lines[name] = []
            self._kinds[name] = kind
            if description:
                self._described[name] = description
        return lines

    def add(self, samples: Iterable[Sample], described: Mapping[str, str], end_ms: int) -> None:
        """Samples of any kind, at the end of their interval."""
        for name, kind, labels, value in samples:
            lines = self.metric(name, kind, described.get(name))
            lines.append(f"{{{self._with_constant(labels)}}} {value} {end_ms}")

    def _with_constant(self, labels: tuple[tuple[str, str], ...]) -> str:
        own = {name for name, _ in labels}
        return label_text((*labels, *(constant for constant in self._constant if constant[0] not in own)))

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def render(self) -> bytes:
        """The body of a request; empties the exposition."""
        parts = []
        for name, lines in self._lines.items():
            if not lines:
                continue
            if name in self._described:
                parts.append(f"# HELP {name} {self._described[name]}\n")
            parts.append(f"# TYPE {name} {self._kinds[name]}\n{name}")
            parts.append(f"\n{name}".join(lines))
            parts.append("\n")
        self._lines.clear()
        return "".join(parts).encode()
