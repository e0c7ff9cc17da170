"""One TCP transfer, closed in order by both ends: `python -m tests.netns.transfer serve|send ADDRESS BYTES`."""

from __future__ import annotations

import os
import socket
import sys

PORT = 5001
PATIENCE_S = float(os.environ.get("XTRACE_LIMIT_S", "60"))
CHUNK = bytes(1 << 16)


def serve(address: str, size: int) -> None:
    """Take one connection, read it to its end, which must come after `size` bytes."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, PORT), family=family) as listener:
        listener.settimeout(PATIENCE_S)
        print("ready", flush=True)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PATIENCE_S)
            received = 0
            while data := connection.recv(len(CHUNK)):
                received += len(data)
    assert received == size, f"{received} of {size} bytes came"


def send(address: str, size: int) -> None:
    """Send `size` bytes, then wait for the other end to close as well."""
    with socket.create_connection((address, PORT), PATIENCE_S) as connection:
        while size:
            size -= connection.send(CHUNK[:size])
        connection.shutdown(socket.SHUT_WR)
        assert not connection.recv(1)


if __name__ == "__main__":
    {"serve": serve, "send": send}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
