"""A terminal's text, with the few styles that the tool uses, as SVG."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT, PICTURE = DOCS / "terminal.txt", DOCS / "terminal.svg"

COLUMNS = 80
FONT_PX, LINE_PX, MARGIN_PX = 13, 18, 14
CHARACTER_PX = 7.83
"""0.602 of the font's size, in the fonts below; textLength makes others as wide."""
STYLE = re.compile(r"\x1b\[([\d;]*)m")
CLASSES = {"1": "b", "1;33": "b y", "33": "y"}
"""Of SGR parameters."""

HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">
<title>{title}</title>
<style>text{{font:{font}px 'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#d8dee9;white-space:pre}}
.p{{fill:#a3be8c}}.b{{font-weight:bold}}.y{{fill:#ebcb8b}}</style>
<rect width="100%" height="100%" rx="6" fill="#20242c"/>
"""


def drawn(text: str) -> str:
    """Return the picture. The first line is the command, behind a prompt."""
    lines = text.splitlines()
    width = round(COLUMNS * CHARACTER_PX + 2 * MARGIN_PX)
    height = len(lines) * LINE_PX + 2 * MARGIN_PX
    head = HEAD.format(width=width, height=height, font=FONT_PX, title=escape(lines[0].removeprefix("$ ")))
    body = (_line(number, line) for number, line in enumerate(lines))
    return "".join([head, *body, "</svg>\n"])


def _line(number: int, line: str) -> str:
    shown = STYLE.sub("", line)
    if not shown:
        return ""
    y = MARGIN_PX + number * LINE_PX + FONT_PX
    width = round(len(shown) * CHARACTER_PX, 2)
    kind = "" if number else ' class="p"'
    spans = "".join(_spans(line))
    place = f'x="{MARGIN_PX}" y="{y}" textLength="{width}"'
    return f'<text {place} xml:space="preserve"{kind}>{spans}</text>\n'


def _spans(line: str) -> Iterator[str]:
    """Yield the pieces of a line; every style but those of CLASSES is that of plain text."""
    style = ""
    for index, piece in enumerate(STYLE.split(line)):
        if index % 2:
            style = CLASSES.get(piece, "")
        elif piece:
            yield f'<tspan class="{style}">{escape(piece)}</tspan>' if style else escape(piece)
