"""The lines of the full-screen view, by themselves."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import replace

import pytest

from tests.unit.make import BOOT, ETH0, NS, counts_of, flow, key, snapshot
from tests.unit.make_rdma import port, traffic
from tests.unit.make_rdma import snapshot as rdma_snapshot
from xtrace.model.flow import FlowSnapshot, Interface
from xtrace.model.flow_totals import FlowSetup
from xtrace.model.snapshot import Setup
from xtrace.model.words import Direction, Health
from xtrace.sinks.live.graph import BLOCKS
from xtrace.sinks.live.notices import Notices
from xtrace.sinks.live.panes import panes_of
from xtrace.sinks.live.screen import Look, Screen

CLOCK = time.strftime("%H:%M:%S", time.localtime((BOOT + 5 * NS) / 1e9))


def screen(*modes: str, has_color: bool = True) -> Screen:
    setups = {mode: FlowSetup() if mode == "xdp" else Setup() for mode in modes}
    return Screen(panes_of(setups), Look(has_color, BLOCKS), Notices((), lambda: None), lambda: None)


def interval(*sizes: int, interfaces: int = 1) -> FlowSnapshot:
    """Flows of these sizes on the first of some interfaces."""
    found = [flow(key(ports=(rank, 443)), 1, size) for rank, size in enumerate(sizes, start=1)]
    idle = [(Interface(f"eth{slot}", slot), counts_of([])) for slot in range(1, interfaces)]
    return snapshot(found, [(ETH0, counts_of(found)), *idle])


def plain(line: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", line)


def shown(made: Screen, rows: int = 24, columns: int = 80) -> list[str]:
    return [plain(line).rstrip() for line in made.frame(rows, columns).lines]


def test_before_the_first_interval_it_says_so() -> None:
    assert shown(screen("xdp"))[0] == "xtrace-catch  waiting for the first interval"


def test_the_first_line_says_what_is_shown_and_how() -> None:
    made = screen("xdp")
    made.take(interval(100))
    assert shown(made)[0] == f"xtrace-catch  {CLOCK}  5.0 s  in and out  sorted by rate"
    for pressed in ("s", "s", "s", "d", "/", *"tcp", "enter", "p"):
        made.press(pressed)
    whole = f"xtrace-catch  {CLOCK}  5.0 s  only in  sorted by destination  filter: tcp  PAUSED"
    assert shown(made, columns=120)[0] == whole
    assert shown(made)[0] == f"{whole[:78]}.."
    made.press("p")
    assert shown(made, columns=120)[0] == whole.removesuffix("  PAUSED")


def test_frame_has_its_parts_in_order_and_the_cursor_at_the_selected_row() -> None:
    made = screen("xdp")
    made.take(interval(3000, 2000, 1000))
    made.press("down")
    frame = made.frame(24, 80)
    lines = [plain(line).rstrip() for line in frame.lines]
    assert lines[1:4] == [
        "eth0 in 9.6 kbit/s",
        "[flows 3] interfaces 1",
        "     TYPE  BIT/S*  PACKETS/S  SOURCE           DESTINATION",
    ]
    assert lines[5] == ">in  TCP    3.2 k       0.2   192.168.1.100:2  192.168.1.1:443"
    assert frame.cursor == (5, 0)
    assert lines[7:23] == [""] * 16
    assert lines[23] == "tab pane  enter detail  / filter  s sort  d in/out  p pause  ? help  q quit"


def test_interface_has_a_column_only_where_there_are_several() -> None:
    one, several = screen("xdp"), screen("xdp")
    one.take(interval(100))
    several.take(interval(100, interfaces=2))
    assert "INTERFACE" not in shown(one)[3] and "eth0" not in shown(one)[4]
    assert "INTERFACE" in shown(several)[3] and "eth0" in shown(several)[4]


def test_the_largest_flows_are_colored_by_rank_and_only_where_color_is_wanted() -> None:
    colored, plain_one = screen("xdp"), screen("xdp", has_color=False)
    for made in (colored, plain_one):
        made.take(interval(5000, 4000, 3000, 2000, 1000))
        made.press("down")
    rows = colored.frame(24, 80).lines[4:9]
    assert [re.findall(r"\x1b\[([\d;]*)m", row) for row in rows] == [["1;33", "0"], ["7", "0"], ["33", "0"], [], []]
    rows = plain_one.frame(24, 80).lines[4:9]
    assert [re.findall(r"\x1b\[([\d;]*)m", row) for row in rows] == [[], ["7", "0"], [], [], []]
    colored.press("s")
    assert "33" not in "".join(colored.frame(24, 80).lines[4:9])


def test_what_needs_attention_has_its_own_color() -> None:
    made = screen("rdma")
    ports = [port({}, traffic(1, 1)), port({}, traffic(1, 1)), port({}, traffic(1, 1))]
    healths = (Health.OK, Health.WARN, Health.CRITICAL)
    made.take(rdma_snapshot([replace(each, health=health) for each, health in zip(ports, healths, strict=True)]))
    rows = made.frame(24, 80).lines[4:7]
    assert [re.findall(r"\x1b\[([\d;]*)m", row)[0] for row in rows] == ["7", "33", "1;31"]


def test_rows_that_do_not_fit_are_scrolled_to() -> None:
    made = screen("xdp")
    made.take(interval(*range(5000, 4970, -1)))
    assert [shown(made, rows=10)[row].split()[-2] for row in (4, 7)] == ["192.168.1.100:1", "192.168.1.100:4"]
    for _ in range(4):
        made.press("down")
    assert [shown(made, rows=10)[row].split()[-2] for row in (4, 7)] == ["192.168.1.100:2", "192.168.1.100:5"]
    made.press("up")
    assert [shown(made, rows=10)[row].split()[-2] for row in (4, 7)] == ["192.168.1.100:2", "192.168.1.100:5"]
    made.press("home")
    assert shown(made, rows=10)[4].split()[-2] == "192.168.1.100:1"
    made.press("up")
    assert made.frame(10, 80).cursor == (4, 0)


def test_a_shorter_interval_keeps_the_selection_within_it() -> None:
    made = screen("xdp")
    made.take(interval(*range(5000, 4970, -1)))
    made.press("end")
    made.frame(24, 80)
    made.take(interval(100, 50))
    lines = shown(made)
    assert lines[5].startswith(">") and lines[6] == ""


def test_each_pane_has_its_own_order_and_place() -> None:
    made = screen("xdp")
    made.take(interval(300, 200, 100, interfaces=3))
    made.press("down")
    made.press("s")
    made.press("tab")
    assert "sorted by rate" in shown(made)[0] and shown(made)[4].startswith(">eth0")
    made.press("shift-tab")
    assert "sorted by packets" in shown(made)[0] and shown(made)[5].startswith(">")


def test_help_and_messages_cover_the_table_until_escape() -> None:
    made = screen("xdp")
    made.take(interval(100))
    for pressed, first in (("?", "up, k"), ("n", "0 messages")):
        made.press(pressed)
        assert shown(made)[3].startswith(first)
        assert shown(made)[-1] == "esc back  tab pane  d in/out  p pause  ? help  q quit"
        made.press("enter")
        assert shown(made)[3].startswith(first)
        made.press("esc")
        assert "SOURCE" in shown(made)[3]


@pytest.mark.parametrize("direction, word", [(Direction.INGRESS, "in"), (Direction.EGRESS, "out")])
def test_details_show_the_direction_that_is_chosen(direction: Direction, word: str) -> None:
    made = screen("xdp")
    both = [(ETH0, counts_of([flow()])), (ETH0._replace(direction=Direction.EGRESS), counts_of([]))]
    made.take(snapshot([flow()], both))
    made.press("tab")
    made.press("enter")
    made.press("d")
    if direction is Direction.EGRESS:
        made.press("d")
    titles = [line for line in shown(made) if "over the last" in line]
    assert [title.split()[0] for title in titles] == [word]


@pytest.mark.parametrize(
    "rows, columns, cursor",
    [
        (24, 80, (23, 11)),
        (24, 11, (23, 10)),  # at the right edge
        (24, 5, (23, 4)),
        (3, 80, (2, 11)),  # only the end is shown
        (1, 1, (0, 0)),
    ],
)
def test_the_cursor_stands_behind_what_is_typed(rows: int, columns: int, cursor: tuple[int, int]) -> None:
    made = screen("xdp")
    made.take(interval(100))
    for pressed in ("/", *"tcp"):
        made.press(pressed)
    frame = made.frame(rows, columns)
    assert len(frame.lines) == rows
    assert frame.cursor == cursor


@pytest.mark.parametrize("rows, cursor", [(24, 4), (6, 4), (5, 3), (4, 2), (1, 0)])
def test_the_cursor_of_a_table_is_on_the_screen(rows: int, cursor: int) -> None:
    made = screen("xdp")
    made.take(interval(100))
    frame = made.frame(rows, 80)
    assert (len(frame.lines), frame.cursor) == (rows, (cursor, 0))


def test_the_last_message_has_the_line_before_the_keys() -> None:
    notices = Notices((), lambda: None)
    made = Screen(panes_of({"xdp": FlowSetup()}), Look(False, BLOCKS), notices, lambda: None)
    for text in ("first", "second"):
        notices.emit(logging.makeLogRecord({"msg": text, "created": (BOOT + 5 * NS) / 1e9}))
    lines = shown(made)
    assert lines[-2] == f"{CLOCK} second"
    assert lines[-1].startswith("tab pane")


def test_a_pane_shows_how_many_of_its_rows_match_and_the_others_how_many_they_have() -> None:
    made = screen("xdp")
    made.take(interval(300, 200, 100, interfaces=3))
    assert shown(made)[2] == "[flows 3] interfaces 3"
    for pressed in ("/", *"port 2", "enter"):
        made.press(pressed)
    assert shown(made)[2] == "[flows 1/3] interfaces 3"
    assert shown(made, columns=18)[2] == "[flows 1/3] inte.."
