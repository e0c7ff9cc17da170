"""The main loop: at each deadline one snapshot per monitor, written to every sink."""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable, Sequence
from functools import partial

from xtrace.errors import XtraceError
from xtrace.model.snapshot import Snapshot
from xtrace.monitors import Monitor
from xtrace.service import Service
from xtrace.sinks import Sink
from xtrace.sinks.registry import Totals
from xtrace.sinks.stream import OutputClosed, OutputStream
from xtrace.stop import Stop

log = logging.getLogger(__name__)


class Loop:
    """Runs until a stop is requested, `count` intervals have passed, the reader is gone, or all monitors ended."""

    def __init__(
        self,
        monitors: Sequence[Monitor[Snapshot]],
        sinks: Sequence[Sink],
        stop: Stop,
        output: OutputStream,
        interval_ns: int,
        service: Service,
    ) -> None:
        self._monitors = monitors
        self._sinks = list(sinks)
        self._failure: XtraceError | None = None
        self._stop = stop
        self._interval_ns = interval_ns
        self._service = service
        self._totals = Totals()
        self._poll = select.poll()
        self._poll.register(stop.fileno(), select.POLLIN)
        self._poll.register(output.fileno(), 0)  # errors only: the reader closed its end
        self._by_descriptor = {monitor.fileno(): monitor for monitor in monitors if monitor.fileno() >= 0}
        for descriptor in self._by_descriptor:
            self._poll.register(descriptor, select.POLLIN)

    def run(self, count: int = 0) -> None:
        """Tick at fixed deadlines; a deadline that has already passed is skipped, which makes that interval longer.

        The last snapshot is taken after detaching. If a sink fails or its reader is gone, the run ends: the other
        sinks still get everything up to the end, then the error is raised. OutputClosed is not raised, because a
        reader that closes its end early is no error.
        """
        deadline = time.monotonic_ns() + self._interval_ns
        ticks = 0
        while not all(monitor.ended for monitor in self._monitors):
            reader_left = self._wait(deadline)
            ticks += 1
            self._totals.intervals = ticks
            last = self._stop.requested or reader_left or ticks == count
            sinks = len(self._sinks)
            self._tick(last)
            if last:
                break
            if len(self._sinks) < sinks:
                if self._sinks:
                    self._tick(last=True)
                break
            late = time.monotonic_ns() - deadline
            deadline += self._interval_ns * max(1, -(-late // self._interval_ns))
        self._each_sink(lambda sink: sink.end(self._totals))
        if self._failure is not None:
            raise self._failure

    def _wait(self, deadline: int) -> bool:
        """Sleep until the deadline, a stop request, or the reader's exit; return whether it was the last.

        The service manager gets its signs of life here, so that it learns if a tick never ends.
        """
        while not self._stop.requested:
            now = time.monotonic_ns()
            pause = min(deadline - now, self._service.beat(now))
            if now >= deadline:
                break
            # poll() takes milliseconds: round up, or the loop would spin for the last fraction
            for fd, event in self._poll.poll(-(-pause // 1_000_000)):
                if fd in self._by_descriptor:
                    self._by_descriptor[fd].react()
                elif fd != self._stop.fileno() and event & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                    return True
        return False

    def _tick(self, last: bool) -> None:
        """End the interval of every monitor, read what each has of it, write that: none waits for another's."""
        running = [monitor for monitor in self._monitors if not monitor.ended]
        for monitor in running:
            monitor.flip(last)
        for snapshot in [monitor.finish() if last else monitor.tick() for monitor in running]:
            if snapshot is None:
                continue
            self._totals.add(snapshot)
            self._each_sink(partial(_write, snapshot))
            if last and snapshot.failure:
                self._failure = self._failure or XtraceError(snapshot.failure)
        self._each_sink(lambda sink: sink.flush())

    def _each_sink(self, act: Callable[[Sink], None]) -> None:
        """Call `act` with every sink; drop the sinks that fail."""
        self._sinks = [sink for sink in self._sinks if self._succeeds(act, sink)]

    def _succeeds(self, act: Callable[[Sink], None], sink: Sink) -> bool:
        try:
            act(sink)
        except OutputClosed as closed:
            log.debug("%s", closed)
        except XtraceError as error:
            self._failure = self._failure or error
        else:
            return True
        return False


def _write(snapshot: Snapshot, sink: Sink) -> None:
    sink.write(snapshot)
