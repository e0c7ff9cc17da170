"""A run that has attached has no privileges but those it needs from then on, in any of its threads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.netns.test_privileges import NO_DEVICE, ROWS
from tests.netns.tool import Tool, is_free, run_to_end, running
from tests.support.net import ROOT, of_type, veth_pair
from xtrace.kernel import confinement
from xtrace.kernel.privileges import CAPABILITIES, XDP_NEEDS

XDP_BITS = sum(1 << CAPABILITIES[name] for name in XDP_NEEDS)
FIELDS = ("CapInh:", "CapPrm:", "CapEff:", "CapAmb:", "NoNewPrivs:")
DAEMON = (1, 1)
"""User and group `daemon`, which every distribution has."""


def privileges_of_threads(pid: int) -> dict[str, tuple[int, ...]]:
    """By name and number of each thread: the sets of capabilities, and no_new_privs."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        fields = tuple(int(line.split()[1], 16) for line in lines if line.startswith(FIELDS))
        found[f"{lines[0]} {task.name}"] = fields
    return found


def the_tool(tool: Tool) -> int:
    """Its process number: `ip netns exec` has become it."""
    return tool.process.pid


def test_no_thread_keeps_more_than_three_capabilities(tmp_path: Path) -> None:
    listening = ("--listen", f"unix:{tmp_path}/socket")
    pushing = ("--push", "http://127.0.0.1:1", "--spool", str(tmp_path / "spool"))
    (tmp_path / "spool").mkdir()
    arguments = ("-i", "far0", "-t", "100ms", "-o", "json", *listening, *pushing)
    with veth_pair() as pair, running(pair.far, *arguments) as tool:
        tool.wait_for_intervals(1)
        threads = privileges_of_threads(the_tool(tool))
        result = tool.stop()
    assert len(threads) >= 4, f"not the server, and what sends: {threads}"
    once = (0, XDP_BITS, XDP_BITS, 0, 1)
    assert {name: fields for name, fields in threads.items() if fields != once} == {}
    (start,) = of_type(result.records, "start")
    why = confinement.why_no_landlock()
    assert (start["landlock"], start.get("landlock_reason")) == (why is None, why)
    assert list((tmp_path / "spool").rglob("*.batch")), "nothing could be written"
    assert not (tmp_path / "socket").exists(), "it could not be removed"


def users_of_threads(pid: int) -> set[tuple[int, ...]]:
    """Real, effective, saved and file system's numbers of user and group, and the other groups, of all threads."""
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
        found.add(tuple(int(number) for name in ("Uid", "Gid", "Groups") for number in fields[name].split()))
    return found


def home_of(user: tuple[int, int], path: Path) -> Path:
    """A new directory of a user's own."""
    path.mkdir()
    os.chown(path, *user)
    return path


def may_daemon_read_the_code() -> bool:
    """This tree and its Python may be in a closed home."""
    places = (sys.base_prefix, str(ROOT / "xtrace"))
    as_daemon = ("setpriv", "--reuid=1", "--regid=1", "--clear-groups")
    return all(subprocess.run([*as_daemon, "test", "-r", place]).returncode == 0 for place in places)


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that any user may pass through; pytest's own are closed."""
    with TemporaryDirectory() as place:
        Path(place).chmod(0o711)
        yield Path(place)


def test_a_run_of_another_user_has_its_files_and_the_needed_capabilities_from_the_first_record_on(
    open_place: Path,
) -> None:
    spool, run = home_of(DAEMON, open_place / "spool"), home_of(DAEMON, open_place / "run")
    listening = ("--listen", f"unix:{run}/socket")
    pushing = ("--push", "http://127.0.0.1:1", "--spool", str(spool))
    arguments = ("--user", "daemon", "-i", "far*", "-t", "100ms", "-o", "json", *listening, *pushing)
    kept = XDP_BITS if may_daemon_read_the_code() else XDP_BITS | 1 << CAPABILITIES["CAP_DAC_READ_SEARCH"]
    with veth_pair() as pair, running(pair.far, *arguments) as tool:
        tool.wait_for_intervals(1)
        pid = the_tool(tool)
        assert users_of_threads(pid) == {(*[1] * 8,)}
        assert {*privileges_of_threads(pid).values()} == {(0, kept, kept, 0, 1)}
        owners = {path.stat().st_uid for path in (run / "socket", *spool.rglob("*"))}
        pair.far.ip("link add far9 type veth peer name near9")
        pair.far.ip("link set far9 up")
        tool.wait_until_it_says(b"loaded on far9")
        result = tool.stop()
        assert is_free(pair.far, "far0") and is_free(pair.far, "far9")
    assert result.code == 0, result.said
    assert owners == {1}
    assert list(spool.rglob("*.batch")), "nothing could be written"
    assert not (run / "socket").exists(), "it could not be removed"


