"""Our filters on the clsact qdisc: attached, found again, left behind. A played kernel, real abstract sockets."""

from __future__ import annotations

import errno
import logging
import random
import socket as sockets
import struct
from contextlib import closing
from typing import Any

import pytest

from tests.unit.kernel.test_rtnetlink import FakeKernel, ack, dump, failure, link_payload, message, recorded, u32
from tests.unit.kernel.test_tc import (
    ALL,
    EGRESS,
    IF,
    INGRESS,
    PROGRAM,
    TOKEN,
    Play,
    entry,
    handle_of,
    head,
    header,
    named,
    own,
    sent_attributes,
    sent_types,
)
from xtrace.kernel import netlink, rtnetlink, syscall, tc
from xtrace.kernel.netlink import NetlinkSocket, parse_attributes
from xtrace.kernel.tc import ETH_P_ALL, TcFilter
from xtrace.model.words import Direction
from xtrace.monitors.flows import clsact
from xtrace.monitors.flows.clsact import TcAttachment, token_of


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


def attached(play: Play, *later: list[bytes]) -> tuple[FakeKernel, TcAttachment]:
    """An attachment at ingress, priority 1, and what the kernel answers from then on."""
    kernel, socket = play([ack()], dump(), dump(), dump(), [ack()], *later)
    attachment = TcAttachment.attach(socket, IF, Direction.INGRESS, PROGRAM)
    kernel.sent.clear()
    return kernel, attachment


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


# Attach


@pytest.mark.parametrize("direction, parent", [(Direction.INGRESS, 0xFFFFFFF2), (Direction.EGRESS, 0xFFFFFFF3)])
def test_attach_creates_a_named_direct_action_filter_and_holds_its_socket(
    play: Play, token: str, direction: Direction, parent: int
) -> None:
    kernel, socket = play([ack()], dump(), dump(), dump(), [ack()], dump())
    attachment = TcAttachment.attach(socket, IF, direction, PROGRAM)
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
    attachment.close()
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
    with closing(TcAttachment.attach(socket, IF, Direction.INGRESS, PROGRAM)) as attachment:
        assert attachment.priority == expected
        assert header(kernel.sent[-1])[4] == expected


@pytest.mark.parametrize("refusal", ["tc-refused_handle", "tc-refused_protocol", "tc-refused_kind"])
def test_a_priority_that_somebody_else_was_quicker_to_take_is_passed_over(play: Play, token: str, refusal: str) -> None:
    taken = [head(1), entry(1), head(2), entry(2)]
    kernel, socket = play([ack()], dump(), dump(), dump(), recorded(refusal), dump(*taken), [ack()], dump())
    with closing(TcAttachment.attach(socket, IF, Direction.INGRESS, PROGRAM)) as attachment:
        assert attachment.priority == 3
    created = [request for request in kernel.sent if struct.unpack_from("=H", request, 4)[0] == tc.RTM_NEWTFILTER]
    assert [header(request)[0] for request in created] == [0x600, 0x600]


def test_a_filter_whose_acknowledgement_was_lost_is_not_attached_twice(play: Play, token: str) -> None:
    kernel, socket = play([ack()], dump(), dump(), dump(), [ack(-errno.ENOBUFS)], dump(*own(token)), dump())
    with closing(TcAttachment.attach(socket, IF, Direction.INGRESS, PROGRAM)) as attachment:
        assert attachment.priority == 1
    assert sent_types(kernel).count(tc.RTM_NEWTFILTER) == 1


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP, errno.EEXIST])
def test_a_filter_refused_for_what_it_is_is_an_error_and_leaves_no_socket(play: Play, token: str, number: int) -> None:
    _, socket = play([ack()], dump(), dump(), dump(), [ack(-number)], dump())
    caught = failure(TcAttachment.attach, socket, IF, Direction.EGRESS, PROGRAM)
    assert (caught.call, caught.errno) == (f"RTM_NEWTFILTER(egress of interface {IF})", number)
    assert not is_bound(token)


def test_no_free_priority_is_an_error(play: Play, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tc, "MAX_PRIORITY", 2)
    _, socket = play([ack()], dump(), dump(), dump(head(1), head(2)))
    caught = failure(TcAttachment.attach, socket, IF, Direction.INGRESS, PROGRAM)
    assert (caught.errno, caught.detail) == (errno.ENOSPC, "every priority is in use")
    assert not is_bound(token)


