"""Where the kernel says whether a frame has fragments: found in its type information, tried, or done without."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fake_kernel import FakeKernel
from tests.unit.kernel.test_btf import INT32, STRUCT, types
from xtrace.errors import UsageError
from xtrace.kernel import kernel_types
from xtrace.kernel.features import SWITCH
from xtrace.kernel.syscall import ffi
from xtrace.kernel.xdp_frame import FrameFlags, frame_flags

UNION, ENUM, FUNC = 5, 6, 12
NAMES = b"\0xdp_buff\0flags\0xdp_buff_flags\0XDP_FLAGS_HAS_FRAGS\0bpf_cast_to_kern_ctx\0other\0"
XDP_BUFF, FLAGS, FLAGS_ENUM, HAS_FRAGS, CAST, OTHER = (
    NAMES.index(b"\0" + name + b"\0") + 1
    for name in (
        b"xdp_buff",
        b"flags",
        b"xdp_buff_flags",
        b"XDP_FLAGS_HAS_FRAGS",
        b"bpf_cast_to_kern_ctx",
        b"other",
    )
)
BIT_FIELDS = 1 << 31

FLAGS_OF_FRAMES = (ENUM, FLAGS_ENUM, 4, 2, OTHER, 4, HAS_FRAGS, 1)
CASTS = (FUNC, CAST, 1, 0)
IN_STRUCT = (
    INT32,
    (STRUCT, XDP_BUFF, 56, 2, OTHER, 1, 0, FLAGS, 1, 416),
    FLAGS_OF_FRAMES,
    CASTS,
)
IN_UNION = (
    INT32,
    (STRUCT, 0, 8, 2, OTHER, 1, 0, FLAGS, 1, 32),
    (UNION, 0, 8, 2, 0, 2, 0, OTHER, 1, 0),
    (STRUCT, XDP_BUFF, 56, 2, OTHER, 1, 0, 0, 3, 384),
    FLAGS_OF_FRAMES,
    CASTS,
)
"""As in the first kernels that have the function, and in later ones."""


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What was found is remembered for the rest of a run."""
    monkeypatch.delenv(SWITCH, raising=False)
    frame_flags.cache_clear()
    yield
    frame_flags.cache_clear()


def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blob: bytes) -> FrameFlags | None:
    """What is found in this type information."""
    path = tmp_path / "vmlinux"
    path.write_bytes(blob)
    monkeypatch.setattr(kernel_types, "PATH", path)
    return frame_flags()


@pytest.mark.parametrize(("rows", "function"), [(IN_STRUCT, 4), (IN_UNION, 6)], ids=["in the struct", "in a union"])
def test_flags_are_found_and_reading_them_is_tried(
    rows: tuple[tuple[int, ...], ...],
    function: int,
    kernel: FakeKernel,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    tried: list[bytes] = []

    def load(request: Any) -> int:
        tried.append(bytes(ffi.buffer(ffi.cast("char *", request.insns), 8 * request.insn_cnt)))
        return 0

    kernel.answer("xt_prog_load", load)
    found = told(monkeypatch, tmp_path, types(*rows, strings=NAMES))
    assert found == FrameFlags(52, 1, {"bpf_cast_to_kern_ctx": function})
    read = struct.pack("<BBhiBBhi", 0x85, 0x20, 0, function, 0x61, 0x01, 52, 0)
    assert tried == [read + bytes.fromhex("b700000002000000 9500000000000000")]


def test_kernel_that_lets_nobody_look_is_asked_for_the_length_of_every_frame(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernel.answer("xt_prog_load", -13)
    assert told(monkeypatch, tmp_path, types(*IN_STRUCT, strings=NAMES)) is None


@pytest.mark.parametrize(
    "rows",
    [
        IN_STRUCT[:3],
        (*IN_STRUCT[:2], CASTS),
        (*IN_STRUCT[:1], *IN_STRUCT[2:]),
        (INT32, (STRUCT, XDP_BUFF, 56, 1, OTHER, 1, 0), FLAGS_OF_FRAMES, CASTS),
        (INT32, (STRUCT, XDP_BUFF, 56, 1, FLAGS, 1, 413), FLAGS_OF_FRAMES, CASTS),
        (INT32, (STRUCT | BIT_FIELDS >> 24, XDP_BUFF, 56, 1, FLAGS, 1, 416 | 5 << 24), FLAGS_OF_FRAMES, CASTS),
        (INT32, (STRUCT, XDP_BUFF, 56, 1, 0, 2, 0), FLAGS_OF_FRAMES, CASTS),
        (*IN_STRUCT[:2], (ENUM, FLAGS_ENUM, 4, 1, OTHER, 4), CASTS),
        ((31, 0, 0, 0), *IN_STRUCT),
    ],
    ids=[
        "no function",
        "no enum",
        "no struct",
        "no member",
        "not at a byte",
        "a bit field",
        "a struct in itself",
        "no constant",
        "a kind that is not known",
    ],
)
def test_kernel_without_one_of_the_three_is_asked_for_the_length_of_every_frame(
    rows: tuple[tuple[int, ...], ...], kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernel.answer("xt_prog_load", lambda _: pytest.fail("nothing is to be tried"))
    assert told(monkeypatch, tmp_path, types(*rows, strings=NAMES)) is None


def test_type_information_that_is_cut_off_anywhere_is_none(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernel.answer("xt_prog_load", lambda _: pytest.fail("nothing is to be tried"))
    blob = types(*IN_UNION, strings=NAMES)
    for size in range(len(blob)):
        frame_flags.cache_clear()
        assert told(monkeypatch, tmp_path, blob[:size]) is None


def test_kernel_without_type_information_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kernel_types, "PATH", tmp_path / "missing")
    assert frame_flags() is None


def test_feature_can_be_switched_off(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(SWITCH, "frame_flags")
    kernel.answer("xt_prog_load", 0)
    assert told(monkeypatch, tmp_path, types(*IN_STRUCT, strings=NAMES)) is None
    monkeypatch.setenv(SWITCH, "frame_flag")
    frame_flags.cache_clear()
    with pytest.raises(UsageError, match="unknown feature frame_flag"):
        frame_flags()
