"""How records share messages and sets: as many as fit, to the byte."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from xtrace.sinks.ipfix.elements import IPV4, IPV6, Template
from xtrace.sinks.ipfix.message import Message, Record, messages

HEADER, SET = 16, 4


def record(template: Template, size: int = 10) -> Record:
    return Record(template, bytes(size))


def sets(message: Message) -> list[tuple[int, int]]:
    """Template and length of each set."""
    found, place = [], 0
    while place < len(message.sets):
        found.append(struct.unpack_from(">HH", message.sets, place))
        place += found[-1][1]
    return found


def packed(records: Sequence[Record], most: int) -> list[list[tuple[int, int]]]:
    return [sets(message) for message in messages(records, most)]


def test_neighbors_with_one_template_share_a_set() -> None:
    records = [record(IPV4), record(IPV4), record(IPV6), record(IPV4)]
    assert packed(records, 1400) == [[(IPV4.number, 24), (IPV6.number, 14), (IPV4.number, 14)]]


@pytest.mark.parametrize("most, expected", [(HEADER + SET + 30, [3, 1]), (HEADER + SET + 29, [2, 2])])
def test_a_message_is_filled_to_its_last_byte(most: int, expected: list[int]) -> None:
    made = list(messages(4 * [record(IPV4)], most))
    assert [message.records for message in made] == expected
    assert max(message.size for message in made) == HEADER + SET + 10 * expected[0]


@pytest.mark.parametrize("room, expected", [(2 * (SET + 10), 1), (2 * (SET + 10) - 1, 2)])
def test_another_template_takes_the_room_of_a_sets_head(room: int, expected: int) -> None:
    assert len(packed([record(IPV4), record(IPV6)], HEADER + room)) == expected


def test_what_fits_no_message_has_one_of_its_own() -> None:
    assert packed([record(IPV4, 100), record(IPV4)], 50) == [[(IPV4.number, 104)], [(IPV4.number, 14)]]


def test_records_that_are_no_flows_count_as_none() -> None:
    (message,) = messages([record(IPV4), Record(IPV4, b"", 2, 30, 400)], 1400)
    assert (message.records, message.flows, message.packets, message.octets) == (2, 2, 30, 400)
