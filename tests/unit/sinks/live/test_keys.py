"""Keys as terminals send them."""

from __future__ import annotations

import pytest

from xtrace.sinks.live.keys import decoded, is_cut


@pytest.mark.parametrize(
    "data, names",
    [
        (b"q", ["q"]),
        (b"\x1b[A\x1b[B\x1b[C\x1b[D", ["up", "down", "right", "left"]),
        (b"\x1bOA\x1bOB", ["up", "down"]),
        (b"\x1b[H\x1b[F\x1b[1~\x1b[4~\x1b[7~\x1b[8~\x1bOH", ["home", "end"] * 3 + ["home"]),
        (b"\x1b[5~\x1b[6~", ["page up", "page down"]),
        (b"\t\x1b[Z\r\n", ["tab", "shift-tab", "enter", "enter"]),
        (b"\x7f\x08\x15", ["backspace", "backspace", "ctrl-u"]),
        (b"\x1b", ["esc"]),
        (b"\x1bq", ["esc", "q"]),
        (b"\x1b[1;5A", ["up"]),
        (b"a\x1b[200~b\x00\x1b[15~", ["a", "b"]),
        ("ü/".encode(), ["ü", "/"]),
        (b"\xffx", ["x"]),
    ],
)
def test_bytes_are_keys(data: bytes, names: list[str]) -> None:
    assert list(decoded(data)) == names


@pytest.mark.parametrize("data", [b"\x1b", b"a\x1b[", b"\x1b[1", b"\x1b[1;5", b"\x1bO"])
def test_sequence_that_has_only_begun_may_go_on(data: bytes) -> None:
    assert is_cut(data)


@pytest.mark.parametrize("data", [b"", b"q", b"\x1b[A", b"\x1bOA", b"\x1b[5~", b"\x1bq"])
def test_whole_keys_are_not_waited_for(data: bytes) -> None:
    assert not is_cut(data)
