"""What netfilter says of a packet's connection: where it goes behind a translation, and damage."""

from __future__ import annotations

import errno
from typing import Any, cast

import pytest

from tests.unit.make import packed
from xtrace.errors import KernelError
from xtrace.kernel import conntrack
from xtrace.kernel.conntrack import CT_GET, Packet, beyond
from xtrace.kernel.netlink import Message, NetlinkSocket, pack_attribute, pack_nested

CONTAINER, HOST, REMOTE = packed("172.17.0.2"), packed("192.0.2.1"), packed("198.51.100.9")
OUT = Packet(CONTAINER, REMOTE, 40000, 443, 6)
BACK = Packet(REMOTE, HOST, 443, 61000, 6)


def way(kind: int, packet: Packet) -> bytes:
    """An attribute with a tuple, written down here by the numbers of the kernel's header."""
    is_ipv4 = packet.src.startswith(conntrack.MAPPED)
    first = 12 if is_ipv4 else 0
    return pack_nested(
        kind,
        pack_nested(
            1,
            pack_attribute(1 if is_ipv4 else 3, packet.src[first:]),
            pack_attribute(2 if is_ipv4 else 4, packet.dst[first:]),
        ),
        pack_nested(
            2,
            pack_attribute(1, bytes([packet.protocol])),
            pack_attribute(2, packet.src_port.to_bytes(2, "big")),
            pack_attribute(3, packet.dst_port.to_bytes(2, "big")),
        ),
    )


class Tracker:
    """Answers as ctnetlink does."""

    def __init__(self, *attributes: bytes, error: int = 0) -> None:
        self._payload = bytes(4) + b"".join(attributes)
        self._error = error
        self.asked: list[bytes] = []

    def request(self, message_type: int, flags: int = 0, payload: bytes = b"", *, what: str = "") -> list[Message]:
        assert message_type == CT_GET == 0x101
        self.asked.append(payload)
        if self._error:
            raise KernelError(what, self._error)
        return [Message(0x100, self._payload)]


def ask(tracker: Tracker, packet: Packet) -> Packet | None:
    return beyond(cast("NetlinkSocket", tracker), packet)


def test_a_packet_to_the_translated_address_is_one_to_who_began_the_connection() -> None:
    tracker = Tracker(way(1, OUT), way(2, BACK))
    assert ask(tracker, BACK) == Packet(REMOTE, CONTAINER, 443, 40000, 6)
    assert tracker.asked == [b"\x02\0\0\0" + way(1, BACK)]


def test_a_packet_to_a_published_port_is_one_to_who_serves_it() -> None:
    inward, answer = Packet(REMOTE, HOST, 50000, 8080, 17), Packet(CONTAINER, REMOTE, 80, 50000, 17)
    assert ask(Tracker(way(1, inward), way(2, answer)), inward) == Packet(REMOTE, CONTAINER, 50000, 80, 17)


def test_ipv6_is_asked_for_as_such() -> None:
    inner, outer, far = packed("fd00::2"), packed("2001:db8::1"), packed("2001:db8::9")
    back = Packet(far, outer, 443, 61000, 6)
    tracker = Tracker(way(1, Packet(inner, far, 40000, 443, 6)), way(2, back))
    assert ask(tracker, back) == Packet(far, inner, 443, 40000, 6)
    assert tracker.asked[0][0] == 10


def test_a_connection_that_is_not_translated_stays_what_it_is() -> None:
    assert ask(Tracker(way(1, BACK.answer), way(2, BACK)), BACK) == BACK


def test_a_connection_that_is_not_tracked_has_no_other_side() -> None:
    assert ask(Tracker(error=errno.ENOENT), BACK) is None
    assert ask(Tracker(way(1, OUT), way(2, OUT.answer)), BACK) is None


def test_what_the_kernel_refuses_is_an_error() -> None:
    with pytest.raises(KernelError, match="IPCTNL_MSG_CT_GET: EPERM"):
        ask(Tracker(error=errno.EPERM), BACK)


@pytest.mark.parametrize("attributes", [(), (way(1, OUT),), (pack_nested(1), way(2, BACK)), (b"\xff",)])
def test_damage_is_an_error(attributes: tuple[bytes, ...]) -> None:
    with pytest.raises(KernelError, match="EBADMSG"):
        ask(Tracker(*attributes), BACK)


@pytest.mark.parametrize("content, expected", [(b"0\n", False), (b"3\n", True), (b"", False), (None, False)])
def test_nobody_is_asked_where_nothing_is_tracked(
    content: bytes | None, expected: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sys" / "net" / "netfilter" / "nf_conntrack_count"
    file.parent.mkdir(parents=True)
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setattr(conntrack, "procfs", lambda: tmp_path)
    assert conntrack.tracks() is expected
