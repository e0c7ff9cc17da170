"""Sockets that overrun no interface: few frames are on their way at a time, and when all have arrived is known."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import time

PATIENCE_S = 60.0
SEND_BUFFER = 32768


def bound(sender: socket.socket) -> None:
    """Let less be on its way than a veth's ring holds (256 frames): then a send waits, and nothing is dropped.

    What waits to be received counts as sent and not yet gone.
    """
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)


def on_its_way(sender: socket.socket) -> int:
    """Bytes, with the kernel's own, of what was sent and has not been taken at its end."""
    (size,) = struct.unpack("=i", fcntl.ioctl(sender, termios.TIOCOUTQ, bytes(4)))
    return int(size)


def wait_until_taken(sender: socket.socket) -> None:
    """Wait until all that was sent is through the hooks of where it arrives: the kernel may deliver it later."""
    deadline = time.monotonic() + PATIENCE_S
    while on_its_way(sender):
        assert time.monotonic() < deadline, f"{on_its_way(sender)} bytes do not arrive"
        time.sleep(0.001)
