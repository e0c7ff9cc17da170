"""The other guest of a pair, as tests use it."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

ANSWER_WITHIN_S = 360
"""Emulated machines are slow; nothing here takes half of that."""


@dataclass(frozen=True)
class Done:
    """A command that has ended there."""

    code: int
    out: str
    err: str


class Peer:
    """A connection to the agent of tests/vm/pair_inside.py."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb")

    @classmethod
    def connect(cls, where: str, within_s: float = 5) -> Peer:
        """To `address:port`; OSError if nobody answers there in time."""
        host, _, port = where.rpartition(":")
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            with suppress(OSError):
                connection = socket.create_connection((host, int(port)), timeout=within_s)
                connection.settimeout(ANSWER_WITHIN_S)
                return cls(connection)
            time.sleep(0.2)
        raise ConnectionError(f"nobody answers at {where} within {within_s} s")

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._connection.close()

    def _ask(self, **question: Any) -> dict[str, Any]:
        self._connection.sendall(json.dumps(question).encode() + b"\n")
        answer: dict[str, Any] = json.loads(self._lines.readline())
        return answer

    def start(self, *words: str) -> int:
        """Start a command; its process id."""
        return int(self._ask(start=words)["pid"])

    def wait(self, pid: int, *, interrupt: bool = False) -> Done:
        """Wait for the end of a command that was started."""
        return Done(**self._ask(wait=pid, interrupt=interrupt))

    def run(self, *words: str) -> Done:
        """Run a command to its end."""
        return self.wait(self.start(*words))

    def stop_all(self) -> None:
        """Kill what was started and not waited for."""
        self._ask(stop="all")

    def quit(self) -> None:
        """Let the other guest end."""
        self._connection.sendall(b'{"quit": true}\n')
