"""NCCL's RAS service (NCCL 2.24, JSON since 2.28.7): asked by a thread of its own, because it asks all ranks.

The protocol is one of lines over TCP, told in NCCL's user guide ("RAS") and src/ras/client_support.cc.
"""

from __future__ import annotations

import logging
import socket
import threading
import time

from xtrace.model.nccl_ras import RasReport
from xtrace.monitors.nccl.ras_status import RasError, RasMemory, parse_status

log = logging.getLogger(__name__)

CONNECT_S = 5.0
ANSWER_S = 30.0
"""For a whole answer. The service waits for its ranks for 5 s by default, twice."""
STALE_AFTER = 10
"""Rounds in which a communicator is not heard of. Where two jobs share a port, one of them answers, by chance."""
MOST_BYTES = 32 << 20
LONGEST_LINE = 4096
RECEIVE = 1 << 16
CLOSE_S = 1.0


class RasClient:
    """One connection, for one question."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, CONNECT_S)
        self._until = time.monotonic() + ANSWER_S
        self._received = b""

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def __enter__(self) -> RasClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def status(self) -> bytes:
        """The status of all communicators as JSON. Raises RasError, or OSError."""
        answer = self._ask("CLIENT PROTOCOL 2")
        if not answer.startswith("SERVER PROTOCOL "):
            raise RasError(f"it answers {answer[:60]!r}: no RAS service of NCCL")
        answer = self._ask("SET FORMAT json")
        if answer != "OK":
            raise RasError("it has no JSON: NCCL 2.28.7 or newer is needed")
        self._socket.sendall(b"VERBOSE STATUS\n")
        return self._rest()

    def _ask(self, line: str) -> str:
        self._socket.sendall(f"{line}\n".encode())
        while b"\n" not in self._received:
            if len(self._received) > LONGEST_LINE:
                raise RasError("it answers no line: no RAS service of NCCL")
            data = self._receive()
            if not data:
                raise RasError("it closed the connection before the end of a line")
            self._received += data
        answer, _, self._received = self._received.partition(b"\n")
        return answer.decode("utf-8", "replace").strip()

    def _receive(self) -> bytes:
        """What has come; nothing at the end. Raises RasError when time is up, however slowly it drips."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise RasError(f"no whole answer within {ANSWER_S:.0f} s")
        self._socket.settimeout(left)
        return self._socket.recv(RECEIVE)

    def _rest(self) -> bytes:
        parts, size = [self._received], len(self._received)
        while data := self._receive():
            parts.append(data)
            size += len(data)
            if size > MOST_BYTES:
                raise RasError(f"its answer is longer than {MOST_BYTES} bytes")
        return b"".join(parts)


class RasPoller:
    """Asks at once and then again and again; what it last heard is taken by the tick."""

    def __init__(self, address: tuple[str, int], every_s: float) -> None:
        self._address = address
        self._name = "[{}]:{}".format(*address) if ":" in address[0] else "{}:{}".format(*address)
        self._every_s = every_s
        self._heard: RasReport | None = None
        self._memory = RasMemory(round(STALE_AFTER * every_s * 1e9))
        self._said_unread = False
        self.answers: bool | None = None
        """whether it did when it was last asked; None before"""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ras", daemon=True)
        self._thread.start()

    def take(self) -> RasReport | None:
        """A report that came since the last call."""
        with self._lock:
            heard, self._heard = self._heard, None
        return heard

    def close(self) -> None:
        """Ask no more. A question that is not answered yet ends with the process."""
        self._stop.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            asked = time.monotonic()
            self._ask()
            self._stop.wait(max(0.0, self._every_s - (time.monotonic() - asked)))

    def _ask(self) -> None:
        try:
            with RasClient(self._address) as client:
                report = parse_status(client.status(), self._name, time.time_ns())
        except (OSError, RasError, UnicodeError) as error:  # UnicodeError: a name that no host can have
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            self._note(False, f"RAS service {self._name}: {reason}; asking again every {self._every_s:.0f} s")
            return
        self._note(True, f"RAS service {self._name} answers: NCCL {report.nccl_version}")
        if report.unread and not self._said_unread:
            log.warning("RAS service %s: %d communicators are not understood", self._name, report.unread)
        self._said_unread = bool(report.unread)
        report = self._memory.with_others(report, time.monotonic_ns())
        with self._lock:
            self._heard = report

    def _note(self, answers: bool, text: str) -> None:
        """Say what has changed, once."""
        if self.answers is not answers and not self._stop.is_set():
            log.info("%s", text)
        self.answers = answers
