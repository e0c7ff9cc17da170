"""The clsact qdisc and its filters against a played kernel: recorded and composed answers, real abstract sockets."""

from __future__ import annotations

import errno
import logging
import random
import socket as sockets
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.kernel.test_rtnetlink import FakeKernel, ack, dump, failure, link_payload, message, recorded, u32
from xtrace.errors import KernelError
from xtrace.kernel import netlink, rtnetlink, syscall, tc
from xtrace.kernel.netlink import NetlinkSocket, pack_attribute, pack_nested, parse_attributes
from xtrace.kernel.tc import ETH_P_ALL, Parent, TcAttachment, TcFilter

IF = 7
PROGRAM = 12
TOKEN = "0123456789abcdef"
INGRESS, EGRESS = Parent.INGRESS, Parent.EGRESS
ALL = b"\x00\x03"
"""ETH_P_ALL in network byte order."""

Play = Callable[..., tuple[FakeKernel, NetlinkSocket]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """play(answer, ...) -> (kernel, socket)."""

    def start(*played: list[bytes]) -> tuple[FakeKernel, NetlinkSocket]:
        kernel = FakeKernel(*played)
        monkeypatch.setattr(syscall, "lib", kernel)
        return kernel, NetlinkSocket(netlink.NETLINK_ROUTE)

    return start


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    """A random one, as each test's sockets are real; the next attachment gets it."""
    chosen = f"{random.getrandbits(64):016x}"
    monkeypatch.setattr("os.urandom", lambda size: bytes.fromhex(chosen))
    return chosen


def head(priority: int, protocol: bytes = ALL, kind: str = "bpf") -> bytes:
    """What the kernel sends before the filters of a priority."""
    return entry(priority, handle=0, protocol=protocol, kind=kind)


def entry(
    priority: int, *options: bytes, handle: int = 1, protocol: bytes = ALL, kind: str = "bpf", parent: Parent = INGRESS
) -> bytes:
    info = priority << 16 | int(struct.unpack("=H", protocol)[0])
    body = struct.pack("=B3xiIII", 0, IF, handle, parent, info)
    body += pack_attribute(tc.TCA_KIND, kind.encode() + b"\0") + pack_attribute(tc.TCA_CHAIN, u32(0))
    return message(tc.RTM_NEWTFILTER, body + (pack_nested(tc.TCA_OPTIONS, *options) if handle else b""))


def named(priority: int, name: str, handle: int = 1) -> list[bytes]:
    """A filter with its head."""
    return [head(priority), entry(priority, pack_attribute(tc.TCA_BPF_NAME, name.encode() + b"\0"), handle=handle)]


def handle_of(token: str) -> int:
    return int(token, 16) % tc.MAX_HANDLE + 1


def own(token: str, priority: int = 1) -> list[bytes]:
    """The filter of the attachment that got this token."""
    return named(priority, f"xtrace-catch:{token}", handle_of(token))


def attached(play: Play, *later: list[bytes]) -> tuple[FakeKernel, TcAttachment]:
    """An attachment at ingress, priority 1, and what the kernel answers from then on."""
    kernel, socket = play([ack()], dump(), dump(), dump(), [ack()], *later)
    attachment = TcAttachment.attach(socket, IF, INGRESS, PROGRAM)
    kernel.sent.clear()
    return kernel, attachment


def sent_types(kernel: FakeKernel) -> list[int]:
    return [int(struct.unpack_from("=H", request, 4)[0]) for request in kernel.sent]


def header(request: bytes) -> tuple[Any, ...]:
    """Flags besides REQUEST and ACK; ifindex, handle, parent, priority, protocol of a sent request."""
    flags = struct.unpack_from("=H", request, 6)[0] & ~(netlink.NLM_F_REQUEST | netlink.NLM_F_ACK)
    _, ifindex, handle, parent, info = struct.unpack_from("=B3xiIII", request, 16)
    return flags, ifindex, handle, parent, info >> 16, struct.pack("=H", info & 0xFFFF)


def sent_attributes(request: bytes) -> dict[int, bytes]:
    return parse_attributes(request[36:])


def is_bound(token: str) -> bool:
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM) as probe:
        try:
            probe.bind(f"\0xtrace-catch/{IF}/{token}")
        except OSError as error:
            assert error.errno == errno.EADDRINUSE
            return True
        return False


def bind(token: str) -> sockets.socket:
    holder = sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM)
    holder.bind(f"\0xtrace-catch/{IF}/{token}")
    return holder


