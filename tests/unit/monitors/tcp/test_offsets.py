"""Members of the kernel's structures, found by its own type information, and how they come together."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.unit.kernel.test_btf import types
from tests.unit.make import packed
from xtrace.errors import XtraceError
from xtrace.kernel import kernel_types
from xtrace.kernel.elf import patch_constants
from xtrace.kernel.objects import load_object
from xtrace.kernel.syscall import lib
from xtrace.model.tcp import END
from xtrace.monitors.tcp import offsets
from xtrace.monitors.tcp.ends import OBJECT, PROGRAMS, Decoder
from xtrace.monitors.tcp.offsets import COOKIE, FAMILY, FOLLOWED, KEPT, arrange, find_layout


def test_program_has_the_constants_that_are_set_and_no_others() -> None:
    spec = load_object(OBJECT)
    pieces = {f"piece{number}_{what}" for number in range(lib.TCP_PIECES) for what in ("at", "size", "to")}
    assert set(spec.maps["rodata"].variables) == {*FOLLOWED, *pieces}
    patch_constants(spec.maps["rodata"], dict.fromkeys({*FOLLOWED, *pieces}, 0xFFFF_FFFF))
    assert set(spec.programs) == set(PROGRAMS)


def test_kernel_without_type_information_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kernel_types, "PATH", tmp_path / "vmlinux")
    with pytest.raises(XtraceError, match="no type information"):
        find_layout()


def test_kernel_without_a_needed_member_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kernel_types, "PATH", tmp_path / "vmlinux")
    (tmp_path / "vmlinux").write_bytes(types())
    with pytest.raises(
        XtraceError, match=r"struct tcp_sock has no inet_conn\.icsk_inet\.sk\.__sk_common\.skc_net\.net"
    ):
        find_layout()


def test_near_members_share_a_piece_and_far_ones_do_not() -> None:
    pieces, places = arrange({1: (8, 4), 2: (0, 4), 3: (1000, 8), 4: (16, 2), 5: (2000, 1)})
    assert pieces == [(0, 18), (1000, 8), (2000, 1)]
    assert places == {1: (8, 4), 2: (0, 4), 3: (18, 8), 4: (16, 2), 5: (26, 1)}


def test_gaps_are_kept_only_while_there_is_room() -> None:
    far_apart = {number: (number * 60, 8) for number in range(10)}
    pieces, places = arrange(far_apart)
    assert len(pieces) == 10
    assert {number: at for number, (at, _) in places.items()} == {number: number * 8 for number in range(10)}


def test_what_has_no_room_is_left_out_from_the_end() -> None:
    scattered = {number: (number * 1000, 4) for number in range(lib.TCP_PIECES + 3)}
    pieces, places = arrange(scattered)
    assert len(pieces) == lib.TCP_PIECES
    assert set(places) == set(range(lib.TCP_PIECES))
    large = {number: (number * 1000, 100) for number in range(5)}
    assert set(arrange(large)[1]) == {0, 1, 2}


def test_end_is_read_from_its_pieces() -> None:
    values = {
        FAMILY: struct.pack("=H", 10),
        offsets.LOCAL4: bytes(4),
        offsets.REMOTE4: bytes(4),
        offsets.LOCAL_PORT: b"\x01\xbb",
        offsets.REMOTE_PORT: b"\x9c\x40",
        offsets.LOCAL6: packed("fd00::2"),
        offsets.REMOTE6: packed("fd00::1"),
        COOKIE: struct.pack("=Q", 1 << 40),
        lib.TCP_RTT: struct.pack("=I", 800),
        lib.TCP_RTT_VARIANCE: struct.pack("=I", 40),
        lib.TCP_RETRANSMITTED: struct.pack("=I", 3),
        lib.TCP_TIMEOUTS: b"\x02",
    }
    raw, places = b"", {}
    for number, value in values.items():
        raw += b"\xaa" * 3  # a gap
        places[number] = (len(raw), KEPT[number].size)
        raw += value
    end = END.pack(7, lib.TCP_CLOSED, 1, 104, b"cubic", raw.ljust(lib.TCP_RAW_BYTES, b"\xaa"))
    found = Decoder(places).sample(memoryview(bytes(5) + end), 5)
    assert found.ends == (packed("fd00::2"), 443, packed("fd00::1"), 40000)
    assert (found.netns, found.event, found.state, found.error, found.cookie) == (7, lib.TCP_CLOSED, 1, 104, 1 << 40)
    assert (found.value(lib.TCP_RTT), found.value(lib.TCP_RTT_VARIANCE)) == (100, 10)
    assert (found.value(lib.TCP_RETRANSMITTED), found.value(lib.TCP_TIMEOUTS)) == (3, 2)
    assert found.value(lib.TCP_CWND) is None
    assert found.congestion == "cubic"


def test_ipv4_addresses_are_mapped() -> None:
    places = {FAMILY: (0, 2), offsets.LOCAL4: (2, 4), offsets.REMOTE4: (6, 4)}
    places |= {offsets.LOCAL_PORT: (10, 2), offsets.REMOTE_PORT: (12, 2)}
    raw = struct.pack("=H", 2) + packed("10.0.0.2")[12:] + packed("10.0.0.1")[12:] + bytes(4)
    found = Decoder(places).sample(memoryview(END.pack(7, 1, 7, 0, b"", raw.ljust(lib.TCP_RAW_BYTES, b"\0"))), 0)
    assert (found.local, found.remote, found.cookie) == (packed("10.0.0.2"), packed("10.0.0.1"), 0)
