"""`__main__` of the static executable, from which modules and package data are loaded."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec
from types import ModuleType  # and not typing, which takes milliseconds: signals and garbage come first, in main()

import _bundle  # main.c


class Importer(FrozenImporter):
    """Imports frozen modules with a location, `__file__` and get_data() (PEP 302)."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module in this executable, else None."""
        spec = super().find_spec(fullname, path, target)
        if spec is None and path is not None:
            return BuiltinImporter.find_spec(fullname)  # Python 3.11 does not search for extensions in packages
        if spec is not None:
            spec.loader = cls  # type: ignore[assignment]  # all methods are static or class methods, as in the base
            package = spec.submodule_search_locations is not None
            spec.origin = fullname.replace(".", "/") + ("/__init__.py" if package else ".py")
            spec.has_location = True
        return spec

    @staticmethod
    def get_data(path: str) -> bytes:
        """Return a package's data file. Raises FileNotFoundError."""
        data: bytes = _bundle.read(path)
        return data


if __name__ == "__main__":
    # In /usr/bin, beside a Python of the same version, FrozenImporter would take our modules for parts of that one.
    sys._stdlib_dir = None  # type: ignore[attr-defined]
    sys.meta_path[sys.meta_path.index(FrozenImporter)] = Importer

    from xtrace.__main__ import main

    sys.exit(main())
