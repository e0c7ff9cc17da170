"""The BPF objects that were installed with the package."""

from __future__ import annotations

import pkgutil

from xtrace.errors import ObjectError
from xtrace.kernel.elf import ObjectSpec, parse_object


def load_object(name: str) -> ObjectSpec:
    """The object of that file name, wherever the package is: in a directory, or in an executable (PEP 302)."""
    try:
        data = pkgutil.get_data("xtrace", name)
    except FileNotFoundError:
        data = None
    if data is None:
        raise ObjectError(f"xtrace/{name}: the BPF program is missing: install the package again")
    return parse_object(data, name)
