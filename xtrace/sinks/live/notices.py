"""Messages while the screen is in use: they get a line of their own, and their usual place afterwards."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from xtrace.printable import printable

MOST = 200
"""Messages kept; of more, the last."""


class Notice(NamedTuple):
    """A message and when it came."""

    clock: str
    text: str


class Notices(logging.Handler):
    """Takes the place of the handlers that write to the terminal, until it is removed.

    `wake` is called with each message, in the thread that logs it.
    """

    def __init__(self, replaced: Sequence[logging.Handler], wake: Callable[[], None]) -> None:
        super().__init__()
        self._replaced = tuple(replaced)
        self._wake = wake
        self._records: deque[logging.LogRecord] = deque(maxlen=MOST)
        self.count = 0
        """all messages so far"""

    def install(self) -> None:
        """Take the messages from now on."""
        root = logging.getLogger()
        root.addHandler(self)
        for handler in self._replaced:
            root.removeHandler(handler)

    def remove(self) -> None:
        """Give the place back, and pass on what came meanwhile."""
        root = logging.getLogger()
        for handler in self._replaced:
            root.addHandler(handler)
        root.removeHandler(self)
        while self._records:
            record = self._records.popleft()
            for handler in self._replaced:
                handler.handle(record)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self._records.append(record)
        self.count += 1
        self._wake()

    def latest(self, number: int) -> list[Notice]:
        """Return the last messages, the newest last."""
        return [_notice(record) for record in list(self._records)[-number:]]


def _notice(record: logging.LogRecord) -> Notice:
    clock = time.strftime("%H:%M:%S", time.localtime(record.created))
    try:
        text = record.getMessage()
    except (TypeError, ValueError) as error:  # arguments that do not match the message
        text = f"{record.msg!r}: {error!r}"
    return Notice(clock, printable(text.splitlines()[0] if text else ""))
