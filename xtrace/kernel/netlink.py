"""Netlink without any library: one socket, its messages and their attributes.

Wire format: uapi/linux/netlink.h. Every integer is in host byte order, every header and attribute is
padded to four bytes. The messages of a protocol are another module's business (rtnetlink.py).
Damaged input is a KernelError with EBADMSG, never an exception of struct.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from errno import EAGAIN, EBADMSG, EINTR, EMSGSIZE, ENOBUFS, ENOMSG
from struct import Struct
from types import TracebackType
from typing import Any, NamedTuple, Protocol, final

from xtrace.errors import KernelError
from xtrace.kernel import syscall

NETLINK_ROUTE = 0

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLM_F_DUMP = 0x300

NLMSG_ERROR = 0x2
NLMSG_DONE = 0x3
NLMSG_OVERRUN = 0x4
NLMSG_MIN_TYPE = 0x10

NLMSGERR_ATTR_MSG = 1

NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF
"""Without NLA_F_NESTED and NLA_F_NET_BYTEORDER."""

MSG_PEEK = 0x2
MSG_TRUNC = 0x20
MSG_DONTWAIT = 0x40
"""uapi has no header for these three; the values are the kernel's include/linux/socket.h."""

MAX_ERRNO = 4095
"""The largest error number the kernel uses (include/linux/err.h)."""

BUFFER_BYTES = 32 * 1024
"""First size of the receive buffer. The kernel fills a dump's datagrams up to what recv() offers, at most 32 KiB."""

MAX_DATAGRAM_BYTES = 16 * 1024 * 1024
MAX_DATAGRAMS = 1 << 17
"""Datagrams read while waiting for one answer; a full Internet routing table needs about a tenth."""

DUMP_TRIES = 5
DISCARD_TRIES = 16
"""Times MAX_DATAGRAMS."""

_MESSAGE = Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence number, port id
_ATTRIBUTE = Struct("=HH")  # struct nlattr: length, type


class Message(NamedTuple):
    """One message of a reply: its nlmsg_type, and the bytes after the netlink header."""

    type: int
    payload: bytes


class Header(NamedTuple):
    """struct nlmsghdr."""

    length: int
    type: int
    flags: int
    sequence: int
    port: int


def malformed(detail: str) -> KernelError:
    """The error for malformed bytes: EBADMSG."""
    return KernelError("netlink reply", EBADMSG, detail)


def _align(length: int) -> int:
    return (length + 3) & ~3


def unpack(structure: Struct, payload: bytes, name: str) -> tuple[Any, ...]:
    """The fields of the C structure `name` at the start of `payload`; KernelError if it is too short."""
    if len(payload) < structure.size:
        raise malformed(f"{len(payload)} bytes where struct {name} has {structure.size}")
    return structure.unpack_from(payload)


def unsigned(value: bytes, size: int) -> int:
    """An attribute's value of exactly `size` bytes as an unsigned number; KernelError for another size."""
    if len(value) != size:
        raise malformed(f"{len(value)} bytes where a u{8 * size} was expected")
    return int.from_bytes(value, sys.byteorder)


def optional_unsigned(values: Mapping[int, bytes], kind: int, size: int) -> int | None:
    """The same for the parsed attribute `kind`; None without it."""
    return unsigned(values[kind], size) if kind in values else None


def text(value: bytes) -> str:
    """A string attribute up to its NUL. Interface names are bytes to the kernel, so any byte is accepted."""
    return value.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, value) in message order; lists repeat a type. KernelError if a length does not fit."""
    offset = 0
    while offset < len(data):
        length, kind = unpack(_ATTRIBUTE, data[offset : offset + _ATTRIBUTE.size], "nlattr")
        if length < _ATTRIBUTE.size or offset + length > len(data):
            raise malformed(f"attribute {kind & NLA_TYPE_MASK} claims {length} of {len(data) - offset} bytes")
        yield kind & NLA_TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + length]
        offset += _align(length)


def parse_attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by type; of a repeated type the last, as in the kernel's nla_parse(). KernelError as above."""
    return dict(attributes(data))


