"""Lines of a table that fits a number of columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xtrace.sinks.live.pane import Column, Row
from xtrace.sinks.text.fit import GAPS, Endpoint, cut, followed, shares

SORTED = "*"
"""Behind the heading of the column by which rows are sorted."""


def table(columns: Sequence[Column], rows: Sequence[Row], order: str, width: int) -> Iterator[str]:
    """Yield the headings and then each row, in exactly `width` characters. Endpoints share what the others leave."""
    headings = [f"{column.heading}{SORTED}" if column.order == order else column.heading for column in columns]
    widths = [
        max(len(heading), *(len(str(row.cells[place])) for row in rows)) if rows else len(heading)
        for place, heading in enumerate(headings)
    ]
    flexible = [place for place in range(len(columns)) if any(isinstance(row.cells[place], Endpoint) for row in rows)]
    gap = next((gap for gap in GAPS if sum(widths) + len(gap) * (len(columns) - 1) <= width), GAPS[-1])
    # what the last column says is cut; but not all of it for the sake of an address
    fixed = sum(width for place, width in enumerate(widths[:-1]) if place not in flexible)
    room = width - fixed - len(gap) * (len(columns) - 1) - min(widths[-1], width // 8)
    for place, given in zip(flexible, shares([widths[place] for place in flexible], room), strict=True):
        widths[place] = given
    for cells in (headings, *(row.cells for row in rows)):
        parts = [_cell(cell, column, size) for cell, column, size in zip(cells, columns, widths, strict=True)]
        line = gap.join(parts).rstrip()
        if len(line) > width and isinstance(cells[-2], Endpoint):  # its details move to where it ends
            begin = gap.join([*parts[:-2], ""])
            line = begin + followed(cells[-2], str(cells[-1]), max(0, width - len(begin)), widths[-2])
        yield cut(line, width).ljust(width)


def _cell(cell: str | Endpoint, column: Column, width: int) -> str:
    text = cell.fitted(width) if isinstance(cell, Endpoint) else cell
    return text.rjust(width) if column.is_number else text.ljust(width)
