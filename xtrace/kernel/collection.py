"""One BPF object in the kernel: its maps, created once, and its programs, loaded on them as often as needed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import MappingProxyType

from xtrace.errors import VerifierError
from xtrace.kernel.bpf import Fd, Map, Program, load_btf
from xtrace.kernel.elf import MapSpec, ObjectSpec, patch_constants

log = logging.getLogger(__name__)

CONSTANTS = "rodata"
"""The map of an object's constants. Constants differ per load, so each load has its own map."""

NO_MAPS: Mapping[str, Map] = {}


class Collection:
    """Owns the maps of an object. The caller closes the programs it loads."""

    def __init__(
        self,
        spec: ObjectSpec,
        resize: Callable[[MapSpec], MapSpec],
        *,
        typed: bool = True,
        shared: Mapping[str, Map] = NO_MAPS,
    ) -> None:
        """Create the maps, sized by `resize`, with type information if `typed` and the kernel accepts it.

        `shared`: maps of another object that this one's programs use too, instead of their own. Raises KernelError or
        PrivilegeError and then leaves nothing open.
        """
        self.spec = spec
        self.maps: dict[str, Map] = {}
        """by name, without the constants"""
        self._types: Fd | None = None
        with ExitStack() as opening:
            own = opening.enter_context
            types = load_types(spec) if typed else None
            self._types = own(types) if types else None
            for name, found in spec.maps.items():
                if not found.frozen and name not in shared:
                    self.maps[name] = own(Map.create(resize(found), self._types))
            self._shared = shared
            self._owned = opening.pop_all()

    def load(self, name: str, constants: Mapping[str, int], *, prog_type: int, attach_type: int = 0) -> Program:
        """Load a program that needs neither flags nor functions of the kernel at once, as prepare() does."""
        return self.prepare(name, constants, prog_type=prog_type, attach_type=attach_type)()

    def prepare(
        self,
        name: str,
        constants: Mapping[str, int],
        *,
        prog_type: int,
        attach_type: int = 0,
        flags: int = 0,
        functions: Mapping[str, int] = MappingProxyType({}),
    ) -> Callable[[], Program]:
        """Return what loads a program on the maps, with values for its constants (csrc/*.c); `functions`: BTF IDs.

        It has to be called, once; any thread may. Raises ObjectError for a malformed program or an unknown constant;
        what is returned raises VerifierError with the log if the kernel rejects the program.
        """
        with ExitStack() as opening:
            own = Map.create(patch_constants(self.spec.maps[CONSTANTS], constants), self._types)
            opening.enter_context(own)
            load = Program.prepare(
                self.spec.programs[name],
                {**self._shared, **self.maps, CONSTANTS: own},
                licence=self.spec.license,
                btf=self._types,
                prog_type=prog_type,
                attach_type=attach_type,
                flags=flags,
                functions=functions,
            )
            opening.pop_all()

        def load_and_release() -> Program:
            with own:
                return load()

        return load_and_release

    def memory(self) -> int:
        """Return the bytes of kernel memory charged for the maps."""
        return sum(bpf_map.memory() for bpf_map in self.maps.values())

    def close(self) -> None:
        """Release the maps."""
        self._owned.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load_types(spec: ObjectSpec) -> Fd | None:
    """Load the object's type information; None if the kernel rejects it."""
    try:
        return load_btf(spec.btf)
    except VerifierError as error:
        log.debug("%s: loading without type information", error)
        return None
