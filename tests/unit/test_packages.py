"""Versions of packages: in the order of the project's own, as dpkg and rpm compare them."""

from __future__ import annotations

import subprocess
from pathlib import Path

STAGE = Path(__file__).parents[2] / "deploy/packages/stage.sh"


def version_of(place: Path, version: str) -> str:
    """What a package is called whose pyproject.toml has this version."""
    (place / "pyproject.toml").write_text(f'[project]\nname = "xtrace-catch"\nversion = "{version}"\n')
    script = f'. {STAGE}; printf %s "$version"'
    return subprocess.run(["sh", "-euc", script], cwd=place, capture_output=True, text=True, check=True).stdout


def test_a_candidate_sorts_before_its_release(tmp_path: Path) -> None:
    candidate, release = version_of(tmp_path, "1.2.3rc4"), version_of(tmp_path, "1.2.3")
    assert (candidate, release) == ("1.2.3~rc4", "1.2.3")
    assert subprocess.run(["dpkg", "--compare-versions", candidate, "lt", release]).returncode == 0
