"""TCP sockets of a network namespace by sock_diag (uapi/linux/inet_diag.h). Needs no privileges.

The kernel lists a socket in 1.0 to 1.3 us. What it sends is read in C (csrc/tcp_diag.c).
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.syscall import ffi, lib

NETLINK_SOCK_DIAG = 4

SOCK_DIAG_BY_FAMILY = 20

AF_INET, AF_INET6 = 2, 10
FAMILIES = {AF_INET: "IPv4", AF_INET6: "IPv6"}
IPPROTO_TCP = 6

TCP_DESTROYED_GROUPS = 1 << 0 | 1 << 2
"""SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY, each as its number less 1: for NetlinkSocket."""

WANTED = 1 << 1 | 1 << 3
"""idiag_ext: INET_DIAG_INFO and INET_DIAG_CONG, each as its number less 1."""

STATES = (1, 2, 4, 5, 8, 9, 11)
"""ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING: those with a whole socket and a peer.

TIME_WAIT has the cookie of a socket that is no more, SYN_RECV is a request without a socket.
"""

_REQUEST = Struct("=BBBxI48x")  # struct inet_diag_req_v2: family, protocol, extensions, states, no address

FIRST_ROOM = 1024

_new_uncleared = ffi.new_allocator(should_clear_after_alloc=False)


class Samples:
    """A growing array of struct tcp_sample, filled by one dump after another."""

    def __init__(self) -> None:
        self._room = FIRST_ROOM
        self._array = _new_uncleared("struct tcp_sample[]", self._room)
        self._out = ffi.new("struct xt_tcp_samples *", {"samples": self._array, "room": self._room})

    def __len__(self) -> int:
        return int(self._out.count)

    def clear(self) -> None:
        """Forget all, and keep the memory."""
        self._out.count = 0

    def cut(self, count: int) -> None:
        """Keep the first `count` only."""
        self._out.count = min(count, self._out.count)

    def view(self) -> memoryview:
        """The samples as bytes; valid until the next read."""
        whole: Any = ffi.buffer(self._array, ffi.sizeof("struct tcp_sample") * self._out.count)
        return memoryview(whole)

    def read(self, datagram: bytes, sequence: int) -> int:
        """Append the sockets in a datagram of that dump; return the length of their messages."""
        whole = ffi.from_buffer(datagram)
        done = 0
        while True:
            done += lib.xt_tcp_read(whole + done, len(datagram) - done, sequence, self._out)
            if self._out.count < self._room:
                return done
            self._grow()

    def _grow(self) -> None:
        bigger = _new_uncleared("struct tcp_sample[]", 2 * self._room)
        ffi.memmove(bigger, self._array, ffi.sizeof("struct tcp_sample") * self._out.count)
        self._array, self._room = bigger, 2 * self._room
        self._out.samples, self._out.room = self._array, self._room


def dump_tcp(netlink: NetlinkSocket, samples: Samples) -> None:
    """Append all connections of the socket's namespace, IPv4 and IPv6. Raises KernelError.

    A socket that appears or ends meanwhile may be missing, one that stays is there, perhaps twice.
    """
    states = sum(1 << state for state in STATES)
    for family, name in FAMILIES.items():
        request = _REQUEST.pack(family, IPPROTO_TCP, WANTED, states)
        netlink.dump_into(samples, SOCK_DIAG_BY_FAMILY, request, what=f"sock_diag(TCP, {name})")
