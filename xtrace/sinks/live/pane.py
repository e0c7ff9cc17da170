"""What a pane is: a table of one mode's interval that keys sort and filter, and the detail of one of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from xtrace.model.words import Direction, Health
from xtrace.sinks.live.matching import Matcher
from xtrace.sinks.text.fit import Endpoint
from xtrace.sinks.text.units import scaled

NOT_KNOWN = "-"

STYLES = {Health.WARN: "33", Health.CRITICAL: "1;31"}
"""SGR parameters of rows that need attention; the words say so, too."""


@dataclass(frozen=True)
class View:
    """What the keys have chosen, for all panes."""

    way: Direction | None = None
    """None: both"""
    in_bits: bool = True
    chosen: Matcher = field(default_factory=Matcher)

    @property
    def rate_heading(self) -> str:
        """The unit of rates."""
        return "BIT/S" if self.in_bits else "BYTE/S"

    def rate(self, bytes_per_second: float | None) -> str:
        """Return a rate in that unit."""
        if bytes_per_second is None:
            return NOT_KNOWN
        return scaled(8 * bytes_per_second if self.in_bits else bytes_per_second)

    def words(self, bytes_per_second: float) -> str:
        """Return a rate with its unit: `209.6 Mbit/s`."""
        return f"{self.rate(bytes_per_second)}{'bit/s' if self.in_bits else 'B/s'}"

    def shows(self, direction: Direction) -> bool:
        """Return whether a direction is shown."""
        return self.way in (None, direction)


def frequency(per_second: float) -> str:
    """Return a number of packets or calls per second; one that is not 0 does not look like it."""
    return f"{per_second:.1f} " if 0 < per_second < 10 else scaled(per_second)


class Column(NamedTuple):
    """A column of a pane."""

    heading: str
    is_number: bool = False
    """at its right edge"""
    order: str = ""
    """the order of rows by it"""


class Row(NamedTuple):
    """A row of a pane. An Endpoint loses the middle of its address where there is no room for it."""

    cells: Sequence[str | Endpoint]
    style: str = ""
    """SGR parameters"""


class Series(NamedTuple):
    """Bytes per second over time, for the graph of a detail."""

    title: str
    rates: Sequence[float]
    span_s: float


class Detail(NamedTuple):
    """Everything about one row."""

    lines: Sequence[str]
    series: Sequence[Series] = ()
    """whose rates may be empty"""


class Pane(Protocol):
    """Shows one mode's snapshots. What an entry is, is the pane's own business."""

    @property
    def title(self) -> str:
        """Its name in the list of panes."""

    @property
    def mode(self) -> str:
        """The mode of its snapshots."""

    @property
    def orders(self) -> Sequence[str]:
        """By which its entries can be sorted; the first is the default."""

    def note(self, snapshot: Any) -> None:
        """Keep history: called in each interval, also while the screen is paused."""

    def take(self, snapshot: Any) -> None:
        """Show this interval from now on."""

    def freeze(self) -> None:
        """Keep what is shown beyond the next tick."""

    def entries(self, view: View, order: str) -> Sequence[Any]:
        """Return all entries that match, in order. Cheap if nothing has changed since the last call."""

    def size(self) -> int:
        """Return the number of entries without a filter."""

    def summary(self, view: View) -> str:
        """Return one line about the whole interval."""

    def columns(self, view: View) -> Sequence[Column]:
        """Return the columns."""

    def row(self, entry: Any, view: View) -> Row:
        """Return the cells of an entry, one per column."""

    def key(self, entry: Any) -> Any:
        """Return what an entry is known by in later intervals."""

    def detail(self, key: Any, view: View) -> Detail:
        """Return what is known of an entry, which may be gone."""
