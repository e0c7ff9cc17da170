"""An object's maps and the programs loaded on them, with a kernel to play with."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from tests.unit.fake_kernel import FakeKernel
from xtrace.errors import ObjectError, VerifierError
from xtrace.kernel import constants
from xtrace.kernel.collection import Collection
from xtrace.kernel.elf import MapSpec, ObjectSpec, ProgramSpec, Relocation
from xtrace.kernel.syscall import ffi

LOAD_CONSTANT = bytes.fromhex("1800000000000000 0000000000000000 9500000000000000")
RODATA = MapSpec(
    "rodata", constants.MAP_TYPE_ARRAY, 4, 8, 1, contents=bytes(8), variables={"slots": (4, 4)}, frozen=True
)
PROGRAM = ProgramSpec("counts", "xdp", LOAD_CONSTANT, (Relocation(0, "rodata", 4),), (), b"", 8, b"", 16)
OBJECT = ObjectSpec({"flows": MapSpec("flows", 1, 48, 40, 10), "rodata": RODATA}, {"counts": PROGRAM}, b"types", "GPL")


def unchanged(spec: MapSpec) -> MapSpec:
    return spec


def created(kernel: FakeKernel) -> list[tuple[bytes, int]]:
    """Notes name and entries of the maps that are created."""
    found: list[tuple[bytes, int]] = []

    def create(request: Any) -> int:
        found.append((ffi.string(request.map_name), request.max_entries))
        return 0

    kernel.answer("xt_map_create", create)
    return found


def test_maps_are_created_once_and_as_large_as_wanted_and_constants_for_each_load(kernel: FakeKernel) -> None:
    found = created(kernel)
    with Collection(OBJECT, lambda spec: spec._replace(max_entries=99)) as collection:
        assert (list(collection.maps), found) == (["flows"], [(b"flows", 99)])
        for slots in (1, 2):
            collection.load("counts", {"slots": slots}, prog_type=constants.PROG_TYPE_XDP).close()
        assert found[1:] == [(b"rodata", 1)] * 2
    contents = [value for _, _, value, _ in kernel.arguments_of("xt_map_update")]
    assert contents == [bytes(4) + slots.to_bytes(4, "little") for slots in (1, 2)]


def test_program_is_loaded_as_what_its_loader_wants(kernel: FakeKernel) -> None:
    requests: list[tuple[int, int, int]] = []

    def load(request: Any) -> int:
        requests.append((request.prog_type, request.expected_attach_type, request.prog_flags))
        return 0

    kernel.answer("xt_prog_load", load)
    with Collection(OBJECT, unchanged, typed=False) as collection:
        collection.prepare("counts", {}, prog_type=2, attach_type=48, flags=32)().close()
    assert requests == [(2, 48, 32)]
    assert "xt_btf_load" not in kernel.calls


def test_refused_program_leaves_its_constants_to_nobody(kernel: FakeKernel) -> None:
    kernel.answer("xt_prog_load", -errno.EACCES)
    with Collection(OBJECT, unchanged) as collection:
        before = set(kernel.open)
        with pytest.raises(VerifierError, match=r"^BPF_PROG_LOAD\(counts\): EACCES"):
            collection.load("counts", {"slots": 1}, prog_type=constants.PROG_TYPE_XDP)
        with pytest.raises(ObjectError, match="map 'rodata' has no variable 'slot'"):
            collection.load("counts", {"slot": 1}, prog_type=constants.PROG_TYPE_XDP)
        assert kernel.open == before
