"""Puts constants into a program's instructions, which otherwise load them from the frozen map that has them.

The verifier knows the values of a frozen map and leaves what they exclude away, but leaves the loads. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import compress

from xtrace.kernel.elf import ProgramSpec

_SLOT = 8  # bytes
_LOADS = {b"\x71": 1, b"\x69": 2, b"\x61": 4, b"\x79": 8}  # BPF_LDX | BPF_MEM | size: bytes
_CLASS, _JUMPS = 0x07, (0x05, 0x06)  # BPF_JMP, BPF_JMP32
_IS_JUMP = bytes(opcode & _CLASS in _JUMPS for opcode in range(256))
_LONG_JUMP = 0x06  # BPF_JMP32 | BPF_JA: its distance is the immediate
_NOTHING = bytes.fromhex("0500000000000000")  # jumps to the next instruction, which the verifier removes


def put_constants(program: ProgramSpec, code: bytes, constants: Mapping[str, bytes]) -> bytes:
    """Return the linked code of a program, with values in the place of addresses where these are loaded from at once.

    `constants`: contents of frozen data maps, by name. What a jump leads to, where the address may be another one, and
    what is loaded into another register than that of the address, which may be used again, is left as it is.
    """
    patched = bytearray(code)
    destinations = jump_destinations(code)
    for relocation in program.relocations:
        load = relocation.offset + 2
        start = load * _SLOT
        size = _LOADS.get(code[start : start + 1])
        if relocation.map_name not in constants or relocation.value_offset is None or size is None:
            continue
        register = code[start - 2 * _SLOT + 1] & 0x0F
        at_once = bytes((register << 4 | register, 0, 0))  # to the same register, without an offset
        if load in destinations or code[start + 1 : start + 4] != at_once:
            continue
        value = constants[relocation.map_name][relocation.value_offset :][:size]
        if len(value) < size:  # beyond the map's end, which is the verifier's to refuse
            continue
        value = value.ljust(8, b"\0")
        address = start - 2 * _SLOT
        patched[address + 1] &= 0x0F
        patched[address + 4 : address + 8] = value[:4]
        patched[address + 12 : address + 16] = value[4:]
        patched[start : start + _SLOT] = _NOTHING
    return bytes(patched)


def jump_destinations(code: bytes) -> set[int]:
    """Return the indexes of instructions that jumps lead to, and of those that follow calls and exits."""
    opcodes = code[::_SLOT]
    offsets, immediates = memoryview(code).cast("h")[1::4], memoryview(code).cast("i")[1::2]
    return {
        index + 1 + (immediates[index] if opcodes[index] == _LONG_JUMP else offsets[index])
        for index in compress(range(len(opcodes)), opcodes.translate(_IS_JUMP))
    }
