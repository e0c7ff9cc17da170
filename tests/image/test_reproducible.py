"""Two builds in two places: BPF objects and wheels are the same, byte for byte. What a source distribution carries is
packed as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.support.net import ROOT

SOURCES = ("LICENSE", "README.md", "build_ffi.py", "csrc", "pyproject.toml", "setup.py", "xtrace")


def sources(place: Path) -> Path:
    """Copy the tree to `place`."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__", "*.o", "*.so"))
        else:
            place.mkdir(exist_ok=True)
            shutil.copy(source, place / name)
    return place


def wheel(place: Path, **environment: str) -> Path:
    """Build it from the sources at `place`."""
    variables = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000", **environment}
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", "."]
    subprocess.run(command, cwd=place, env=variables, check=True, capture_output=True)
    (built,) = (place / "dist").glob("*.whl")
    return built


def test_two_places_give_the_same_wheel(tmp_path: Path) -> None:
    first, second = (wheel(sources(tmp_path / name)) for name in ("one", "another_place"))
    with zipfile.ZipFile(first) as one, zipfile.ZipFile(second) as other:
        assert any(name.endswith(".o") for name in one.namelist())
        different = [name for name in one.namelist() if one.read(name) != other.read(name)]
    assert different == []
    assert first.read_bytes() == second.read_bytes()


def test_objects_of_a_source_distribution_are_packed_without_clang(tmp_path: Path) -> None:
    place = sources(tmp_path / "unpacked")
    carried = {f"xtrace/{path.name}": f"built earlier: {path.name}".encode() for path in ROOT.glob("xtrace/*.o")}
    assert carried
    (place / "bpf").mkdir()
    for name, content in carried.items():
        (place / "bpf" / Path(name).name).write_bytes(content)
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in Path("/usr/bin").iterdir():
        if not program.name.startswith("clang"):
            (programs / program.name).symlink_to(program)
    with zipfile.ZipFile(wheel(place, PATH=str(programs))) as built:
        assert {name: built.read(name) for name in built.namelist() if name.endswith(".o")} == carried
