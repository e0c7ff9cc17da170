"""Any user may run it who has the capabilities, by whatever way; else they are named."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.image.chroot import ended
from tests.support.net import Pair, records

NOBODY = "65534"
NEEDED = ("bpf", "net_admin", "perfmon")
RUN = ("-i", "lo", "-t", "100", "-c", "1")


def file_capabilities(root: Path, *names: str) -> str:
    """Give the executable these; its path, which anybody can reach."""
    path = root / "xtrace-catch"
    for directory in (root, *root.parents[:2]):
        directory.chmod(0o755)
    subprocess.run(["setcap", ",".join(f"cap_{name}" for name in names) + "+ep", str(path)], check=True)
    return str(path)


def run_as_nobody(pair: Pair, path: str) -> tuple[int, bytes, str]:
    command = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", path, *RUN)
    with pair.far.start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        return ended(process)


def test_file_capabilities_are_enough(root: Path, pair: Pair) -> None:
    code, stdout, said = run_as_nobody(pair, file_capabilities(root, *NEEDED))
    assert code == 0, said
    assert records(stdout)[-1]["type"] == "end"


@pytest.mark.parametrize("missing", NEEDED)
def test_the_one_that_is_missing_is_named(root: Path, pair: Pair, missing: str) -> None:
    held = [name for name in NEEDED if name != missing]
    code, stdout, said = run_as_nobody(pair, file_capabilities(root, *held))
    assert (code, stdout) == (77, b"")
    assert re.findall(r"CAP_\w+", said) == [f"CAP_{missing.upper()}"]