def pack_attribute(kind: int, value: bytes) -> bytes:
    """One attribute with its padding. ValueError if the value exceeds the 16-bit length."""
    length = _ATTRIBUTE.size + len(value)
    if length > 0xFFFF:
        raise ValueError(f"attribute {kind} of {len(value)} bytes")
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_align(length) - length)


def pack_nested(kind: int, *members: bytes) -> bytes:
    """An attribute that holds packed attributes. NLA_F_NESTED is required by newer families' policies."""
    return pack_attribute(kind | NLA_F_NESTED, b"".join(members))


def messages(datagram: bytes) -> Iterator[tuple[Header, bytes]]:
    """The (header, payload) pairs of one datagram; KernelError at the first length that does not fit."""
    offset = 0
    while offset < len(datagram):
        header = Header(*unpack(_MESSAGE, datagram[offset : offset + _MESSAGE.size], "nlmsghdr"))
        if header.length < _MESSAGE.size or offset + header.length > len(datagram):
            raise malformed(f"message {header.type} claims {header.length} of {len(datagram) - offset} bytes")
        yield header, datagram[offset + _MESSAGE.size : offset + header.length]
        offset += _align(header.length)


def _extended_ack(header: Header, payload: bytes) -> str:
    """The kernel's sentence about an error, "" without one.

    After the error number NLMSG_ERROR repeats the request's header, and the whole request unless
    NLM_F_CAPPED is set; NLMSG_DONE repeats nothing (netlink_ack() and
    netlink_dump_done() in net/netlink/af_netlink.c).
    """
    if not header.flags & NLM_F_ACK_TLVS:
        return ""
    start = 4
    if header.type == NLMSG_ERROR:
        echoed = int.from_bytes(payload[4:8], sys.byteorder)
        start += _MESSAGE.size if header.flags & NLM_F_CAPPED else _align(echoed)
    try:
        sentence = parse_attributes(payload[start:]).get(NLMSGERR_ATTR_MSG, b"")
    except KernelError:
        return ""  # the error number matters more than a damaged explanation
    return " ".join(sentence.split(b"\0", 1)[0].decode("utf-8", "replace").split())


def _verdict(what: str, header: Header, payload: bytes) -> KernelError | None:
    """The error in the closing NLMSG_ERROR or NLMSG_DONE; None on success."""
    code = int.from_bytes(payload[:4], sys.byteorder, signed=True)
    if len(payload) < 4 or not -MAX_ERRNO <= code <= 0:
        return malformed(f"an answer to {what} without a valid error number")
    if code == 0:
        return None
    return KernelError(what, -code, _extended_ack(header, payload))


class Reader(Protocol):
    """Takes the messages of a dump by the datagram."""

    def read(self, datagram: bytes, sequence: int) -> int:
        """Take the messages of the dump with this sequence number; return their length, up to the first other one."""

    def __len__(self) -> int:
        """Return how much was taken."""

    def cut(self, length: int) -> None:
        """Forget what is beyond `length`."""


