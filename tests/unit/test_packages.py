"""Names of packages, in the order in which dpkg and rpm compare them; whose machine their executable is for."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARM64 = "aarch64-linux-gnu"
MACHINES = {"amd64": 62, "arm64": 183}


def built(place: Path, name: str, machine: int) -> None:
    """What a static build leaves: an executable, as far as its header's field e_machine, licenses and SBOM."""
    dist = place / "dist"
    dist.mkdir(exist_ok=True)
    executable = dist / f"xtrace-catch{name}"
    executable.write_bytes(b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack("<HH", 2, machine))
    executable.chmod(0o755)
    (dist / f"xtrace-catch{name}.cdx.json").write_text(name)
    (dist / f"licenses{name}").mkdir()
    (dist / f"licenses{name}/COPYING").write_text(name)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The tree without what was built in it."""
    for entry in ("CHANGELOG.md", "deploy", "docs", "pyproject.toml"):
        (tmp_path / entry).symlink_to(ROOT / entry)
    return tmp_path


def version_of(tree: Path, version: str) -> str:
    """What a package is called whose pyproject.toml has this version."""
    (tree / "pyproject.toml").unlink(missing_ok=True)
    (tree / "pyproject.toml").write_text(f'[project]\nname = "xtrace-catch"\nversion = "{version}"\n')
    script = '. deploy/packages/stage.sh; printf %s "$version"'
    return subprocess.run(["sh", "-euc", script], cwd=tree, capture_output=True, text=True, check=True).stdout


def test_a_candidate_sorts_before_its_release(tree: Path) -> None:
    candidate, release = version_of(tree, "1.2.3rc4"), version_of(tree, "1.2.3")
    assert (candidate, release) == ("1.2.3~rc4", "1.2.3")
    assert subprocess.run(["dpkg", "--compare-versions", candidate, "lt", release]).returncode == 0


def stage(tree: Path, target: str) -> subprocess.CompletedProcess[str]:
    """Stage the files of a package, for another machine where one is named."""
    variables = {**os.environ, "STATIC_TARGET": target, "SOURCE_DATE_EPOCH": "0"}
    command = ["sh", "-euc", ". deploy/packages/stage.sh; stage staged; echo $architecture"]
    return subprocess.run(command, cwd=tree, env=variables, capture_output=True, text=True)


def test_each_machines_package_has_its_own_executable_licenses_and_sbom(tree: Path) -> None:
    built(tree, "", MACHINES["amd64"])
    built(tree, "-arm64", MACHINES["arm64"])
    done = stage(tree, ARM64)
    assert (done.returncode, done.stdout.split()[-1]) == (0, "arm64"), done.stderr
    staged = tree / "staged"
    assert (staged / "xtrace-catch").read_bytes() == (tree / "dist/xtrace-catch-arm64").read_bytes()
    assert (staged / "xtrace-catch.cdx.json").read_text() == "-arm64"
    assert (staged / "licenses/COPYING").read_text() == "-arm64"


def test_an_executable_for_another_machine_is_not_packed(tree: Path) -> None:
    built(tree, "-arm64", MACHINES["amd64"])
    done = stage(tree, ARM64)
    assert done.returncode == 1
    assert (
        done.stderr
        == f"make: dist/xtrace-catch-arm64 is not for arm64 but for amd64 (make static STATIC_TARGET={ARM64})\n"
    )
    assert not (tree / "staged").exists()


def test_one_that_is_not_built_is_named(tree: Path) -> None:
    built(tree, "", MACHINES["amd64"])
    done = stage(tree, ARM64)
    missing = f"make: dist/xtrace-catch-arm64 is missing (make static STATIC_TARGET={ARM64})\n"
    assert (done.returncode, done.stderr) == (1, missing)


def test_an_unknown_machine_is_named(tree: Path) -> None:
    done = stage(tree, "riscv64-linux-gnu")
    assert done.returncode == 2
    assert done.stderr.startswith("static build: STATIC_TARGET riscv64-linux-gnu: unknown")


@pytest.mark.parametrize("known", [True, False])
def test_another_machines_packages_are_asked_for_where_apt_knows_them(tree: Path, known: bool) -> None:
    dpkg = tree / "dpkg"
    dpkg.write_text(
        f"#!/bin/sh\ncase $1 in --print-foreign-architectures) echo {'arm64' if known else 'i386'};; esac\n"
    )
    dpkg.chmod(0o755)
    variables = {**os.environ, "STATIC_TARGET": ARM64, "PATH": f"{tree}:{os.environ['PATH']}"}
    command = ["sh", "deploy/static/build.sh", "--packages"]
    done = subprocess.run(command, cwd=tree, env=variables, capture_output=True, text=True)
    cure = "dpkg --add-architecture arm64 && apt-get update"
    said = "" if known else f"static build: packages for arm64 are not known ({cure})\n"
    assert (done.returncode, done.stderr) == (0 if known else 2, said)
    assert ("libssl-dev:arm64" in done.stdout) == known


def test_an_image_is_not_made_of_an_executable_that_does_not_run(tmp_path: Path) -> None:
    built(tmp_path, "", MACHINES["amd64"])
    script = tmp_path / "deploy/image/build.sh"
    script.parent.mkdir(parents=True)
    script.write_bytes((ROOT / "deploy/image/build.sh").read_bytes())
    says = {"deploy/static/build.sh": "exit 0", "bin/dpkg": "echo amd64", "bin/chroot": "exit 126"}
    for name, does in says.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    variables = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    done = subprocess.run(["sh", str(script), str(tmp_path / "image")], env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (126, "")
    assert not (tmp_path / "image/amd64/licenses").exists()