# The qdisc


def test_clsact_is_created_where_nothing_is(play: Play) -> None:
    kernel, socket = play([ack()])
    tc.ensure_clsact(socket, IF)
    assert sent_types(kernel) == [tc.RTM_NEWQDISC]
    assert header(kernel.sent[0]) == (0x600, IF, 0xFFFF0000, 0xFFFFFFF1, 0, b"\0\0")
    assert sent_attributes(kernel.sent[0]) == {tc.TCA_KIND: b"clsact\0"}


def test_clsact_that_is_there_is_fine(play: Play) -> None:
    _, socket = play(recorded("tc-refused_qdisc"), recorded("tc-qdiscs"))
    tc.ensure_clsact(socket, 3)


def test_an_ingress_qdisc_is_refused_by_name_in_the_kernels_words(play: Play) -> None:
    kernel, socket = play(recorded("tc-refused_qdisc"), recorded("tc-qdiscs"))
    caught = failure(tc.ensure_clsact, socket, 2)
    assert caught.errno == errno.EEXIST
    assert caught.detail.startswith(
        "Exclusivity flag on, cannot modify; the interface has a qdisc of kind ingress in the place of clsact"
    )
    assert "`tc qdisc del dev ... ingress`" in caught.detail
    assert sent_types(kernel) == [tc.RTM_NEWQDISC, tc.RTM_GETQDISC]


def test_a_qdisc_that_went_meanwhile_leaves_the_kernels_answer(play: Play) -> None:
    _, socket = play(recorded("tc-refused_qdisc"), recorded("tc-qdiscs"))
    assert failure(tc.ensure_clsact, socket, 4).detail == "Exclusivity flag on, cannot modify"


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENODEV, errno.ENOENT])
def test_other_refusals_of_the_qdisc_are_kernel_errors(play: Play, number: int) -> None:
    kernel, socket = play([ack(-number)])
    caught = failure(tc.ensure_clsact, socket, IF)
    assert (caught.call, caught.errno) == (f"RTM_NEWQDISC(clsact on interface {IF})", number)
    assert len(kernel.sent) == 1


# Filters


def test_recorded_filters_are_described_completely(play: Play) -> None:
    _, socket = play(recorded("tc-filters"))
    name = f"xtrace-catch:{TOKEN}"
    assert tc.filters(socket, 3, INGRESS) == [
        TcFilter(3, INGRESS, 1, ETH_P_ALL, 1, "bpf"),
        TcFilter(3, INGRESS, 2, ETH_P_ALL, handle_of(TOKEN), "bpf", name, prog_id=20886, direct_action=True),
        TcFilter(3, INGRESS, 3, 0x0800, 0x80000000, "u32"),
        TcFilter(3, INGRESS, 3, 0x0800, 0x80000800, "u32"),
    ]


@pytest.mark.parametrize("parent", [0xFFFFFFF2, 0xFFFFFFF3])
def test_filters_are_asked_for_by_direction_in_the_chain_where_packets_begin(play: Play, parent: int) -> None:
    kernel, socket = play(dump())
    assert tc.filters(socket, IF, Parent(parent)) == []
    assert header(kernel.sent[0]) == (netlink.NLM_F_DUMP, IF, 0, parent, 0, b"\0\0")
    assert sent_attributes(kernel.sent[0]) == {tc.TCA_CHAIN: u32(0)}


def test_options_of_other_kinds_are_not_taken_for_those_of_bpf(play: Play) -> None:
    u32_options = [pack_attribute(tc.TCA_BPF_FLAGS, b"1"), pack_attribute(tc.TCA_BPF_NAME, b"name\0")]
    _, socket = play(dump(entry(1, *u32_options, kind="u32")))
    assert tc.filters(socket, IF, INGRESS) == [TcFilter(IF, INGRESS, 1, ETH_P_ALL, 1, "u32")]


@pytest.mark.parametrize(
    "options",
    [
        pack_attribute(tc.TCA_BPF_FLAGS, b"\1"),
        pack_attribute(tc.TCA_BPF_ID, bytes(8)),
        b"\x09\x00\x07\x00abc",
    ],
)
def test_damaged_options_are_an_error(play: Play, options: bytes) -> None:
    _, socket = play(dump(entry(1, options)))
    assert failure(tc.filters, socket, IF, INGRESS).errno == errno.EBADMSG


