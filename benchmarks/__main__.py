"""`make bench`, or `python -m benchmarks [NAME ...]`, of those below.

benchmarks.churn, which takes hours, and benchmarks.flood are commands of their own.
"""

from __future__ import annotations

import sys

from benchmarks import attaching, drain, fleet, live, nccl, owners, packet, process, push, rdma, tcp

MEASUREMENTS = {
    "packet": packet.measure,
    "owners": owners.measure,
    "tcp": tcp.measure,
    "drain": drain.measure,
    "process": process.measure,
    "push": push.measure,
    "fleet": fleet.measure,
    "rdma": rdma.measure,
    "nccl": nccl.measure,
    "attach": attaching.measure,
    "live": live.measure,
}


def main() -> int:
    for name in sys.argv[1:] or MEASUREMENTS:
        for line in MEASUREMENTS[name]():
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
