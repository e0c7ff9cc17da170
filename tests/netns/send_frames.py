"""Send frames as they are, one per line of stdin in hexadecimal: `python -m tests.netns.send_frames IF`."""

from __future__ import annotations

import socket
import sys


def main(interface: str) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        # what waits to be received counts as sent and not yet gone: fewer frames than a veth's ring holds
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
        sender.bind((interface, 0))
        for line in sys.stdin:
            frame = bytes.fromhex(line)
            assert sender.send(frame) == len(frame)


if __name__ == "__main__":
    main(*sys.argv[1:])
