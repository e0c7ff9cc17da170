"""Members of the kernel's structures, found by its own type information, and how they come together."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from tests.unit.kernel.test_btf import STRUCT, types
from tests.unit.make import packed
from xtrace.errors import XtraceError
from xtrace.kernel import kernel_types
from xtrace.kernel.elf import patch_constants
from xtrace.kernel.objects import load_object
from xtrace.kernel.syscall import lib
from xtrace.model.tcp import END, Closer, Sample
from xtrace.monitors.tcp import offsets
from xtrace.monitors.tcp.ends import OBJECT, PROGRAMS, Decoder, closer_of, room_for
from xtrace.monitors.tcp.offsets import ABSENT, COOKIE, FAMILY, FOLLOWED, KEPT, Layout, arrange, find_layout


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
    end = END.pack(7, lib.TCP_CLOSED, 1, 104, b"cubic", 4711, b"a\x1b", raw.ljust(lib.TCP_RAW_BYTES, b"\xaa"))
    found = Decoder(places).sample(memoryview(bytes(5) + end), 5)
    assert found.ends == (packed("fd00::2"), 443, packed("fd00::1"), 40000)
    assert (found.netns, found.event, found.state, found.error, found.cookie) == (7, lib.TCP_CLOSED, 1, 104, 1 << 40)
    assert (found.value(lib.TCP_RTT), found.value(lib.TCP_RTT_VARIANCE)) == (100, 10)
    assert (found.value(lib.TCP_RETRANSMITTED), found.value(lib.TCP_TIMEOUTS)) == (3, 2)
    assert found.value(lib.TCP_CWND) is None
    assert found.congestion == "cubic"
    assert closer_of(memoryview(bytes(5) + end), 5) == Closer(4711, "a?")


def test_end_that_nobody_is_known_to_have_closed_has_no_closer() -> None:
    assert closer_of(memoryview(END.pack(7, lib.TCP_DESTROYED, 7, 0, b"", 0, b"", b"")), 0) is None


def test_ipv4_addresses_are_mapped() -> None:
    places = {FAMILY: (0, 2), offsets.LOCAL4: (2, 4), offsets.REMOTE4: (6, 4)}
    places |= {offsets.LOCAL_PORT: (10, 2), offsets.REMOTE_PORT: (12, 2)}
    raw = struct.pack("=H", 2) + packed("10.0.0.2")[12:] + packed("10.0.0.1")[12:] + bytes(4)
    found = Decoder(places).sample(
        memoryview(END.pack(7, 1, 7, 0, b"", 0, b"", raw.ljust(lib.TCP_RAW_BYTES, b"\0"))), 0
    )
    assert (found.local, found.remote, found.cookie) == (packed("10.0.0.2"), packed("10.0.0.1"), 0)


CONNECTION = "inet_conn."
SOCK = "inet_conn.icsk_inet.sk."
COMMON = SOCK + "__sk_common."
FIELDS: dict[str, tuple[str, int]] = {
    "family": (COMMON + "skc_family", 2),
    "local": (COMMON + "skc_rcv_saddr", 4),
    "remote": (COMMON + "skc_daddr", 4),
    "local port": ("inet_conn.icsk_inet.inet_sport", 2),
    "remote port": (COMMON + "skc_dport", 2),
    "local, IPv6": (COMMON + "skc_v6_rcv_saddr", 16),
    "remote, IPv6": (COMMON + "skc_v6_daddr", 16),
    "cookie": (COMMON + "skc_cookie", 8),
}
"""What is no value: the member of struct tcp_sock and its bytes, by include/net/sock.h and inet_sock.h."""
VALUES: dict[int, tuple[str, int]] = {
    lib.TCP_RETRANSMITTED: ("total_retrans", 4),
    lib.TCP_SEGMENTS_SENT: ("segs_out", 4),
    lib.TCP_SEGMENTS_RECEIVED: ("segs_in", 4),
    lib.TCP_DATA_SENT: ("data_segs_out", 4),
    lib.TCP_DATA_RECEIVED: ("data_segs_in", 4),
    lib.TCP_BYTES_SENT: ("bytes_sent", 8),
    lib.TCP_BYTES_RETRANSMITTED: ("bytes_retrans", 8),
    lib.TCP_BYTES_ACKED: ("bytes_acked", 8),
    lib.TCP_BYTES_RECEIVED: ("bytes_received", 8),
    lib.TCP_DELIVERED: ("delivered", 4),
    lib.TCP_DELIVERED_CE: ("delivered_ce", 4),
    lib.TCP_DUPLICATES: ("dsack_dups", 4),
    lib.TCP_REORDERED: ("reord_seen", 4),
    lib.TCP_OUT_OF_ORDER: ("rcv_ooopack", 4),
    lib.TCP_RTT: ("srtt_us", 4),
    lib.TCP_RTT_VARIANCE: ("mdev_us", 4),
    lib.TCP_MIN_RTT: ("rtt_min.s.v", 4),
    lib.TCP_SEND_MSS: ("mss_cache", 4),
    lib.TCP_CWND: ("snd_cwnd", 4),
    lib.TCP_SSTHRESH: ("snd_ssthresh", 4),
    lib.TCP_SEND_WINDOW: ("snd_wnd", 4),
    lib.TCP_RECEIVE_WINDOW: ("rcv_wnd", 4),
    lib.TCP_TIMEOUTS: (CONNECTION + "icsk_retransmits", 1),
}
"""Which member tcp_get_info() (net/ipv4/tcp.c) fills in for each value, and its bytes."""
OTHERS: dict[str, dict[str, int]] = {
    "net": {"ns.inum": 4},
    "tcp_congestion_ops": {"name": 16},
    "task_struct": {"flags": 4},
}
FOLLOWED_TO = {
    "at_net": ("tcp_sock", COMMON + "skc_net.net"),
    "at_netns": ("net", "ns.inum"),
    "at_error": ("tcp_sock", SOCK + "sk_err"),
    "at_ca_ops": ("tcp_sock", CONNECTION + "icsk_ca_ops"),
    "at_ca_name": ("tcp_congestion_ops", "name"),
    "at_owned": ("tcp_sock", SOCK + "sk_lock.owned"),
    "at_flags": ("task_struct", "flags"),
}
"""What the program follows: from the socket to its namespace's number, its errno and its algorithm's name; who has it
locked, and whether that is a thread of the kernel."""
SHORT = ("sk_err", "owned")


class Kernel:
    """Type information with these structs. Members lie in the order given, some of them far apart."""

    def __init__(self, structs: Mapping[str, Mapping[str, int]]) -> None:
        self._rows: list[tuple[int, ...]] = []
        self._strings = b"\0"
        self.offsets: dict[tuple[str, str], int] = {}
        """of each member, by struct and path"""
        for name, members in structs.items():
            self._struct(name, name, "", members)
        self.blob = types(*self._rows, strings=self._strings)

    def _name(self, text: str) -> int:
        self._strings += text.encode() + b"\0"
        return len(self._strings) - len(text) - 1

    def _type(self, *row: int) -> int:
        self._rows.append(row)
        return len(self._rows)

    def _struct(self, outer: str, name: str, path: str, members: Mapping[str, int], start: int = 0) -> tuple[int, int]:
        """Id and bytes of the new type."""
        words: list[int] = []
        at = 0
        for number, member in enumerate(dict.fromkeys(full.split(".")[0] for full in members)):
            inner = {full.partition(".")[2]: size for full, size in members.items() if full.split(".")[0] == member}
            if "" in inner:
                size = inner[""]
                made = self._type(STRUCT, 0, size, 0)
                self.offsets[outer, path + member] = start + at
            else:
                made, size = self._struct(outer, "", f"{path}{member}.", inner, start + at)
            words += [self._name(member), made, at * 8]
            at += size + (3 if path or number % 4 else 100)
        return self._type(STRUCT, self._name(name) if name else 0, at, len(words) // 3, *words), at


def kernel(missing: Collection[str] = (), **other_sizes: int) -> Kernel:
    """One that has all members but those that are `missing`; some with other sizes, by the end of their path."""
    socket = dict([*FIELDS.values(), *VALUES.values()])
    socket |= {path: 4 if path.endswith(SHORT) else 8 for struct, path in FOLLOWED_TO.values() if struct == "tcp_sock"}
    kept = {path: size for path, size in socket.items() if path not in missing}
    kept = {path: other_sizes.get(path.rpartition(".")[2], size) for path, size in kept.items()}
    return Kernel({"tcp_sock": kept, **OTHERS})


def layout_of(monkeypatch: pytest.MonkeyPatch, directory: Path, running: Kernel) -> Layout:
    monkeypatch.setattr(kernel_types, "PATH", directory / "vmlinux")
    (directory / "vmlinux").write_bytes(running.blob)
    return find_layout()


def copied(layout: Layout, memory: bytes) -> bytes:
    """What the program makes of a socket's memory: its pieces, one after the other."""
    raw = bytearray(lib.TCP_RAW_BYTES)
    for number in range(lib.TCP_PIECES):
        at, size, to = (layout.constants[f"piece{number}_{what}"] for what in ("at", "size", "to"))
        raw[to : to + size] = memory[at : at + size]
    return bytes(raw)