def test_recorded_filters_cut_at_any_length_are_an_error(play: Play) -> None:
    whole = recorded("tc-filters")
    for length in range(1, len(whole[0])):
        _, socket = play([whole[0][:length], *whole[1:]])
        try:
            found = tc.filters(socket, 3, INGRESS)
        except KernelError as error:
            assert error.errno == errno.EBADMSG
        else:
            assert len(found) < 4  # cut between two messages


def test_random_damage_to_filters_is_a_kernel_error_or_an_answer(play: Play) -> None:
    randomness, outcomes = random.Random(3), {"answer": 0, "error": 0}
    for _ in range(2000):
        datagrams = [bytearray(datagram) for datagram in recorded("tc-filters")]
        for _ in range(randomness.randint(1, 6)):
            datagrams[0][randomness.randrange(len(datagrams[0]))] = randomness.randrange(256)
        _, socket = play(*[[bytes(datagram) for datagram in datagrams]] * 5)
        try:
            tc.filters(socket, 3, INGRESS)
        except KernelError:
            outcomes["error"] += 1
        else:
            outcomes["answer"] += 1
    assert min(outcomes.values()) > 300, outcomes


# Attach


@pytest.mark.parametrize("parent", [0xFFFFFFF2, 0xFFFFFFF3])
def test_attach_creates_a_named_direct_action_filter_and_holds_its_socket(play: Play, token: str, parent: int) -> None:
    kernel, socket = play([ack()], dump(), dump(), dump(), [ack()], dump())
    attachment = TcAttachment.attach(socket, IF, Parent(parent), PROGRAM)
    assert (attachment.ifindex, attachment.parent, attachment.priority) == (IF, parent, 1)
    assert (attachment.handle, attachment.token) == (handle_of(token), token)
    assert sent_types(kernel) == [tc.RTM_NEWQDISC, *[tc.RTM_GETTFILTER] * 3, tc.RTM_NEWTFILTER]
    assert header(kernel.sent[-1]) == (0x600, IF, handle_of(token), parent, 1, ALL)
    attributes = sent_attributes(kernel.sent[-1])
    assert attributes[tc.TCA_KIND] == b"bpf\0"
    assert parse_attributes(attributes[tc.TCA_OPTIONS]) == {
        tc.TCA_BPF_FD: u32(PROGRAM),
        tc.TCA_BPF_NAME: f"xtrace-catch:{token}\0".encode(),
        tc.TCA_BPF_FLAGS: u32(1),
    }
    assert is_bound(token)
    attachment.detach()
    assert not is_bound(token)


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ([], 1),
        ([head(1), entry(1)], 2),
        ([head(2), entry(2)], 1),
        ([head(1), entry(1), head(2), entry(2), head(4), entry(4)], 3),
        ([head(1, b"\x08\x00"), entry(1, protocol=b"\x08\x00")], 2),
        ([head(1, kind="fw")], 2),
        ([head(49152), entry(49152)], 1),
    ],
    ids=["none", "first taken", "second taken", "gap", "other protocol", "without filters", "chosen by the kernel"],
)
def test_lowest_free_priority_is_taken(play: Play, token: str, present: list[bytes], expected: int) -> None:
    kernel, socket = play([ack()], dump(*present), dump(), dump(*present), [ack()], dump())
    with TcAttachment.attach(socket, IF, INGRESS, PROGRAM) as attachment:
        assert attachment.priority == expected
        assert header(kernel.sent[-1])[4] == expected


@pytest.mark.parametrize("refusal", ["tc-refused_handle", "tc-refused_protocol", "tc-refused_kind"])
def test_a_priority_that_somebody_else_was_quicker_to_take_is_passed_over(play: Play, token: str, refusal: str) -> None:
    taken = [head(1), entry(1), head(2), entry(2)]
    kernel, socket = play([ack()], dump(), dump(), dump(), recorded(refusal), dump(*taken), [ack()], dump())
    with TcAttachment.attach(socket, IF, INGRESS, PROGRAM) as attachment:
        assert attachment.priority == 3
    created = [request for request in kernel.sent if struct.unpack_from("=H", request, 4)[0] == tc.RTM_NEWTFILTER]
    assert [header(request)[0] for request in created] == [0x600, 0x600]


