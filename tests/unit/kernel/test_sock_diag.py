"""Sockets as the kernel lists them: tcp_info of every length, and damage."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from tests.unit.kernel.test_netlink import FakeKernel, done, message
from tests.unit.make import packed
from xtrace.errors import KernelError
from xtrace.kernel import syscall
from xtrace.kernel.netlink import NetlinkSocket, pack_attribute
from xtrace.kernel.sock_diag import AF_INET, AF_INET6, NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, Samples, dump_tcp
from xtrace.kernel.syscall import lib
from xtrace.model.tcp import SAMPLE, Sample

INFO, CONGESTION = 2, 4
INFO_5_10, INFO_6_18 = 232, 280
SEQUENCE = 1


def info(*fields: tuple[str, int, int], length: int = INFO_6_18) -> bytes:
    """struct tcp_info of that length; fields are (format, offset, value)."""
    packed_info = bytearray(max(length, INFO_6_18))
    for form, offset, value in fields:
        struct.pack_into(f"={form}", packed_info, offset, value)
    return bytes(packed_info[:length])


def diag(
    local: str = "10.0.0.2", remote: str = "10.0.0.1", *attributes: tuple[int, bytes], cookie: int = 7, state: int = 1
) -> bytes:
    """The payload of a message: struct inet_diag_msg and attributes."""
    is_ipv6 = ":" in local
    ends = [packed(end) if is_ipv6 else packed(end)[12:] + bytes(12) for end in (local, remote)]
    head = struct.pack("=BBBB", AF_INET6 if is_ipv6 else AF_INET, state, 0, 0) + struct.pack("!HH", 40000, 443)
    rest = struct.pack("=IQIIIII", 0, cookie, 0, 11, 0, 1000, 99)
    return head + ends[0] + ends[1] + rest + b"".join(pack_attribute(*attribute) for attribute in attributes)


def read(*payloads: bytes) -> tuple[list[Sample], int]:
    """The samples of a datagram with one message each, and how many bytes were taken."""
    datagram = b"".join(message(SOCK_DIAG_BY_FAMILY, payload) for payload in payloads)
    samples = Samples()
    taken = samples.read(datagram, SEQUENCE)
    view = samples.view()
    return [Sample.unpack(view, index * SAMPLE.size) for index in range(len(samples))], taken


@pytest.mark.parametrize("local, remote", [("10.0.0.2", "10.0.0.1"), ("fd00::2", "fd00::1")])
def test_socket_has_its_ends_values_and_algorithm(local: str, remote: str) -> None:
    fields = (("I", 68, 1500), ("I", 100, 3), ("Q", 120, 1 << 40), ("I", 228, 65535), ("I", 232, 4096))
    ((found,), _) = read(diag(local, remote, (INFO, info(*fields)), (CONGESTION, b"cubic\0")))
    assert found.ends == (packed(local), 40000, packed(remote), 443)
    assert (found.cookie, found.state, found.congestion, found.uid) == (7, 1, "cubic", 1000)
    expected = {
        lib.TCP_RTT: 1500,
        lib.TCP_RETRANSMITTED: 3,
        lib.TCP_BYTES_ACKED: 1 << 40,
        lib.TCP_SEND_WINDOW: 65535,
        lib.TCP_RECEIVE_WINDOW: 4096,
        lib.TCP_UNREAD: 11,
    }
    assert {number: found.value(number) for number in expected} == expected


def test_what_an_older_kernel_does_not_send_is_not_known() -> None:
    ((found,), _) = read(diag("10.0.0.2", "10.0.0.1", (INFO, info(length=INFO_5_10))))
    assert found.value(lib.TCP_RECEIVE_WINDOW) is None
    assert found.value(lib.TCP_SEND_WINDOW) == 0
    ((found,), _) = read(diag("10.0.0.2", "10.0.0.1", (INFO, info(length=231))))
    assert found.value(lib.TCP_SEND_WINDOW) is None, "three of its four bytes are not the field"


def test_socket_without_tcp_info_is_left_out() -> None:
    found, taken = read(diag(), diag("10.0.0.2", "10.0.0.9", (INFO, info())))
    assert [sample.remote for sample in found] == [packed("10.0.0.9")]
    assert taken == 2 * (16 + 72) + 4 + INFO_6_18


def test_activity_differs_where_anything_happened_and_not_by_the_clock() -> None:
    def activity(*fields: tuple[str, int, int]) -> int:
        samples = Samples()
        samples.read(message(SOCK_DIAG_BY_FAMILY, diag("10.0.0.2", "10.0.0.1", (INFO, info(*fields)))), SEQUENCE)
        return int(SAMPLE.unpack_from(samples.view())[6])

    quiet = activity()
    assert activity(("I", 52, 99)) == quiet
    for field in (("I", 100, 1), ("I", 136, 1), ("I", 140, 1), ("Q", 176, 1000), ("B", 2, 1)):
        assert activity(field) != quiet


def test_messages_of_something_else_are_left_to_the_caller() -> None:
    own = message(SOCK_DIAG_BY_FAMILY, diag("10.0.0.2", "10.0.0.1", (INFO, info())))
    stale = message(SOCK_DIAG_BY_FAMILY, diag("10.0.0.2", "10.0.0.1", (INFO, info())), sequence=9)
    samples = Samples()
    assert samples.read(own + stale + own, SEQUENCE) == len(own)
    assert samples.read(done() + own, SEQUENCE) == 0
    assert len(samples) == 1


def test_room_grows_with_the_sockets() -> None:
    datagram = message(SOCK_DIAG_BY_FAMILY, diag("10.0.0.2", "10.0.0.1", (INFO, info())))
    samples = Samples()
    for _ in range(3000):
        assert samples.read(datagram, SEQUENCE) == len(datagram)
    assert len(samples) == 3000
    view = samples.view()
    assert {Sample.unpack(view, index * SAMPLE.size).cookie for index in (0, 1023, 1024, 2999)} == {7}
    samples.cut(10)
    assert len(samples) == 10
    samples.clear()
    assert len(samples) == 0


def test_damaged_messages_are_read_within_their_bounds() -> None:
    whole = message(SOCK_DIAG_BY_FAMILY, diag("10.0.0.2", "10.0.0.1", (INFO, info()), (CONGESTION, b"x" * 40)))
    rolls = random.Random(1)
    for length in range(len(whole)):
        assert Samples().read(whole[:length], SEQUENCE) in (0, length)
    for _ in range(2000):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[rolls.randrange(len(damaged))] = rolls.randrange(256)
        samples = Samples()
        assert 0 <= samples.read(bytes(damaged), SEQUENCE) <= len(damaged)
        assert len(samples) <= 1


def play(monkeypatch: pytest.MonkeyPatch, *exchanges: Any) -> NetlinkSocket:
    monkeypatch.setattr(syscall, "lib", FakeKernel(*exchanges))
    return NetlinkSocket(NETLINK_SOCK_DIAG)


def answer(cookie: int) -> bytes:
    return message(SOCK_DIAG_BY_FAMILY, diag("10.0.0.2", "10.0.0.1", (INFO, info()), cookie=cookie), flags=2)


def test_dump_has_both_families_and_starts_over_where_messages_were_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = [answer(1), -105, done()]
    socket = play(monkeypatch, lost, [answer(2) + answer(3), done()], [answer(4), done()])
    samples = Samples()
    dump_tcp(socket, samples)
    view = samples.view()
    assert [Sample.unpack(view, index * SAMPLE.size).cookie for index in range(len(samples))] == [2, 3, 4]
    families = [sent[16] for sent in syscall.lib.sent]  # type: ignore[attr-defined] # of the played kernel
    assert families == [AF_INET, AF_INET, AF_INET6]


def test_dump_that_is_refused_names_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = message(2, struct.pack("=i", -2) + struct.pack("=IHHII", 72, 20, 5, 1, 0), flags=0x100)
    socket = play(monkeypatch, [refused])
    with pytest.raises(KernelError, match=r"sock_diag\(TCP, IPv4\): ENOENT"):
        dump_tcp(socket, Samples())
