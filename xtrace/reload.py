"""SIGHUP in a service: what was made of files is made anew, while counting goes on."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

from xtrace.kernel.signals import SignalFd
from xtrace.service import READY, Service, reloading
from xtrace.sinks.renewed import Renewed

log = logging.getLogger(__name__)

CLOSES_WITHIN_S = 2.0


class Reload:
    """Owns the thread that waits for SIGHUP, which is blocked in all threads from the start of the process.

    A signal that came before waits for it, and so does one that comes while files are read. Files are read in this
    thread because a file system may not answer.
    """

    def __init__(self, service: Service, renewed: Sequence[Renewed[Any]]) -> None:
        """To be made once the service manager was told that the service is ready."""
        self._service = service
        self._renewed = renewed
        self._signals = SignalFd(signal.SIGHUP)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, unless a file system keeps it from ending."""
        os.write(self._wake_write, b"\0")
        self._thread.join(CLOSES_WITHIN_S)
        if self._thread.is_alive():
            return
        self._signals.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _run(self) -> None:
        poll = select.poll()
        for descriptor in (self._signals.fileno(), self._wake_read):
            poll.register(descriptor, select.POLLIN)
        while self._wake_read not in dict(poll.poll()):
            self._signals.read()
            # neither may be lost: without READY the manager takes it for reloading still
            self._service.say(reloading(time.monotonic_ns()), waits=True)
            self._service.say(f"{READY}\nSTATUS={self._reload()}", waits=True)

    def _reload(self) -> str:
        """Read everything again; return the outcome in words."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if not self._renewed:
            log.info("SIGHUP: no certificates or users in files to read anew (settings: restart the service)")
            return f"SIGHUP at {at}: nothing to read anew; settings need a restart"
        failed = [each for each in self._renewed if not each.renew()]
        if failed:
            return f"SIGHUP at {at}: new files are of no use, the old ones stay in use; see the log"
        return f"SIGHUP at {at}: certificates and users read anew; settings need a restart"
