"""The documented words, as enums."""

from __future__ import annotations

import orjson
import pytest

from xtrace.kernel.syscall import lib
from xtrace.model.words import Direction


@pytest.mark.parametrize(
    "direction, word, bit, in_out, rx_tx",
    [(Direction.INGRESS, "ingress", 0, "in", "rx"), (Direction.EGRESS, "egress", lib.FLOW_EGRESS, "out", "tx")],
)
def test_direction_has_a_word_for_each_place(
    direction: Direction, word: str, bit: int, in_out: str, rx_tx: str
) -> None:
    assert (direction.value, direction.bit, direction.in_out, direction.rx_tx) == (word, bit, in_out, rx_tx)


def test_word_is_written_as_it_is_everywhere() -> None:
    word = Direction.EGRESS
    assert [str(word), f"{word}", "%s" % word, "{}".format(word), " ".join([word])] == ["egress"] * 5  # noqa: UP031, UP032
    assert orjson.dumps({"direction": word}) == b'{"direction":"egress"}'
