"""docs/troubleshooting.md: every message of the source, with what to do about it."""

from __future__ import annotations

import ast
import re

import pytest

from deploy.messages.cures import CURES
from deploy.messages.documents import cure
from deploy.messages.found import LOGGED, PACKAGE, RAISED, SAID, Message, messages

LOGS = {"log.warning", "log.error"}
FOUND = messages()
DESCRIBED_BY_HAND = {"KernelError", "VerifierError", "ObjectError", "TooLarge"}
NEVER_A_MESSAGE = {"OutputClosed", "OutputBlocked", "TooManyMappings"}
"""What the run answers by ending, or what is a reason in another message."""


def test_the_messages_are_found() -> None:
    assert len(FOUND) > 100
    assert {
        Message("Interfaces", "could not attach to any interface; -l lists them"),
        Message(LOGGED, "push to …: …; samples are queued, retrying"),
        Message(LOGGED, "…: its records come later and cover more time"),
        Message(LOGGED, "--owners: …: the owners of flows are not known"),
        Message("RDMA", "no RDMA device found (ls /sys/class/infiniband lists those with a loaded driver)…"),
    } <= set(FOUND)


@pytest.mark.parametrize("message", FOUND, ids=lambda message: message.text[:60])
def test_each_message_has_a_cure(message: Message) -> None:
    assert cure(message).endswith(".")


def test_every_way_to_say_a_line_is_looked_for() -> None:
    called: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        called |= {ast.unparse(call.func) for call in calls}
    of_service = {"service.say", "self._service.say", "self.say"}  # told to a service manager
    assert {name for name in called if re.fullmatch(r"(.*\.)?_?(say(_\w+)?|report)", name)} - of_service == SAID - LOGS
    assert called >= LOGS


def test_every_error_is_looked_for() -> None:
    classes = [
        node
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    errors = {"XtraceError"}
    while grown := {node.name for node in classes if {ast.unparse(base) for base in node.bases} & errors} - errors:
        errors |= grown
    assert errors - DESCRIBED_BY_HAND - NEVER_A_MESSAGE == set(RAISED)


def test_only_errors_of_the_command_line_are_left_to_their_own_words() -> None:
    others = [message.text for message in FOUND if message.text not in CURES]
    assert [message.title for message in FOUND if message.text in others and "exit code 2" not in message.title] == []


def test_each_cure_is_for_a_message_that_exists() -> None:
    assert set(CURES) - {message.text for message in FOUND} == set()
