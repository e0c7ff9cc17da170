"""Programs with sockets of known owners: `python -m tests.netns.owned ROLE ARGUMENTS`.

serve ADDRESS PORT        TCP and UDP: answer each request with as many bytes, until stdin closes
prefork ADDRESS PORT      the same of TCP, by two processes that inherit the listening socket
forking ADDRESS PORT      the same of TCP, by a process for each connection
deferring ADDRESS PORT    listen, but let connections wait until there is data
sharing ADDRESS PORT      the same of TCP, by two processes with a listening socket each (SO_REUSEPORT)
clients ADDRESS           for each line of stdin, `KIND PORT OWN_PORT`, a process that lives for one exchange; prints
                          KIND, OWN_PORT, its pid, and how long it lived in us. KIND: tcp, udp (connected), sendto

A server prints `ready` and the ids of the processes that created its listening sockets.

A process of `clients` lives a few milliseconds: its exchange is one request and its answer.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time

from tests.netns.echo import accept_all, echo

PATIENCE_S = 30.0
REQUEST = b"x" * 400


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def listening(address: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A listening socket; that of `::` takes IPv4, too."""
    return socket.create_server(
        (address, port),
        family=family_of(address),
        backlog=1024,
        reuse_port=reuse_port,
        dualstack_ipv6=address == "::",
    )


def serve(address: str, port: int) -> None:
    datagrams = socket.socket(family_of(address), socket.SOCK_DGRAM)
    datagrams.bind((address, port))
    threading.Thread(target=_echo_datagrams, args=(datagrams,), daemon=True).start()
    listener = listening(address, port)
    threading.Thread(target=accept_all, args=(listener,), daemon=True).start()
    _end_with_stdin(os.getpid())


def _end_with_stdin(*creators: int) -> None:
    print("ready", *creators, flush=True)
    sys.stdin.read()


def prefork(address: str, port: int) -> None:
    listener = listening(address, port)
    workers = []
    for _ in range(2):
        worker = os.fork()
        if not worker:
            accept_all(listener)
        workers.append(worker)
    _end_with_stdin(os.getpid())
    for worker in workers:
        os.kill(worker, signal.SIGKILL)


def sharing(address: str, port: int) -> None:
    workers = []
    for _ in range(2):
        started, begun = os.pipe()
        worker = os.fork()
        if not worker:
            listener = listening(address, port, reuse_port=True)
            os.write(begun, b"!")
            accept_all(listener)
        os.read(started, 1)
        workers.append(worker)
    _end_with_stdin(*workers)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)


def deferring(address: str, port: int) -> None:
    with listening(address, port) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 60)
        _end_with_stdin(os.getpid())


def forking(address: str, port: int) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = listening(address, port)
    threading.Thread(target=_fork_for_each, args=(listener,), daemon=True).start()
    _end_with_stdin(os.getpid())


def _fork_for_each(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        if not os.fork():
            echo(connection)
            os._exit(0)
        connection.close()


def _echo_datagrams(datagrams: socket.socket) -> None:
    while True:
        data, sender = datagrams.recvfrom(1 << 16)
        datagrams.sendto(data, sender)


def clients(address: str) -> None:
    for line in sys.stdin:
        kind, port, own_port = line.split()
        begun = time.monotonic_ns()
        child = os.fork()
        if not child:
            _exchange(kind, address, int(port), int(own_port))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(kind, own_port, child, (time.monotonic_ns() - begun) // 1000, flush=True)


def _exchange(kind: str, address: str, port: int, own_port: int) -> None:
    family = family_of(address)
    own = "::" if family is socket.AF_INET6 else "0.0.0.0"
    with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as own_socket:
        own_socket.settimeout(PATIENCE_S)
        own_socket.bind((own, own_port))
        if kind == "sendto":
            own_socket.sendto(REQUEST, (address, port))
        else:
            own_socket.connect((address, port))
            own_socket.sendall(REQUEST)
        left = len(REQUEST)
        while left:
            left -= len(own_socket.recv(left))


ROLES = {"serve": serve, "prefork": prefork, "forking": forking, "sharing": sharing, "deferring": deferring}

if __name__ == "__main__":
    if sys.argv[1] == "clients":
        clients(sys.argv[2])
    else:
        ROLES[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
