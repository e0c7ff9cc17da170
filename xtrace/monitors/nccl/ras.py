"""NCCL's RAS service (NCCL 2.24, JSON since 2.28.7), queried in a separate thread, because it queries all ranks.

The protocol is lines over TCP, documented in NCCL's user guide ("RAS") and src/ras/client_support.cc.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import nullcontext

from xtrace.errors import KernelError
from xtrace.kernel.network_namespaces import entered
from xtrace.kernel.paths import procfs
from xtrace.model.nccl_ras import RasReport
from xtrace.monitors.nccl.ras_status import RasError, RasMemory, parse_status
from xtrace.printable import with_port

log = logging.getLogger(__name__)

CONNECT_S = 5.0
ANSWER_S = 30.0
"""for a complete answer; the service waits for its ranks for 5 s by default, twice"""
STALE_AFTER = 10
"""Rounds after which an unreported communicator is dropped. If jobs share a port, a random one answers."""
MOST_BYTES = 32 << 20
LONGEST_LINE = 4096
RECEIVE = 1 << 16
CLOSE_S = 1.0


class RasClient:
    """One connection, for one query."""

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
            raise RasError(f"answered {answer[:60]!r}: not NCCL's RAS service")
        answer = self._ask("SET FORMAT json")
        if answer != "OK":
            raise RasError("no JSON support: NCCL 2.28.7 or newer is needed")
        self._socket.sendall(b"VERBOSE STATUS\n")
        return self._rest()

    def _ask(self, line: str) -> str:
        self._socket.sendall(f"{line}\n".encode())
        while b"\n" not in self._received:
            if len(self._received) > LONGEST_LINE:
                raise RasError("answered without a line end: not NCCL's RAS service")
            data = self._receive()
            if not data:
                raise RasError("closed the connection before the end of a line")
            self._received += data
        answer, _, self._received = self._received.partition(b"\n")
        return answer.decode("utf-8", "replace").strip()

    def _receive(self) -> bytes:
        """The next bytes; empty at the end. Raises RasError when ANSWER_S is over, however slowly they arrive."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise RasError(f"no complete answer within {ANSWER_S:.0f} s")
        self._socket.settimeout(left)
        return self._socket.recv(RECEIVE)

    def _rest(self) -> bytes:
        parts, size = [self._received], len(self._received)
        while data := self._receive():
            parts.append(data)
            size += len(data)
            if size > MOST_BYTES:
                raise RasError(f"answer is longer than {MOST_BYTES} bytes")
        return b"".join(parts)


class RasPoller:
    """Queries the service at once, then periodically; ticks take the last report."""

    def __init__(self, address: tuple[str, int], every_s: float, pid: int | None = None) -> None:
        """`pid`: a process in whose network namespace the address is; None: it is in this one's."""
        self._address = address
        self._name = with_port(*address)
        self._pid = pid
        if pid is not None:
            self._name += f" of pid {pid}"
        self._every_s = every_s
        self._latest: RasReport | None = None
        self._memory = RasMemory(round(STALE_AFTER * every_s * 1e9))
        self._reported_unread = False
        self.answers: bool | None = None
        """whether it answered the last query; None before the first"""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ras", daemon=True)
        self._thread.start()

    def take(self) -> RasReport | None:
        """The report since the last call, if any."""
        with self._lock:
            latest, self._latest = self._latest, None
        return latest

    def stop(self) -> None:
        """Ask no more. Does not wait."""
        self._stop.set()

    def close(self) -> None:
        """Stop. A pending query ends with the process."""
        self.stop()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            self._ask()
            self._stop.wait(max(0.0, self._every_s - (time.monotonic() - started)))

    def _ask(self) -> None:
        try:
            with self._connected() as client:
                report = parse_status(client.status(), self._name, time.time_ns())
        except (OSError, RasError, KernelError, UnicodeError) as error:  # UnicodeError: an invalid host name
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            self._note(False, f"RAS service {self._name}: {reason}; retrying every {self._every_s:.0f} s")
            return
        self._note(True, f"RAS service {self._name} answers: NCCL {report.nccl_version}")
        if report.unread and not self._reported_unread:
            log.warning("RAS service %s: cannot parse %d communicators", self._name, report.unread)
        self._reported_unread = bool(report.unread)
        report = self._memory.with_others(report, time.monotonic_ns())
        with self._lock:
            self._latest = report

    def _connected(self) -> RasClient:
        """A connection, which stays in the network namespace where it was made."""
        with nullcontext() if self._pid is None else entered(procfs() / f"{self._pid}/ns/net"):
            return RasClient(self._address)

    def _note(self, answers: bool, text: str) -> None:
        """Report a change, once."""
        if self.answers is not answers and not self._stop.is_set():
            log.info("%s", text)
        self.answers = answers
