"""TCP peers of known behavior: `python -m tests.netns.tcp_peers ROLE ARGUMENTS`.

serve ADDRESS PORT        echo what comes, on any number of connections, until stdin closes
short ADDRESS PORT N      N connections in turn from each of eight threads, a request and its answer each
talk ADDRESS PORT         send a request for each line of stdin, print what TCP_INFO says when it is answered
stuck ADDRESS PORT        accept one connection and never read from it, until stdin closes
push ADDRESS PORT         connect, and write until the connection takes no more; then print `full`, wait for stdin
connect ADDRESS PORT      connect once; print the errno
abort ADDRESS PORT N      N connections in turn, a request and its answer each, then a reset (linger time 0)
retry ADDRESS PORT N      connect N times, one after the other on one socket; print the errnos
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading

from tests.netns.echo import accept_all

PATIENCE_S = 30.0
REQUEST = b"x" * 4000
THREADS = 8
TCP_INFO_BYTES = 232


def serve(address: str, port: int) -> None:
    with socket.create_server((address, port), backlog=1024) as listener:
        print("ready", flush=True)
        threading.Thread(target=accept_all, args=(listener,), daemon=True).start()
        sys.stdin.read()


def short(address: str, port: int, number: int) -> None:
    threads = [threading.Thread(target=_ask_often, args=(address, port, number)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("done", flush=True)


def _ask_often(address: str, port: int, number: int) -> None:
    for _ in range(number):
        with socket.create_connection((address, port), PATIENCE_S) as connection:
            _ask(connection)


def _ask(connection: socket.socket) -> None:
    connection.sendall(REQUEST)
    left = len(REQUEST)
    while left:
        left -= len(connection.recv(left))


def talk(address: str, port: int) -> None:
    with socket.create_connection((address, port), PATIENCE_S) as connection:
        print("ready", connection.getsockname()[1], flush=True)
        for _ in sys.stdin:
            _ask(connection)
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
            rtt, acked = struct.unpack_from("=I", info, 68)[0], struct.unpack_from("=Q", info, 120)[0]
            print(json.dumps({"rtt_us": rtt, "bytes_acked": acked}), flush=True)


def stuck(address: str, port: int) -> None:
    with socket.create_server((address, port)) as listener:
        print("ready", flush=True)
        connection, _ = listener.accept()
        with connection:
            sys.stdin.read()


def push(address: str, port: int) -> None:
    with socket.create_connection((address, port), PATIENCE_S) as connection:
        connection.setblocking(False)
        try:
            while True:
                connection.send(bytes(1 << 16))
        except BlockingIOError:
            print("full", flush=True)
        connection.setblocking(True)
        threading.Thread(target=_write, args=(connection,), daemon=True).start()
        sys.stdin.read()


def _write(connection: socket.socket) -> None:
    while True:
        connection.send(bytes(1 << 16))


def connect(address: str, port: int) -> None:
    with socket.socket() as connection:
        connection.settimeout(PATIENCE_S)
        print(connection.connect_ex((address, port)), flush=True)


def abort(address: str, port: int, number: int) -> None:
    for _ in range(number):
        with socket.create_connection((address, port), PATIENCE_S) as connection:
            _ask(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def retry(address: str, port: int, number: int) -> None:
    with socket.socket() as connection:
        print(*(connection.connect_ex((address, port)) for _ in range(number)), flush=True)


ROLES = {"serve": serve, "talk": talk, "stuck": stuck, "push": push, "connect": connect}
NUMBERED = {"short": short, "abort": abort, "retry": retry}

if __name__ == "__main__":
    role, where, at, *rest = sys.argv[1:]
    if role in NUMBERED:
        NUMBERED[role](where, int(at), int(rest[0]))
    else:
        ROLES[role](where, int(at))
