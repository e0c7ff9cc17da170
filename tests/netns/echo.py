"""A server's side of TCP connections: what comes is sent back."""

from __future__ import annotations

import socket
import threading


def accept_all(listener: socket.socket) -> None:
    """Echo on each connection, in a thread of its own, until the process ends."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=echo, args=(connection,), daemon=True).start()


def echo(connection: socket.socket) -> None:
    """Send back what comes until the other end closes, then close too."""
    with connection:
        while data := connection.recv(1 << 16):
            connection.sendall(data)
