"""What users build on stays: command line, JSON Lines and metrics, compared with tests/fixtures/public.txt."""

from __future__ import annotations

import pytest

from deploy.snapshot.compared import CHANGELOG, INCOMPATIBLE, SNAPSHOT, Snapshot, broken, parsed, written
from deploy.snapshot.promises import promises, version
from deploy.snapshot.series import SOURCES, labels_in
from xtrace.options.labels import RESERVED_LABELS
from xtrace.sinks.identity import Identity

NOW = promises()
GONE = "option --interval: default 5s"
SAID = f"# Changes\n\n## 2.0.0\n\n- More.\n\n{INCOMPATIBLE}:\n\n- The default of `--interval`.\n\nFixes:\n\n- `--top`\n"


def test_nothing_public_was_taken_back_without_saying_so() -> None:
    before = parsed(SNAPSHOT.read_text())
    counts = {kind: sum(promise.startswith(f"{kind} ") for promise in NOW) for kind in ("option", "record", "metric")}
    print(f"{len(NOW)} promises, of them {counts}")
    assert broken(before, NOW, version(), CHANGELOG.read_text()) == []


def test_what_is_new_is_in_the_snapshot() -> None:
    assert SNAPSHOT.read_text() == written(NOW, version()), "run make snapshot"


@pytest.mark.parametrize(
    ("before", "now", "changelog", "complaints"),
    [
        ("1.2.3", "1.3.0", "", 2),
        ("1.2.3", "1.3.0", SAID, 1),
        ("1.2.3", "2.0.0", "", 1),
        ("1.2.3", "2.0.0", SAID, 0),
        ("1.2.3", "2.0.0", f"# Changes\n\n## 2.0.0\n\n- More.\n\n{SAID.removeprefix('# Changes')}", 1),
        ("1.2.3", "2.0.0", SAID.replace("`--interval`", "`--top`"), 1),
        ("0.1.0", "0.2.0", "", 1),
        ("0.1.0", "0.2.0", SAID, 0),
        ("2.0.0rc1", "2.0.0", "", 1),
        ("2.0.0rc1", "2.0.0", SAID, 0),
    ],
)
def test_who_takes_something_back_says_so_and_raises_the_first_number(
    before: str, now: str, changelog: str, complaints: int
) -> None:
    found = broken(Snapshot(before, frozenset({GONE, "command hang"})), {"command hang"}, now, changelog)
    assert len(found) == complaints
    assert all(GONE in complaint for complaint in found)


@pytest.mark.parametrize(
    "promise",
    [
        "option --interval: default 5s",
        "option --interval: also -t",
        "option --interval: variable INTERVAL_MS",
        "option --interface: takes a list",
        "option --format: value json",
        "command hang",
        "variable XTRACE_HOST",
        "threshold hang: above 30.0 and None s",
        "exit code 77: PrivilegeError",
        "exit code 130",
        "record flow",
        "record flow src_ip: null or string",
        "record flow packets: always",
        "record interface unattributed[].traffic_type: value TCP",
        "record rdma_port hw_counters{}.delta: integer or null",
        "metric xtrace_network_bytes_total: counter",
        "metric xtrace_network_bytes_total: in bytes",
        "label of flows src_ip",
        "label of nccl_ranks le",
    ],
)
def test_kinds_of_promises_are_found(promise: str) -> None:
    assert promise in NOW
    assert len(broken(parsed(written(NOW, "1.0.0")), NOW - {promise}, "1.0.1", "")) == 2


def test_additions_break_nothing() -> None:
    assert broken(Snapshot("1.0.0", frozenset(NOW)), {*NOW, "command new"}, "1.1.0", "") == []


def test_labels_of_the_tool_are_not_the_users() -> None:
    """A label of --label by the same name would be hidden by it, or clash."""
    used = {name for path in SOURCES.glob("*.py") for name in labels_in(path)}
    identity = {name for name, _ in Identity("n1", "10.0.0.1", "x").series()}
    assert used | identity == RESERVED_LABELS
