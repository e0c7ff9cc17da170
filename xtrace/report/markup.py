"""Pieces of HTML: escaped text, numbers with their exact values, tables, bars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from html import escape

from xtrace.printable import printable
from xtrace.sinks.text.units import scaled

NUMBER, TEXT = "n", ""
"""Classes of columns."""
NARROW = 3
"""Columns that fit a narrow screen. Rows of tables with more are stacked there, each cell with its heading."""


def safe(text: str) -> str:
    """Return text for HTML; names were chosen by others."""
    return escape(printable(text))


def number(value: int | None, unit: str = "") -> str:
    """Return an exact number, which programs find in `data`; `unknown` for None, which is never 0."""
    if value is None:
        return '<span class="unknown">unknown</span>'
    return f'<data value="{value}">{value:,}</data>{f" {unit}" if unit else ""}'


def size(value: int) -> str:
    """Return bytes for people, with the exact number."""
    return f'<data value="{value}" title="{value:,} bytes">{scaled(value)}B</data>'


def rate(value: float) -> str:
    """Return bits per second for people."""
    return f"{scaled(value)}bit/s"


def share(part: int, whole: int) -> str:
    """Return `12.3 %`."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def moment(seconds: float | None) -> str:
    """Return a time in UTC."""
    if seconds is None:
        return "unknown"
    stamp = datetime.fromtimestamp(seconds, timezone.utc)
    return f'<time datetime="{stamp:%Y-%m-%dT%H:%M:%SZ}">{stamp:%Y-%m-%d %H:%M:%S} UTC</time>'


def table(caption: str, headings: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], note: str = "") -> str:
    """Return a table of HTML cells; `headings` are texts with their column's class, the first column names the row."""
    stacks = len(headings) > NARROW
    line, group = _role("row", stacks), _role("rowgroup", stacks)
    labels = [f' data-label="{safe(name)}"' if stacks else "" for name, _ in headings]
    column, name, value = (_role(role, stacks) for role in ("columnheader", "rowheader", "cell"))
    head = "".join(f'<th scope="col"{column} class="{kind}">{safe(text)}</th>' for text, kind in headings)
    body = []
    for first, *rest in rows:
        cells = "".join(
            f'<td{value} class="{kind}"{label}>{cell}</td>'
            for cell, (_, kind), label in zip(rest, headings[1:], labels[1:], strict=True)
        )
        body.append(f'<tr{line}><th scope="row"{name}>{first}</th>{cells}</tr>')
    looks = f'{_role("table", stacks)} class="stacks"' if stacks else ""
    below = f'<p class="note">{safe(note)}</p>' if note else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{safe(caption)}"><table{looks}>'
        f"<caption>{safe(caption)}</caption><thead{group}><tr{line}>{head}</tr></thead>"
        f"<tbody{group}>{''.join(body)}</tbody></table></div>{below}"
    )


def _role(name: str, stacks: bool) -> str:
    """Return an element's own role: where a style sheet makes a table something else, screen readers forget it."""
    return f' role="{name}"' if stacks else ""


def bar(part: int, whole: int) -> str:
    """Return a share as a bar beside its number."""
    width = 100 * part / whole if whole else 0
    picture = f'<span class="bar" aria-hidden="true"><i style="width:{width:.1f}%"></i></span>'
    return f'<span class="share">{picture}{share(part, whole)}</span>'


def section(name: str, title: str, *parts: str, level: int = 2) -> str:
    """Return a section with a heading, to which the contents link."""
    content = "".join(part for part in parts if part)
    return f'<section id="{name}"><h{level}>{title}</h{level}>{content}</section>' if content else ""
