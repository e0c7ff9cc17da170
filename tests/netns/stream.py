"""A numbered UDP stream, which shows each packet that is lost: `python -m tests.netns.stream send|receive`."""

from __future__ import annotations

import argparse
import json
import select
import socket
import struct
import sys
import time

from tests.netns.sending import bound, wait_until_taken

SENDER, RECEIVER = ("10.0.0.1", 40000), ("10.0.0.2", 40001)
PAYLOAD = 64
FRAME = 14 + 20 + 8 + PAYLOAD
"""Bytes of one frame."""

END = 2**64 - 1
NUMBER = struct.Struct(f"=QQ{PAYLOAD - 16}x")
"""The packet's number; behind the END, how many there were."""

BURST_S = 0.001
BUFFER = 64 << 20
SO_RCVBUFFORCE = 33
PATIENCE_S = 60.0


def send(rate: int, count: int) -> int:
    """Send `count` packets, which have arrived then, or until a byte comes on stdin; how many were sent.

    Bursts that were missed are left out.
    """
    burst = max(1, round(rate * BURST_S))
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        bound(sender)
        sender.bind(SENDER)
        due = time.monotonic()
        while not count or sent < count:
            for number in range(sent, min(sent + burst, count or END)):
                sender.sendto(NUMBER.pack(number, 0), RECEIVER)
                sent += 1
            due = max(due + BURST_S, time.monotonic())
            if select.select([] if count else [sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
                break
        if not count:
            sender.sendto(NUMBER.pack(END, sent), RECEIVER)
        wait_until_taken(sender)
    return sent


def receive() -> dict[str, object]:
    """Receive until the END; what was sent, and the first numbers that are missing."""
    seen: set[int] = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        receiver.settimeout(PATIENCE_S)
        receiver.bind(RECEIVER)
        print("ready", flush=True)
        while True:
            number, sent = NUMBER.unpack(receiver.recv(PAYLOAD))
            if number == END:
                return {"sent": sent, "lost": sorted(set(range(sent)) - seen)[:10]}
            if not seen:
                print("first", flush=True)
            seen.add(number)


def main() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    sending = commands.add_parser("send")
    sending.add_argument("rate", type=int)
    sending.add_argument("--count", type=int, default=0)
    commands.add_parser("receive")
    options = parser.parse_args()
    if options.command == "send":
        print(send(options.rate, options.count))
    else:
        print(json.dumps(receive()))


if __name__ == "__main__":
    main()
