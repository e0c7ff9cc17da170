"""The netlink socket against a played kernel: recorded answers, every errno, and damage of all kinds."""

import errno
import random
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from xtrace.errors import KernelError, error_name
from xtrace.kernel import netlink, syscall
from xtrace.kernel.netlink import Message, NetlinkSocket

FIXTURES = Path(__file__).parents[2] / "fixtures" / "netlink"
OWN = 1
"""In played messages: replaced by the sequence number of the request that is being answered."""
STALE = 77
LINK = 16
NLMSG_NOOP = 1
MULTI = 0x2
FD = 40


def recorded(name: str) -> list[bytes]:
    """The datagrams of a recording: hex paragraphs, `#` comments."""
    lines = [line for line in (FIXTURES / f"{name}.hex").read_text().splitlines() if not line.startswith("#")]
    return [bytes.fromhex(paragraph) for paragraph in "\n".join(lines).split("\n\n") if paragraph.strip()]


def message(kind: int, payload: bytes = b"", *, flags: int = 0, sequence: int = OWN) -> bytes:
    packed = struct.pack("=IHHII", 16 + len(payload), kind, flags, sequence, 0) + payload
    return packed + bytes(-len(packed) % 4)


def part(payload: bytes, *, flags: int = 0, sequence: int = OWN) -> bytes:
    return message(LINK, payload, flags=MULTI | flags, sequence=sequence)


def done(code: int = 0, *, flags: int = 0, tail: bytes = b"") -> bytes:
    return message(netlink.NLMSG_DONE, struct.pack("=i", code) + tail, flags=MULTI | flags)


def ack(code: int = 0, *, sequence: int = OWN) -> bytes:
    header = struct.pack("=IHHII", 36, LINK, 5, sequence, 0)
    return message(netlink.NLMSG_ERROR, struct.pack("=i", code) + header, flags=netlink.NLM_F_CAPPED, sequence=sequence)


def sentence(text: bytes) -> bytes:
    return netlink.pack_attribute(netlink.NLMSGERR_ATTR_MSG, text + b"\0")


class FakeKernel:
    """Plays the shim's netlink functions: every send is answered by the next exchange.

    An exchange is a list of datagrams and of -errno, what recv() then returns.
    """

    def __init__(self, *exchanges: Iterable[bytes | int]) -> None:
        self.exchanges = [list(exchange) for exchange in exchanges]
        self.queue: list[bytes | int] = []
        self.sent: list[bytes] = []
        self.closed: list[int] = []
        self.opened: list[tuple[int, int]] = []
        self.open_result = FD
        self.send_result = 0

    def xt_netlink_open(self, protocol: int, groups: int) -> int:
        self.opened.append((protocol, groups))
        return self.open_result

    def xt_netlink_send(self, fd: int, data: Any, length: int) -> int:
        if fd != FD:
            return -errno.EBADF
        if self.send_result < 0:
            return self.send_result
        self.sent.append(bytes(syscall.ffi.buffer(data, length)))
        sequence = self.sent[-1][8:12]
        if self.exchanges:
            self.queue += [self._stamped(item, sequence) for item in self.exchanges.pop(0)]
        return length

    def xt_netlink_recv(self, fd: int, buffer: Any, length: int, flags: int) -> int:
        assert fd == FD
        assert flags & netlink.MSG_DONTWAIT, "this recv() could wait for ever"
        if not self.queue:
            return -errno.EAGAIN
        item = self.queue[0]
        if isinstance(item, int) or not flags & netlink.MSG_PEEK:
            self.queue.pop(0)
        if isinstance(item, int):
            return item
        taken = min(length, len(item))
        syscall.ffi.buffer(buffer, length)[0:taken] = item[:taken]
        return len(item) if flags & netlink.MSG_TRUNC else taken

    def xt_close(self, fd: int) -> int:
        self.closed.append(fd)
        return 0

    @staticmethod
    def _stamped(item: bytes | int, sequence: bytes) -> bytes | int:
        if isinstance(item, int):
            return item
        stamped, offset = bytearray(item), 0
        while offset + 16 <= len(stamped):
            length, own = struct.unpack_from("=I4xI", stamped, offset)
            if own == OWN:
                stamped[offset + 8 : offset + 12] = sequence
            offset += max(16, (length + 3) & ~3)
        return bytes(stamped)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Any:
    """play(exchange, ...) -> (kernel, socket)."""

    def start(*exchanges: Iterable[bytes | int]) -> tuple[FakeKernel, NetlinkSocket]:
        kernel = FakeKernel(*exchanges)
        monkeypatch.setattr(syscall, "lib", kernel)
        return kernel, NetlinkSocket(netlink.NETLINK_ROUTE)

    return start