def sampled(layout: Layout, memory: bytes) -> Sample:
    return Decoder(layout.places).sample(memoryview(END.pack(7, 1, 7, 0, b"", 0, b"", copied(layout, memory))), 0)


def test_every_value_is_that_of_its_member_of_the_kernels_struct(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    running = kernel()
    memory = bytearray(b"\xaa" * 1000)
    fields = {
        "family": struct.pack("=H", 10),
        "local, IPv6": packed("fd00::2"),
        "remote, IPv6": packed("fd00::1"),
        "local port": b"\x01\xbb",
        "remote port": b"\x9c\x40",
        "cookie": struct.pack("=Q", 1 << 40),
    }
    written = [(FIELDS[name][0], field) for name, field in fields.items()]
    written += [(path, (4 * (number + 1)).to_bytes(size, "little")) for number, (path, size) in VALUES.items()]
    for path, value in written:
        at = running.offsets["tcp_sock", path]
        memory[at : at + len(value)] = value
    layout = layout_of(monkeypatch, tmp_path, running)
    found = sampled(layout, bytes(memory))
    assert found.ends == (packed("fd00::2"), 443, packed("fd00::1"), 40000)
    assert found.cookie == 1 << 40
    expected = {number: 4 * (number + 1) for number in VALUES}
    expected[lib.TCP_RTT] >>= 3  # the kernel has them in eighths and quarters of microseconds
    expected[lib.TCP_RTT_VARIANCE] >>= 2
    assert {
        number: found.value(number) for number in range(lib.TCP_VALUES) if found.value(number) is not None
    } == expected
    at = running.offsets["tcp_sock", FIELDS["family"][0]]
    memory[at : at + 2] = struct.pack("=H", 2)
    for name, address in (("local", b"\x0a\0\0\2"), ("remote", b"\x0a\0\0\1")):
        at = running.offsets["tcp_sock", FIELDS[name][0]]
        memory[at : at + 4] = address
    assert sampled(layout, bytes(memory)).ends == (packed("10.0.0.2"), 443, packed("10.0.0.1"), 40000)


def test_program_follows_to_namespace_errno_and_algorithm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    running = kernel()
    constants = layout_of(monkeypatch, tmp_path, running).constants
    assert {name: constants[name] for name in FOLLOWED_TO} == {
        name: running.offsets[place] for name, place in FOLLOWED_TO.items()
    }
    absent = layout_of(monkeypatch, tmp_path, kernel([SOCK + "sk_err"])).constants
    assert {name for name in FOLLOWED_TO if absent[name] == ABSENT} == {"at_error"}


def test_member_that_this_kernel_has_not_is_unknown_and_others_are_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    layout = layout_of(monkeypatch, tmp_path, kernel(["reord_seen"], snd_cwnd=2))
    found = sampled(layout, b"\x10" * 1000)
    assert {number for number in VALUES if found.value(number) is None} == {lib.TCP_REORDERED, lib.TCP_CWND}


@pytest.mark.parametrize(
    "path",
    [FOLLOWED_TO["at_net"][1], *(FIELDS[name][0] for name in list(FIELDS)[:5])],
    ids=lambda path: path.split(".")[-1],
)
def test_kernel_without_a_member_that_tells_ends_apart_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str
) -> None:
    with pytest.raises(XtraceError, match=f"struct tcp_sock has no {path} of"):
        layout_of(monkeypatch, tmp_path, kernel([path]))


