"""Completion in bash, as readline calls it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.options.words import SUBCOMMANDS
from xtrace.model.thresholds import THRESHOLDS
from xtrace.options.table import HOOKS, MODES, OPTIONS

SCRIPT = Path(__file__).parents[3] / "deploy/completion/xtrace-catch.bash"

CALL = """
source "$0"
COMP_LINE=$1 COMP_POINT=${#1}
_xtrace_catch
printf '%s\\n' "${COMPREPLY[@]}"
"""
LIMIT_S = 20


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    """A sysfs with RDMA devices."""
    for name in ("mlx5_0", "mlx5_1", "rxe0", "x$(id)", "y;z", "\x1b[31m"):
        (tmp_path / "class/infiniband" / name).mkdir(parents=True)
    return tmp_path


def interfaces() -> set[str]:
    """Those of this network namespace."""
    return {path.parent.name for path in Path("/sys/class/net").glob("*/ifindex")}


def offered(line: str, sysfs: Path | None = None) -> set[str]:
    """What completion offers at the end of a line, without what readline keeps before it."""
    environment = {**os.environ, "XTRACE_SYSFS": str(sysfs or "/nowhere")}
    ended = subprocess.run(["bash", "-c", CALL, SCRIPT, line], capture_output=True, text=True, env=environment)
    assert (ended.returncode, ended.stderr) == (0, "")
    return set(ended.stdout.split())


ALL_FLAGS = {flag for option in OPTIONS for flag in option.flags}


@pytest.mark.parametrize(
    "line, words",
    [
        ("xtrace-catch ", {*ALL_FLAGS, *SUBCOMMANDS}),
        ("xtrace-catch r", {"report"}),
        ("xtrace-catch report -", set(SUBCOMMANDS["report"])),
        ("xtrace-catch hang --t", {"--threshold"}),
        (f"xtrace-catch report {SCRIPT.parent}/x", {str(SCRIPT), str(SCRIPT.with_suffix(".fish"))}),
        ("xtrace-catch -l ", ALL_FLAGS),
        ("xtrace-catch --exclude", {"--exclude-net", "--exclude-device", "--exclude-dns"}),
        ("xtrace-catch -i lo --qp", {"--qps"}),
        ("xtrace-catch -m ", set(MODES)),
        ("xtrace-catch -m xdp,", {"xdp,rdma", "xdp,nccl"}),
        ("xtrace-catch --hook ", set(HOOKS)),
        ("xtrace-catch --hook=", set(HOOKS)),
        ("xtrace-catch --hook=x", {"xdp"}),
        ("xtrace-catch -f tcp,s", {"tcp,sctp"}),
        ("xtrace-catch --filter=udp,t", {"udp,tcp"}),
        ("xtrace-catch --filter tcp,udp,tc", set()),
        ("xtrace-catch --threshold ", {f"{name}=" for name in THRESHOLDS}),
        ("xtrace-catch --threshold idle=1:2,pau", {"2,paused="}),
        ("xtrace-catch --threshold=idle=1,pau", {"1,paused="}),
        ("xtrace-catch -t ", set()),
        ("xtrace-catch --label ", set()),
        ("xtrace-catch --sysfs /sys/kern", {"/sys/kernel"}),
        ("xtrace-catch -d ", set()),
    ],
)
def test_offered(line: str, words: set[str]) -> None:
    assert offered(line) == words


@pytest.mark.parametrize("line, before", [("xtrace-catch -i ", ""), ("xtrace-catch --interface=any,", "any,")])
def test_interfaces_are_offered(line: str, before: str) -> None:
    # others come and go while tests run
    first = interfaces()
    words = offered(line)
    assert {f"{before}{name}" for name in first & interfaces()} <= words
    assert f"{before}lo" in words
    assert ("any" in words) == (before == "")


@pytest.mark.parametrize(
    "line, words",
    [
        ("xtrace-catch -d ", {"mlx5_0", "mlx5_1", "rxe0"}),
        ("xtrace-catch -d r", {"rxe0"}),
        ("xtrace-catch --device mlx5_0,m", {"mlx5_0,mlx5_1"}),
        ("xtrace-catch --exclude-device=mlx5_0,", {"mlx5_0,mlx5_1", "mlx5_0,rxe0"}),
    ],
)
def test_rdma_devices_are_offered(line: str, words: set[str], devices: Path) -> None:
    assert offered(line, devices) == words


@pytest.fixture
def shell(devices: Path) -> Iterator[int]:
    """An interactive bash on a terminal, in which the command prints its arguments."""
    terminal, other_end = pty.openpty()
    environment = {"TERM": "dumb", "PATH": os.environ["PATH"], "XTRACE_SYSFS": str(devices), "PS1": ""}
    command = ["bash", "--norc", "--noprofile", "-i"]
    with subprocess.Popen(
        command, stdin=other_end, stdout=other_end, stderr=other_end, env=environment, start_new_session=True
    ) as bash:
        os.close(other_end)
        try:
            define = "xtrace-catch() { printf '[%s]' \"$@\" END; }"
            os.write(terminal, f"source {SCRIPT}; {define}; echo REA''DY\n".encode())
            read_until(terminal, "READY")
            yield terminal
        finally:
            bash.kill()
            os.close(terminal)


def read_until(terminal: int, end: str) -> str:
    text = ""
    while end not in text:
        ready, _, _ = select.select([terminal], [], [], LIMIT_S)
        assert ready, text
        text += os.read(terminal, 4096).decode()
    return text


@pytest.mark.parametrize(
    "typed, arguments",
    [
        ("xtrace-catch --dire\tboth", ["--direction", "both"]),
        ("xtrace-catch -d rx\t -i any", ["-d", "rxe0", "-i", "any"]),
        ("xtrace-catch -d rx\t,mlx5_1\t -l", ["-d", "rxe0,mlx5_1", "-l"]),
        ("xtrace-catch --hook=x\t", ["--hook=xdp"]),
        ("xtrace-catch -m xdp,r\t -l", ["-m", "xdp,rdma", "-l"]),
        ("xtrace-catch --threshold idle=1:2,pau\t7", ["--threshold", "idle=1:2,paused=7"]),
        ("xtrace-catch --threshold=idle=1,pau\t7", ["--threshold=idle=1,paused=7"]),
    ],
)
def test_tab_completes_the_line(typed: str, arguments: list[str], shell: int) -> None:
    os.write(shell, f"{typed}\n".encode())
    printed = "".join(f"[{argument}]" for argument in [*arguments, "END"])
    assert printed in read_until(shell, "[END]")
