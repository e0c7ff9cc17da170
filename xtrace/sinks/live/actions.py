"""The keys of the full-screen view: one row each, from which they are dispatched and the help is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from xtrace.sinks.live import keys


class Action(NamedTuple):
    """What a key does: a method of Screen."""

    name: str
    keys: Sequence[str]
    help: str
    hint: str = ""
    """in the last line of the screen; empty: not there"""
    of_table: bool = False
    """whether it does something to the rows only"""


ACTIONS = (
    Action("up", (keys.UP, "k"), "one row up"),
    Action("down", (keys.DOWN, "j"), "one row down"),
    Action("page_up", (keys.PAGE_UP,), "one screen up"),
    Action("page_down", (keys.PAGE_DOWN,), "one screen down"),
    Action("first", (keys.HOME, "g"), "the first row"),
    Action("last", (keys.END, "G"), "the last row"),
    Action("next_pane", (keys.TAB, keys.RIGHT), "next pane", "pane"),
    Action("previous_pane", (keys.BACK_TAB, keys.LEFT), "previous pane"),
    Action("open", (keys.ENTER,), "detail of the row, with its rate over the last minutes", "detail", of_table=True),
    Action("back", (keys.ESCAPE,), "back from a detail or a list; else clear the filter"),
    Action("edit", ("/",), "show only what matches: tcp, 10.0.0.0/8, 443, eth*", "filter", of_table=True),
    Action("sort", ("s",), "sort by the next column", "sort", of_table=True),
    Action("direction", ("d",), "both directions, in, out", "in/out"),
    Action("unit", ("b",), "bits or bytes per second"),
    Action("pause", ("p", " "), "pause and go on; packets are counted all the time", "pause"),
    Action("messages", ("n",), "the last messages"),
    Action("assist", ("?", "h"), "these keys", "help"),
    Action("quit", ("q",), "quit, with the totals of the run, as Ctrl-C does", "quit"),
)
"""Ctrl-C and Ctrl-Z are the terminal's own."""

BY_KEY = {key: action.name for action in ACTIONS for key in action.keys}
