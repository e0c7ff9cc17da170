"""A link of known delay: `python -m tests.netns.delay NEAR FAR MS` joins two named namespaces until stdin closes.

slow0 in NEAR is 10.9.0.1, in FAR 10.9.0.2. Each packet takes at least so many milliseconds in each direction: it passes
through this process, since not every kernel has netem.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import select
import struct
import subprocess
import sys
import time
from pathlib import Path

from xtrace.kernel.network_namespaces import entered

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
LONGEST = 65535


def end(namespace: str, address: str) -> int:
    """A new raw IP interface in a namespace; its packets are read from and written to the result."""
    with entered(Path("/run/netns", namespace)):
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"slow0", IFF_TUN | IFF_NO_PI))
        subprocess.run(["ip", "addr", "add", f"{address}/24", "dev", "slow0"], check=True)
        subprocess.run(["ip", "link", "set", "slow0", "up"], check=True)
    return device


def main(near: str, far: str, delay_ms: str) -> None:
    ends = end(near, "10.9.0.1"), end(far, "10.9.0.2")
    across = {ends[0]: ends[1], ends[1]: ends[0]}
    under_way: list[tuple[float, int, int, bytes]] = []
    number = 0
    print("ready", flush=True)
    while True:
        wait = max(under_way[0][0] - time.monotonic(), 0) if under_way else None
        readable, _, _ = select.select([*ends, sys.stdin], [], [], wait)
        if sys.stdin in readable:
            return
        for device in (device for device in ends if device in readable):
            number += 1
            arrives = time.monotonic() + float(delay_ms) / 1000
            heapq.heappush(under_way, (arrives, number, across[device], os.read(device, LONGEST)))
        while under_way and under_way[0][0] <= time.monotonic():
            _, _, device, packet = heapq.heappop(under_way)
            os.write(device, packet)


if __name__ == "__main__":
    main(*sys.argv[1:])
