"""Send UDP frames of flows that never come again, of unequal sizes, until stdin ends; then print how many of each.

`python -m tests.push.churn INTERFACE FLOWS_PER_SECOND`
"""

from __future__ import annotations

import itertools
import random
import select
import socket
import sys
import time

from tests.support.frames import IPV4, UDP, ethernet, ipv4, udp

SLICE_S = 0.05


def main(interface: str, rate: str) -> None:
    choice = random.Random(7)
    packets = size = 0
    begun = time.monotonic()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((interface, 0))
        print("sending", flush=True)
        for slices in itertools.count(1):
            left = begun + slices * SLICE_S - time.monotonic()
            if select.select([sys.stdin], [], [], max(0.0, left))[0]:
                break
            for number in range(packets, int(slices * SLICE_S * int(rate))):
                source = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
                payload = bytes(choice.randrange(18, 900))
                size += sender.send(
                    ethernet(IPV4, ipv4(UDP, udp(40_000 + number % 20_000, 53, payload), src=source, dst="10.255.0.1"))
                )
                packets += 1
    print(f"{packets} packets, {size} bytes", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
