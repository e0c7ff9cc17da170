"""What attaching to a veth does to what passes it: a flood of small frames, and iperf3."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from benchmarks.rows import Rounds, Row
from tests.netns.load import flooding
from tests.netns.tool import CPUS, XDP_ON_FAR0
from tests.support.net import Pair, read_until, veth_pair

SECONDS = 2
FLOOD_SECONDS = 1.0
FLOOD_ROUNDS, IPERF_ROUNDS = 9, 9
ENDLESS = 1 << 40

Around = Callable[[], AbstractContextManager[None]]


@contextmanager
def watched(pair: Pair, *options: str) -> Iterator[None]:
    """The tool at the receiver."""
    with pair.far.catch(*options, "-o", "none") as tool:
        read_until(tool.stderr, b"loaded on")
        yield
        tool.terminate()
        tool.communicate()


@contextmanager
def empty(pair: Pair) -> Iterator[None]:
    """A program at the receiver that does nothing."""
    command = (sys.executable, "-m", "benchmarks.empty", pair.far_if)
    with pair.far.start(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        read_until(program.stdout, b"attached")
        yield
        program.communicate()


def received_per_second(pair: Pair, around: Around) -> float:
    """Frames that the receiver takes of a flood from all CPUs."""
    with around(), flooding(pair, ENDLESS, (1, 2), 512):
        while not pair.far.statistics(pair.far_if)["packets"]:
            time.sleep(0.1)
        time.sleep(FLOOD_SECONDS)  # all senders have begun
        before, begun = pair.far.statistics(pair.far_if)["packets"], time.monotonic()
        time.sleep(FLOOD_SECONDS)
        received = pair.far.statistics(pair.far_if)["packets"] - before
        return received / (time.monotonic() - begun)


def flood() -> str:
    """Watched over empty."""
    with veth_pair(addresses=False, queues=len(CPUS)) as pair:
        ways: Mapping[str, Around] = {"empty": partial(empty, pair), "ours": partial(watched, pair, *XDP_ON_FAR0)}
        found = Rounds({name: partial(received_per_second, pair, way) for name, way in ways.items()}, FLOOD_ROUNDS)
    return f"{found.rates('ours', 'empty')} ({found.median('ours') / 1e6:.2f} of {found.median('empty') / 1e6:.2f} M/s)"


def bits_per_second(pair: Pair, around: Around) -> float:
    """One connection from near to far."""
    with around(), pair.far.start("iperf3", "-s", "-1", "--forceflush", stdout=subprocess.PIPE) as server:
        read_until(server.stdout, b"Server listening")
        told = json.loads(pair.near.run("iperf3", "-J", "-c", "10.0.0.2", "-t", str(SECONDS)))
    return float(told["end"]["sum_received"]["bits_per_second"])


def iperf(hook: str) -> str:
    """Watched over nothing attached."""
    with veth_pair() as pair:
        ways: Mapping[str, Around] = {
            "nothing": nullcontext,
            "ours": partial(watched, pair, "-i", pair.far_if, "--hook", hook),
        }
        found = [{name: bits_per_second(pair, way) for name, way in ways.items()} for _ in range(IPERF_ROUNDS)]
    shares = [each["ours"] / each["nothing"] for each in found]
    gigabits = statistics.median(each["nothing"] for each in found) / 1e9
    return f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f}) of {gigabits:.1f} Gbit/s"


ROWS = (
    Row("flood", "flood through a veth: packets per second over empty", "0.98", flood),
    Row("iperf3-native", "iperf3 over veth: native XDP over nothing attached", "told", partial(iperf, "xdp")),
    Row("iperf3-tc", "iperf3 over veth: tc over nothing attached", "told", partial(iperf, "tc")),
)
