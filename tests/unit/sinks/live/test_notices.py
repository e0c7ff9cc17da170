"""Messages while the screen is in use."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from xtrace.sinks.live.notices import MOST, Notices

LOG = logging.getLogger("xtrace.tests.notices")


class Kept(logging.Handler):
    """A handler that keeps what it gets, in place of stderr's."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture
def usual() -> Iterator[Kept]:
    handler = Kept()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def test_messages_go_to_the_screen_and_afterwards_to_their_usual_place(usual: Kept) -> None:
    woken: list[int] = []
    notices = Notices([usual], lambda: woken.append(1))
    LOG.error("before")
    notices.install()
    LOG.error("eth%d is\ndown", 0)
    assert (usual.texts, len(woken), notices.count) == (["before"], 1, 1)
    assert [notice.text for notice in notices.latest(5)] == ["eth0 is"]
    notices.remove()
    LOG.error("after")
    assert usual.texts == ["before", "eth0 is\ndown", "after"]
    assert len(woken) == 1


def test_a_handler_that_is_not_replaced_gets_messages_too(usual: Kept) -> None:
    notices = Notices([], lambda: None)
    notices.install()
    LOG.error("seen twice")
    notices.remove()
    assert usual.texts == ["seen twice"] and notices.count == 1


def test_only_the_last_messages_are_kept(usual: Kept) -> None:
    notices = Notices([usual], lambda: None)
    notices.install()
    for number in range(MOST + 5):
        LOG.error("%d", number)
    assert notices.count == MOST + 5
    assert [notice.text for notice in notices.latest(2)] == [str(MOST + 3), str(MOST + 4)]
    notices.remove()
    assert usual.texts == [str(number) for number in range(5, MOST + 5)]


def test_arguments_that_do_not_match_are_shown_and_break_nothing() -> None:
    notices = Notices([], lambda: None)
    notices.emit(logging.LogRecord("xtrace", logging.ERROR, "", 0, "%d", ("no number",), None))
    assert notices.latest(1)[0].text.startswith("'%d': TypeError")
