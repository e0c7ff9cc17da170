"""The state of the full-screen view: what keys change, and the lines that show it. No terminal, no waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from xtrace.model.snapshot import Snapshot
from xtrace.model.words import Direction
from xtrace.printable import RAW_BYTES, printable
from xtrace.sinks.live import keys, texts
from xtrace.sinks.live.actions import BY_KEY
from xtrace.sinks.live.layout import table
from xtrace.sinks.live.matching import Matcher
from xtrace.sinks.live.notices import Notices
from xtrace.sinks.live.pane import Pane, View
from xtrace.sinks.live.prompt import Prompt
from xtrace.sinks.live.texts import fitted, styled
from xtrace.sinks.text.fit import cut
from xtrace.sinks.text.screen import STYLES

HEAD, FOOT = 3, 2
"""Lines above: state, sums, tabs. Below: the last message, the keys."""
BOLD, REVERSE = "1", "7"
MARK = ">"
"""Before the selected row: color alone says nothing."""
WAYS = (None, Direction.INGRESS, Direction.EGRESS)


class Look(NamedTuple):
    """What the terminal can show."""

    has_color: bool
    ramp: str
    """characters of graphs, from empty to full"""


class Frame(NamedTuple):
    """What to draw."""

    lines: Sequence[str]
    cursor: tuple[int, int]
    """row and column, from 0"""


@dataclass
class Tab:
    """A pane, and where in it the user is."""

    pane: Pane
    order: int = 0
    """index into its orders"""
    place: int = 0
    """the selected row among all entries"""
    top: int = 0
    """the first row on the screen"""
    opened: Any = None
    """the key of the entry whose detail is shown"""


class Screen:
    """All panes, and what is chosen. press() and frame() are its two sides."""

    def __init__(self, panes: Sequence[Pane], look: Look, notices: Notices, quit: Callable[[], None]) -> None:  # noqa: A002
        self._tabs = [Tab(pane) for pane in panes]
        self._current = 0
        self._look = look
        self._notices = notices
        self._quit = quit
        self._view = View()
        self._is_paused = False
        self._cover: Callable[[int, int], Sequence[str]] | None = None
        """what is shown instead of the table: help, messages"""
        self._prompt: Prompt | None = None
        """for the filter, while it is edited"""
        self._end_ns = self._interval_ns = 0
        self._page = 1

    def take(self, snapshot: Snapshot) -> None:
        """Take one interval of one mode; while paused, for its history only."""
        for tab in self._tabs:
            if tab.pane.mode == snapshot.mode:
                tab.pane.note(snapshot)
                if not self._is_paused:
                    tab.pane.take(snapshot)
                    self._end_ns, self._interval_ns = snapshot.end_ns, snapshot.interval_ns

    def press(self, key: str) -> None:
        """Do what a key says."""
        if self._prompt is not None:
            self._type(self._prompt, key)
        elif key in BY_KEY:
            getattr(self, BY_KEY[key])()

    # what keys do: the names in ACTIONS

    def up(self) -> None:
        """Select the row above."""
        self._tab.place -= 1

    def down(self) -> None:
        """Select the row below."""
        self._tab.place += 1

    def page_up(self) -> None:
        """Go up by a screen."""
        self._tab.place -= self._page

    def page_down(self) -> None:
        """Go down by a screen."""
        self._tab.place += self._page

    def first(self) -> None:
        """Go to the first row."""
        self._tab.place = 0

    def last(self) -> None:
        """Go to the last row."""
        self._tab.place = len(self._entries()) - 1

    def next_pane(self) -> None:
        """Show the next pane."""
        self._current, self._cover = (self._current + 1) % len(self._tabs), None

    def previous_pane(self) -> None:
        """Show the previous pane."""
        self._current, self._cover = (self._current - 1) % len(self._tabs), None

    def open(self) -> None:
        """Show the detail of the selected row."""
        tab, entries = self._tab, self._entries()
        if entries and tab.opened is None and self._cover is None:
            tab.opened = tab.pane.key(entries[_within(tab.place, len(entries))])

    def back(self) -> None:
        """Leave what covers the table, or clear the filter."""
        if self._cover is not None:
            self._cover = None
        elif self._tab.opened is not None:
            self._tab.opened = None
        else:
            self._view = replace(self._view, chosen=Matcher())

    def edit(self) -> None:
        """Edit the filter."""
        self._prompt = Prompt(self._view.chosen.text)

    def sort(self) -> None:
        """Sort by the next order."""
        self._tab.order = (self._tab.order + 1) % len(self._tab.pane.orders)

    def direction(self) -> None:
        """Show the next of both directions, in, out."""
        following = WAYS[(WAYS.index(self._view.way) + 1) % len(WAYS)]
        self._view = replace(self._view, way=following)

    def unit(self) -> None:
        """Show bytes instead of bits, or bits again."""
        self._view = replace(self._view, in_bits=not self._view.in_bits)

    def pause(self) -> None:
        """Keep what is shown, or go on."""
        self._is_paused = not self._is_paused
        if self._is_paused:
            for tab in self._tabs:
                tab.pane.freeze()

    def messages(self) -> None:
        """Show the last messages."""
        self._cover = self._message_lines

    def assist(self) -> None:
        """Show the keys."""
        self._cover = self._key_lines

    def quit(self) -> None:
        """End the run."""
        self._quit()

    # what it looks like

    def frame(self, rows: int, columns: int) -> Frame:
        """Return the lines that fill a terminal."""
        body = max(1, rows - HEAD - FOOT)
        lines, cursor = self._body(body, columns)
        notice = self._notices.latest(1)
        last = fitted(f"{notice[0].clock} {notice[0].text}", columns) if notice else ""
        sums = fitted(self._tab.pane.summary(self._view), columns)
        whole = [self._state(columns), sums, self._tab_line(columns)]
        whole += [*lines, *[""] * (body - len(lines)), last, self._last_line(columns)]
        if self._prompt is not None:
            cursor = (len(whole) - 1, min(columns - 1, self._prompt.line(columns)[1]))
        # a terminal too small for all of it shows the end, where the user is
        hidden = max(0, len(whole) - rows)
        return Frame(whole[hidden:], (max(0, cursor[0] - hidden), cursor[1]))

    @property
    def _tab(self) -> Tab:
        return self._tabs[self._current]

    def _entries(self) -> Sequence[object]:
        tab = self._tab
        return tab.pane.entries(self._view, tab.pane.orders[tab.order])

    def _state(self, columns: int) -> str:
        if not self._end_ns:
            return styled(cut("xtrace-catch  waiting for the first interval", columns), BOLD)
        clock = time.strftime("%H:%M:%S", time.localtime(self._end_ns / 1e9))
        words = [f"xtrace-catch  {clock}  {self._interval_ns / 1e9:.1f} s"]
        words.append("in and out" if self._view.way is None else f"only {self._view.way.in_out}")
        words.append(f"sorted by {self._tab.pane.orders[self._tab.order]}")
        words += [f"filter: {self._view.chosen.text}"] if self._view.chosen.text else []
        words += ["PAUSED"] if self._is_paused else []
        return styled(fitted("  ".join(words), columns), BOLD)

    def _tab_line(self, columns: int) -> str:
        parts, left = [], columns
        for number, tab in enumerate(self._tabs):
            all_of_them = tab.pane.size()
            listed = len(self._entries()) if tab is self._tab else all_of_them
            count = f"{listed}/{all_of_them}" if listed != all_of_them else f"{all_of_them}"
            is_current = number == self._current
            text = cut(("[{}]" if is_current else " {} ").format(f"{tab.pane.title} {count}"), left)
            left -= len(text)
            parts.append(styled(text, REVERSE if is_current else ""))
        return "".join(parts)

    def _body(self, rows: int, columns: int) -> tuple[Sequence[str], tuple[int, int]]:
        """Return the lines between head and foot, and where the cursor is."""
        self._page = max(1, rows - 1)
        if self._cover is not None:
            return [fitted(line, columns) for line in self._cover(rows, columns)[:rows]], (HEAD, 0)
        if self._tab.opened is not None:
            detail = self._tab.pane.detail(self._tab.opened, self._view)
            lines = texts.detail_lines(detail, self._view, self._look.ramp, rows, columns)
            return [fitted(line, columns) for line in lines], (HEAD, 0)
        return self._table(rows, columns)

    def _table(self, rows: int, columns: int) -> tuple[Sequence[str], tuple[int, int]]:
        tab, entries = self._tab, self._entries()
        room = rows - 1
        tab.place = _within(tab.place, len(entries))
        highest = min(tab.top, tab.place, max(0, len(entries) - room))  # no row is left out above empty lines
        tab.top = max(highest, tab.place - max(room, 1) + 1)
        shown = [tab.pane.row(entry, self._view) for entry in entries[tab.top : tab.top + room]]
        order = tab.pane.orders[tab.order]
        headings, *lines = (
            printable(line, kept=RAW_BYTES)
            for line in table(tab.pane.columns(self._view), shown, order, columns - len(MARK))
        )
        made = [styled(f" {headings}", BOLD)]
        for number, (row, line) in enumerate(zip(shown, lines, strict=True)):
            rank = tab.top + number + 1
            color = row.style or (STYLES[rank] if not tab.order and rank < len(STYLES) else "")
            if tab.top + number == tab.place:
                made.append(styled(f"{MARK}{line}", REVERSE))
            else:
                made.append(styled(f" {line}", color if self._look.has_color else ""))
        return made[:rows], (HEAD + 1 + tab.place - tab.top, 0)

    def _message_lines(self, rows: int, columns: int) -> Sequence[str]:
        return texts.messages(self._notices, rows, columns)

    def _key_lines(self, rows: int, columns: int) -> Sequence[str]:
        return texts.help_lines()

    def _last_line(self, columns: int) -> str:
        if self._prompt is not None:
            return fitted(self._prompt.line(columns)[0], columns)
        return fitted(texts.hints(self._cover is not None or self._tab.opened is not None), columns)

    def _type(self, prompt: Prompt, key: str) -> None:
        """Pass a key to the prompt, or end it."""
        if key == keys.ESCAPE:
            self._prompt = None
        elif key != keys.ENTER:
            prompt.type(key)
        elif (chosen := prompt.finish()) is not None:
            self._view, self._prompt, self._tab.place = replace(self._view, chosen=chosen), None, 0


def _within(place: int, count: int) -> int:
    """Return the nearest of `count` places."""
    return max(0, min(place, count - 1))