def test_a_filter_whose_acknowledgement_was_lost_is_not_attached_twice(play: Play, token: str) -> None:
    kernel, socket = play([ack()], dump(), dump(), dump(), [ack(-errno.ENOBUFS)], dump(*own(token)), dump())
    with TcAttachment.attach(socket, IF, INGRESS, PROGRAM) as attachment:
        assert attachment.priority == 1
    assert sent_types(kernel).count(tc.RTM_NEWTFILTER) == 1


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP, errno.EEXIST])
def test_a_filter_refused_for_what_it_is_is_an_error_and_leaves_no_socket(play: Play, token: str, number: int) -> None:
    _, socket = play([ack()], dump(), dump(), dump(), [ack(-number)], dump())
    caught = failure(TcAttachment.attach, socket, IF, EGRESS, PROGRAM)
    assert (caught.call, caught.errno) == (f"RTM_NEWTFILTER(egress of interface {IF})", number)
    assert not is_bound(token)


def test_no_free_priority_is_an_error(play: Play, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tc, "MAX_PRIORITY", 2)
    _, socket = play([ack()], dump(), dump(), dump(head(1), head(2)))
    caught = failure(TcAttachment.attach, socket, IF, INGRESS, PROGRAM)
    assert (caught.errno, caught.detail) == (errno.ENOSPC, "every priority is taken")
    assert not is_bound(token)


@pytest.mark.parametrize("function", ["__init__", "bind"])
def test_no_socket_to_hold_is_a_kernel_error_before_any_filter(
    play: Play, token: str, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def refuse(self: Any, *arguments: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    kernel, socket = play([ack()], dump(), dump())
    monkeypatch.setattr(sockets.socket, function, refuse)
    caught = failure(TcAttachment.attach, socket, IF, INGRESS, PROGRAM)
    assert (caught.call, caught.errno) == (f"bind(@xtrace-catch/{IF}/{token})", errno.EMFILE)
    assert tc.RTM_NEWTFILTER not in sent_types(kernel)


@pytest.mark.parametrize(
    ("chosen", "handle"),
    [("0" * 16, 1), (f"{tc.MAX_HANDLE - 1:016x}", tc.MAX_HANDLE), (f"{tc.MAX_HANDLE:016x}", 1), ("f" * 16, 4)],
)
def test_no_token_gives_handle_0_which_would_delete_a_whole_priority(
    play: Play, monkeypatch: pytest.MonkeyPatch, chosen: str, handle: int
) -> None:
    monkeypatch.setattr("os.urandom", lambda size: bytes.fromhex(chosen))
    kernel, socket = play([ack()], dump(), dump(), dump(), [ack()], dump())
    with TcAttachment.attach(socket, IF, INGRESS, PROGRAM) as attachment:
        assert attachment.handle == header(kernel.sent[-1])[2] == handle


# Alive, detach


def test_detach_deletes_exactly_the_own_filter(play: Play, token: str) -> None:
    others = named(1, "other", 1)
    kernel, attachment = attached(play, dump(*others, *own(token)), [ack()])
    attachment.detach()
    assert sent_types(kernel) == [tc.RTM_GETTFILTER, tc.RTM_DELTFILTER]
    assert header(kernel.sent[0]) == (netlink.NLM_F_DUMP, IF, 0, INGRESS, 1, ALL)
    assert header(kernel.sent[1]) == (0, IF, handle_of(token), INGRESS, 1, ALL)
    assert sent_attributes(kernel.sent[1]) == {tc.TCA_KIND: b"bpf\0"}
    assert not is_bound(token)


def test_detach_and_close_are_one_and_may_be_called_again(play: Play, token: str) -> None:
    kernel, attachment = attached(play, dump(*own(token)), [ack()])
    attachment.close()
    attachment.close()
    attachment.detach()
    assert sent_types(kernel) == [tc.RTM_GETTFILTER, tc.RTM_DELTFILTER]


@pytest.mark.parametrize("name", ["", "other", "xtrace-catch:", f"xtrace-catch:{TOKEN}"])
def test_detach_leaves_a_filter_that_took_our_numbers(play: Play, token: str, name: str) -> None:
    kernel, attachment = attached(play, dump(*named(1, name, handle_of(token))))
    attachment.detach()
    assert sent_types(kernel) == [tc.RTM_GETTFILTER]
    assert not is_bound(token)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV, errno.EINVAL])
def test_a_filter_that_goes_before_we_delete_it_is_fine(play: Play, token: str, number: int) -> None:
    kernel, attachment = attached(play, dump(*own(token)), [ack(-number)], dump())
    attachment.detach()
    assert sent_types(kernel) == [tc.RTM_GETTFILTER, tc.RTM_DELTFILTER, tc.RTM_GETTFILTER]


