"""Two builds in two places: BPF objects and wheels are the same, byte for byte."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.support.net import ROOT

SOURCES = ("LICENSE", "README.md", "build_ffi.py", "csrc", "pyproject.toml", "setup.py", "xtrace")


def wheel(place: Path) -> Path:
    """Build it from a copy of the tree at `place`."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__", "*.o", "*.so"))
        else:
            place.mkdir(exist_ok=True)
            shutil.copy(source, place / name)
    variables = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", "."]
    subprocess.run(command, cwd=place, env=variables, check=True, capture_output=True)
    (built,) = (place / "dist").glob("*.whl")
    return built


def test_two_places_give_the_same_wheel(tmp_path: Path) -> None:
    first, second = wheel(tmp_path / "one"), wheel(tmp_path / "another_place")
    with zipfile.ZipFile(first) as one, zipfile.ZipFile(second) as other:
        assert any(name.endswith(".o") for name in one.namelist())
        different = [name for name in one.namelist() if one.read(name) != other.read(name)]
    assert different == []
    assert first.read_bytes() == second.read_bytes()
