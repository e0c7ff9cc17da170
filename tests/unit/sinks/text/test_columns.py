"""Columns for people: what fits, what is shortened, and that the sums of a block close."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from tests.unit.make import ETH0, ICMP, ICMPV6, NS, counts_of, flow, key, roce, snapshot
from xtrace.model.flow import EGRESS, FlowRecord, FlowSnapshot, Interface, PacketCount
from xtrace.model.words import Direction, Hook
from xtrace.sinks.kinds import TextOptions
from xtrace.sinks.registry import Totals
from xtrace.sinks.stream import OutputStream
from xtrace.sinks.text.columns import Row, table
from xtrace.sinks.text.fit import Endpoint, cut, followed, middle_out, shares
from xtrace.sinks.text.screen import Ranked, TerminalText, has_color

Output = tuple[OutputStream, Callable[[], bytes]]

LONG = "fd00:1234:5678:9abc:def0:1111:2222:1"
OUT = Interface("eth0", 0, Hook.TC, None, Direction.EGRESS)


class Fixed:
    """A screen of a given size."""

    def __init__(self, columns: int | None = 80, rows: int | None = 24, has_color: bool = False) -> None:
        self.has_color = has_color
        self._size = columns, rows

    def columns(self) -> int | None:
        return self._size[0]

    def rows(self) -> int | None:
        return self._size[1]


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Titles have local time."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def shown(
    output: Output, *intervals: FlowSnapshot, screen: Fixed | None = None, top: int | None = None, end: bool = False
) -> list[str]:
    """The lines of a run on a screen."""
    stream, contents = output
    screen = screen or Fixed()
    sink = TerminalText(stream, TextOptions(top, screen=screen), screen)
    totals = Totals()
    for number, interval in enumerate(intervals, 1):
        totals.intervals = number
        totals.add(interval)
        sink.write(interval)
        sink.flush()
    if end:
        sink.end(totals)
    return contents().decode().splitlines()


def many(count: int, src: str = "10.0.0.1", flags: int = 0) -> list[FlowRecord]:
    """Flows of different sizes, the smallest first."""
    return [flow(key(src, "10.0.0.2", (1000 + n, 80), flags=flags), 1 + n, 100 * (1 + n)) for n in range(count)]


def both(came: Sequence[FlowRecord], left: Sequence[FlowRecord]) -> FlowSnapshot:
    """An interval of one interface in both directions."""
    return snapshot([*came, *left], [(ETH0, counts_of(came)), (OUT, counts_of(left))])


def test_block_has_title_headings_flows_of_both_directions_by_size_and_a_sum_of_each(output: Output) -> None:
    came = [flow(key("10.0.0.9", "10.0.0.1", (443, 50000)), 10, 1500)]
    left = [flow(key("10.0.0.1", "10.0.0.9", (50000, 443), flags=EGRESS), 20, 25_000_000)]
    assert shown(output, both(came, left)) == [
        "",
        "00:00:05  eth0  5.0 s",
        "    TYPE  BIT/S     BYTES  PACKETS  SOURCE            DESTINATION",
        "out TCP  40.0 M  25000000       20  10.0.0.1:50000 -> 10.0.0.9:443",
        "in  TCP   2.4 k      1500       10  10.0.0.9:443   -> 10.0.0.1:50000",
        "in  all   2.4 k      1500       10  1 flow",
        "out all  40.0 M  25000000       20  1 flow",
    ]


@pytest.mark.parametrize("rows", [12, 24, 50])
@pytest.mark.parametrize("columns", [60, 80, 200])
def test_block_fits_the_screen_and_its_sums_close(output: Output, columns: int, rows: int) -> None:
    interval = both(many(100, LONG), many(80, flags=EGRESS))
    lines = shown(output, interval, screen=Fixed(columns, rows))
    assert max(map(len, lines)) <= columns
    assert len(lines) <= rows - 1, "the prompt has a line, too"
    assert len(lines) >= rows - 4, "what fits is used"
    for way, (_, counts) in zip(("in", "out"), interval.interfaces, strict=True):
        numbers = [re.match(rf"{way} +(\S+) +[\d.]+ ?[kMGT]? +(\d+) +(\d+) ", line) for line in lines]
        sums = {True: [0, 0], False: [0, 0]}
        for kind, size, packets in (found.groups() for found in numbers if found):
            sums[kind == "all"][0] += int(size)
            sums[kind == "all"][1] += int(packets)
        assert sums[True] == sums[False] == [counts.total.bytes, counts.total.packets]


def test_screens_are_shared_by_interfaces_and_idle_ones_take_one_line(output: Output) -> None:
    eth1, eth2, eth3 = (Interface(f"eth{n}", n, is_up=n != 3) for n in (1, 2, 3))
    flows = many(50) + [record._replace(key=record.key._replace(slot=1)) for record in many(50)]
    watched = [
        (ETH0, counts_of(flows[:50])),
        (eth1, counts_of(flows[50:])),
        (eth2, counts_of([])),
        (eth3, counts_of([])),
    ]
    lines = shown(output, snapshot(flows, watched), screen=Fixed(80, 24))
    assert len(lines) <= 23
    assert [line for line in lines if line.startswith("00:00:05")] == [
        "00:00:05  eth0  5.0 s",
        "00:00:05  eth1  5.0 s",
        "00:00:05  without packets: eth2 eth3 (down)",
    ]


@pytest.mark.parametrize("top, flows", [(3, 3), (0, 40), (40, 40)])
def test_top_is_what_is_asked_for_whatever_fits(output: Output, top: int, flows: int) -> None:
    lines = shown(output, snapshot(many(40)), top=top)
    assert sum(" -> " in line for line in lines) == flows
    assert any(f"{40 - flows} more flow" in line for line in lines) == (flows < 40)


def test_without_a_screen_nothing_is_shortened(output: Output) -> None:
    flows = [flow(key(LONG, LONG, (1, 2)))]
    (line,) = [line for line in shown(output, snapshot(flows), screen=Fixed(None, None)) if " -> " in line]
    assert line.endswith(f"[{LONG}]:1 -> [{LONG}]:2")


def test_long_addresses_lose_their_middle_and_never_their_port(output: Output) -> None:
    flows = [flow(key(LONG, "2001:db8::7", (40000, 443))), flow(key("2001:db8::7", LONG, (443, 40000)))]
    lines = [line for line in shown(output, snapshot(flows), screen=Fixed(70)) if " -> " in line]
    assert all(re.search(r"\[fd00[0-9a-f:]*\.\.[0-9a-f:]*:1\]:40000", line) for line in lines)
    assert all("[2001:db8::7]:443" in line for line in lines)


def test_details_follow_where_there_is_room(output: Output) -> None:
    flows = [
        flow(roce(opcode=8, dst_qpn=193, src_qpn=194), 3, 3000),
        flow(key("10.0.0.1", "10.0.0.2", (8, 0), ICMP), 2, 196),
        flow(key("", "", (0, 0), 0, ethertype=0x88CC), 1, 60),
    ]
    lines = shown(output, snapshot(flows), screen=Fixed(100))
    assert lines[3].endswith("10.0.0.1 qp 194 -> 10.0.0.2 qp 193  RDMA_WRITE_LAST")
    assert lines[4].endswith("10.0.0.1        -> 10.0.0.2  echo")
    assert lines[5].endswith("-               -> -  ethertype=0x88cc")


def test_details_are_cut_and_never_what_stands_before_them(output: Output) -> None:
    flows = [
        flow(key(LONG, LONG, (40000, 443)), 90_000, 90_000_000),
        flow(key(LONG, "fd00::2", (128, 0), ICMPV6), 3, 3000),
        flow(key(LONG, LONG, (129, 0), ICMPV6), 3, 2900),
        flow(key("10.0.0.1", "10.0.0.2", (8, 0), ICMP), 2, 200),
        flow(key("10.0.0.2", "10.0.0.1", (0, 0), ICMP), 2, 199),
        flow(key("10.0.0.2", "10.0.0.1", (3, 13), ICMP), 2, 198),
        flow(roce(opcode=8, dst_qpn=16_777_214, src_qpn=194, src=LONG, dst=LONG), 1, 100),
    ]
    lines = [line for line in shown(output, snapshot(flows)) if " -> " in line]
    assert all(len(line) <= 80 for line in lines)
    tcp, request, reply, ping, pong, refused, roce_line = lines
    assert tcp.endswith(":1]:443")
    assert request.endswith("-> fd00::2  echo") and re.search(r"\.\.\S+:1 echo r\.\.$", reply)
    assert ping.endswith("-> 10.0.0.2  echo") and pong.endswith("-> 10.0.0.1  echo reply")
    assert refused.endswith("-> 10.0.0.1 unreachab..")
    assert roce_line.endswith("-> fd0..2:1 qp 16777214"), "no room for its opcode"


def test_sum_names_what_it_contains_besides_flows(output: Output) -> None:
    flows = many(1)
    counts = counts_of(flows, (PacketCount(3, 300), *(PacketCount(0, 0),) * 7), PacketCount(5, 500))
    lines = shown(output, snapshot(flows, [(ETH0, counts)]), screen=Fixed(120))
    assert lines[-1].endswith("1 flow, unattributed 3 packets 300 bytes, filtered 5 packets 500 bytes")


def test_fragments_whose_ports_are_not_known_are_part_of_the_sums(output: Output) -> None:
    flows = many(1)
    counts = replace(counts_of(flows), filtered_fragments=PacketCount(2, 3000))
    lines = shown(output, snapshot(flows, [(ETH0, counts)]), screen=Fixed(120), end=True)
    assert any(line.endswith("1 flow, filtered fragments 2 packets 3000 bytes") for line in lines)
    assert lines[-2].split() == [
        *["INTERFACE", "PACKETS", "BYTES", "UNATTRIBUTED", "FILTERED", "FILTERED", "FRAGMENTS"]
    ]
    assert lines[-1].endswith("0         0      2 (3000 bytes)")


def test_run_ends_with_the_sums_of_all_intervals(output: Output) -> None:
    interval = both(many(2), many(3, flags=EGRESS))
    lines = shown(output, interval, interval, end=True)
    assert lines[-4:] == [
        "totals of 2 intervals",
        "INTERFACE       PACKETS  BYTES  UNATTRIBUTED  FILTERED",
        "eth0       in         6    600             0         0",
        "eth0       out       12   1200             0         0",
    ]


def test_only_title_and_largest_flows_are_colored_and_the_text_stays_the_same(output: Output) -> None:
    lines = shown(output, snapshot(many(9)), screen=Fixed(has_color=True))
    colored = [line for line in lines if "\x1b" in line]
    assert len(colored) == 4
    assert all(re.fullmatch(r"\x1b\[[\d;]+m[^\x1b]+\x1b\[0m", line) for line in colored)


def test_names_chosen_by_others_cannot_color(output: Output) -> None:
    lines = shown(output, snapshot([flow()], [(Interface("\x1b[31meth", 0), counts_of([flow()]))]))
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize(
    "choice, is_terminal, environment, colored",
    [
        ("auto", True, {}, True),
        ("auto", True, {"NO_COLOR": ""}, True),
        ("auto", True, {"NO_COLOR": "1"}, False),
        ("auto", True, {"TERM": "dumb"}, False),
        ("auto", False, {}, False),
        ("always", False, {"NO_COLOR": "1"}, True),
        ("never", True, {}, False),
    ],
)
def test_color_follows_the_option_and_else_the_terminal(
    choice: str, is_terminal: bool, environment: dict[str, str], colored: bool
) -> None:
    assert has_color(choice, is_terminal, environment) is colored


def test_line_longer_than_the_screen_is_broken_between_words(output: Output) -> None:
    stream, contents = output
    sink = TerminalText(stream, TextOptions(screen=Fixed(40)), Fixed(40))
    sink._write(["  nccl pid=4711 communicators=1 calls=120 requested=1000\n", Ranked("short\n", 0)])
    assert contents().decode().splitlines() == [
        "  nccl pid=4711 communicators=1",
        "        calls=120 requested=1000",
        "short",
    ]


@pytest.mark.parametrize(
    "width, text",
    [(47, f"[{LONG}]:443"), (20, "[fd00:1..22:1]:443"), (None, f"[{LONG}]:443")],
)
def test_endpoint_is_fitted(width: int | None, text: str) -> None:
    fitted = Endpoint(LONG, ":443", brackets=True).fitted(width)
    assert fitted.endswith("]:443") and fitted.startswith("[fd00:1")
    assert width is None or len(fitted) <= width
    assert width == 20 or fitted == text


def test_columns_are_shared_by_need() -> None:
    assert shares((10, 50), 40) == (10, 30)
    assert shares((50, 50), 40) == (20, 20)
    assert shares((5, 6), 40) == (5, 6)
    assert shares((5, 6), -3) == (0, 0)
    assert cut("abcdef", 4) == "ab.."
    assert middle_out("abcdefgh", 5) == "ab..h"


def test_interval_without_anything_to_say_writes_nothing(output: Output) -> None:
    assert shown(output, snapshot([], [], end_ns=5 * NS)) == []


SIX = Endpoint("fd00:1111:2222::7", ":443", brackets=True)
FOUR = Endpoint("10.0.0.1", ":80")


@pytest.mark.parametrize(
    "end, width, text",
    [
        (SIX, 23, "[fd00:1111:2222::7]:443"),
        (SIX, 22, "[fd00:11..2222::7]:443"),
        (SIX, 14, "[fd0..::7]:443"),
        (SIX, 10, "[f..7]:443"),
        (SIX, 9, "[f..]:443"),
        (SIX, 1, "[f..]:443"),
        (FOUR, 10, "10....1:80"),
        (Endpoint("-"), 1, "-"),
    ],
)
def test_an_address_loses_as_little_as_it_must(end: Endpoint, width: int, text: str) -> None:
    assert end.fitted(width) == text


@pytest.mark.parametrize(
    "text, width, expected",
    [("abcdef", 6, "abcdef"), ("abcdef", 5, "abc.."), ("abcdef", 2, ".."), ("abcdef", 1, "."), ("abcdef", 0, "")],
)
def test_an_end_that_is_cut_is_marked(text: str, width: int, expected: str) -> None:
    assert cut(text, width) == expected
    assert cut(text, None) == text


@pytest.mark.parametrize(
    "needs, room, given",
    [
        ((10, 10), 20, (10, 10)),
        ((10, 10), 19, (9, 10)),
        ((50, 10), 40, (30, 10)),
        ((20, 20, 5), 35, (15, 15, 5)),
        ((20, 20, 20), 10, (3, 3, 4)),
        ((3,), 0, (0,)),
    ],
)
def test_what_one_does_not_need_the_others_get(needs: tuple[int, ...], room: int, given: tuple[int, ...]) -> None:
    assert shares(needs, room) == given


@pytest.mark.parametrize(
    "details, room, share, text",
    [
        ("", 11, 11, "10.0.0.1:80"),
        ("echo", None, 11, "10.0.0.1:80  echo"),
        ("echo", 17, 11, "10.0.0.1:80  echo"),
        ("echo", 16, 11, "10.0.0.1:80 echo"),
        ("echo reply", 17, 11, "10.0.0.1:80 ech.."),
        ("echo reply", 13, 11, "10.0.0.1:80 ."),
    ],
)
def test_details_follow_a_destination_within_the_room(details: str, room: int | None, share: int, text: str) -> None:
    assert followed(FOUR, details, room, share) == text


def test_columns_have_narrow_gaps_where_wide_ones_would_not_fit() -> None:
    ends = Endpoint("10.0.0.1", ":80"), Endpoint("10.0.0.2", ":443")
    row = Row("in", "TCP", "1.5 k", "1500", "10", *ends, "flags")

    def lines(width: int | None) -> list[str]:
        return [line.rstrip("\n") for line in table([row], 1, width)]

    wide = [
        "   TYPE BIT/S  BYTES  PACKETS  SOURCE         DESTINATION",
        "in TCP  1.5 k   1500       10  10.0.0.1:80 -> 10.0.0.2:443  flags",
    ]
    narrow = [
        "   TYPE BIT/S BYTES PACKETS SOURCE         DESTINATION",
        "in TCP  1.5 k  1500      10 10.0.0.1:80 -> 10.0.0.2:443 flags",
    ]
    assert lines(None) == lines(len(wide[1])) == wide
    assert lines(len(narrow[1])) == narrow
    assert lines(len(wide[1]) - 1) == [narrow[0], narrow[1].replace(" flags", "  flags")]
    assert lines(len(narrow[1]) - 1)[1].endswith(" -> 10.0.0.2:443 fl..")
    for width in range(20, len(wide[1])):
        assert max(map(len, lines(width))) <= width


def test_flows_of_a_block_are_ranked_by_bytes_and_what_has_no_room_is_summed_up(output: Output) -> None:
    """16 rows are four for the block, four for its directions, eight for flows."""
    came, left = many(6), many(5, flags=EGRESS)
    lines = shown(output, both(came, left), screen=Fixed(100, 16))
    sizes = [line.split()[3] for line in lines[3:11]]
    assert sizes == ["600", "500", "500", "400", "400", "300", "300", "200"]
    assert [line.split() for line in lines[11:]] == [
        ["in", "other", "480", "300", "3", "2", "more", "flows"],
        ["out", "other", "160", "100", "1", "1", "more", "flow"],
        ["in", "all", "3.4", "k", "2100", "21", "6", "flows"],
        ["out", "all", "2.4", "k", "1500", "15", "5", "flows"],
    ]


def test_without_a_screen_a_block_has_fifty_flows_and_the_rest_is_summed_up(output: Output) -> None:
    lines = shown(output, snapshot(many(53)), screen=Fixed(None, None))
    assert sum(" -> " in line for line in lines) == 50
    assert lines[-2].split() == ["in", "other", "960", "600", "6", "3", "more", "flows"]


def test_bytes_of_names_that_are_no_text_are_shown_as_they_are(output: Output) -> None:
    shown_of = snapshot([flow()], [(Interface("e\udcff", 0), counts_of([flow()]))])
    stream, contents = output
    TerminalText(stream, TextOptions(screen=Fixed()), Fixed()).write(shown_of)
    assert b"  e\xff  5.0 s" in contents()