def test_pieces_without_use_are_empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    layout = layout_of(monkeypatch, tmp_path, kernel())
    used = [number for number in range(lib.TCP_PIECES) if layout.constants[f"piece{number}_size"]]
    unused = set(range(lib.TCP_PIECES)) - set(used)
    assert used and unused
    for number in unused:
        assert [layout.constants[f"piece{number}_{what}"] for what in ("at", "size", "to")] == [0, 0, 0]


def gapped(gap: int) -> dict[int, tuple[int, int]]:
    """Two members of 16 bytes so far apart, and far from everything else."""
    return {0: (10_000, 16), 1: (10_016 + gap, 16)}


@pytest.mark.parametrize("gap", [32, 16, 8])
@pytest.mark.parametrize("room_left, pieces", [(0, 4), (-1, 6)])
def test_wide_gaps_are_given_up_first_where_there_is_no_room(gap: int, room_left: int, pieces: int) -> None:
    members = gapped(gap)
    for number in (2, 4):
        at = number * 10_000
        members |= {number: (at, 16), number + 1: (at + 16 + 2 * gap, 16)}
    members[6] = (90_000, lib.TCP_RAW_BYTES - (32 + gap) - 2 * (32 + 2 * gap) - room_left)
    found, places = arrange(members)
    assert len(found) == pieces
    assert set(places) == set(members)
    assert (10_000, 32 + gap) in found


def test_gap_that_is_too_wide_is_never_kept() -> None:
    assert arrange(gapped(64))[0] == [(10_000, 96)]
    assert arrange(gapped(65))[0] == [(10_000, 16), (10_081, 16)]


def test_members_without_a_gap_share_a_piece_where_there_is_room_for_nothing_else() -> None:
    members = {0: (0, 4), 1: (4, lib.TCP_RAW_BYTES - 8), 2: (5000, 2), 3: (5003, 2)}
    pieces, places = arrange(members)
    assert pieces == [(0, lib.TCP_RAW_BYTES - 4), (5000, 2), (5003, 2)]
    assert places == {
        0: (0, 4),
        1: (4, lib.TCP_RAW_BYTES - 8),
        2: (lib.TCP_RAW_BYTES - 4, 2),
        3: (lib.TCP_RAW_BYTES - 2, 2),
    }


@pytest.mark.parametrize("interval_s, room", [(0.1, 16384), (4, 16384), (10, 40960), (16, 65536), (3600, 65536)])
def test_room_for_ends_grows_with_the_interval_within_limits(interval_s: float, room: int) -> None:
    assert room_for(interval_s) == room
