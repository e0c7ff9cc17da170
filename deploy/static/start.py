"""`__main__` of the static executable: modules and the package's data come from the executable."""

from __future__ import annotations

import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec
from typing import Any

import _bundle  # main.c


class Importer(FrozenImporter):
    """Frozen modules, which beyond what Python makes of them have a place (PEP 302: `__file__`, get_data())."""

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The module, if it is in this executable."""
        spec = super().find_spec(fullname, path, target)
        if spec is None and path is not None:
            return BuiltinImporter.find_spec(fullname)  # extensions in packages, which Python 3.11 does not look for
        if spec is not None:
            spec.loader = cls  # type: ignore[assignment]  # a class whose methods need no instance, as its base
            package = spec.submodule_search_locations is not None
            spec.origin = fullname.replace(".", "/") + ("/__init__.py" if package else ".py")
            spec.has_location = True
        return spec

    @staticmethod
    def get_data(path: str) -> bytes:
        """The file of a package; FileNotFoundError."""
        data: bytes = _bundle.read(path)
        return data


if __name__ == "__main__":
    sys.meta_path[sys.meta_path.index(FrozenImporter)] = Importer

    from xtrace.__main__ import main

    sys.exit(main())
