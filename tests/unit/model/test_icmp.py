"""Names of ICMP messages."""

from __future__ import annotations

import pytest

from xtrace.model.icmp import icmp_name


@pytest.mark.parametrize(
    "message, name",
    [
        ((1, 8, 0), "echo"),
        ((1, 0, 0), "echo reply"),
        ((1, 3, 13), "unreachable code=13"),
        ((58, 128, 0), "echo"),
        ((58, 129, 0), "echo reply"),
        ((58, 1, 4), "unreachable code=4"),
        ((1, 128, 0), "type=128 code=0"),
        ((58, 8, 0), "type=8 code=0"),
        ((1, 13, 0), "type=13 code=0"),
    ],
)
def test_common_messages_have_names_and_all_others_their_numbers(message: tuple[int, int, int], name: str) -> None:
    assert icmp_name(*message) == name
