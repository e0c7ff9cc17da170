"""Network namespaces connected by a veth, and the tool running in one of them."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
_numbers = itertools.count()

TIMEOUT_S = float(os.environ.get("XTRACE_LIMIT_S", "60"))


class Namespace:
    """A network namespace owned by a test."""

    def __init__(self, name: str) -> None:
        self.name = name

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs `arguments` in this namespace."""
        return ["ip", "netns", "exec", self.name, *arguments]

    def run(self, *arguments: str) -> str:
        """Run a command to its end; return its output."""
        return subprocess.run(
            self.command(*arguments), check=True, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=ROOT
        ).stdout

    def ip(self, arguments: str) -> str:
        """Run `ip` with arguments separated by blanks; return its output."""
        return subprocess.run(
            ["ip", "-n", self.name, *arguments.split()], check=True, capture_output=True, text=True
        ).stdout

    def feed(self, lines: Sequence[str], *arguments: str) -> None:
        """Run a command to its end, with these lines on its stdin."""
        text = "".join(f"{line}\n" for line in lines)
        command = self.command(*arguments)
        subprocess.run(command, check=True, input=text, text=True, timeout=TIMEOUT_S, cwd=ROOT)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command; the caller waits for it."""
        return subprocess.Popen(self.command(*arguments), cwd=ROOT, **options)

    def catch(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start the tool, with stdout and stderr piped unless changed by `options`."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return self.start(sys.executable, "-m", "xtrace", *arguments, **options)

    def flood(self, interface: str, packets: int, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the load generator."""
        return self.start(sys.executable, "-m", "tests.support.flood", interface, str(packets), *arguments)

    def ping(self, address: str, number: int, *options: str) -> None:
        """Send exactly so many echo requests, each when the one before was answered.

        ping with a deadline (-w) sends more than its count while it waits for answers; without one it may leave
        before the last.
        """
        for _ in range(number):
            self.run("ping", "-q", "-c1", f"-W{TIMEOUT_S:.0f}", *options, address)

    def reach(self, address: str) -> None:
        """Ping until one answer came."""
        self.run("ping", "-q", "-c1", "-i0.2", f"-w{TIMEOUT_S:.0f}", address)

    def statistics(self, interface: str, way: str = "rx") -> dict[str, int]:
        """Return the interface's own counters of received (rx) or sent (tx) packets."""
        shown = json.loads(self.ip(f"-j -s link show {interface}"))
        counters: dict[str, int] = shown[0]["stats64"][way]
        return counters

    def xdp_attached(self, interface: str) -> bool:
        """Return whether iproute2 shows an XDP program on the interface."""
        return "xdp" in json.loads(self.ip(f"-j link show {interface}"))[0]


@dataclass(frozen=True)
class Pair:
    """Two namespaces joined by a veth: near0 is 10.0.0.1, fd00::1; far0, which tests monitor, 10.0.0.2, fd00::2."""

    near: Namespace
    far: Namespace
    near_if: str = "near0"
    far_if: str = "far0"


@contextmanager
def veth_pair(mtu: int = 1500, addresses: bool = True, queues: int = 1) -> Iterator[Pair]:
    """A Pair, deleted afterwards. Without `addresses` IPv6 is off too, and the kernel sends nothing by itself.

    far0 has `queues` receive queues. With as many as CPUs, each sending CPU runs far0's XDP program itself; with one
    queue the programs of several senders take turns, and most of a flood is dropped.
    """
    names = [f"xt{os.getpid()}-{next(_numbers)}" for _ in range(2)]
    created: list[str] = []
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
            created.append(name)
        pair = Pair(Namespace(names[0]), Namespace(names[1]))
        pair.far.ip(f"link add far0 numrxqueues {queues} type veth peer name near0 netns {names[0]}")
        for number, namespace, interface in ((1, pair.near, pair.near_if), (2, pair.far, pair.far_if)):
            if addresses:
                namespace.ip(f"addr add 10.0.0.{number}/24 dev {interface}")
                namespace.ip(f"addr add fd00::{number}/64 dev {interface} nodad")
            else:
                namespace.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
            namespace.ip("link set lo up")
            namespace.ip(f"link set {interface} mtu {mtu} up")
        yield pair
    finally:
        for name in created:
            subprocess.run(["ip", "netns", "delete", name], check=True)


@contextmanager
def quiet_pair(mtu: int = 1500) -> Iterator[Pair]:
    """A Pair with IPv4 addresses and static neighbors: only packets sent by the test, no ARP, no IPv6."""
    with veth_pair(mtu, addresses=False) as pair:
        ends = ((1, pair.near, pair.near_if), (2, pair.far, pair.far_if))
        macs = [json.loads(namespace.ip(f"-j link show {name}"))[0]["address"] for _, namespace, name in ends]
        for (number, namespace, name), other in zip(ends, reversed(macs), strict=True):
            namespace.ip(f"addr add 10.0.0.{number}/24 dev {name}")
            namespace.ip(f"neigh replace 10.0.0.{3 - number} lladdr {other} nud permanent dev {name}")
        yield pair


def read_until(stream: IO[bytes] | None, wanted: bytes) -> bytes:
    """Return the lines of a pipe up to and including the first with `wanted`. AssertionError at end of file."""
    assert stream is not None
    seen = b""
    for line in stream:
        seen += line
        if wanted in line:
            return seen
    raise AssertionError(f"{wanted!r} did not come, but: {seen.decode(errors='replace')}")


def records(output: bytes) -> list[dict[str, Any]]:
    """Parse JSON Lines."""
    return [json.loads(line) for line in output.splitlines()]


def of_type(lines: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the records of one type."""
    return [record for record in lines if record["type"] == kind]


def assert_sums_close(lines: Sequence[dict[str, Any]]) -> None:
    """Assert flows + other + unattributed + filtered == total in each interval of each interface and direction.

    In packets and bytes; the records to add up must precede their interface record.
    """
    packets = size = 0
    intervals = 0
    places: set[tuple[str, str, str]] = set()
    for record in lines:
        if record["type"] in ("flow", "other", "interface"):
            places.add((record["ts"], record["interface"], record["direction"]))
        if record["type"] in ("flow", "other"):
            packets += record["packets"]
            size += record["bytes"]
        elif record["type"] == "interface":
            assert len(places) == 1, places
            places.clear()
            packets += record["unattributed_packets"] + record["filtered_packets"]
            size += record["unattributed_bytes"] + record["filtered_bytes"]
            packets += record.get("filtered_fragment_packets", 0)
            size += record.get("filtered_fragment_bytes", 0)
            assert (packets, size) == (record["packets"], record["bytes"]), record
            packets = size = 0
            intervals += 1
    assert intervals, "no interval was written"
