"""What stands on the screen besides tables: details with their graphs, messages, help, hints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from xtrace.printable import RAW_BYTES, printable
from xtrace.sinks.live.actions import ACTIONS
from xtrace.sinks.live.graph import sparkline
from xtrace.sinks.live.notices import MOST, Notices
from xtrace.sinks.live.pane import Detail, Series, View
from xtrace.sinks.text.fit import cut
from xtrace.sinks.text.screen import CONTINUED
from xtrace.sinks.text.units import counted

GRAPH_ROWS = 8
BACK = "esc back"


def styled(text: str, style: str) -> str:
    """Return a line with SGR parameters."""
    return f"\x1b[{style}m{text}\x1b[0m" if style else text


def fitted(text: str, columns: int) -> str:
    """Return a line within the width, harmless whatever names are in it."""
    return cut(printable(text, kept=RAW_BYTES), columns)


def detail_lines(detail: Detail, view: View, ramp: str, rows: int, columns: int) -> Iterator[str]:
    """Yield the lines of a detail, and graphs that fill the rest of `rows`; `ramp`: their characters."""
    yield from detail.lines
    graphs = [series for series in detail.series if series.rates]
    height = min(GRAPH_ROWS, (rows - len(detail.lines)) // max(1, len(graphs)) - 2)
    for series in graphs:
        yield ""
        yield graph_title(series, view)
        yield from sparkline(series.rates, columns, max(1, height), ramp)


def graph_title(series: Series, view: View) -> str:
    """Return `rate over the last 240 s: now 209.6 Mbit/s, mean 100.1 Mbit/s, peak 300.0 Mbit/s`."""
    now, mean, peak = series.rates[-1], sum(series.rates) / len(series.rates), max(series.rates)
    shown = f"now {view.words(now)}, mean {view.words(mean)}, peak {view.words(peak)}"
    return f"{series.title} over the last {series.span_s:.0f} s: {shown}"


def messages(notices: Notices, rows: int, columns: int) -> Sequence[str]:
    """Return the last messages in full, as far as `rows` go."""
    found = [f"{notice.clock} {notice.text}" for notice in notices.latest(MOST)]
    lines = [line for text in found for line in wrap(text, columns, subsequent_indent=CONTINUED)]
    return [f"{counted(notices.count, 'message')}, the newest last", *lines[-max(1, rows - 1) :]]


def help_lines() -> Sequence[str]:
    """Return a line per action."""
    names = [", ".join("space" if key == " " else key for key in action.keys) for action in ACTIONS]
    width = max(map(len, names)) + 2
    return [f"{name:{width}}{action.help}" for name, action in zip(names, ACTIONS, strict=True)]


def hints(is_covered: bool) -> str:
    """Return the keys for the last line; those of the table only while it is there."""
    shown = [action for action in ACTIONS if action.hint and not (is_covered and action.of_table)]
    return "  ".join([*([BACK] if is_covered else []), *(f"{action.keys[0]} {action.hint}" for action in shown)])
