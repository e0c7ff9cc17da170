"""What the compiled packet and call programs must be like, whatever the compiler made of their source."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from xtrace.kernel.objects import load_object

CALL, MAP_UPDATE, MAP_DELETE = 0x85, 2, 3
"""BPF_JMP | BPF_CALL; helpers' numbers (uapi/linux/bpf.h)."""
JMP, JMP32, ALU = 0x5, 0x6, 0x4
ALWAYS, EXIT = 0x05, 0x95
MOV_REGISTER = 0xB8
_INSTRUCTION = struct.Struct("=BBhi")


def instructions(code: bytes) -> list[tuple[int, int, int, int]]:
    """Opcode, destination, source, immediate."""
    unpacked = _INSTRUCTION.iter_unpack(code)
    return [(opcode, registers & 0xF, registers >> 4, immediate) for opcode, registers, _, immediate in unpacked]


def uses_of_results(code: bytes) -> Iterator[tuple[int, int]]:
    """Opcode and place of what first looks at the result of a map's update or delete, where it is the next to do so."""
    listed = instructions(code)
    for place, (opcode, _, source, immediate) in enumerate(listed[:-1]):
        if opcode == CALL and source == 0 and immediate in (MAP_UPDATE, MAP_DELETE):
            following, destination, source, _ = listed[place + 1]
            compares = following & 7 in (JMP, JMP32) and destination == 0 and following not in (ALWAYS, CALL, EXIT)
            if compares or (following & 0xF8 == MOV_REGISTER and source == 0):
                yield following, place


@pytest.mark.parametrize("name, programs", [("xdp_monitor_hash.o", ("xdp_ingress", "tc_packet")), ("nccl_probe.o", ())])
def test_results_of_map_operations_are_looked_at_in_32_bits(name: str, programs: tuple[str, ...]) -> None:
    """Before Linux 6.4 the map's own function returns an int to where the verifier calls it instead of the helper."""
    spec = load_object(name)
    seen = 0
    for program in programs or spec.programs:
        for opcode, place in uses_of_results(spec.programs[program].instructions):
            seen += 1
            assert opcode & 7 in (JMP32, ALU), f"{program}: instruction {place + 1}"
    assert seen > 3