def failure(action: Any, *arguments: Any, **options: Any) -> KernelError:
    with pytest.raises(KernelError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return caught.value


# The socket and its descriptor


def test_protocol_and_groups_reach_the_kernel(play: Any) -> None:
    kernel, _ = play()
    NetlinkSocket(20, groups=0x11)
    assert kernel.opened[1:] == [(20, 0x11)]


def test_closing_twice_closes_the_descriptor_once(play: Any) -> None:
    kernel, socket = play()
    with socket:
        assert socket.fileno() == FD
    socket.close()
    assert kernel.closed == [FD]
    assert socket.fileno() == -1


def test_descriptor_is_closed_when_the_block_fails(play: Any) -> None:
    kernel, socket = play([ack(-errno.EPERM)])
    with pytest.raises(KernelError), socket:
        socket.request(LINK)
    assert kernel.closed == [FD]


def test_request_on_a_closed_socket_names_the_bad_descriptor(play: Any) -> None:
    _, socket = play()
    socket.close()
    assert failure(socket.request, LINK).errno == errno.EBADF


@pytest.mark.parametrize("number", sorted(set(errno.errorcode)))
def test_every_error_of_every_system_call_is_a_kernel_error_with_its_number(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    kernel = FakeKernel()
    monkeypatch.setattr(syscall, "lib", kernel)
    kernel.open_result = -number
    assert failure(NetlinkSocket, 0).errno == number
    kernel.open_result, kernel.send_result = FD, -number
    assert failure(NetlinkSocket(0).request, LINK).errno == number
    kernel.send_result = 0
    # Transient errors are tried again by the seam; EAGAIN then says that there is nothing to read.
    kernel.exchanges = [[-number] * syscall.EAGAIN_RETRIES]
    caught = failure(NetlinkSocket(0).request, LINK)
    assert caught.errno == (errno.ENOMSG if number == errno.EAGAIN else number)


# Requests


def test_request_puts_type_flags_and_payload_on_the_wire(play: Any) -> None:
    kernel, socket = play([ack()], [ack()])
    socket.request(18, 0x400, b"abcde")
    socket.request(19)
    assert kernel.sent == [
        struct.pack("=IHHII", 21, 18, 0x400 | 0x1 | 0x4, 1, 0) + b"abcde",
        struct.pack("=IHHII", 16, 19, 0x1 | 0x4, 2, 0),
    ]


def test_request_returns_what_came_before_its_acknowledgement(play: Any) -> None:
    kernel, socket = play([message(LINK, b"one."), message(LINK + 1, b"two.") + ack()])
    assert socket.request(18) == [Message(LINK, b"one."), Message(LINK + 1, b"two.")]
    assert kernel.queue == []


def test_acknowledged_request_without_answer_is_an_empty_list(play: Any) -> None:
    _, socket = play([ack()])
    assert socket.request(19) == []


@pytest.mark.parametrize("number", sorted(set(errno.errorcode) | {netlink.MAX_ERRNO}))
def test_refused_request_has_the_number_and_name_of_the_error(play: Any, number: int) -> None:
    _, socket = play([ack(-number)])
    caught = failure(socket.request, 19, what="RTM_SETLINK(eth7)")
    assert (caught.call, caught.errno, caught.detail) == ("RTM_SETLINK(eth7)", number, "")
    assert str(caught).startswith(f"RTM_SETLINK(eth7): {error_name(number)}")


def test_refused_request_shows_the_drivers_words(play: Any) -> None:
    _, socket = play(recorded("xdp_refused"))
    caught = failure(socket.request, 19)
    assert caught.errno == errno.EOPNOTSUPP
    assert caught.detail.startswith("virtio_net: Can't set XDP while host is implementing GRO_HW/CSUM")


def test_words_are_found_behind_an_echoed_request(play: Any) -> None:
    echo = message(19, b"payload of the request")
    answer = struct.pack("=i", -errno.EINVAL) + echo + sentence(b"Attribute failed\npolicy validation")
    _, socket = play([message(netlink.NLMSG_ERROR, answer, flags=netlink.NLM_F_ACK_TLVS)])
    assert failure(socket.request, 19).detail == "Attribute failed policy validation"


def test_damaged_words_do_not_hide_the_error_number(play: Any) -> None:
    for tail in (b"\xff", b"\xff" * 9, b"\2\0\1\0", b"", sentence(b"cut")[:-5]):
        answer = struct.pack("=i", -errno.EPERM) + message(19) + tail
        flags = netlink.NLM_F_ACK_TLVS | netlink.NLM_F_CAPPED
        _, socket = play([message(netlink.NLMSG_ERROR, answer, flags=flags)])
        caught = failure(socket.request, 19)
        assert (caught.errno, caught.detail) == (errno.EPERM, "")


def test_acknowledgement_without_a_believable_error_number_is_damage(play: Any) -> None:
    for code in (1, -netlink.MAX_ERRNO - 1, -(1 << 31), (1 << 31) - 1):
        _, socket = play([ack(code)])
        assert failure(socket.request, 19).errno == errno.EBADMSG
    _, socket = play([message(netlink.NLMSG_ERROR, b"\0\0")])
    assert failure(socket.request, 19).errno == errno.EBADMSG


def test_answers_to_earlier_requests_and_notifications_are_ignored(play: Any) -> None:
    stale = [message(LINK, b"old.", sequence=STALE), ack(-errno.EPERM, sequence=STALE)]
    notification = message(LINK, b"news", sequence=0)
    _, socket = play([*stale, notification + message(LINK, b"mine"), message(NLMSG_NOOP) + ack()])
    assert socket.request(18) == [Message(LINK, b"mine")]


def test_missing_answer_is_an_error_and_not_an_endless_wait(play: Any) -> None:
    for exchange in ([], [message(LINK, b"mine")], [ack(sequence=STALE)]):
        _, socket = play(exchange)
        assert failure(socket.request, 18).errno == errno.ENOMSG


def test_endless_stale_answers_end_in_an_error(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlink, "MAX_DATAGRAMS", 50)
    kernel, socket = play([ack(sequence=STALE)] * 1000)
    assert failure(socket.request, 18).errno == errno.ENOMSG
    assert len(kernel.queue) == 950


@pytest.mark.parametrize("loss", [-errno.ENOBUFS, message(netlink.NLMSG_OVERRUN, sequence=0)])
def test_lost_messages_fail_a_request_because_its_answer_may_be_among_them(play: Any, loss: bytes | int) -> None:
    for exchange in ([loss], [loss, ack()]):
        kernel, socket = play(exchange, [ack()])
        assert failure(socket.request, 19).errno == errno.ENOBUFS
        assert kernel.queue == []
        assert socket.request(19) == []


def test_sequence_number_wraps_without_being_zero(play: Any) -> None:
    kernel, socket = play([ack()], [ack()])
    socket._sequence = 0xFFFFFFFE
    socket.request(18)
    socket.request(18)
    assert [struct.unpack_from("=I", sent, 8)[0] for sent in kernel.sent] == [0xFFFFFFFF, 1]


# Dumps


def test_dump_collects_every_part_to_the_end(play: Any) -> None:
    kernel, socket = play([part(b"aaaa") + part(b"bbb"), part(b"cccc"), part(b"dddd") + done()])
    assert [payload for _, payload in socket.dump(18, b"ask")] == [b"aaaa", b"bbb", b"cccc", b"dddd"]
    assert kernel.sent == [struct.pack("=IHHII", 19, 18, 0x301, 1, 0) + b"ask"]


def test_dump_keeps_only_what_was_asked_for(play: Any) -> None:
    _, socket = play([part(b"aaaa") + part(b"bbbb"), done()])
    assert socket.dump(18, keep=lambda payload: payload > b"b") == [Message(LINK, b"bbbb")]


def test_recorded_dump_has_five_interfaces(play: Any) -> None:
    _, socket = play(recorded("links"))
    found = socket.dump(18)
    assert [kind for kind, _ in found] == [LINK] * 5
    assert sum(16 + len(payload) for _, payload in found) == len(recorded("links")[0])


def test_interrupted_dump_is_started_again(play: Any) -> None:
    interrupted = [part(b"aaaa"), part(b"bbbb", flags=netlink.NLM_F_DUMP_INTR), part(b"cccc"), done()]
    at_its_end = [part(b"aaaa"), done(flags=netlink.NLM_F_DUMP_INTR)]
    kernel, socket = play(interrupted, at_its_end, [part(b"dddd"), done()])
    assert socket.dump(18) == [Message(LINK, b"dddd")]
    assert len(kernel.sent) == 3


def test_table_that_never_stands_still_is_given_up(play: Any) -> None:
    kernel, socket = play(*[[part(b"aaaa", flags=netlink.NLM_F_DUMP_INTR), done()]] * 100)
    assert failure(socket.dump, 18).errno == errno.EINTR
    assert len(kernel.sent) == netlink.DUMP_TRIES


@pytest.mark.parametrize("loss", [-errno.ENOBUFS, message(netlink.NLMSG_OVERRUN, sequence=0)])
def test_dump_with_lost_messages_is_started_again_and_given_up_in_the_end(play: Any, loss: bytes | int) -> None:
    _, socket = play([part(b"aaaa"), loss, done()], [loss], [part(b"bbbb"), done()])
    assert socket.dump(18) == [Message(LINK, b"bbbb")]
    kernel, socket = play(*[[loss, part(b"aaaa"), done()]] * 100)
    assert failure(socket.dump, 18).errno == errno.ENOBUFS
    assert len(kernel.sent) == netlink.DUMP_TRIES


def test_refused_dump_is_an_error(play: Any) -> None:
    _, socket = play([ack(-errno.EPERM)])
    assert failure(socket.dump, 18).errno == errno.EPERM


def test_dump_that_fails_at_its_end_is_an_error_with_the_kernels_words(play: Any) -> None:
    tail = sentence(b"no such device in this namespace")
    _, socket = play([part(b"aaaa"), done(-errno.ENODEV, flags=netlink.NLM_F_ACK_TLVS, tail=tail)])
    caught = failure(socket.dump, 18, what="RTM_GETLINK")
    assert (caught.call, caught.errno) == ("RTM_GETLINK", errno.ENODEV)
    assert caught.detail == "no such device in this namespace"


def test_dump_without_end_is_an_error(play: Any) -> None:
    _, socket = play([part(b"aaaa")])
    assert failure(socket.dump, 18).errno == errno.ENOMSG


def test_parts_of_an_abandoned_dump_do_not_mix_into_the_next(play: Any) -> None:
    stale = [part(b"aaaa", sequence=STALE), message(netlink.NLMSG_DONE, bytes(4), sequence=STALE)]
    _, socket = play([*stale, part(b"bbbb"), done()])
    assert socket.dump(18) == [Message(LINK, b"bbbb")]


# Sizes


def test_datagram_larger_than_the_buffer_arrives_whole(play: Any) -> None:
    first = random.Random(1).randbytes(netlink.BUFFER_BYTES * 6)
    kernel, socket = play([part(first), part(b"next"), done()])
    assert [payload for _, payload in socket.dump(18)] == [first, b"next"]
    assert kernel.queue == []


def test_datagram_too_large_to_believe_is_an_error_and_the_next_request_works(
    play: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(netlink, "MAX_DATAGRAM_BYTES", netlink.BUFFER_BYTES)
    _, socket = play([part(bytes(netlink.BUFFER_BYTES)), done()], [part(b"next"), done()])
    assert failure(socket.dump, 18).errno == errno.EMSGSIZE
    assert socket.dump(18) == [Message(LINK, b"next")]


def test_datagram_that_grew_after_it_was_measured_is_not_cut_silently(play: Any) -> None:
    kernel, socket = play([ack()])
    real = kernel.xt_netlink_recv

    def grown(fd: int, buffer: Any, length: int, flags: int) -> int:
        size = real(fd, buffer, length, flags)
        return length + 1 if size > 0 and not flags & netlink.MSG_PEEK else size

    kernel.xt_netlink_recv = grown
    assert failure(socket.request, 18).errno == errno.EMSGSIZE


# Damage


def test_recorded_dump_cut_at_any_length_is_an_error_or_ends_between_messages(play: Any) -> None:
    whole, end = recorded("links")
    _, socket = play([whole, end])
    complete, boundary, boundaries = socket.dump(18), 0, {}
    for count, (_, payload) in enumerate(complete, 1):
        boundary += 16 + len(payload)
        boundaries[boundary] = complete[:count]
    for length in range(1, len(whole)):
        _, socket = play([whole[:length], end])
        if length in boundaries:
            assert socket.dump(18) == boundaries[length]
        else:
            assert failure(socket.dump, 18).errno == errno.EBADMSG
    assert len(boundaries) == 5
    for length in range(1, len(end)):
        _, socket = play([whole, end[:length]])
        assert failure(socket.dump, 18).errno == errno.EBADMSG


def test_message_length_that_cannot_be_is_an_error_not_an_endless_loop(play: Any) -> None:
    for length in (0, 1, 15, 21, 0x7FFFFFFF, 0xFFFFFFFF):
        damaged = struct.pack("=IHHII", length, LINK, MULTI, OWN, 0) + b"abcd"
        _, socket = play([part(b"good"), damaged, done()])
        assert failure(socket.dump, 18).errno == errno.EBADMSG


def test_damaged_dump_is_read_to_its_end_so_that_the_next_works(play: Any) -> None:
    kernel, socket = play([b"\xff" * 30, part(b"aaaa"), done()], [part(b"bbbb"), done()])
    assert failure(socket.dump, 18).errno == errno.EBADMSG
    assert kernel.queue == []
    assert socket.dump(18) == [Message(LINK, b"bbbb")]


def test_random_damage_is_a_kernel_error_or_a_plausible_dump(play: Any) -> None:
    randomness, outcomes = random.Random(20260101), {"dump": 0, "error": 0}
    original = b"".join(part(bytes(range(4 * size))) for size in range(12)) + done()
    for _ in range(5000):
        cut = randomness.randint(1, len(original)) if randomness.random() < 0.3 else len(original)
        damaged = bytearray(original[:cut])
        for _ in range(randomness.randint(1, 4)):
            damaged[randomness.randrange(len(damaged))] = randomness.choice(
                (0, 1, 4, 16, 255, randomness.randrange(256))
            )
        _, socket = play([bytes(damaged), ack()], [ack()], [ack()], [ack()], [ack()])
        try:
            found = socket.dump(18)
        except KernelError:
            outcomes["error"] += 1
        else:
            outcomes["dump"] += 1
            assert sum(len(payload) for _, payload in found) < len(original)
    assert min(outcomes.values()) > 500, outcomes


# Notifications


def test_notifications_are_everything_that_waits_and_nothing_else(play: Any) -> None:
    kernel, socket = play()
    assert socket.notifications() == []
    kernel.queue = [message(LINK, b"one.", sequence=0) + message(17, b"two.", sequence=STALE), ack(), part(b"tri.")]
    assert socket.notifications() == [Message(LINK, b"one."), Message(17, b"two."), Message(LINK, b"tri.")]
    assert socket.notifications() == []


def test_notifications_that_wait_are_discarded_through_losses_and_damage(play: Any) -> None:
    kernel, socket = play()
    kernel.queue = [-errno.ENOBUFS, part(b"one."), -errno.ENOBUFS, b"\xff" * 20, part(b"two.")]
    assert socket.discard()
    assert kernel.queue == []
    kernel.queue = [-errno.ENOBUFS] * 100
    assert not socket.discard(), "as many come as are read"


def test_lost_or_damaged_notifications_are_an_error(play: Any) -> None:
    kernel, socket = play()
    for item, number in ((-errno.ENOBUFS, errno.ENOBUFS), (b"\xff" * 20, errno.EBADMSG)):
        kernel.queue = [item, message(LINK, b"next", sequence=0)]
        assert failure(socket.notifications).errno == number
        assert socket.notifications() == [Message(LINK, b"next")]


# Attributes


def test_packed_attributes_parse_back_at_every_size() -> None:
    values = {kind: bytes(range(kind)) for kind in range(1, 40)}
    packed = b"".join(netlink.pack_attribute(kind, value) for kind, value in values.items())
    assert len(packed) % 4 == 0
    assert netlink.parse_attributes(packed) == values


def test_nested_attributes_parse_back_and_flags_are_not_part_of_the_type() -> None:
    inner = netlink.pack_attribute(1, b"a") + netlink.pack_attribute(0x4002, b"bc")
    packed = netlink.pack_nested(43, inner[:8], inner[8:])
    assert packed[2:4] == struct.pack("=H", 0x8000 | 43)
    assert netlink.parse_attributes(netlink.parse_attributes(packed)[43]) == {1: b"a", 2: b"bc"}


def test_repeated_attributes_are_a_list_in_order_and_the_last_one_in_a_dictionary() -> None:
    packed = b"".join(netlink.pack_attribute(5, value) for value in (b"x", b"y", b"z"))
    assert list(netlink.attributes(packed)) == [(5, b"x"), (5, b"y"), (5, b"z")]
    assert netlink.parse_attributes(packed) == {5: b"z"}


def test_last_attribute_may_lack_its_padding() -> None:
    assert netlink.parse_attributes(netlink.pack_attribute(3, b"lo\0")[:7]) == {3: b"lo\0"}


@pytest.mark.parametrize("damaged", [b"\x08", b"\0\0\1\0", b"\3\0\1\0", b"\x09\0\1\0abcd", b"\4\0\1\0\xff\xff"])
def test_attribute_with_a_length_that_cannot_be_is_an_error(damaged: bytes) -> None:
    assert failure(netlink.parse_attributes, damaged).errno == errno.EBADMSG


def test_attribute_larger_than_its_length_field_is_refused_before_it_is_sent() -> None:
    assert len(netlink.pack_attribute(1, bytes(0xFFFB))) == 0x10000
    with pytest.raises(ValueError, match="65532 bytes"):
        netlink.pack_attribute(1, bytes(0xFFFC))


def test_numbers_of_the_wrong_size_are_an_error() -> None:
    assert netlink.unsigned(struct.pack("=I", 0xFFFFFFFE), 4) == 0xFFFFFFFE
    for value in (b"", b"\1", b"\1\0\0", b"\1\0\0\0\0"):
        assert failure(netlink.unsigned, value, 4).errno == errno.EBADMSG


def test_text_ends_at_its_nul_and_survives_bytes_that_are_not_utf8() -> None:
    assert netlink.text(b"eth0\0rubbish") == "eth0"
    assert netlink.text(b"no-nul") == "no-nul"
    assert netlink.text(b"\xffeth\0").encode("utf-8", "surrogateescape") == b"\xffeth"
