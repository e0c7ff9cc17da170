"""The way to a collector: UDP or TCP. Each knows what may have been lost when the collector went away."""

from __future__ import annotations

import fcntl
import os
import select
import socket
from collections import deque
from errno import ECONNRESET
from struct import unpack
from typing import Protocol

from xtrace.sinks.ipfix.message import HEADER

CONNECT_S, SEND_S = 5.0, 10.0
UDP_MESSAGE, TCP_MESSAGE = 1400, 16384
"""Bytes of a message: below the MTU of Ethernet with any IP header; of TCP it only bounds the overhead."""
KEPT_MESSAGES = 4096
"""Of datagrams sent last: a refusal is known after a round trip."""
SIOCOUTQ = 0x5411
"""linux/sockios.h: bytes that the other host has not acknowledged."""
IP_RECVERR, IPV6_RECVERR = 11, 25
"""linux/in.h, linux/in6.h: queue ICMP errors, with the start of the packet that each refers to."""


class Link(Protocol):
    """A connection. Sequence numbers are those of its messages."""

    most: int
    """bytes of a message"""
    has_datagrams: bool
    """the collector may miss some if they come too fast, and nobody says when it needs the templates again"""

    def send(self, message: bytes) -> None:
        """Send a message. Raises OSError if the collector is away."""

    def check(self, wait_s: float) -> None:
        """Raise OSError if the collector is away; wait that long to be told."""

    def lost(self) -> int:
        """Return how many of the messages sent last did not arrive, as far as is known."""

    def close(self) -> None:
        """Close the socket."""


class Udp:
    """Datagrams. A host without a collector refuses them (ICMP), which the kernel reports later."""

    most = UDP_MESSAGE
    has_datagrams = True

    def __init__(self, where: tuple[str, int]) -> None:
        """Raises OSError."""
        family, kind, protocol, _, address = socket.getaddrinfo(*where, type=socket.SOCK_DGRAM)[0]
        self._socket = socket.socket(family, kind, protocol)
        self._sequences: deque[int] = deque(maxlen=KEPT_MESSAGES)
        """of the messages sent last"""
        try:
            if family == socket.AF_INET:
                self._socket.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            else:
                self._socket.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise

    def send(self, message: bytes) -> None:
        """Send a datagram."""
        self._socket.send(message)
        self._sequences.append(HEADER.unpack_from(message)[3])

    def check(self, wait_s: float) -> None:
        """Wait for a refusal."""
        poll = select.poll()
        poll.register(self._socket, 0)
        if poll.poll(wait_s * 1000):
            code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            raise OSError(code, os.strerror(code))

    def lost(self) -> int:
        """Return the messages sent since the first that was refused."""
        found = len(self._sequences)
        for refused in self._refused():
            if refused in self._sequences:
                found = min(found, self._sequences.index(refused))
        count = len(self._sequences) - found
        for _ in range(count):
            self._sequences.pop()
        return count

    def _refused(self) -> list[int]:
        """Return the sequence numbers of the messages in the queue of errors."""
        found: list[int] = []
        while True:
            try:
                quoted = self._socket.recvmsg(HEADER.size, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)[0]
            except OSError:
                return found
            if len(quoted) == HEADER.size:
                found.append(HEADER.unpack(quoted)[3])

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Tcp:
    """A byte stream. What the collector's host has not acknowledged when it ends is lost."""

    most = TCP_MESSAGE
    has_datagrams = False

    def __init__(self, where: tuple[str, int]) -> None:
        """Connect. Raises OSError."""
        self._socket = socket.create_connection(where, CONNECT_S)
        self._socket.settimeout(SEND_S)
        self._passed = 0
        """bytes that the kernel has taken"""
        self._ends: deque[int] = deque()
        """of the messages that may not have arrived: bytes passed with them"""

    def send(self, message: bytes) -> None:
        """Send a message, all of it."""
        left = memoryview(message)
        while left:
            number = self._socket.send(left)
            self._passed += number
            left = left[number:]
        self._ends.append(self._passed)
        self._forget()

    def check(self, wait_s: float) -> None:
        """See whether the collector has closed the connection; collectors send nothing else."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if poll.poll(wait_s * 1000):
            self._socket.recv(1)
            raise ConnectionResetError(ECONNRESET, "closed by the collector")

    def lost(self) -> int:
        """Return the messages of which the other host has not acknowledged every byte."""
        self._forget()
        return len(self._ends)

    def _forget(self) -> None:
        (waiting,) = unpack("i", fcntl.ioctl(self._socket, SIOCOUTQ, bytes(4)))
        while self._ends and self._ends[0] <= self._passed - waiting:
            self._ends.popleft()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
