"""The documented words, as enums."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import orjson
import pytest

from tests.support.schema import schema
from xtrace.kernel.syscall import lib
from xtrace.model.flow_owners import How
from xtrace.model.nccl_names import DATATYPES, FUNCTIONS, RESULTS
from xtrace.model.nccl_ranks import Identity
from xtrace.model.rdma import Rails, RdmaSnapshot, Status
from xtrace.model.snapshot import Setup
from xtrace.model.tcp import Limited, Reason
from xtrace.model.words import Absence, Direction, Health, Hook, Share, XdpMode


@pytest.mark.parametrize(
    "direction, word, bit, in_out, rx_tx",
    [(Direction.INGRESS, "ingress", 0, "in", "rx"), (Direction.EGRESS, "egress", lib.FLOW_EGRESS, "out", "tx")],
)
def test_direction_has_a_word_for_each_place(
    direction: Direction, word: str, bit: int, in_out: str, rx_tx: str
) -> None:
    assert (direction.value, direction.bit, direction.in_out, direction.rx_tx) == (word, bit, in_out, rx_tx)


def documented(name: str) -> list[set[str]]:
    """Every set of values that the schema gives a property of this name."""
    found: list[set[str]] = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            for part in ("properties", "$defs"):
                values = node.get(part, {}).get(name, {}).get("enum")
                found.extend([{value for value in values if value is not None}] if values else [])
            for below in node.values():
                walk(below)
        elif isinstance(node, list):
            for below in node:
                walk(below)

    walk(schema())
    return found


@pytest.mark.parametrize(
    "words, name",
    [
        (Direction, "direction"),
        (Hook, "hook"),
        (XdpMode, "xdp_mode"),
        (Absence, "reason"),
        (Share, "coverage"),
        (Reason, "failure_reason"),
        (Limited, "limited_by"),
        (Health, "health"),
        (get_args(Status), "status"),
        (RESULTS, "errors"),
        (How, "owner"),
        ([identity.value for identity in Identity], "identity"),
    ],
)
def test_words_are_those_of_the_schema(words: Iterable[str], name: str) -> None:
    found = documented(name) or [named_of_errors()]
    expected = set(map(str, words)) - {"success", "in_progress"}
    assert expected in found


def named_of_errors() -> set[str]:
    """Errors are the names of an object's properties."""
    operation = schema()["$defs"]["nccl_operation"]["properties"]
    assert operation["errors"]["propertyNames"] == operation["async_errors"]["propertyNames"]
    return set(operation["errors"]["propertyNames"]["enum"])


def test_nccl_functions_and_datatypes_are_those_of_the_schema_in_nccls_order() -> None:
    operation = schema()["$defs"]["nccl_operation"]["properties"]
    assert operation["function"]["enum"] == list(FUNCTIONS)
    assert operation["datatype"]["enum"] == [*DATATYPES, "unknown", None]


def test_setup_and_snapshot_without_more_to_show_have_no_maps_and_no_failure() -> None:
    assert Setup().map_memory == 0
    assert RdmaSnapshot(1, 1).failure == ""
    assert (RdmaSnapshot(1, 1).rails, RdmaSnapshot(1, 1).ports) == (Rails(0, None), ())


def test_word_is_written_as_it_is_everywhere() -> None:
    word = Direction.EGRESS
    assert [str(word), f"{word}", "%s" % word, "{}".format(word), " ".join([word])] == ["egress"] * 5  # noqa: UP031, UP032
    assert orjson.dumps({"direction": word}) == b'{"direction":"egress"}'
