"""Where BPF objects come from: the package, in whatever way it is there."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

import xtrace
from xtrace.errors import ObjectError
from xtrace.kernel.objects import load_object


def test_object_is_that_of_the_package() -> None:
    assert "flows" in load_object("xdp_monitor.o").maps


def test_missing_object_says_to_install_again() -> None:
    message = r"^xtrace/absent\.o: the BPF program is missing; reinstall the package$"
    with pytest.raises(ObjectError, match=message):
        load_object("absent.o")


def test_object_is_found_where_the_package_is_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a zip archive, as any loader with get_data()."""
    archive = tmp_path / "package.zip"
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("xtrace/__init__.py", "")
        written.write(Path(xtrace.__file__).parent / "xdp_monitor.o", "xtrace/zipped.o")
    expected = load_object("xdp_monitor.o")
    monkeypatch.delitem(sys.modules, "xtrace")
    monkeypatch.syspath_prepend(str(archive))
    assert load_object("zipped.o") == expected
