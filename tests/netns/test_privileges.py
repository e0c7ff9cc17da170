"""Who may run it: nobody without the three capabilities, and any user with them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.netns.tool import LIMIT_S, ONLY_INGRESS, attached_program, bounded, environment, is_free, started, tc_started
from tests.support.net import ROOT, Namespace, veth_pair
from tests.support.reading import needed_to_read

NEEDED = ("bpf", "net_admin", "perfmon")
USER = ROOT.stat().st_uid or 65534
"""Not root: the owner of this tree, or nobody."""


NO_DEVICE = "xtrace-catch: no RDMA device found (ls /sys/class/infiniband lists those with a loaded driver)"


def documented() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Options and capabilities of each row of the table in docs/security.md."""
    table = (ROOT / "docs/security.md").read_text().partition("<!-- privileges -->")[2].partition("<!-- /")[0]
    for row in re.findall(r"^\| `(.*?)` \| (.*?) \|", table, re.MULTILINE):
        yield row[0], tuple(re.findall(r"CAP_(\w+)", row[1].upper()))


ROWS = tuple(documented())


def as_user(*capabilities: str) -> list[str]:
    """What runs a command as USER with only these capabilities."""
    command = ["setpriv", f"--reuid={USER}", "--clear-groups", "--no-new-privs"]
    given = ",".join(f"+{name}" for name in capabilities)
    return [*command, f"--inh-caps=-all,{given}", f"--ambient-caps=-all,{given}"] if given else command


def run_as_user(
    namespace: Namespace, *capabilities: str, options: tuple[str, ...] = (), variables: dict[str, str] | None = None
) -> tuple[int, bytes, list[str]]:
    """A short run; exit code, stdout, and the lines of stderr."""
    run = (sys.executable, "-m", "xtrace", "-i", "far0", "-t", "100", "-c", "1")
    command = [*as_user(*capabilities, *needed_to_read(as_user())), *run, *options]
    pipe = subprocess.PIPE
    with bounded(namespace.start(*command, stdout=pipe, stderr=pipe, env=environment(**(variables or {})))) as process:
        stdout, stderr = process.communicate(timeout=LIMIT_S)
        return process.returncode, stdout, stderr.decode().splitlines()


@pytest.mark.parametrize("held", [(), *[tuple(c for c in NEEDED if c != missing) for missing in NEEDED]])
def test_missing_capabilities_are_named_in_one_line(held: tuple[str, ...]) -> None:
    with veth_pair() as pair:
        code, stdout, told = run_as_user(pair.far, *held)
        assert attached_program(pair.far) is None
    assert (code, stdout, len(told)) == (77, b"", 1)
    missing = [f"CAP_{name.upper()}" for name in NEEDED if name not in held]
    assert re.findall(r"CAP_\w+", told[0]) == missing


def test_the_three_capabilities_are_enough_for_any_user() -> None:
    with veth_pair() as pair:
        code, stdout, told = run_as_user(pair.far, *NEEDED, options=("--hook", "xdp"))
    assert (code, told) == (0, [*started(), ONLY_INGRESS])
    assert b'"type":"end"' in stdout


def test_promiscuous_mode_needs_a_fourth_capability() -> None:
    options = ("--promiscuous",)
    with veth_pair() as pair:
        code, stdout, told = run_as_user(pair.far, *NEEDED, options=options)
        assert (code, stdout, len(told)) == (77, b"", 1)
        assert told[0].startswith("xtrace-catch: --promiscuous needs CAP_NET_RAW: ")
        code, stdout, told = run_as_user(pair.far, *NEEDED, "net_raw", options=options)
    assert (code, told) == (0, [*tc_started("far0", "ingress"), ONLY_INGRESS])


@pytest.mark.parametrize("features_off", ["", "tcx"])
def test_the_three_capabilities_are_enough_for_tc_too(features_off: str) -> None:
    options = ("--hook", "tc", "--direction", "both")
    variables = {"XTRACE_FEATURES_OFF": features_off}
    with veth_pair() as pair:
        code, stdout, told = run_as_user(pair.far, *NEEDED, options=options, variables=variables)
        assert is_free(pair.far, "far0")
    assert (code, told) == (0, tc_started("far0", "ingress", "egress", how="clsact" if features_off else None))
    assert b'"type":"end"' in stdout


def test_the_three_capabilities_are_enough_for_the_own_connections_and_what_more_needs_is_named() -> None:
    with veth_pair() as pair:
        code, stdout, told = run_as_user(pair.far, *NEEDED, options=("--tcp", "-o", "json"))
    assert code == 0
    (line,) = [line for line in told if line.startswith("--tcp: ")]
    assert "sockets behind a monitored interface are not read: setns(" in line
    assert line.endswith("needs CAP_SYS_ADMIN")
    start, *_ = (json.loads(record) for record in stdout.splitlines())
    assert start["tcp"]["sees_ends"]
    own, other = (record for record in map(json.loads, stdout.splitlines()) if record["type"] == "tcp")
    assert (own["errors"], own["retrans_segs"], own["lost_ends"]) == ([], 0, 0)
    assert other["errors"] and other["connections"] is None


def run_row(options: str, capabilities: tuple[str, ...]) -> tuple[int, list[str]]:
    """Exit code and lines of stderr of a row's short run with these capabilities and no others."""
    with veth_pair() as pair:
        given = tuple(options.replace("eth0", "far0").split())
        code, _, told = run_as_user(pair.far, *(name.lower() for name in capabilities), options=given)
    return code, told


@pytest.mark.parametrize(("options", "capabilities"), ROWS, ids=[options for options, _ in ROWS])
def test_each_row_of_the_documented_table_is_enough(options: str, capabilities: tuple[str, ...]) -> None:
    code, told = run_row(options, capabilities)
    assert code == 0 or told == [NO_DEVICE], told


@pytest.mark.parametrize(
    ("options", "capabilities", "missing"),
    [(options, capabilities, missing) for options, capabilities in ROWS for missing in capabilities],
)
def test_nothing_in_a_row_is_too_much(options: str, capabilities: tuple[str, ...], missing: str) -> None:
    code, told = run_row(options, tuple(name for name in capabilities if name != missing))
    assert (code, len(told)) == (77, 1)
    assert re.findall(r"CAP_\w+", told[0]) == [f"CAP_{missing}"]
