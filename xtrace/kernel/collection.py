"""One BPF object in the kernel: its maps, created once, and its programs, each loaded on them as often as needed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from xtrace.errors import VerifierError
from xtrace.kernel.bpf import Fd, Map, Program, load_btf
from xtrace.kernel.elf import MapSpec, ObjectSpec, patch_constants

log = logging.getLogger(__name__)

CONSTANTS = "rodata"
"""The map of an object's constants. They differ per load, so each load has one of its own."""


class Collection:
    """Owns the maps of an object. Programs are their loaders' to close."""

    def __init__(self, spec: ObjectSpec, resize: Callable[[MapSpec], MapSpec], *, typed: bool = True) -> None:
        """Create the maps, as large as `resize` makes them; with type information if `typed` and the kernel takes it.

        Raises KernelError, or PrivilegeError with what is missing; nothing stays open then.
        """
        self.spec = spec
        self.maps: dict[str, Map] = {}
        """by name, without constants"""
        self._types: Fd | None = None
        with ExitStack() as opening:
            own = opening.enter_context
            types = load_types(spec) if typed else None
            self._types = own(types) if types else None
            for name, found in spec.maps.items():
                if not found.frozen:
                    self.maps[name] = own(Map.create(resize(found), self._types))
            self._owned = opening.pop_all()

    def load(
        self, name: str, constants: Mapping[str, int], *, prog_type: int, attach_type: int = 0, flags: int = 0
    ) -> Program:
        """Load a program on the maps, with values for the constants that it was compiled with (csrc/*.c).

        Raises ObjectError for a constant that is not there, VerifierError with the log for a program that is refused.
        """
        with Map.create(patch_constants(self.spec.maps[CONSTANTS], constants), self._types) as own_constants:
            return Program.load(
                self.spec.programs[name],
                {**self.maps, CONSTANTS: own_constants},
                licence=self.spec.license,
                btf=self._types,
                prog_type=prog_type,
                attach_type=attach_type,
                flags=flags,
            )

    def memory(self) -> int:
        """Bytes of kernel memory that the maps are charged for."""
        return sum(bpf_map.memory() for bpf_map in self.maps.values())

    def close(self) -> None:
        """Release the maps."""
        self._owned.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load_types(spec: ObjectSpec) -> Fd | None:
    """The object's type information, loaded; None where the kernel does not take it."""
    try:
        return load_btf(spec.btf)
    except VerifierError as error:
        log.debug("%s: going on without type information", error)
        return None
