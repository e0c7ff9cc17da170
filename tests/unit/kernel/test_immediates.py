"""Constants in instructions: what is replaced by its value, and what must stay a load."""

import struct

import pytest

from xtrace.kernel.elf import ProgramSpec, Relocation
from xtrace.kernel.immediates import put_constants

CONSTANTS = {"rodata": bytes.fromhex("11223344556677889900aabbccddeeff")}
ADDRESS = struct.pack("<BBhiBBhi", 0x18, 0x23, 0, 7, 0, 0, 0, 4)
"""r3 = 4 bytes into the value of the map with descriptor 7"""
JUMP = 0x05
EXIT = struct.pack("<BBhi", 0x95, 0, 0, 0)


def load(opcode: int, to: int = 3, offset: int = 0, by: int = 3) -> bytes:
    """Loads from the address in r3, or in another register."""
    return struct.pack("<BBhi", opcode, by << 4 | to, offset, 0)


def patched(code: bytes, *relocations: Relocation) -> bytes:
    program = ProgramSpec("run", "xdp", code, relocations, (), b"", 0, b"", 0)
    return put_constants(program, code, CONSTANTS)


@pytest.mark.parametrize(
    ("opcode", "value"),
    [(0x71, 0x55), (0x69, 0x6655), (0x61, 0x88776655), (0x79, 0xBBAA009988776655)],
    ids=["byte", "half", "word", "double"],
)
def test_loaded_constant_becomes_a_number(opcode: int, value: int) -> None:
    low, high = value & 0xFFFFFFFF, value >> 32
    number = struct.pack("<BBhIBBhI", 0x18, 3, 0, low, 0, 0, 0, high)
    following = struct.pack("<BBhi", JUMP, 0, 0, 0)
    assert patched(ADDRESS + load(opcode) + EXIT, Relocation(0, "rodata", 4)) == number + following + EXIT


@pytest.mark.parametrize(
    ("code", "relocation"),
    [
        (ADDRESS + load(0x61, to=2) + EXIT, Relocation(0, "rodata", 4)),
        (ADDRESS + load(0x61, offset=4) + EXIT, Relocation(0, "rodata", 4)),
        (ADDRESS + load(0x61, to=2, by=2) + EXIT, Relocation(0, "rodata", 4)),
        (ADDRESS + EXIT, Relocation(0, "rodata", 4)),
        (ADDRESS + load(0x61) + EXIT, Relocation(0, "bss", 4)),
        (ADDRESS + load(0x61) + EXIT, Relocation(0, "rodata", None)),
        (ADDRESS + load(0x61) + EXIT, Relocation(0, "rodata", 13)),
        (ADDRESS, Relocation(0, "rodata", 4)),
    ],
    ids=[
        "address stays",
        "beside it",
        "by another address",
        "not loaded",
        "map that changes",
        "map itself",
        "beyond the map",
        "beyond the code",
    ],
)
def test_everything_else_stays_a_load(code: bytes, relocation: Relocation) -> None:
    assert patched(code, relocation) == code


@pytest.mark.parametrize("opcode", [JUMP, 0x15, 0x16], ids=["always", "compares 64 bits", "compares 32 bits"])
@pytest.mark.parametrize("backwards", [False, True])
def test_load_that_is_jumped_to_stays(opcode: int, backwards: bool) -> None:
    jump = struct.pack("<BBhi", opcode, 0, -2 if backwards else 2, 0)
    loading = ADDRESS + load(0x61)
    code = loading + jump + EXIT if backwards else jump + loading + EXIT
    assert patched(code, Relocation(0 if backwards else 1, "rodata", 4)) == code


def test_load_that_is_jumped_to_by_a_distance_of_32_bits_stays() -> None:
    code = struct.pack("<BBhi", 0x06, 0, 0, 2) + ADDRESS + load(0x61) + EXIT
    assert patched(code, Relocation(1, "rodata", 4)) == code


def test_last_constant_of_a_map_becomes_a_number() -> None:
    assert patched(ADDRESS + load(0x61) + EXIT, Relocation(0, "rodata", 12))[4:8] == CONSTANTS["rodata"][12:]
