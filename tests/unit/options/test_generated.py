"""Documents and completions follow from the table of options."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.options import documents
from deploy.options.files import ROOT, generated
from deploy.options.words import SUBCOMMANDS
from tests.conftest import skip_or_fail
from xtrace.options.option import Option, Takes
from xtrace.options.table import OPTIONS

MANUAL = ROOT / "docs/man/xtrace-catch.8"
SECTIONS = [
    "NAME",
    "SYNOPSIS",
    "DESCRIPTION",
    "OPTIONS",
    "ENVIRONMENT",
    "OUTPUT",
    "EXIT STATUS",
    "EXAMPLES",
    "SEE ALSO",
]
BEGIN, END = "<!-- options: main -->\n", "<!-- /options -->"


@pytest.mark.parametrize("path", generated(), ids=lambda path: path.name)
def test_generated_file_is_up_to_date(path: Path) -> None:
    assert path.read_text() == generated()[path], "run make options"


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_stands_in_the_documents_and_completions(option: Option[Any]) -> None:
    options, manual = (ROOT / "docs/options.md").read_text(), MANUAL.read_text().replace("\\-", "-")
    (row,) = (line for line in options.splitlines() if f"`{f'{option.name} {option.usage}'.strip()}`" in line)
    assert all(f"`{name}`" in row for name in (*option.flags[:-1], *option.variables))
    flags = ' ", " '.join(option.flags)
    item = f".BR {flags}" + (' " ' if option.takes is not Takes.NOTHING else "\n")
    assert manual.count(f"\n{item}") == 1
    for name in option.variables:
        assert f"\n.B {name}\n" in manual
    bash, zsh, fish = (
        (ROOT / f"deploy/completion/{name}").read_text()
        for name in ("xtrace-catch.bash", "_xtrace-catch", "xtrace-catch.fish")
    )
    words = re.findall(r"[\w-]+", bash)
    assert all(flag in words for flag in option.flags)
    assert f"-l {option.name[2:]} " in fish
    assert re.search(rf"{option.name}\b", zsh)


def rows_between_markers(text: str) -> list[list[str]]:
    """Cells of the table between the markers, without its head."""
    start = text.index(BEGIN) + len(BEGIN)
    lines = text[start : text.index(END, start)].strip().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("name", ["README.md", "README_CN.md"])
def test_options_of_the_readme_have_the_flags_and_variables_of_the_table(name: str) -> None:
    by_flag = {flag: option for option in OPTIONS for flag in option.flags}
    rows = rows_between_markers((ROOT / name).read_text())
    assert len(rows) > 5
    for row in rows:
        flags = re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", row[0])
        options = {by_flag[flag] for flag in flags}
        assert set(flags) == {flag for option in options for flag in option.flags}, row[0]
        variables = re.findall(r"[A-Z][A-Z_]+", row[1])
        assert set(variables) == {variable for option in options for variable in option.variables}, row[0]


def test_parts_are_replaced_and_the_rest_stays() -> None:
    text = "a\n<b x>\nold\n<e>\nc\n<b y>\n<e>\nd\n"
    assert documents.replace_parts(text, "<b {}>\n", "<e>\n", {"x": "1\n", "y": "2\n"}) == (
        "a\n<b x>\n1\n<e>\nc\n<b y>\n2\n<e>\nd\n"
    )
    with pytest.raises(ValueError, match="substring not found"):
        documents.replace_parts(text, "<b {}>\n", "<e>\n", {"z": ""})


def test_manual_page_has_its_sections() -> None:
    assert re.findall(r"^\.SH (.*)$", MANUAL.read_text(), re.MULTILINE) == SECTIONS


def test_manual_page_is_rendered_without_a_warning_in_80_columns() -> None:
    if shutil.which("mandoc") is None:
        skip_or_fail("unit", "mandoc is not installed: sudo make deps")
    linted = subprocess.run(["mandoc", "-T", "lint", "-W", "style", MANUAL], capture_output=True, text=True)
    assert (linted.stdout, linted.stderr, linted.returncode) == ("", "", 0)
    shown = subprocess.run(
        ["mandoc", "-T", "utf8", "-O", "width=80", MANUAL], capture_output=True, text=True, check=True
    )
    text = re.sub(".\b", "", shown.stdout)
    assert max(len(line) for line in text.splitlines()) <= 80, "lines that are not filled too"
    assert "--exclude-device DEV[,...]" in text


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_completion_offers_what_the_help_of_a_subcommand_names(name: str) -> None:
    said = subprocess.run([sys.executable, "-m", "xtrace", name, "--help"], capture_output=True, text=True, check=True)
    named = {line.split()[0].rstrip(",") for line in said.stdout.splitlines() if line.startswith("  ")}
    named |= set(re.findall(r"^ +(?:-\w, )?(--[a-z]+)", said.stdout, re.MULTILINE))
    assert {flag for flag in named if flag.startswith("-")} - {"-c"} <= set(SUBCOMMANDS[name])
    assert set(SUBCOMMANDS[name]) - named <= {"-h", "--help"}