@pytest.mark.parametrize("function", ["__init__", "bind"])
def test_no_socket_to_hold_is_a_kernel_error_before_any_filter(
    play: Play, token: str, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def refuse(self: Any, *arguments: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    kernel, socket = play([ack()], dump(), dump())
    monkeypatch.setattr(sockets.socket, function, refuse)
    caught = failure(TcAttachment.attach, socket, IF, Direction.INGRESS, PROGRAM)
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
    with closing(TcAttachment.attach(socket, IF, Direction.INGRESS, PROGRAM)) as attachment:
        assert attachment.handle == header(kernel.sent[-1])[2] == handle


# Alive, detach


def test_detach_deletes_exactly_the_own_filter(play: Play, token: str) -> None:
    others = named(1, "other", 1)
    kernel, attachment = attached(play, dump(*others, *own(token)), [ack()])
    attachment.close()
    assert sent_types(kernel) == [tc.RTM_GETTFILTER, tc.RTM_DELTFILTER]
    assert header(kernel.sent[0]) == (netlink.NLM_F_DUMP, IF, 0, INGRESS, 1, ALL)
    assert header(kernel.sent[1]) == (0, IF, handle_of(token), INGRESS, 1, ALL)
    assert sent_attributes(kernel.sent[1]) == {tc.TCA_KIND: b"bpf\0"}
    assert not is_bound(token)


def test_closing_may_be_repeated(play: Play, token: str) -> None:
    kernel, attachment = attached(play, dump(*own(token)), [ack()])
    attachment.close()
    attachment.close()
    attachment.close()
    assert sent_types(kernel) == [tc.RTM_GETTFILTER, tc.RTM_DELTFILTER]


@pytest.mark.parametrize("name", ["", "other", "xtrace-catch:", f"xtrace-catch:{TOKEN}"])
def test_detach_leaves_a_filter_that_took_our_numbers(play: Play, token: str, name: str) -> None:
    kernel, attachment = attached(play, dump(*named(1, name, handle_of(token))))
    attachment.close()
    assert sent_types(kernel) == [tc.RTM_GETTFILTER]
    assert not is_bound(token)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV, errno.EINVAL])
def test_a_filter_that_goes_before_we_delete_it_is_fine(play: Play, token: str, number: int) -> None:
    kernel, attachment = attached(play, dump(*own(token)), [ack(-number)], dump())
    attachment.close()
    assert sent_types(kernel) == [tc.RTM_GETTFILTER, tc.RTM_DELTFILTER, tc.RTM_GETTFILTER]


def test_a_filter_that_stays_is_an_error_and_an_orphan(play: Play, token: str) -> None:
    _, attachment = attached(play, dump(*own(token)), [ack(-errno.EPERM)], dump(*own(token)))
    caught = failure(attachment.close)
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
    attachment.close()


# Orphans


def test_orphans_are_our_filters_of_which_nobody_holds_the_socket(play: Play) -> None:
    held, left, other = (f"{random.getrandbits(64):016x}" for _ in range(3))
    _, socket = play(dump(*own(held), *named(2, "other"), *own(left, 3)), dump(*own(other)))
    with bind(held):
        found = clsact.orphans(socket, IF)
    assert [(token_of(orphan), orphan.parent, orphan.priority) for orphan in found] == [
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
    assert clsact.orphans(socket, IF) == []


def test_no_socket_to_try_is_an_error_and_not_an_owner(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, *arguments: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    _, socket = play(dump(*own(TOKEN)), dump())
    monkeypatch.setattr(sockets.socket, "__init__", refuse)
    assert failure(clsact.orphans, socket, IF).errno == errno.EMFILE


def test_attach_removes_the_orphans_of_both_directions_and_reports_it(
    play: Play, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    left = [f"{random.getrandbits(64):016x}" for _ in range(2)]
    name = [message(rtnetlink.RTM_NEWLINK, link_payload(index=IF)), ack()]
    listed = [dump(*own(each)) for each in left]
    removals = [listed[0], [ack()], name, listed[1], [ack()], name]
    kernel, socket = play([ack()], *listed, *removals, dump(), [ack()], dump())
    with closing(TcAttachment.attach(socket, IF, Direction.INGRESS, PROGRAM)) as attachment:
        assert attachment.priority == 1
    deleted = [request for request in kernel.sent if struct.unpack_from("=H", request, 4)[0] == tc.RTM_DELTFILTER]
    assert [header(request)[2:4] for request in deleted] == [
        (handle_of(left[0]), INGRESS),
        (handle_of(left[1]), EGRESS),
    ]
    assert caplog.messages == [
        "replaced the filter left on eth0 by a killed xtrace-catch (ingress)",
        "replaced the filter left on eth0 by a killed xtrace-catch (egress)",
    ]


def test_an_orphan_that_somebody_else_removes_first_is_not_ours_to_report(
    play: Play, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    left = own(f"{random.getrandbits(64):016x}")
    _, socket = play([ack()], dump(*left), dump(), dump(), dump(), [ack()], dump())
    TcAttachment.attach(socket, IF, Direction.INGRESS, PROGRAM).close()
    assert caplog.messages == []


def test_an_orphan_that_somebody_else_is_removing_is_left_to_it(
    play: Play, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = f"{random.getrandbits(64):016x}"
    orphan = TcFilter(IF, INGRESS, 1, ETH_P_ALL, handle_of(other), "bpf", f"xtrace-catch:{other}")
    monkeypatch.setattr(clsact, "orphans", lambda socket, ifindex: [orphan])
    kernel, socket = play([ack()], dump(*own(other)), [ack()], dump())
    with bind(other), closing(TcAttachment.attach(socket, IF, Direction.INGRESS, PROGRAM)) as attachment:
        assert attachment.priority == 2
        assert tc.RTM_DELTFILTER not in sent_types(kernel)
