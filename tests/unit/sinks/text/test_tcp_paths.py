"""Connections followed by their packets as text: those in trouble, worst first, and the sums."""

from __future__ import annotations

import re
from dataclasses import replace

from tests.unit.make_paths import path, sent, snapshot, sums
from xtrace.model.tcp_path import Missed
from xtrace.model.words import Health
from xtrace.sinks.kinds import TextOptions
from xtrace.sinks.text.tcp_paths import PathText, path_line, sums_words


def test_connection_in_trouble_is_a_line() -> None:
    bad = path(sent(), health=Health.WARN, reasons=("-> one", "<- two"), vlan_id=7, client_ns=25_400)
    line = "tcp-packets eth0 10.0.0.1:40000 -> 10.0.0.2:443 vlan=7 rtt=0.025ms+- warn: -> one; <- two"
    assert path_line(bad) == line
    lines = list(PathText(TextOptions()).lines(snapshot(path(sent()), bad, of=(sums(),))))
    assert lines[0] == line + "\n"
    assert re.fullmatch(r"tcp-packets eth0 \d\d:\d\d:\d\d 2\.0s connections=2 .* ok\n", lines[1])
    assert len(lines) == 2


def test_worst_are_shown_and_the_others_counted() -> None:
    bad = [path(sent(bytes=number), health=Health.WARN, reasons=(str(number),)) for number in range(12)]
    lines = list(PathText(TextOptions(top=3)).lines(snapshot(*bad)))
    assert [line.rsplit(" ", 1)[1] for line in lines[:3]] == ["11\n", "10\n", "9\n"]
    assert lines[3:] == ["tcp-packets and 9 more connections\n"]
    assert len(list(PathText(TextOptions()).lines(snapshot(*bad)))) == 11


def test_sums_have_what_is_of_no_connection_only_if_there_is_any() -> None:
    told = sums(resets=1, retransmitted_packets=2, late_packets=3, untold_packets=4)
    words = "connections=2 began=0 refused=0 resets=1 retransmitted=2 late=3 untold=4 rtt=- ok"
    assert sums_words(told) == words
    more = replace(
        told, missed=Missed(5, 6, 7), client_ns=(100_000, 200_000), server_ns=(3_000_000,), opened=8, refused=9
    )
    more = replace(more, health=Health.WARN, reasons=("a", "b"))
    assert sums_words(more) == (
        "connections=2 began=8 refused=9 resets=1 retransmitted=2 late=3 untold=4 rtt=0.2ms+3.0ms"
        " no_room=5 unread=6 second_pass=7 warn: a; b"
    )
    assert PathText(TextOptions()).totals(None) == ()
