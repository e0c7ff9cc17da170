"""Send frames of many flows, of unequal sizes, a few of them RoCE, until stdin ends.

`python -m tests.push.sender INTERFACE FLOWS RATE`
"""

from __future__ import annotations

import random
import select
import socket
import sys
import time

from tests.support.frames import IPV4, TCP, UDP, bth, deth, ethernet, ipv4, roce, tcp, udp

SLICE_S = 0.02


def frames(flows: int) -> list[bytes]:
    """Return one frame per flow."""
    made = [
        ethernet(IPV4, ipv4(UDP, roce(bth(4, 17, deth(99))), src="10.9.0.1", dst="10.9.0.2")),
        ethernet(IPV4, ipv4(UDP, roce(bth(8, 193, bytes(256))), src="10.9.0.1", dst="10.9.0.2")),
    ]
    for number in range(flows - len(made)):
        source, port = f"10.1.{number >> 8}.{number & 255}", 1024 + number
        payload = bytes(18 + 100 * (number % 9))
        if number % 2:
            made.append(ethernet(IPV4, ipv4(TCP, tcp(port, 443, payload=payload), src=source, dst="10.255.0.1")))
        else:
            made.append(ethernet(IPV4, ipv4(UDP, udp(port, 53, payload), src=source, dst="10.255.0.1")))
    return made


def main(interface: str, flows: str, rate: str) -> None:
    choice = random.Random(7)
    sent = frames(int(flows))
    weights = [1 / (1 + number) ** 0.5 for number in range(len(sent))]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((interface, 0))
        print("sending", flush=True)
        while not select.select([sys.stdin], [], [], 0)[0]:
            # a random choice, so that flows pause and return
            for frame in choice.choices(sent, weights, k=int(int(rate) * SLICE_S)):
                sender.send(frame)
            time.sleep(SLICE_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
