"""What attaching to a veth does to the throughput through it: iperf3 between two namespaces, in interleaved rounds."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.net import Pair, read_until, veth_pair

ROUNDS = 5
SECONDS = 2
WAYS = {"nothing attached": (), "tc": ("--hook", "tc"), "native XDP": ("--hook", "xdp")}


@contextmanager
def watched(pair: Pair, options: tuple[str, ...]) -> Iterator[None]:
    """The tool at the receiver, where there are options for it."""
    if not options:
        yield
        return
    with pair.far.catch("-i", pair.far_if, *options, "-o", "none") as tool:
        read_until(tool.stderr, b"loaded on")
        yield
        tool.terminate()
        tool.communicate()


def bits_per_second(pair: Pair) -> float:
    """One connection from near to far."""
    with pair.far.start("iperf3", "-s", "-1", "--forceflush", stdout=subprocess.PIPE) as server:
        read_until(server.stdout, b"Server listening")
        told = json.loads(pair.near.run("iperf3", "-J", "-c", "10.0.0.2", "-t", str(SECONDS)))
    return float(told["end"]["sum_received"]["bits_per_second"])


def measure() -> Iterator[str]:
    """Lines for attaching."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    with veth_pair() as pair:
        for _ in range(ROUNDS):
            for way, options in WAYS.items():
                with watched(pair, options):
                    found[way].append(bits_per_second(pair))
    yield f"iperf3 through a veth, {ROUNDS} rounds of {SECONDS} s, by what is attached at the receiver"
    base = found["nothing attached"]
    for way, rates in found.items():
        shares = [rate / before for rate, before in zip(rates, base, strict=True)]
        yield (
            f"  {way}: median {statistics.median(rates) / 1e9:.1f} Gbit/s, share of nothing attached"
            f" {statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"
        )
