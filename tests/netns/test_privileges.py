"""Who may run it: nobody without the three capabilities, and any user with them."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.netns.tool import LIMIT_S, ONLY_INGRESS, attached_program, bounded, environment, is_free, started, tc_started
from tests.support.net import ROOT, Namespace, veth_pair
from tests.support.reading import needed_to_read

NEEDED = ("bpf", "net_admin", "perfmon")
USER = ROOT.stat().st_uid or 65534
"""Not root: the owner of this tree, or nobody."""


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
