"""Blocks of commands in documents that are marked runnable do what they say, where there is an eth0 with traffic."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.tool import LIMIT_S, bounded, environment
from tests.support.net import ROOT, Pair, veth_pair

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
MARK = "<!-- runnable -->\n"


def blocks() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Document and commands of each block."""
    for document in DOCUMENTS:
        for number, part in enumerate(document.read_text().split(MARK)[1:], 1):
            lines = part.splitlines()
            end = next((at for at, line in enumerate(lines) if not line.startswith("    ")), len(lines))
            yield f"{document.name} {number}", tuple(line.strip() for line in lines[:end])


BLOCKS = dict(blocks())


@pytest.fixture
def pair() -> Iterator[Pair]:
    """far0 is eth0, and answers pings all the time."""
    with veth_pair() as made:
        made.far.ip("link set far0 down")
        made.far.ip("link set far0 name eth0")
        made.far.ip("link set eth0 up")
        pings = made.near.start("ping", "-q", "-i0.1", "10.0.0.2", stdout=subprocess.DEVNULL)
        with bounded(pings):
            yield made


@pytest.fixture
def path(tmp_path: Path) -> str:
    """The commands as they are installed; sudo, which is not needed here, runs what it is given."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, runs in (("sudo", 'exec "$@"'), ("xtrace-catch", f'exec {sys.executable} -m xtrace "$@"')):
        (programs / name).write_text(f"#!/bin/sh\n{runs}\n")
        (programs / name).chmod(0o755)
    return f"{programs}:{os.environ['PATH']}"


def test_there_are_such_blocks() -> None:
    assert sum(map(len, BLOCKS.values())) > 10


@pytest.mark.parametrize("block", BLOCKS)
def test_every_command_of_a_block_succeeds_and_says_something(
    block: str, pair: Pair, path: str, tmp_path: Path
) -> None:
    variables = environment(PATH=path, PYTHONPATH=str(ROOT))
    for command in BLOCKS[block]:
        script = f"set -o pipefail; cd {tmp_path}; {command}"
        done = subprocess.run(
            pair.far.command("bash", "-c", script), env=variables, capture_output=True, text=True, timeout=LIMIT_S
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        written = re.findall(r"(?:>|-o) (\w+\.\w+)", command.partition("  #")[0])
        said = "".join((tmp_path / name).read_text() for name in written) if written else done.stdout
        assert said.strip() not in ("", "[]", "null", "false"), command
