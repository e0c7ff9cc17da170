"""README.md, README_CN.md and docs/: links lead somewhere, both READMEs have the same commands and options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
ENGLISH, CHINESE = (ROOT / name for name in ("README.md", "README_CN.md"))


def anchors(document: Path) -> set[str]:
    """What GitHub makes of the headings: lower case, spaces to hyphens, without punctuation."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(document: Path) -> list[str]:
    """Those in parentheses, and those that have a line or an attribute of their own."""
    text = document.read_text()
    apart = re.findall(r"^\[[^]]+\]: (\S+)", text, re.MULTILINE) + re.findall(r'\b(?:src|href)="([^"]+)', text)
    return [*re.findall(r"\]\(([^)\s]+)\)", text), *apart]


def broken_links(document: Path) -> list[str]:
    """Relative links whose file, or heading in it, is not there."""
    found = []
    for link in links(document):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


def commands(document: Path) -> list[str]:
    """Indented lines, without the comments behind them."""
    return [line.partition("  #")[0].rstrip() for line in document.read_text().splitlines() if line.startswith("    ")]


def options(document: Path) -> list[list[str]]:
    """Option and environment of each row of the main options table."""
    table = document.read_text().partition("<!-- options: main -->")[2].partition("<!-- /options -->")[0]
    rows = [row.strip("|").split("|") for row in table.splitlines() if row.startswith("| `")]
    return [[cell.strip() for cell in row[:2]] for row in rows]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_lead_somewhere(document: Path) -> None:
    assert broken_links(document) == []


def test_both_readmes_have_the_same_commands_and_samples() -> None:
    assert len(commands(ENGLISH)) > 20
    assert commands(CHINESE) == commands(ENGLISH)


def test_both_readmes_have_the_same_main_options() -> None:
    assert len(options(ENGLISH)) > 8
    assert options(CHINESE) == options(ENGLISH)


def sections(document: Path) -> list[tuple[str, list[str], list[str]]]:
    """Of each section: how deep it is, its code, and where it leads to; the other README is none of it."""
    text = document.read_text()
    depths = ["", *re.findall(r"^(#+) ", text, re.MULTILINE)]
    parts = re.split(r"^#+ .*$", text, flags=re.MULTILINE)
    leads = [sorted(set(re.findall(r"\]\(([^)\s]+)\)", part)) - {ENGLISH.name, CHINESE.name}) for part in parts]
    code = [sorted(re.findall(r"`([^`\n]+)`", part)) for part in parts]
    return list(zip(depths, code, leads, strict=True))


def test_both_readmes_have_the_same_sections_with_the_same_code_and_links() -> None:
    assert sections(CHINESE) == sections(ENGLISH)
