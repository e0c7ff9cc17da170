"""What --tcp-packets costs: per packet, and to read what is kept of very many connections."""

from __future__ import annotations

import statistics
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

from xtrace.kernel import features
from xtrace.kernel.bpf import Program
from xtrace.model.tcp_limits import LIMITS
from xtrace.monitors.flows.plan import Plan
from xtrace.monitors.flows.tables import FlowTables
from xtrace.monitors.paths.monitor import TcpPathMonitor

REPEAT, ROUNDS = 1_000_000, 9
MOST = 32768
ACTIVE = (0, 10_000)
ACK = 0x10
PAYLOAD = 32


def segment(sequence: int, flags: int, payload: int) -> bytes:
    """A TCP segment in IPv4 and Ethernet."""
    tcp = struct.pack("!HHIIBBHHH", 40000, 443, sequence, 1, 0x50, flags, 500, 0, 0) + bytes(payload)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + bytes([10, 0, 0, 1, 10, 0, 0, 2])
    return bytes.fromhex("0200000000020200000000010800") + ip + tcp


PACKETS = {
    "acknowledgment": segment(1000, ACK, 0),
    "the same data again": segment(1000, ACK, PAYLOAD),
    "UDP": segment(1000, ACK, PAYLOAD)[:23] + b"\x11" + segment(1000, ACK, PAYLOAD)[24:],
}


def cost(programs: dict[bool, Program], frame: bytes) -> tuple[float, float]:
    """Median ns of the packet program alone, and behind the one that follows connections."""
    rounds = [
        {follows: program.test_run(frame, repeat=REPEAT).duration_ns for follows, program in programs.items()}
        for _ in range(ROUNDS)
    ]
    without, following = (statistics.median(each[follows] for each in rounds) for follows in (False, True))
    return without, following


def packets() -> Iterator[str]:
    """A line for each kind of packet."""
    yield f"packet cost in ns with --tcp-packets ({ROUNDS} interleaved rounds x {REPEAT:,} frames)"
    yield f"  {'packet':<28}{'without':>9}{'with':>8}{'ratio':>8}"
    with ExitStack() as owned:
        programs = {}
        for follows in (False, True):
            tables = owned.enter_context(closing(FlowTables(Plan.make(65536), features.probe())))
            if follows:
                tables.follow_tcp(MOST)
            programs[follows] = owned.enter_context(tables.load("tc_packet"))
        for name, frame in PACKETS.items():
            without, following = cost(programs, frame)
            yield f"  {name:<28}{without:>9.0f}{following:>8.0f}{following / without:>8.2f}"


def readings() -> Iterator[str]:
    """A line for each number of connections with traffic: CPU time of a reading of a full map."""
    with closing(FlowTables(Plan.make(65536), features.probe())) as tables:
        follower = tables.follow_tcp(MOST)
        with tables.load("tc_packet") as program:
            monitor = TcpPathMonitor(follower, tables.clock, LIMITS, print)
            frame = bytearray(segment(1000, ACK, PAYLOAD))
            for active in (MOST, *ACTIVE):
                time.sleep(1.5)  # beyond the slack by which a packet's tick may be late
                monitor.tick()
                for number in range(active):
                    frame[28:30], frame[34:36] = (number >> 14).to_bytes(2, "big"), (number & 0x3FFF).to_bytes(2, "big")
                    program.test_run(bytes(frame))
                begun = time.thread_time()
                found = len(monitor.tick().paths)
                spent_ms = (time.thread_time() - begun) * 1000
                yield f"  reading of {MOST:,} connections, {found:,} with traffic: {spent_ms:.0f} ms of CPU time"
            yield f"  memory of the maps: {follower.memory() / 1e6:.1f} MB"


def measure() -> Iterator[str]:
    """All of it."""
    yield from packets()
    yield from readings()
