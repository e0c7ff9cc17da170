"""What --tcp costs: per reading of 50,000 sockets, idle and with traffic, and per connection.

`python -m benchmarks.tcp NUMBER` is one of the processes that hold the sockets.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

from benchmarks.owners import CONNECTION_GOAL, CONNECTION_ROUNDS, CONNECTIONS, connect
from tests.support.net import ROOT
from xtrace.kernel.network_namespaces import inode_of
from xtrace.model.tcp_limits import LIMITS
from xtrace.monitors.tcp.ends import EndProbe
from xtrace.monitors.tcp.monitor import TcpMonitor
from xtrace.monitors.tcp.peers import Monitored

HOLDERS, HELD, BUSY = 5, 5_000, 1_000
"""Processes, connections of each, and those of them that have traffic."""
READINGS = 7


def hold(number: int) -> None:
    """Hold both ends of connections over loopback; for each byte on stdin, send one through some of them."""
    with ExitStack() as opening:
        listener = opening.enter_context(socket.create_server((f"127.0.1.{number}", 0), backlog=64))
        pairs = []
        for _ in range(HELD):
            client = opening.enter_context(socket.create_connection(listener.getsockname()))
            pairs.append((client, opening.enter_context(listener.accept()[0])))
        while True:
            print("done", flush=True)
            if not sys.stdin.buffer.read(1):
                return
            for client, server in pairs[:BUSY]:
                client.send(b"!")
                server.recv(1)


class Holders:
    """Processes with sockets: one may have fewer open files than are wanted."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "benchmarks.tcp"]
        self._processes = [
            subprocess.Popen([*command, str(number + 1)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for number in range(HOLDERS)
        ]
        self.wait()

    def wait(self) -> None:
        """Until each has done what it was told."""
        for process in self._processes:
            assert process.stdout and process.stdout.readline() == b"done\n"

    def talk(self) -> None:
        """Let a byte through the connections that have traffic."""
        for process in self._processes:
            assert process.stdin
            process.stdin.write(b"!")
            process.stdin.flush()
        self.wait()

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            process.communicate()


def reading(monitor: TcpMonitor) -> float:
    """CPU time of one reading in ms."""
    begun = time.process_time()
    monitor.tick()
    return (time.process_time() - begun) * 1e3


def readings() -> Iterator[str]:
    """A line each: nothing happens on any socket; one byte crosses the connections of some."""
    with (
        closing(Holders()) as holders,
        closing(TcpMonitor(1.0, LIMITS, print, Monitored())) as monitor,
    ):
        idle = [reading(monitor) for _ in range(READINGS)]
        busy = []
        for _ in range(READINGS):
            holders.talk()
            busy.append(reading(monitor))
    yield f"reading of {2 * HOLDERS * HELD:,} idle TCP sockets: {statistics.median(idle):.0f} ms of CPU time"
    yield f"  if {2 * HOLDERS * BUSY:,} of them have traffic: {statistics.median(busy):.0f} ms"


def per_connection() -> Iterator[str]:
    """A line: connections over loopback without and with the programs that see sockets end."""
    times: dict[bool, list[float]] = {False: [], True: []}
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        address = listener.getsockname()
        for _ in range(CONNECTION_ROUNDS):
            times[False].append(connect(address, listener))
            with closing(EndProbe(1.0)) as probe:
                probe.follow(inode_of())
                times[True].append(connect(address, listener))
    without, with_ends = (min(times[sees]) for sees in (False, True))
    yield f"connection over loopback, both ends, by one Python process ({CONNECTION_ROUNDS} x {CONNECTIONS:,})"
    yield f"  {without:.1f} us without, {with_ends:.1f} us with: {with_ends / without:.2f}   goal {CONNECTION_GOAL:.2f}"


def measure() -> Iterator[str]:
    """All of it."""
    yield from readings()
    yield from per_connection()


if __name__ == "__main__":
    hold(int(sys.argv[1]))
