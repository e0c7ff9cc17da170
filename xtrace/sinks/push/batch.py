"""Batches of samples, and the interface by which they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from xtrace.sinks.push.selfcheck import Probe


@dataclass(eq=False)
class Batch:
    """One tick's samples."""

    body: bytes
    samples: int
    probe: Probe | None = None
    is_packed: bool = False
    waits: bool = True
    """False once delivered or dropped"""
    size: int = 0
    """bytes that it takes, in memory or in its file"""
    file: str | None = None
    """its name in the spool, which then has the body"""
    in_doubt: bool = False
    """whether the server may have stored it, in part: an attempt had no answer, or the server was killed afterwards"""
    ask_at: float = 0.0
    """when the server shows whether it has stored one in doubt: seconds, monotonic"""
    acknowledged_at: float | None = None
    """when the server acknowledged it, or what it lacked of it: seconds, monotonic; None: not yet"""
    changed_at: float = 0.0
    """when its file was written or marked, if an earlier run did: seconds since the epoch"""


@dataclass(frozen=True)
class Outcome:
    """Result of a request."""

    delivered: bool
    retry: bool = False
    """whether a later attempt may succeed"""
    reason: str = ""
    retry_after_s: float | None = None
    doubt: str = ""
    """the answer, if it is not the usual one of the format; the samples may not be stored"""
    status: int = 0
    """of the answer; 0 if there was none"""
    written: int | None = None
    """samples that were stored, if the server says so (remote write 2.0)"""
    rejected: int = 0
    """samples that the server says it has not stored, while it took others"""
    remark: str = ""
    """what it says about them, or about a request that it took whole"""
    unanswered: bool = False
    """whether the request was sent, as far as known, but no answer came"""
    reconnected: bool = False
    """whether the connection used before had been closed by the server, or failed"""
    abruptly: bool = False
    """whether it was, and the server had not said in an answer that it would close it"""


class Transport(Protocol):
    """A connection to one server."""

    shown: str
    """the server's name in messages"""
    is_known: bool
    """whether the path is one that stores what it accepts, as far as its name says"""

    def send(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """Send a body with its content headers. Server and network errors are Outcomes, not exceptions."""

    def times(self, selector: str, start_ms: int, end_ms: int) -> set[int] | None:
        """Return the times (ms) of the stored samples of a series; None if the server cannot be queried."""

    def samples(self, selector: str, start_ms: int, end_ms: int, names: frozenset[str]) -> set[int] | None:
        """Return the identities (metrics/pieces.py) of the stored samples, by these labels only, which are not empty.

        None if the server does not show them.
        """

    def close(self) -> None:
        """Close all connections."""
