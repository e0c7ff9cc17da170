"""What a service manager is told: sd_notify(3), without its library."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)

READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"
NEVER_NS = 1 << 63


def reloading(now_ns: int) -> str:
    """Return the state from a request to reload until READY; `now_ns`: the monotonic clock."""
    return f"RELOADING=1\nMONOTONIC_USEC={now_ns // 1000}"


class Service:
    """The manager that NOTIFY_SOCKET names; without it nothing is sent. With WATCHDOG_USEC it wants signs of life."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address  # abstract
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        self._period_ns = watchdog_ns(environment) // 2 if address else 0
        self._due_ns = 0

    def say(self, state: str, *, waits: bool = False) -> None:
        """Send one state. A manager that cannot be reached is none of the monitor's problems.

        `waits`: until a busy manager takes it; not for the main thread.
        """
        if self._socket is None:
            return
        try:
            self._socket.sendto(state.encode(), 0 if waits else socket.MSG_DONTWAIT, self._address)
        except OSError as error:
            log.debug("service manager at %s: %s", self._address, error)

    def beat(self, now_ns: int) -> int:
        """Send a sign of life if it is time, twice per WATCHDOG_USEC; return the ns until the next one."""
        if not self._period_ns:
            return NEVER_NS
        if now_ns >= self._due_ns:
            self.say(ALIVE)
            self._due_ns = now_ns + self._period_ns
        return self._due_ns - now_ns

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()


def watchdog_ns(environment: Mapping[str, str]) -> int:
    """Return how long the manager waits for a sign of life; 0: it does not, or it waits for another process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    period_us = environment.get("WATCHDOG_USEC", "")
    return int(period_us) * 1000 if period_us.isdecimal() else 0