def test_a_filter_that_stays_is_an_error_and_an_orphan(play: Play, token: str) -> None:
    _, attachment = attached(play, dump(*own(token)), [ack(-errno.EPERM)], dump(*own(token)))
    caught = failure(attachment.detach)
    assert (caught.call, caught.errno) == (f"RTM_DELTFILTER(ingress of interface {IF})", errno.EPERM)
    assert not is_bound(token)


def test_alive_is_a_filter_with_our_handle_and_name(play: Play, token: str) -> None:
    gone: list[list[bytes]] = [
        dump(),
        dump(*named(1, "other", handle_of(token))),
        dump(*named(1, f"xtrace-catch:{token}", 1)),
    ]
    _, attachment = attached(play, dump(*own(token)), *gone, dump())
    assert [attachment.alive() for _ in range(4)] == [True, False, False, False]
    attachment.detach()


# Orphans


def test_orphans_are_our_filters_of_which_nobody_holds_the_socket(play: Play) -> None:
    held, left, other = (f"{random.getrandbits(64):016x}" for _ in range(3))
    _, socket = play(dump(*own(held), *named(2, "other"), *own(left, 3)), dump(*own(other)))
    with bind(held):
        found = tc.orphans(socket, IF)
    assert [(orphan.token, orphan.parent, orphan.priority) for orphan in found] == [
        (left, INGRESS, 3),
        (other, EGRESS, 1),
    ]
    assert not is_bound(left)


@pytest.mark.parametrize(
    "name",
    ["", "xtrace-catch", "xtrace-catch:", "xtrace-catch:0123", f"xtrace-catch:{TOKEN}0", f"x-xtrace-catch:{TOKEN}",
     f"xtrace-catch:{TOKEN.upper()}", "xtrace-catch:0123456789abcde/"],
)  # fmt: skip
def test_filters_with_other_names_are_never_orphans(play: Play, name: str) -> None:
    _, socket = play(dump(*named(1, name)), dump())
    assert tc.orphans(socket, IF) == []


def test_no_socket_to_try_is_an_error_and_not_an_owner(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, *arguments: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    _, socket = play(dump(*own(TOKEN)), dump())
    monkeypatch.setattr(sockets.socket, "__init__", refuse)
    assert failure(tc.orphans, socket, IF).errno == errno.EMFILE


def test_attach_removes_the_orphans_of_both_directions_and_says_so(
    play: Play, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    left = [f"{random.getrandbits(64):016x}" for _ in range(2)]
    name = [message(rtnetlink.RTM_NEWLINK, link_payload(index=IF)), ack()]
    listed = [dump(*own(each)) for each in left]
    removals = [listed[0], [ack()], name, listed[1], [ack()], name]
    kernel, socket = play([ack()], *listed, *removals, dump(), [ack()], dump())
    with TcAttachment.attach(socket, IF, INGRESS, PROGRAM) as attachment:
        assert attachment.priority == 1
    deleted = [request for request in kernel.sent if struct.unpack_from("=H", request, 4)[0] == tc.RTM_DELTFILTER]
    assert [header(request)[2:4] for request in deleted] == [
        (handle_of(left[0]), INGRESS),
        (handle_of(left[1]), EGRESS),
    ]
    assert caplog.messages == [
        "replaced the filter a killed xtrace-catch left on eth0 (ingress)",
        "replaced the filter a killed xtrace-catch left on eth0 (egress)",
    ]


def test_an_orphan_that_somebody_else_removes_first_is_not_ours_to_report(
    play: Play, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    left = own(f"{random.getrandbits(64):016x}")
    _, socket = play([ack()], dump(*left), dump(), dump(), dump(), [ack()], dump())
    TcAttachment.attach(socket, IF, INGRESS, PROGRAM).detach()
    assert caplog.messages == []


def test_an_orphan_that_somebody_else_is_removing_is_left_to_it(
    play: Play, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = f"{random.getrandbits(64):016x}"
    orphan = TcFilter(IF, INGRESS, 1, ETH_P_ALL, handle_of(other), "bpf", f"xtrace-catch:{other}")
    monkeypatch.setattr(tc, "orphans", lambda socket, ifindex: [orphan])
    kernel, socket = play([ack()], dump(*own(other)), [ack()], dump())
    with bind(other), TcAttachment.attach(socket, IF, INGRESS, PROGRAM) as attachment:
        assert attachment.priority == 2
        assert tc.RTM_DELTFILTER not in sent_types(kernel)
