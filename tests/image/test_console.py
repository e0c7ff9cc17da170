"""Every way through the console in an empty root: a module that was left out shows only here."""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path

import pytest

from tests.image.chroot import LIMIT_S, bare, ended, running, usual
from tests.nccl.shown import make
from tests.support.net import Pair, assert_sums_close, of_type, read_until, records
from tests.support.schema import validate
from tests.support.terminal import Terminal

LONG = ("-t", "1h")


@pytest.mark.parametrize(
    "arguments",
    [["-V"], ["--version"], ["-h"], ["-l"], ["-l", "-o", "json"], ["-l", "-m", "rdma"], ["report", "--help"]],
    ids=" ".join,
)
def test_answers_are_those_of_the_package(root: Path, arguments: list[str]) -> None:
    here, there = bare(root, *arguments), usual(*arguments)
    assert (here.returncode, here.stdout, here.stderr) == (there.returncode, there.stdout, there.stderr)
    assert here.stdout or b"RDMA" in here.stderr  # where there is none, that is the answer


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["--nonsense"], 2),
        (["-t", "soon"], 2),
        (["-m", "none"], 2),
        (["--net", "10.0.0.0/33"], 2),
        (["--push", "ftp://example.org/"], 2),
        (["--label", "1=2"], 2),
        (["--filter", "igmp"], 2),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else str(given),
)
def test_wrong_arguments_are_told_as_the_package_does(root: Path, arguments: list[str], code: int) -> None:
    here, there = bare(root, *arguments), usual(*arguments)
    assert (here.returncode, here.stdout, here.stderr) == (code, b"", there.stderr)
    assert here.stderr.count(b"\n") == 1


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_it_starts_with_a_standard_descriptor_closed(root: Path, closed: int, pair: Pair) -> None:
    """There is no /dev/null to open in its place."""
    command = ["sh", "-c", f'exec chroot "$0" /xtrace-catch --version {closed}>&-', str(root)]
    with pair.far.start(*command, stdout=-1, stderr=-1) as process:
        code, stdout, said = ended(process)
    expected = (1, b"") if closed == 1 else (0, bare(root, "-V").stdout)
    assert (code, stdout) == expected
    assert "Traceback" not in said


def test_python_s_and_a_locale_s_environment_changes_nothing(root: Path) -> None:
    variables = {"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere", "PYTHONVERBOSE": "1", "LC_ALL": "zh_CN.GBK"}
    here = bare(root, "-V", **variables)
    assert (here.returncode, here.stdout, here.stderr) == (0, bare(root, "-V").stdout, b"")


@pytest.mark.parametrize(
    "options",
    [(), ("--hook", "tc", "--direction", "both"), ("--xdp-mode", "generic"), ("--exclude-dns", "--net", "127.0.0.0/8")],
    ids=" ".join,
)
def test_loopback_traffic_as_json_lines(root: Path, pair: Pair, options: tuple[str, ...]) -> None:
    with running(pair.far, root, "-i", "lo", "-t", "200ms", *options) as process:
        assert b"Traceback" not in read_until(process.stderr, b"loaded on")
        pair.far.ping("127.0.0.1", 3)
        process.send_signal(signal.SIGTERM)
        code, stdout, said = ended(process)
    assert code == 0, said
    lines = records(stdout)
    validate(lines)
    assert_sums_close(lines)
    assert {flow["traffic_type"] for flow in of_type(lines, "flow")} == {"ICMP"}


def test_text_in_chinese(root: Path, pair: Pair) -> None:
    variables = {"LANG": "zh_CN.UTF-8"}
    arguments = ("-i", "lo", "-t", "200ms", "-o", "text")
    with running(pair.far, root, *arguments, variables=variables) as process:
        told = read_until(process.stderr, "已加载".encode())
        pair.far.ping("127.0.0.1", 3)
        process.send_signal(signal.SIGTERM)
        code, stdout, said = ended(process)
    assert code == 0, said
    assert b"Traceback" not in told
    assert b"127.0.0.1 -> 127.0.0.1 proto=1 packets=" in stdout


def test_sigterm_ends_it_with_the_last_interval(root: Path, pair: Pair) -> None:
    with running(pair.far, root, "-i", "lo", *LONG) as process:
        read_until(process.stderr, b"loaded on")
        pair.far.ping("127.0.0.1", 3)
        process.send_signal(signal.SIGTERM)
        code, stdout, said = ended(process)
    assert code == 0, said
    lines = records(stdout)
    assert sum(interface["packets"] for interface in of_type(lines, "interface")) == 6
    assert lines[-1]["type"] == "end"


def test_a_missing_interface_is_one_line(root: Path, pair: Pair) -> None:
    with running(pair.far, root, "-i", "absent0") as process:
        code, stdout, said = ended(process)
    assert (code, stdout) == (1, b"")
    assert "absent0" in said.splitlines()[-1]
    assert "Traceback" not in said


def test_debug_tells_where_an_error_came_from(root: Path, pair: Pair) -> None:
    with running(pair.far, root, "--debug", "-i", "absent0") as process:
        _, _, said = ended(process)
    assert 'File "xtrace/assembly.py", line ' in said


def test_without_proc_it_says_so(root: Path) -> None:
    here = bare(root, "-i", "lo")
    assert here.returncode == 1
    assert here.stderr == b"xtrace-catch: [Errno 2] No such file or directory: '/proc/self/status'\n"


def test_mode_nccl_has_its_bpf_object_too(root: Path, pair: Pair) -> None:
    # a proc without processes: those of others on this machine are not probed
    make(root / "nobody")
    variables = {"XTRACE_PROCFS": "/nobody"}
    with running(pair.far, root, "-m", "nccl", "-t", "200ms", "-c", "2", variables=variables) as process:
        code, stdout, said = ended(process)
    assert code == 0, said
    lines = records(stdout)
    validate(lines)
    assert [line["type"] for line in lines].count("nccl") >= 2


def test_full_screen_needs_nothing_but_a_terminal(root: Path, pair: Pair) -> None:
    with closing(Terminal()) as terminal:
        ends = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.theirs)
        options = ("-i", "far0", "--live", "--tcp", "-t", "200ms")
        with running(pair.far, root, *options, variables={"TERM": "xterm"}, **ends) as process:
            terminal.until_shown("[flows ", "in and out")
            for typed, shown in (
                ("\t", "[interfaces 1]"),
                ("\t", "[TCP in trouble"),
                ("/tcp 80 10.0.0.0/8\r", "filter: "),
            ):
                terminal.type(typed)
                terminal.until_shown(shown)
            terminal.type("q")
            assert process.wait(LIMIT_S) == 0
        terminal.until(lambda screen: not screen.is_alternate)
