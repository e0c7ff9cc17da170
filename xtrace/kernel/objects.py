"""The BPF objects installed with the package."""

from __future__ import annotations

import pkgutil

from xtrace.errors import ObjectError
from xtrace.kernel.elf import ObjectSpec, parse_object


def load_object(name: str) -> ObjectSpec:
    """Load an object by file name, from the package's directory or from an executable (PEP 302)."""
    try:
        data = pkgutil.get_data("xtrace", name)
    except FileNotFoundError:
        data = None
    if data is None:
        raise ObjectError(f"xtrace/{name}: the BPF program is missing; reinstall the package")
    return parse_object(data, name)
