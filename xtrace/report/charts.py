"""Pictures without scripts: rates over time as inline SVG, a traffic matrix as a table in shades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from math import ceil, log10

from xtrace.report.markup import rate, safe, size
from xtrace.report.sums import Series
from xtrace.sinks.text.units import scaled

WIDTH, HEIGHT = 560, 190
LEFT, RIGHT, TOP, BOTTOM = 72, 8, 10, 24
STEPS = (1, 2, 5, 10)
DAY_S = 86_400
MOST_ROWS = 60
"""Rows of the table behind a chart; more are for programs, which have the records."""


def nice(value: float, lines: int = 4) -> float:
    """Return the distance of about `lines` grid lines up to `value`: 1, 2 or 5 times a power of 10."""
    if value <= 0:
        return 1.0
    power = 10.0 ** ceil(log10(value / lines) - 1)
    return next(step * power for step in STEPS if step * power * lines >= value)


def rates(title: str, series: Mapping[str, Series]) -> str:
    """Return a chart of bits per second over time, a line per series, with the numbers in a table below it."""
    runs = {name: list(one.runs()) for name, one in series.items()}
    points = [point for each in runs.values() for run in each for point in run]
    if not points:
        return ""
    first = min(*(one.begin_s for one in series.values()), *(point.at for point in points))
    last = max(*(one.end_s for one in series.values()), *(point.at for point in points))
    step = nice(max(point.rate for point in points))
    top = step * max(1, ceil(max(point.rate for point in points) / step))

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((at - first) / (last - first) if last > first else 0.5)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top)

    grid = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        f'<text x="{LEFT - 5}" y="{y(value) + 4:.1f}" text-anchor="end">{scaled(value).strip()}</text>'
        for value in (step * index for index in range(round(top / step) + 1))
    )
    form = "%m-%d %H:%M" if last - first > DAY_S else "%H:%M:%S"
    at = [first, (first + last) / 2, last] if last > first else [first]
    anchors = ("start", "middle", "end") if last > first else ("middle",)
    times = "".join(
        f'<text x="{x(when):.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">'
        f"{datetime.fromtimestamp(when, timezone.utc):{form}}</text>"
        for when, anchor in zip(at, anchors, strict=True)
    )
    lines = "".join(
        _line(number, [(x(point.at), y(point.rate)) for point in run])
        for number, each in enumerate(runs.values())
        for run in each
    )
    peaks = ", ".join(f"{name} up to {rate(one.peak())}" for name, one in series.items() if runs[name])
    legend = "".join(
        f'<li class="s{number}"><svg viewBox="0 0 24 8" aria-hidden="true"><path d="M0 4H24"/></svg>{safe(name)}</li>'
        for number, name in enumerate(series)
    )
    return (
        f'<figure class="chart"><figcaption>{safe(title)}, bit/s, UTC<ul class="legend">{legend}</ul></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{safe(f"{title}: {peaks}")}">'
        f"{grid}{times}{lines}</svg>{_numbers(title, series)}</figure>"
    )


def _line(number: int, points: Sequence[tuple[float, float]]) -> str:
    """Return a line, or a dot for a single point."""
    if len(points) == 1:
        return f'<circle class="s{number}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="2.5"/>'
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="s{number}" d="M{path}"/>'


def _numbers(title: str, series: Mapping[str, Series]) -> str:
    """Return what the chart shows as a table that opens on request."""
    columns = {name: {p.at: p.rate for run in one.runs() for p in run} for name, one in series.items()}
    at = sorted({when for column in columns.values() for when in column})
    every = ceil(len(at) / MOST_ROWS) or 1
    rows = []
    for when in at[::every]:
        cells = "".join(
            f'<td class="n">{rate(column[when]) if when in column else "-"}</td>' for column in columns.values()
        )
        rows.append(f'<tr><th scope="row">{datetime.fromtimestamp(when, timezone.utc):%H:%M:%S}</th>{cells}</tr>')
    head = "".join(f'<th scope="col" class="n">{safe(name)}</th>' for name in columns)
    shown = f", every {every}th point" if every > 1 else ""
    return (
        f'<details><summary>{safe(title)} as numbers</summary><div class="scroll" tabindex="0" role="region"'
        f' aria-label="{safe(title)} as numbers"><table><caption>'
        f"Mean rate{shown}</caption>"
        f'<thead><tr><th scope="col">UTC</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div></details>'
    )


def matrix(caption: str, hosts: Sequence[str], cells: Mapping[tuple[str, str], int]) -> str:
    """Return bytes by source (rows) and destination (columns) in shades. Columns have the numbers of the rows."""
    most = max(cells.values(), default=0)
    if not most:
        return ""
    head = "".join(
        f'<th scope="col" class="n"><abbr title="{safe(host)}">{number}</abbr></th>'
        for number, host in enumerate(hosts, 1)
    )
    rows = []
    for number, source in enumerate(hosts, 1):
        row = []
        for destination in hosts:
            value = cells.get((source, destination), 0)
            depth = f' style="--depth:{100 * (value / most) ** 0.5:.0f}%"' if value else ""
            row.append(f'<td class="n"{depth}>{size(value) if value else ""}</td>')
        name = f'<th scope="row"><span class="number">{number}</span> {safe(source)}</th>'
        rows.append(f"<tr>{name}{''.join(row)}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{safe(caption)}"><table class="matrix"><caption>'
        f'{safe(caption)}</caption><thead><tr><th scope="col">from \\ to</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
