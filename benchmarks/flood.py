"""Exactness under a flood from all CPUs: `python -m benchmarks.flood [PACKETS]`, as root.

PACKETS (100,000,000) on each implementation of the flow tables, in equal parts over 1, 1,024, 16,384 and 65,536
flows per CPU, at intervals of 100 ms. What the tool counted is compared with what the interface received.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from tests.netns.load import FLOOD_FRAME, flood
from tests.netns.tool import CPUS, XDP_ON_FAR0, running, total
from tests.support.net import assert_sums_close, of_type, veth_pair

PACKETS = 100_000_000
IMPLEMENTATIONS = {"shared memory": "", "hash maps": "cmpxchg"}
"""Name, and the features to switch off for it."""
FLOWS = (1, 1024, 16_384, 65_536)
"""Of each CPU: powers of two, as the load generator takes them."""
OPTIONS = ("-t", "100", "--top", "10", "--max-flows", "262144")


def caught(packets: int, flows: int, features_off: str) -> str:
    """Flood, compare, and tell. Raises AssertionError if a packet or a byte is missing, or one too many."""
    with veth_pair(addresses=False, queues=len(CPUS)) as pair:
        with running(pair.far, *XDP_ON_FAR0, *OPTIONS, variables={"XTRACE_FEATURES_OFF": features_off}) as tool:
            begun = time.monotonic()
            flood(pair, packets, flows=flows)
            took = time.monotonic() - begun
            lines = tool.stop().records
        received = pair.far.statistics("far0")["packets"]
    assert_sums_close(lines)
    counted = {unit: total(lines, unit) for unit in ("packets", "bytes", "unattributed_packets")}
    assert (counted["packets"], counted["bytes"]) == (received, received * FLOOD_FRAME)
    intervals = len(of_type(lines, "interface"))
    most = max(record["flows"] for record in of_type(lines, "interface"))
    return (
        f"{received:>12,} received = counted, {counted['unattributed_packets']:,} unattributed;"
        f" {intervals:,} intervals, at most {most:,} flows in one; {received / took / 1e6:.2f} M/s"
    )


def measure(packets: int) -> Iterator[str]:
    """A line per implementation and number of flows."""
    for name, off in IMPLEMENTATIONS.items():
        for flows in FLOWS:
            yield f"{name}, {flows:,} flows per CPU: {caught(packets // len(FLOWS), flows, off)}"


if __name__ == "__main__":
    for line in measure(int(sys.argv[1]) if sys.argv[1:] else PACKETS):
        print(line, flush=True)
