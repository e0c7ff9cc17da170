"""Traffic of known size: floods from all CPUs, and a numbered UDP stream."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from tests.netns.tool import CPUS, LIMIT_S, bounded
from tests.support.net import Namespace, Pair, read_until

FLOOD_FRAME = 64
"""Bytes of one flood frame."""

ROUNDS = 20
BATCH = 64

WINDOW = "64K"
"""Of iperf3: what is on its way fits into the ring (256 packets) of a veth with native XDP, so that none is lost."""

RECEIVE_BUFFER = 256 << 10
"""Of a transfer, for the same reason."""


@contextmanager
def flooding(pair: Pair, packets: int, nets: Sequence[int], flows: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """One sender on each CPU, with at least `packets` over `flows` each; killed at the end of the block."""
    size = -(-packets // BATCH) * BATCH
    with ExitStack() as senders:
        yield [
            senders.enter_context(bounded(pair.near.flood("near0", size, *_flood_arguments(cpu, net, flows))))
            for cpu, net in zip(CPUS, nets, strict=False)
        ]


def _flood_arguments(cpu: int, net: int, flows: int) -> tuple[str, ...]:
    return ("--cpu", str(cpu), "--source-net", str(net), "--flows", str(flows))


def flood(pair: Pair, wanted: int, nets: Sequence[int] = (1, 2), flows: int = 512) -> None:
    """Flood from all CPUs until far0 has received `wanted` packets: its ring may drop some of those sent."""
    before = pair.far.statistics("far0")["packets"]
    for _ in range(ROUNDS):
        with flooding(pair, wanted // len(CPUS), nets, flows) as senders:
            assert [sender.wait(LIMIT_S) for sender in senders] == [0] * len(senders)
        if pair.far.statistics("far0")["packets"] - before >= wanted:
            return
    raise AssertionError(f"far0 received too little in {ROUNDS} rounds: {pair.far.statistics('far0')}")


class Stream:
    """A running numbered stream from near0 to a socket behind far0."""

    def __init__(self, sender: subprocess.Popen[bytes], receiver: subprocess.Popen[bytes]) -> None:
        self._sender, self._receiver = sender, receiver

    def end(self) -> tuple[int, list[int]]:
        """How many packets were sent, and the numbers of the first of those that did not arrive."""
        sent, _ = self._sender.communicate(b"\n", LIMIT_S)
        report, _ = self._receiver.communicate(timeout=LIMIT_S)
        seen = json.loads(report)
        assert seen["sent"] == int(sent)
        return seen["sent"], seen["lost"]


@contextmanager
def streaming(pair: Pair, rate: int) -> Iterator[Stream]:
    """A stream of `rate` packets per second, flowing."""
    command = (sys.executable, "-m", "tests.netns.stream")
    pipe = subprocess.PIPE
    with bounded(pair.far.start(*command, "receive", stdout=pipe)) as receiver:
        read_until(receiver.stdout, b"ready")
        with bounded(pair.near.start(*command, "send", str(rate), stdin=pipe, stdout=pipe)) as sender:
            read_until(receiver.stdout, b"first")
            yield Stream(sender, receiver)


def send_frames(namespace: Namespace, interface: str, frames: Sequence[bytes]) -> None:
    """Send each frame once by a packet socket, as it is; all have passed the hooks of the other end then."""
    namespace.feed([frame.hex() for frame in frames], sys.executable, "-m", "tests.netns.send_frames", interface)


def transfer(pair: Pair, address: str, size: int, buffer: int = RECEIVE_BUFFER) -> int:
    """Send `size` bytes over one TCP connection into far0, closed in order by both ends; return the payload sent.

    A segment that was sent again counts again, as the interface counts it.
    """
    command = (sys.executable, "-m", "tests.netns.transfer")
    with bounded(pair.far.start(*command, "serve", address, str(size), str(buffer), stdout=subprocess.PIPE)) as server:
        read_until(server.stdout, b"ready")
        sent = int(pair.near.run(*command, "send", address, str(size)))
        assert server.wait(LIMIT_S) == 0
    return sent


def run_iperf(pair: Pair, size: str) -> None:
    """One bounded iperf3 run from near0 into far0: a control and a data connection."""
    with bounded(pair.far.start("iperf3", "-s", "-1", "--forceflush", stdout=subprocess.PIPE)) as server:
        read_until(server.stdout, b"Server listening")
        pair.near.run("iperf3", "-c", "10.0.0.2", "-n", size, "-w", WINDOW, "--connect-timeout", "5000")
        assert server.wait(LIMIT_S) == 0


def send(pair: Pair, packets: int) -> None:
    """Send that many packets of the stream, and return when they have arrived."""
    pair.near.run(sys.executable, "-m", "tests.netns.stream", "send", "5000", "--count", str(packets))
