"""What `make deps` installs, by package managers that only note what they are asked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy/deps/install.sh"
NOBODY = 65534
MAKEFILE = (ROOT / "Makefile").read_text()

NEEDED_BY_THE_SCRIPT = ("awk", "dirname", "grep", "sh")

INSTALLS = {
    "apt-get": "apt-get -qq install -y --no-install-recommends",
    "dnf": "dnf -q install -y",
    "zypper": "zypper -q --non-interactive install --no-recommends",
    "apk": "apk add -q",
    "pacman": "pacman -S --noconfirm --needed",
}
QUERIES = {
    "apt-get": ("dpkg-query", '[ "$4" = clang ] && echo install ok installed'),
    "dnf": ("rpm", '[ "$*" = "-q --whatprovides clang" ]'),
    "zypper": ("rpm", '[ "$*" = "-q --whatprovides clang" ]'),
    "apk": ("apk", '[ "$*" = "info -e clang" ] || [ "$1" = add ]'),
    "pacman": ("pacman", '[ "$*" = "-Q clang" ] || [ "$1" = -S ]'),
}
"""What is asked about a package, and a stand-in for a machine that has clang only."""


def packages(variable: str) -> list[str]:
    (listed,) = re.findall(rf"^{variable} := (.*)$", MAKEFILE, re.MULTILINE)
    return str(listed).split()


class Machine:
    """Programs that note how they are called."""

    def __init__(self, place: Path, *managers: str, user: int = 0) -> None:
        self.place = place
        self.log = place / "log"
        self.log.touch()
        for name in NEEDED_BY_THE_SCRIPT:
            found = shutil.which(name)
            assert found
            (place / name).symlink_to(found)
        self.program("id", f"echo {user}")
        for manager in managers:
            self.program(manager, "true")
            self.program(*QUERIES[manager])

    def program(self, name: str, does: str) -> None:
        path = self.place / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.log}\n{does}\n')
        path.chmod(0o755)

    def install(self, *wanted: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SCRIPT), "deps", *wanted], env={"PATH": str(self.place)}, capture_output=True, text=True, check=False
        )

    def installed(self, manager: str) -> list[str]:
        """Packages that the manager was told to install, by its only call for that."""
        (call,) = [line for line in self.log.read_text().splitlines() if line.startswith(INSTALLS[manager])]
        return call.removeprefix(INSTALLS[manager]).split()


@pytest.mark.parametrize(
    ("manager", "names"),
    [
        ("apt-get", ["gcc", "libc6-dev", "python3-venv", "iproute2", "systemd"]),
        ("dnf", ["gcc", "glibc-devel", "iproute-tc", "systemd"]),
        ("zypper", ["gcc", "glibc-devel", "iproute2", "systemd"]),
        ("apk", ["gcc", "musl-dev", "iproute2"]),
        ("pacman", ["gcc", "glibc", "iproute2", "systemd"]),
    ],
)
def test_what_is_missing_is_installed_by_its_name_there(tmp_path: Path, manager: str, names: list[str]) -> None:
    machine = Machine(tmp_path, manager)
    done = machine.install("clang", "gcc", "libc6-dev", "python3-venv", "iproute2", "systemd")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"installing: {' '.join(names)} \n"
    assert machine.installed(manager) == names


@pytest.mark.parametrize("manager", INSTALLS)
def test_everything_that_building_and_testing_needs_has_a_name(tmp_path: Path, manager: str) -> None:
    done = Machine(tmp_path, manager).install(*packages("BUILD_PACKAGES"), *packages("TEST_PACKAGES"))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("manager", INSTALLS)
def test_nothing_is_done_where_nothing_is_missing(tmp_path: Path, manager: str) -> None:
    machine = Machine(tmp_path, manager)
    done = machine.install("clang")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert INSTALLS[manager] not in machine.log.read_text()


@pytest.mark.parametrize("manager", INSTALLS)
def test_a_user_is_told_to_make_it_as_root(tmp_path: Path, manager: str) -> None:
    machine = Machine(tmp_path, manager, user=1000)
    done = machine.install("clang", "gcc", "jq")
    assert done.returncode == 1
    assert done.stderr == "make: missing packages: gcc jq (run 'sudo make deps', or install them)\n"
    assert INSTALLS[manager] not in machine.log.read_text()


def test_a_package_without_a_name_there_is_named(tmp_path: Path) -> None:
    done = Machine(tmp_path, "dnf").install("gcc", "debhelper", "lintian")
    assert done.returncode == 1
    assert done.stderr == (
        "make: install your distribution's packages for: debhelper lintian (these are Debian's names)\n"
    )


def test_without_a_known_manager_all_are_named(tmp_path: Path) -> None:
    done = Machine(tmp_path).install("clang", "jq")
    assert done.returncode == 1
    assert done.stderr == "make: install your distribution's packages for: clang jq (these are Debian's names)\n"


def test_debians_names_need_no_table(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "apt-get", "dnf")
    assert machine.install("debhelper").returncode == 0
    assert machine.installed("apt-get") == ["debhelper"], "not what is there besides"


def test_command_is_made_in_a_clone_whose_group_is_not_ones_own() -> None:
    """As in a shared directory: only root may give files to a group that it is not in."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become another user")
    with tempfile.TemporaryDirectory() as clone:
        Path(clone).chmod(0o755)
        shutil.copy(ROOT / "Makefile", clone)
        for path in (clone, f"{clone}/Makefile"):
            os.chown(path, NOBODY, 0)
        become = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
        made = subprocess.run([*become, "make", "-s", "-C", clone, "xtrace-catch"], capture_output=True, text=True)
        assert (made.returncode, made.stderr) == (0, "")
        assert Path(clone, "xtrace-catch").stat().st_uid == NOBODY
