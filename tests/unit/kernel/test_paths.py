"""Where proc and sys are: what was chosen, what a container has at /host, the usual place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from xtrace.errors import UsageError
from xtrace.kernel import paths

ROOTS = [(paths.procfs, "proc", "stat"), (paths.sysfs, "sys", "kernel")]
Root = Callable[[], Path]


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty /host."""
    monkeypatch.setattr(paths, "HOST", tmp_path)
    return tmp_path


@pytest.mark.parametrize("root, name, entry", ROOTS)
def test_without_a_container_it_is_the_usual_place(root: Root, name: str, entry: str) -> None:
    assert root() == Path("/", name)
    assert (root() / entry).exists(), "what tells a mounted one is not in the real one"


@pytest.mark.parametrize("root, name, entry", ROOTS)
def test_what_is_mounted_below_host_is_preferred(root: Root, name: str, entry: str, host: Path) -> None:
    (host / name / entry).mkdir(parents=True)
    assert root() == host / name


@pytest.mark.parametrize("root, name, entry", ROOTS)
def test_an_empty_directory_below_host_is_not_taken_for_it(root: Root, name: str, entry: str, host: Path) -> None:
    (host / name).mkdir()
    assert root() == Path("/", name)


@pytest.mark.parametrize("root, name, entry", ROOTS)
def test_a_chosen_directory_wins_over_host(root: Root, name: str, entry: str, host: Path) -> None:
    for directory in (host / name / entry, host / "chosen" / entry):
        directory.mkdir(parents=True)
    paths.choose(**{name: str(host / "chosen")})
    assert root() == host / "chosen"
    paths.choose()
    assert root() == host / name


@pytest.mark.parametrize("root, name, entry", ROOTS)
def test_a_chosen_directory_must_exist(root: Root, name: str, entry: str, host: Path) -> None:
    expected = rf"^{host}/nowhere: no such directory \(--{name}fs and XTRACE_{name.upper()}FS"
    with pytest.raises(UsageError, match=expected):
        paths.choose(**{name: f"{host}/nowhere"})


@pytest.mark.parametrize("root, name, entry", ROOTS)
def test_a_chosen_directory_must_be_a_mounted_file_system(root: Root, name: str, entry: str, host: Path) -> None:
    expected = rf"^{host}: not a {name} file system: {entry}.* not found in it \(--{name}fs and XTRACE_{name.upper()}FS"
    with pytest.raises(UsageError, match=expected):
        paths.choose(**{name: f"{host}"})


def test_a_tree_with_classes_is_enough_of_a_sysfs(host: Path) -> None:
    (host / "class/infiniband").mkdir(parents=True)
    paths.choose(sys=str(host))
    assert paths.sysfs() == host