def spool_of(place: Path, user: str) -> tuple[list[str], set[str]]:
    """Run once with a server that is away; return what was said of the spool, but for the end, and what waits in it."""
    pushing = ("--push", "http://127.0.0.1:1", "--spool", str(place))
    given = ("--user", user) if user else ()
    with veth_pair() as pair:
        result = run_to_end(pair.far, "-i", "far0", "-t", "100ms", "-c", "3", "-o", "json", *pushing, *given)
    said = [line for line in result.said if "spool" in line and not line.endswith(f" samples, kept in {place}")]
    return said, {path.stem for path in place.rglob("*") if path.suffix in (".batch", ".unsure")}


@pytest.mark.parametrize(
    ("first", "second", "owner"),
    [("daemon", "", 0), ("", "daemon", 1)],
    ids=["root after daemon", "daemon after root"],
)
def test_a_spool_survives_a_change_of_user(first: str, second: str, owner: int, open_place: Path) -> None:
    """The directory is the second user's; what the first has made in it is closed to all others."""
    spool = open_place / "spool"
    spool.mkdir()
    _, before = spool_of(spool, first)
    os.chown(spool, owner, owner)
    said, after = spool_of(spool, second)
    url = "http://127.0.0.1:1/api/v1/import/prometheus"
    assert said == [f"push to {url}: intervals in the spool: {len(before)}"]
    assert before and before < after, "nothing could be written"


@pytest.mark.parametrize(("options", "capabilities"), ROWS, ids=[options for options, _ in ROWS])
def test_each_row_of_the_documented_table_is_possible_for_another_user(
    options: str, capabilities: tuple[str, ...]
) -> None:
    given = [*options.replace("eth0", "far0").split(), "--user", "daemon"]
    with veth_pair() as pair:
        result = run_to_end(pair.far, "-i", "far0", "-t", "100ms", "-c", "1", *given)
    assert result.code == 0 or NO_DEVICE in result.said, result.said


@pytest.mark.parametrize(
    ("options", "switched_off", "why"),
    [
        ((), "landlock", "XTRACE_FEATURES_OFF names it"),
        (("--tcp",), "", "mode nccl and --tcp look into other processes, which Landlock forbids"),
    ],
)
def test_the_first_record_says_why_files_are_within_reach(
    options: tuple[str, ...], switched_off: str, why: str
) -> None:
    variables = {"XTRACE_FEATURES_OFF": switched_off}
    with veth_pair() as pair:
        result = run_to_end(
            pair.far, "-i", "far0", "-t", "100ms", "-c", "1", "-o", "json", *options, variables=variables
        )
    (start,) = of_type(result.records, "start")
    assert (start["landlock"], start["landlock_reason"]) == (False, why)


def test_modules_are_loaded_late_from_wherever_the_command_has_them() -> None:
    """An editable installation's are in no directory of sys.path, unless Python was started in it."""
    with veth_pair() as pair:
        said = pair.far.run(str(ROOT / "xtrace-catch"), *["-i", "far0", "-t", "100ms", "-c", "2", "-o", "json"])
    lines = [json.loads(line) for line in said.splitlines()]
    assert of_type(lines, "start")[0]["landlock"] is True
    assert of_type(lines, "end")[0]["intervals"] == 2


NOBODY = 65534


@pytest.mark.parametrize("mode", [0o700, 0o750])
def test_a_run_from_a_home_that_is_closed_to_others_loads_its_modules(mode: int, tmp_path: Path) -> None:
    """As sudo does: root without capabilities is one of the others."""
    home = tmp_path / "home"
    shutil.copytree(ROOT / "xtrace", home / "xtrace", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (home, *home.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    home.chmod(mode)
    command = ["env", "-C", str(home), sys.executable, "-B", "-m", "xtrace", "-i", "far0", "-t", "100ms", "-c", "2"]
    with veth_pair() as pair:
        for form in ("json", "text", "table"):
            said = pair.far.run(*command, "-o", form)
            assert said, form
        (end,) = of_type([json.loads(line) for line in pair.far.run(*command, "-o", "json").splitlines()], "end")
    assert end["intervals"] == 2
