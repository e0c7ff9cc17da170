"""docs/terminal.svg is the picture of docs/terminal.txt, which was recorded."""

from __future__ import annotations

from xml.etree import ElementTree

from deploy.picture.drawn import COLUMNS, PICTURE, STYLE, TEXT, drawn


def test_the_picture_is_that_of_the_recorded_text() -> None:
    assert PICTURE.read_text() == drawn(TEXT.read_text()), "sudo make picture records and draws it anew"


def test_the_picture_shows_each_line_of_a_terminal() -> None:
    shown = [STYLE.sub("", line) for line in TEXT.read_text().splitlines()]
    assert len(shown) > 5 and max(map(len, shown)) <= COLUMNS
    root = ElementTree.fromstring(PICTURE.read_text())
    lines = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert lines == [line for line in shown if line]