class _Answer:
    """The answer to one request."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.complete = False
        self.interrupted = False
        self.lost = False
        self.error: KernelError | None = None


def _inconsistent(what: str, answer: _Answer) -> KernelError:
    errno = ENOBUFS if answer.lost else EINTR
    return KernelError(what, errno, f"no consistent dump in {DUMP_TRIES} attempts")


@final
class NetlinkSocket:
    """A netlink socket and the only owner of its file descriptor.

    The kernel answers a request before send() returns and produces the next part of a dump inside
    recv() (netlink_unicast_kernel() and netlink_recvmsg() in net/netlink/af_netlink.c), so nothing
    here ever waits: a missing answer is KernelError with ENOMSG. Use one socket for requests and another, with
    `groups`, for notifications: requests discard everything but their answer.
    """

    def __init__(self, protocol: int, groups: int = 0) -> None:
        """`groups`: bit mask of multicast groups (RTMGRP_*). Raises KernelError."""
        self._fd = syscall.call(f"netlink socket({protocol})", syscall.lib.xt_netlink_open, protocol, groups)
        self._sequence = 0
        self._buffer = bytearray(BUFFER_BYTES)

    def __enter__(self) -> "NetlinkSocket":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent. A request on a closed socket is KernelError with EBADF."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            syscall.close(fd)

    def fileno(self) -> int:
        """For poll(); -1 once closed."""
        return self._fd

    def request(self, message_type: int, flags: int = 0, payload: bytes = b"", *, what: str = "") -> list[Message]:
        """Send one request and wait for its acknowledgement; returns the messages before it, often none.

        Raises KernelError named `what`: the kernel's error number with its extended ack as detail,
        ENOBUFS if messages, and so perhaps the answer, were lost, EBADMSG for a damaged one.
        """
        what = what or f"netlink message {message_type}"
        answer = self._exchange(what, message_type, flags | NLM_F_ACK, payload)
        if answer.lost:
            raise KernelError(what, ENOBUFS, "the answer may have been lost")
        return answer.messages

    def dump(
        self, message_type: int, payload: bytes = b"", *, what: str = "", keep: Callable[[bytes], bool] | None = None
    ) -> list[Message]:
        """The messages of a whole table, filtered by `keep` on the payload (routing tables can be large).

        Restarted up to DUMP_TRIES times if the table changed meanwhile (NLM_F_DUMP_INTR) or messages were lost.
        Raises KernelError as request() does, with EINTR if the table kept changing.
        """
        what = what or f"netlink dump {message_type}"
        for _ in range(DUMP_TRIES):
            answer = self._exchange(what, message_type, NLM_F_DUMP, payload, keep)
            if not answer.interrupted and not answer.lost:
                return answer.messages
        raise _inconsistent(what, answer)

    def dump_into(self, reader: Reader, message_type: int, payload: bytes = b"", *, what: str = "") -> None:
        """The same for a table of many messages, which `reader` takes without an object for each.

        What it got from an attempt that failed is cut off again.
        """
        what = what or f"netlink dump {message_type}"
        begun = len(reader)
        for _ in range(DUMP_TRIES):
            reader.cut(begun)
            answer = self._exchange(what, message_type, NLM_F_DUMP, payload, reader=reader)
            if answer.messages:
                raise malformed(f"{what}: {len(answer.messages)} messages of another kind")
            if not answer.interrupted and not answer.lost:
                return
        raise _inconsistent(what, answer)

    def notifications(self) -> list[Message]:
        """The pending multicast messages, without blocking; poll() fileno() to wait for them.

        Raises KernelError, ENOBUFS if some were lost: after any error the caller needs a dump.
        """
        waiting: list[Message] = []
        for _ in range(MAX_DATAGRAMS):
            datagram = self._receive("netlink notification")
            if datagram is None:
                break
            waiting += [
                Message(header.type, payload) for header, payload in messages(datagram) if header.type >= NLMSG_MIN_TYPE
            ]
        return waiting

    def notified_into(self, reader: Reader) -> None:
        """Let `reader` take the pending multicast messages of its kind, without blocking; others are dropped.

        Raises KernelError, ENOBUFS once if some were lost: those that are left are read with the next call.
        """
        for _ in range(MAX_DATAGRAMS):
            datagram = self._receive("netlink notification")
            if datagram is None:
                return
            reader.read(datagram, 0)

    def make_room(self, size: int) -> None:
        """Let so many bytes of notifications wait; without CAP_NET_ADMIN as many as net.core.rmem_max allows."""
        syscall.call("setsockopt(SO_RCVBUF)", syscall.lib.xt_netlink_room, self._fd, size)

    def discard(self) -> bool:
        """Drop the pending notifications; False if new ones arrive as fast.

        After ENOBUFS the kernel drops new ones until everything was read (netlink_recvmsg()).
        """
        for _ in range(DISCARD_TRIES):
            with suppress(KernelError):  # more were lost
                if not self.notifications():
                    return True
        return False

    def _exchange(
        self,
        what: str,
        message_type: int,
        flags: int,
        payload: bytes,
        keep: Callable[[bytes], bool] | None = None,
        reader: Reader | None = None,
    ) -> _Answer:
        """Send a request and read its answer to the end."""
        self._send(what, message_type, flags, payload)
        answer = _Answer()
        for _ in range(MAX_DATAGRAMS):
            try:
                datagram = self._receive(what)
                if datagram is None:
                    break
                if reader is not None:
                    datagram = datagram[reader.read(datagram, self._sequence) :]
                for header, body in messages(datagram):
                    self._take(answer, what, header, body, keep)
            except KernelError as error:
                # Read on after damage: after a dump left unfinished the kernel refuses the next with EBUSY.
                if error.errno == ENOBUFS:
                    answer.lost = True
                elif error.errno in (EBADMSG, EMSGSIZE):
                    answer.error = answer.error or error
                else:
                    raise
            if answer.complete:
                break
        if answer.error:
            raise answer.error
        if not answer.complete and not answer.lost:
            raise KernelError(what, ENOMSG, "the kernel sent no complete answer")
        return answer

    def _take(
        self, answer: _Answer, what: str, header: Header, payload: bytes, keep: Callable[[bytes], bool] | None
    ) -> None:
        """Sort one message into `answer`."""
        if header.type == NLMSG_OVERRUN:
            answer.lost = True
        if header.sequence != self._sequence:
            return  # the answer to an earlier request, or a notification
        answer.interrupted |= bool(header.flags & NLM_F_DUMP_INTR)
        if header.type in (NLMSG_ERROR, NLMSG_DONE):
            answer.complete = True
            answer.error = answer.error or _verdict(what, header, payload)
        elif header.type >= NLMSG_MIN_TYPE and (keep is None or keep(payload)):
            answer.messages.append(Message(header.type, payload))

    def _send(self, what: str, message_type: int, flags: int, payload: bytes) -> None:
        self._sequence = self._sequence % 0xFFFFFFFF + 1  # never 0, which notifications carry
        length = _MESSAGE.size + len(payload)
        message = _MESSAGE.pack(length, message_type, flags | NLM_F_REQUEST, self._sequence, 0) + payload
        syscall.call(f"send({what})", syscall.lib.xt_netlink_send, self._fd, syscall.ffi.from_buffer(message), length)

    def _receive(self, what: str) -> bytes | None:
        """The next whole datagram; None if there is none. KernelError, EMSGSIZE for an implausibly large one."""
        size = self._receive_into_buffer(what, MSG_PEEK)
        if len(self._buffer) < size <= MAX_DATAGRAM_BYTES:
            self._buffer = bytearray(size)
        if size:
            size = self._receive_into_buffer(what, 0)
        if size > len(self._buffer):
            raise KernelError(f"recv({what})", EMSGSIZE, f"a datagram of {size} bytes")
        return bytes(memoryview(self._buffer)[:size]) if size else None

    def _receive_into_buffer(self, what: str, flags: int) -> int:
        """The datagram's full length in bytes, also where it exceeds the buffer (MSG_TRUNC); 0 if there is none.

        No datagram is empty: the kernel does not send them (netlink_sendmsg()).
        """
        buffer = syscall.ffi.from_buffer(self._buffer)
        flags |= MSG_TRUNC | MSG_DONTWAIT
        result = syscall.try_call(syscall.lib.xt_netlink_recv, self._fd, buffer, len(self._buffer), flags)
        if result < 0 and result != -EAGAIN:
            raise KernelError(f"recv({what})", -result)
        return max(result, 0)
