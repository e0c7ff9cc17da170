"""Privileges given up by a process of its own: they do not come back."""

from __future__ import annotations

import json
import subprocess
import sys
from errno import ENOSYS, EOPNOTSUPP
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fake_kernel import FakeKernel
from xtrace.errors import UsageError
from xtrace.kernel import confinement, syscall

ROOT = Path(__file__).parents[3]

SCRIPT = """
import json, os, queue, sys, threading
from pathlib import Path
from xtrace.kernel import confinement

def tried(act):
    try:
        return act() or "done"
    except OSError as error:
        return type(error).__name__

def acts():
    place = Path(sys.argv[1])
    return {
        "read allowed": tried(lambda: (place / "read/file").read_text()),
        "read other": tried(lambda: (place / "other/file").read_text()),
        "list other": tried(lambda: os.listdir(place / "other") and None),
        "write read-only": tried(lambda: (place / "read/new").write_text("")),
        "write allowed": tried(lambda: (place / "write/new").write_text("")),
        "rename allowed": tried(lambda: (place / "write/new").rename(place / "write/newer") and None),
        "read only file": tried((place / "apart/file").read_text),
        "read beside it": tried((place / "apart/other").read_text),
        "remove allowed": tried(lambda: (place / "write/newer").unlink()),
        "execute": tried(lambda: os.execv("/bin/true", ["true"])) if rules else "not tried",
        "status": [
            line.split()[1]
            for line in Path("/proc/thread-self/status").read_text().splitlines()
            if line.startswith(("CapPrm", "CapEff", "NoNewPrivs"))
        ],
    }

requests, answers = queue.SimpleQueue(), queue.SimpleQueue()
threads = [threading.Thread(target=lambda: requests.get() or answers.put(acts())) for _ in range(3)]
for thread in threads:
    thread.start()
place = Path(sys.argv[1])
rules = None
if sys.argv[2:] != ["without"]:
    readable = [place / "read", place / "nowhere", place / "apart/file", Path("/proc")]
    rules = confinement.landlock(readable, [place / "write"])
confinement.confine({"CAP_NET_ADMIN"}, rules)
found = [acts()]
for _ in threads:  # one after the other, whichever it is
    requests.put(None)
    found.append(answers.get())
print(json.dumps(found))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("read", "other", "write"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("content")
    (tmp_path / "apart").mkdir()
    for name in ("file", "other"):
        (tmp_path / "apart" / name).write_text("content")
    return tmp_path


def outcome(place: Path, *arguments: str) -> list[dict[str, Any]]:
    """What the main thread, and three that began before, may do."""
    command = [sys.executable, "-c", SCRIPT, str(place), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(found) == 4
    return found


def held() -> int:
    """Capabilities of this process."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapPrm"))


def test_every_thread_is_left_with_what_was_allowed(place: Path) -> None:
    if why := confinement.why_no_landlock():
        pytest.xfail(why)
    kept = f"{held() & 1 << 12:016x}"
    for thread in outcome(place):
        assert thread == {
            "read allowed": "content",
            "read other": "PermissionError",
            "list other": "PermissionError",
            "write read-only": "PermissionError",
            "write allowed": "done",
            "rename allowed": "done",
            "read only file": "content",
            "read beside it": "PermissionError",
            "remove allowed": "done",
            "execute": "PermissionError",
            "status": [kept, kept, "1"],
        }


def test_capabilities_go_without_landlock_too(place: Path) -> None:
    kept = f"{held() & 1 << 12:016x}"
    for thread in outcome(place, "without"):
        assert (thread["read other"], thread["status"]) == ("content", [kept, kept, "1"])


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (1, None),
        (7, None),
        (-ENOSYS, "the kernel has no Landlock (Linux 5.13)"),
        (-EOPNOTSUPP, "Landlock is off: boot with lsm=landlock,..."),
        (-1, "landlock_create_ruleset(): Operation not permitted"),
    ],
)
def test_why_there_is_none(monkeypatch: pytest.MonkeyPatch, answer: int, why: str | None) -> None:
    kernel = FakeKernel()
    kernel.answer("xt_landlock_version", answer)
    monkeypatch.setattr(syscall, "lib", kernel)
    assert confinement.why_no_landlock() == why


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTRACE_FEATURES_OFF", "landlock")
    assert confinement.why_no_landlock() == "XTRACE_FEATURES_OFF names it"
    monkeypatch.setenv("XTRACE_FEATURES_OFF", "landlocked")
    with pytest.raises(UsageError, match="landlocked"):
        confinement.why_no_landlock()
