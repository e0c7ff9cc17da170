"""Send frames as they are, one per line of stdin in hexadecimal, and wait until they have arrived.

`python -m tests.netns.send_frames IF`
"""

from __future__ import annotations

import socket
import sys

from tests.netns.sending import bound, wait_until_taken


def main(interface: str) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        bound(sender)
        sender.bind((interface, 0))
        for line in sys.stdin:
            frame = bytes.fromhex(line)
            assert sender.send(frame) == len(frame)
        wait_until_taken(sender)


if __name__ == "__main__":
    main(*sys.argv[1:])
