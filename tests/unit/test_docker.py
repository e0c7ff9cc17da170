"""Targets of make that run a container engine, with one that only notes what it is asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

UNKNOWN = 'Error response from daemon: invalid CapAdd: unknown capability: "CAP_BPF"'
CURE = (
    "make: this engine does not know BPF and PERFMON"
    " (use make {} CAPABILITY_BPF=SYS_ADMIN CAPABILITY_PERFMON=CAP_SYS_ADMIN)\n"
)


def make(place: Path, target: str, engine: str, *variables: str, tree: Path = ROOT) -> tuple[int, str, list[str]]:
    """Exit code and stderr of make with an engine that does this; how the engine was called."""
    docker, log = place / "docker", place / "log"
    log.touch()
    docker.write_text(f'#!/bin/sh\necho "$*" >>{log}\n{engine}\n')
    docker.chmod(0o755)
    command = ["make", "--no-print-directory", target, f"DOCKER={docker}", *variables]
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MODE")}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr, log.read_text().splitlines()


@pytest.mark.parametrize("target", ["docker-up", "docker-run"])
def test_an_engine_that_does_not_know_a_capability_gets_its_cure(tmp_path: Path, target: str) -> None:
    refuses = f"case $1$* in create*|run*|*\" up -d\") echo '{UNKNOWN}' >&2; exit 125;; esac"
    code, said, _ = make(tmp_path, target, refuses)
    assert code == 2
    assert CURE.format(target) in said
    assert UNKNOWN in said


@pytest.mark.parametrize("target", ["docker-up", "docker-run"])
def test_the_cure_is_what_the_engine_is_asked_then(tmp_path: Path, target: str) -> None:
    asked = 'echo "given $CAPABILITY_BPF $CAPABILITY_PERFMON" >>"$0.env"'
    variables = ("CAPABILITY_BPF=SYS_ADMIN", "CAPABILITY_PERFMON=CAP_SYS_ADMIN")
    code, _, calls = make(tmp_path, target, asked, *variables)
    assert code == 0
    assert not [call for call in calls if call.startswith("create")]
    if target == "docker-run":
        assert "--cap-add SYS_ADMIN --cap-add NET_ADMIN --cap-add CAP_SYS_ADMIN" in calls[-1]
    else:
        assert (tmp_path / "docker.env").read_text().splitlines()[-1] == "given SYS_ADMIN CAP_SYS_ADMIN"


@pytest.mark.parametrize("target", ["docker-up", "docker-run"])
def test_other_refusals_are_left_as_they_are(tmp_path: Path, target: str) -> None:
    other = 'case $1$* in create*) echo made7;; run*|*" up -d") echo "no space" >&2; exit 125;; esac'
    code, said, calls = make(tmp_path, target, other)
    assert (code, "CAPABILITY" in said) == (2, False)
    assert calls[-1] == "rm made7", "the container that it was tried with"


@pytest.mark.parametrize(("listed", "removed"), [("a1 b2", ["image rm a1 b2"]), ("", [])])
def test_images_without_a_name_go_with_the_others_and_no_image_of_others(
    tmp_path: Path, listed: str, removed: list[str]
) -> None:
    code, _, calls = make(tmp_path, "docker-clean", f'case "$*" in "image ls"*) echo {listed};; esac')
    assert code == 0
    (asked,) = [call for call in calls if call.startswith("image ls")]
    assert asked == "image ls -q --filter dangling=true --filter label=org.opencontainers.image.title=xtrace-catch"
    named = [f"image rm xtrace-catch:{tag}" for tag in ("latest", "latest-arm64", "archive", "debug")]
    assert [call for call in calls if call.startswith("image rm")] == [*named, *removed]
    assert not [call for call in calls if "prune" in call]


def test_every_stage_of_the_image_has_the_label() -> None:
    stages = (ROOT / "Dockerfile").read_text().split("\nFROM ")[1:]
    own = [stage for stage in stages if not stage.startswith(("packages ", "build "))]  # those have their parent's
    assert len(own) == 2
    assert all('LABEL org.opencontainers.image.title="xtrace-catch"' in stage for stage in own)


def test_the_image_is_what_the_archive_has(tmp_path: Path) -> None:
    """Engines stamp what they build, so the build makes an archive, which the engine loads."""
    code, _, calls = make(tmp_path, "docker-build", 'case $1 in run) echo packed;; load) cat >"$0.loaded";; esac')
    assert code == 0
    built, *_ = calls
    assert built.startswith("build ")
    assert built.endswith("-t xtrace-catch:archive .")
    assert sorted(calls[1:]) == ["load", "run --rm --network none --log-driver none xtrace-catch:archive"]
    assert (tmp_path / "docker.loaded").read_text() == "packed\n"


def test_an_image_for_arm64_is_asked_for_as_engines_do(tmp_path: Path) -> None:
    code, _, (built, *_) = make(tmp_path, "docker-build", "", "PLATFORM=linux/arm64")
    assert code == 0
    assert "--build-arg PLATFORM=linux/arm64 " in built


def test_the_archive_is_of_both_architectures(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        (tree / name).write_bytes((ROOT / name).read_bytes())
    packs = "case $1 in run) echo packed;; esac"
    code, said, (built, _) = make(tmp_path, "docker-archive", packs, tree=tree)
    assert code == 0, said
    assert "--build-arg PLATFORM=linux/amd64,linux/arm64 " in built
    assert (tree / "dist/xtrace-catch.oci.tar").read_text() == "packed\n"


def test_no_archive_is_left_of_a_build_that_failed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    fails = "case $1 in run) echo half; exit 125;; esac"
    code, _, _ = make(tmp_path, "docker-archive", fails, tree=tree)
    assert code == 2
    assert list((tree / "dist").iterdir()) == []
