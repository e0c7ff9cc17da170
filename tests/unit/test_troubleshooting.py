"""docs/troubleshooting.md: every message of the source, with what to do about it."""

from __future__ import annotations

import pytest

from deploy.messages.cures import CURES
from deploy.messages.documents import cure
from deploy.messages.found import LOGGED, Message, messages

FOUND = messages()


def test_the_messages_are_found() -> None:
    assert len(FOUND) > 100
    assert {
        Message("Interfaces", "could not attach to any interface; -l lists them"),
        Message(LOGGED, "push to …: …; samples are queued, retrying"),
        Message("RDMA", "no RDMA device found (ls /sys/class/infiniband lists those with a loaded driver)…"),
    } <= set(FOUND)


@pytest.mark.parametrize("message", FOUND, ids=lambda message: message.text[:60])
def test_each_message_has_a_cure(message: Message) -> None:
    assert cure(message).endswith(".")


def test_only_errors_of_the_command_line_are_left_to_their_own_words() -> None:
    others = [message.text for message in FOUND if message.text not in CURES]
    assert [message.title for message in FOUND if message.text in others and "exit code 2" not in message.title] == []


def test_each_cure_is_for_a_message_that_exists() -> None:
    assert set(CURES) - {message.text for message in FOUND} == set()
