"""The capabilities that the documents name are enough, and each that is missing is told by its name."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.conftest import skip_or_fail
from tests.nccl.jobs import ROOT, calling, operations, standin, total
from tests.nccl.shown import own
from tests.netns.tool import environment
from tests.support.net import records
from tests.support.reading import needed_to_read

CALLS = 1_100
NAMES = ("bpf", "perfmon", "sys_ptrace")


def limited(*capabilities: str) -> list[str]:
    """A prefix that leaves a command only these capabilities, and those that it needs to read this tree."""
    if shutil.which("setpriv") is None:
        skip_or_fail("nccl", "no setpriv: install util-linux")
    return only(*capabilities, *needed_to_read(only()))


def only(*capabilities: str) -> list[str]:
    kept = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    return ["setpriv", f"--bounding-set={kept}", f"--inh-caps={kept}"]


def tool(prefix: list[str], *arguments: str) -> subprocess.Popen[bytes]:
    command = [*prefix, sys.executable, "-m", "xtrace", "-m", "nccl", "-o", "json", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(XTRACE_PROCFS=str(own())), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("missing", NAMES)
def test_a_missing_capability_is_told_by_its_name(missing: str) -> None:
    with tool(limited(*(name for name in NAMES if name != missing)), "-c", "1") as process:
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 77
    assert stdout == b""
    assert stderr.decode() == (
        f"xtrace-catch: mode nccl needs CAP_{missing.upper()}: run it with sudo, or grant these capabilities\n"
    )


def test_three_capabilities_are_enough() -> None:
    with calling(standin(), CALLS) as caller, tool(limited(*NAMES), "-t", "100ms") as process:
        assert process.stderr is not None
        said = b""
        while b"probing" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        caller.begin()
        caller.wait()
        process.terminate()
        stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert total(operations(records(stdout), caller.pid), "calls") == CALLS
