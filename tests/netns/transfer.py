"""One TCP transfer: `python -m tests.netns.transfer serve ADDRESS BYTES BUFFER`, or `send ADDRESS BYTES`."""

from __future__ import annotations

import os
import socket
import struct
import sys

PORT = 5001
PATIENCE_S = float(os.environ.get("XTRACE_LIMIT_S", "60"))
CHUNK = bytes(1 << 16)
TCPI_BYTES_SENT = 200
"""Offset in `struct tcp_info` (include/uapi/linux/tcp.h): payload, repeated bytes included."""


def serve(address: str, size: int, buffer: int) -> None:
    """Take one connection, read it to its end, which must come after `size` bytes; `buffer` bounds its window."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, PORT), family=family) as listener:
        listener.settimeout(PATIENCE_S)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        print("ready", flush=True)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PATIENCE_S)
            received = 0
            while data := connection.recv(len(CHUNK)):
                received += len(data)
    assert received == size, f"{received} of {size} bytes came"


def send(address: str, size: int) -> None:
    """Send `size` bytes, wait for the other end to close as well, print the bytes sent: a segment sent again, too."""
    with socket.create_connection((address, PORT), PATIENCE_S) as connection:
        while size:
            size -= connection.send(CHUNK[:size])
        connection.shutdown(socket.SHUT_WR)
        assert not connection.recv(1)
        information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCPI_BYTES_SENT + 8)
    print(*struct.unpack_from("=Q", information, TCPI_BYTES_SENT))


if __name__ == "__main__":
    action, address, size, *rest = sys.argv[1:]
    if action == "serve":
        serve(address, int(size), int(rest[0]))
    else:
        send(address, int(size))
