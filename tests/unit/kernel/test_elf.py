"""BPF objects built from bytes here, small enough to know every number in them, and the compiled one."""

import random
import re
import signal
import struct
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from types import FrameType

import pytest

from xtrace.errors import ObjectError
from xtrace.kernel.elf import (
    KERNEL_FUNCTION,
    KERNEL_FUNCTIONS,
    MapSpec,
    ObjectSpec,
    Relocation,
    link,
    parse_object,
    patch_constants,
)

PROGBITS, SYMTAB, STRTAB, RELA, NOBITS, REL = 1, 2, 3, 4, 8, 9
WRITE, ALLOC, EXEC = 1, 2, 4
OBJECT, FUNC, SECTION = 1, 2, 3
BPF_64_64, BPF_64_ABS32, BPF_64_32 = 1, 3, 10

EXIT = struct.pack("<BBhi", 0x95, 0, 0, 0)
CALL_HELPER = struct.pack("<BBhi", 0x85, 0, 0, 1)
CALL_FUNCTION = struct.pack("<BBhi", 0x85, 0x10, 0, -1)


def load_address(register: int = 1, addend: int = 0) -> bytes:
    """ld_imm64: two instruction slots with 32 bits of the immediate each."""
    return struct.pack("<BBhIBBhI", 0x18, register, 0, addend & 0xFFFFFFFF, 0, 0, 0, addend >> 32 & 0xFFFFFFFF)


class Strings:
    def __init__(self) -> None:
        self.data = b"\0"

    def add(self, text: str) -> int:
        self.data += text.encode() + b"\0"
        return len(self.data) - len(text.encode()) - 1


class Types:
    """The BTF of an object. Every method that adds a type returns its id."""

    def __init__(self) -> None:
        self.strings = Strings()
        self.body = b""
        self.count = 0
        self.int32 = self.add(1, "int", 4, 0, 32)

    def add(self, kind: int, name: str, value: int, vlen: int, *words: int) -> int:
        self.body += struct.pack(f"<{3 + len(words)}I", self.strings.add(name), kind << 24 | vlen, value, *words)
        self.count += 1
        return self.count

    def pointer(self, target: int) -> int:
        return self.add(2, "", target, 0)

    def array(self, element: int, count: int) -> int:
        return self.add(3, "", 0, 0, element, self.int32, count)

    def uint(self, value: int) -> int:
        """What MAP_UINT declares."""
        return self.pointer(self.array(self.int32, value))

    def struct(self, **members: int) -> int:
        words = [word for name, member in members.items() for word in (self.strings.add(name), member, 0)]
        return self.add(4, "", 8 * len(members), len(members), *words)

    def section(self, name: str, **variables: tuple[int, int]) -> int:
        """A DATASEC as clang leaves it: without its own size and without offsets."""
        ids = [self.add(14, variable, type_id, 0, 1) for variable, (type_id, _) in variables.items()]
        sizes = [size for _, size in variables.values()]
        words = [word for pair in zip(ids, sizes, strict=True) for word in (pair[0], 0, pair[1])]
        return self.add(15, name, 0, len(variables), *words)

    def blob(self) -> bytes:
        header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.body), len(self.body), len(self.strings.data))
        return header + self.body + self.strings.data


class Object:
    """An ELF file: sections and symbols by name, relocations by section."""

    def __init__(self) -> None:
        self.sections: list[tuple[str, int, int, bytes, int, int, int]] = [("", 0, 0, b"", 0, 0, 0)]
        self.symbols: list[tuple[str, int, int, int, int]] = [("", 0, 0, 0, 0)]
        self.relocations: dict[str, list[tuple[int, int, int]]] = {}
        self.types = Types()
        self.records: tuple[bytes, bytes] | None = None

    def section(self, name: str, contents: bytes, flags: int = 0, kind: int = PROGBITS, link: int = 0) -> int:
        self.sections.append((name, kind, flags, contents, link, 0, len(contents)))
        return len(self.sections) - 1

    def index(self, name: str) -> int:
        return next(index for index, section in enumerate(self.sections) if section[0] == name)

    def symbol(self, name: str, section: str | None, offset: int = 0, size: int = 0, kind: int = OBJECT) -> int:
        """`section` None: not defined in this object."""
        self.symbols.append((name, kind, self.index(section) if section else 0, offset, size))
        return len(self.symbols) - 1

    def relocate(self, section: str, offset: int, symbol: str | int, kind: int = BPF_64_64) -> None:
        """By symbol name, or by number."""
        if isinstance(symbol, str):
            symbol = next(index for index, found in enumerate(self.symbols) if found[0] == symbol)
        self.relocations.setdefault(section, []).append((offset, kind, symbol))

    def build(self) -> bytes:
        sections = list(self.sections)
        sections.append((".BTF", PROGBITS, 0, self.types.blob(), 0, 0, 0))
        if self.records:
            sections.append((".BTF.ext", PROGBITS, 0, b"".join(self.records), 0, 0, 0))
        names = Strings()
        symbols = b"".join(
            struct.pack("<IBBHQQ", names.add(name), kind, 0, section, offset, size)
            for name, kind, section, offset, size in self.symbols
        )
        sections.append((".symtab", SYMTAB, 0, symbols, len(sections) + 1, 0, 0))
        sections.append((".strtab", STRTAB, 0, names.data, 0, 0, 0))
        for target, entries in self.relocations.items():
            table = b"".join(struct.pack("<QII", *entry) for entry in entries)
            sections.append((f".rel{target}", REL, 0, table, len(sections), self.index(target), 0))
        headings = Strings()
        offsets = [headings.add(section[0]) for section in sections] + [headings.add(".shstrtab")]
        sections.append((".shstrtab", STRTAB, 0, headings.data, 0, 0, 0))
        return self._assemble(sections, offsets)

    def _assemble(self, sections: list[tuple[str, int, int, bytes, int, int, int]], names: list[int]) -> bytes:
        """Headers first, so that a file cut short loses contents before it loses headers."""
        start = 64
        position = start + 64 * len(sections)
        headers = contents = b""
        for name, (_, kind, flags, data, link_to, info, _) in zip(names, sections, strict=True):
            headers += struct.pack("<IIQQQQIIQQ", name, kind, flags, 0, position, len(data), link_to, info, 8, 0)
            if kind != NOBITS:
                contents += data
                position += len(data)
        ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
        count = len(sections)
        header = struct.pack("<16sHHIQQQIHHHHHH", ident, 1, 247, 1, 0, 0, start, 0, 64, 0, 0, 64, count, count - 1)
        return header + headers + contents


def info_records(types: Types, section: str, functions: list[tuple[int, int]], lines: list[int]) -> tuple[bytes, bytes]:
    """.BTF.ext in two parts: functions as (offset, type id), lines by offset, numbered from 1."""
    name = types.strings.add(section)
    funcs = struct.pack("<3I", 8, name, len(functions)) + b"".join(struct.pack("<2I", *pair) for pair in functions)
    numbered = b"".join(struct.pack("<4I", offset, 0, 0, line << 10) for line, offset in enumerate(lines, 1))
    line_table = struct.pack("<3I", 16, name, len(lines)) + numbered
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(funcs), len(funcs), len(line_table))
    return header, funcs + line_table


def declare_map(built: Object, name: str = "flows", **attributes: int) -> None:
    """One map, alone in section .maps."""
    struct_id = built.types.struct(**attributes)
    built.types.section(".maps", **{name: (struct_id, 32)})
    built.section(".maps", bytes(32), WRITE | ALLOC)
    built.symbol(name, ".maps", 0, 32)


def declare_program(built: Object, code: bytes = EXIT, name: str = "run", section: str = "xdp") -> None:
    built.section(section, code, ALLOC | EXEC)
    built.symbol(name, section, 0, len(code), FUNC)


def sample() -> Object:
    """Two programs in one section, two maps (one of them of maps), all kinds of data sections."""
    built, types = Object(), Object().types
    built.types = types
    key, value = types.pointer(types.int32), types.pointer(types.add(4, "counters", 40, 0))
    flows = types.struct(type=types.uint(1), key=key, value=value, max_entries=types.uint(64), map_flags=types.uint(3))
    inner = types.struct(type=types.uint(2), key=key, value=key, max_entries=types.uint(1))
    values = types.array(types.pointer(inner), 0)
    grace = types.struct(type=types.uint(12), key=key, max_entries=types.uint(5), values=values)
    types.section(".maps", grace=(grace, 32), flows=(flows, 40))
    types.section(".rodata", slot=(types.int32, 4), has_frags=(types.int32, 1))
    types.section(".data.active", active=(types.int32, 4))
    types.section(".bss", hits=(types.int32, 4))
    types.section("license", LICENSE=(types.int32, 4))

    first = load_address(1) + CALL_HELPER + load_address(2) + EXIT
    second = load_address(3, addend=4) + load_address(4) + EXIT
    built.section(".text", b"", ALLOC | EXEC)
    built.section("xdp", first + second, ALLOC | EXEC)
    built.section(".maps", bytes(72), WRITE | ALLOC)
    built.section(".rodata", bytes([0, 0, 0, 0, 7, 0, 0, 0]), ALLOC)
    built.section(".data.active", bytes([1, 0, 0, 0]), WRITE | ALLOC)
    built.section(".bss", bytes(4), WRITE | ALLOC, NOBITS)
    built.section("license", b"GPL\0", WRITE | ALLOC)
    built.section(".debug_info", bytes(16))

    built.symbol("", ".rodata", kind=SECTION)
    built.symbol("flows", ".maps", 0, 40)
    built.symbol("grace", ".maps", 40, 32)
    built.symbol("has_frags", ".rodata", 0, 1)
    built.symbol("slot", ".rodata", 4, 4)
    built.symbol("active", ".data.active", 0, 4)
    built.symbol("hits", ".bss", 0, 4)
    built.symbol("LICENSE", "license", 0, 4)
    built.symbol("second", "xdp", len(first), len(second), FUNC)
    built.symbol("first", "xdp", 0, len(first), FUNC)

    built.relocate("xdp", 24, "active")
    built.relocate("xdp", 0, "flows")
    built.relocate("xdp", len(first), 1)
    built.relocate("xdp", len(first) + 16, "hits")
    built.relocate(".debug_info", 0, 1, BPF_64_ABS32)
    built.records = info_records(types, "xdp", [(0, 100), (48, 200)], [0, 24, 48, 80])
    return built


@pytest.fixture
def spec() -> ObjectSpec:
    return parse_object(sample().build())


@pytest.fixture
def time_limit() -> Iterator[None]:
    """An endless loop fails the test instead of hanging it."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise AssertionError("the parser did not come to an end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(600)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def refused(built: Object) -> str:
    """The text of the error, of the object or of one of its programs."""
    with pytest.raises(ObjectError) as caught:
        dict(parse_object(built.build(), "xdp.o").programs)
    text = str(caught.value)
    assert text.startswith("xdp.o: ") and "\n" not in text
    return text


def test_map_has_the_attributes_of_its_definition(spec: ObjectSpec) -> None:
    flows = spec.maps["flows"]
    assert (flows.map_type, flows.key_size, flows.value_size, flows.max_entries, flows.flags) == (1, 4, 40, 64, 3)
    assert (flows.btf_key_type_id, flows.btf_value_type_id) == (1, 3)
    assert (flows.contents, flows.variables, flows.frozen, flows.inner) == (None, {}, False, None)


def test_map_of_maps_holds_its_inner_map_and_no_types_of_its_own(spec: ObjectSpec) -> None:
    grace = spec.maps["grace"]
    assert (grace.map_type, grace.key_size, grace.value_size, grace.max_entries) == (12, 4, 4, 5)
    assert (grace.btf_key_type_id, grace.btf_value_type_id) == (0, 0)
    assert grace.inner == MapSpec("grace.inner", 2, 4, 4, 1, btf_key_type_id=1, btf_value_type_id=1)


def test_sizes_can_be_given_instead_of_types() -> None:
    built = Object()
    uint = built.types.uint
    declare_map(built, type=uint(1), key_size=uint(6), value_size=uint(10), max_entries=uint(3))
    flows = parse_object(built.build()).maps["flows"]
    assert (flows.key_size, flows.value_size, flows.btf_key_type_id, flows.btf_value_type_id) == (6, 10, 0, 0)


def test_constants_become_a_frozen_read_only_map(spec: ObjectSpec) -> None:
    rodata = spec.maps["rodata"]
    assert (rodata.map_type, rodata.key_size, rodata.value_size, rodata.max_entries) == (2, 4, 8, 1)
    assert (rodata.flags, rodata.frozen) == (0x80, True)
    assert rodata.contents == bytes([0, 0, 0, 0, 7, 0, 0, 0])
    assert rodata.variables == {"has_frags": (0, 1), "slot": (4, 4)}
    assert rodata.btf_key_type_id == 0
    assert rodata.btf_value_type_id != 0


def test_variable_in_a_section_of_its_own_becomes_a_map_that_can_be_mapped(spec: ObjectSpec) -> None:
    active = spec.maps["active"]
    assert (active.flags, active.frozen, active.contents) == (0x400, False, bytes([1, 0, 0, 0]))
    assert active.variables == {"active": (0, 4)}


def test_zeroed_variables_become_a_map_of_zeros(spec: ObjectSpec) -> None:
    assert (spec.maps["bss"].flags, spec.maps["bss"].contents) == (0, bytes(4))


def test_license_is_read(spec: ObjectSpec) -> None:
    assert spec.license == "GPL"


def test_object_without_license_has_an_empty_one() -> None:
    built = Object()
    declare_program(built)
    assert parse_object(built.build()).license == ""


def test_patched_constants_are_little_endian_and_leave_the_rest(spec: ObjectSpec) -> None:
    patched = patch_constants(spec.maps["rodata"], {"has_frags": 1, "slot": 0x01020304})
    assert patched.contents == bytes([1, 0, 0, 0, 4, 3, 2, 1])
    assert spec.maps["rodata"].contents == bytes([0, 0, 0, 0, 7, 0, 0, 0])
    assert patched._replace(contents=spec.maps["rodata"].contents) == spec.maps["rodata"]


def test_negative_constant_is_stored_as_twos_complement(spec: ObjectSpec) -> None:
    assert patch_constants(spec.maps["rodata"], {"slot": -2}).contents == bytes([0, 0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"speed": 1}, "map 'rodata' has no variable 'speed'"),
        ({"has_frags": 256}, "256 does not fit 'has_frags' of map 'rodata': 1 bytes"),
        ({"has_frags": -129}, "-129 does not fit"),
    ],
)
def test_constant_that_cannot_be_set_is_named(spec: ObjectSpec, values: dict[str, int], message: str) -> None:
    with pytest.raises(ObjectError, match=message):
        patch_constants(spec.maps["rodata"], values)


def test_array_cannot_be_patched_as_an_integer() -> None:
    with pytest.raises(ObjectError, match="'table' of map 'data' is not an integer: 12 bytes"):
        patch_constants(MapSpec("data", 2, 4, 12, 1, contents=bytes(12), variables={"table": (0, 12)}), {"table": 1})


def test_two_programs_of_a_section_are_told_apart(spec: ObjectSpec) -> None:
    first, second = spec.programs["first"], spec.programs["second"]
    assert first.section == second.section == "xdp"
    assert first.instructions == load_address(1) + CALL_HELPER + load_address(2) + EXIT
    assert second.instructions == load_address(3) + load_address(4) + EXIT


def test_relocations_name_maps_and_places_in_them(spec: ObjectSpec) -> None:
    assert spec.programs["first"].relocations == (Relocation(0, "flows", None), Relocation(3, "active", 0))
    assert spec.programs["second"].relocations == (Relocation(0, "rodata", 4), Relocation(2, "bss", 0))


def test_static_map_is_found_by_its_offset_in_the_section() -> None:
    built = sample()
    built.symbol("", ".maps", kind=SECTION)
    built.section("tc", load_address(1, addend=40) + EXIT, ALLOC | EXEC)
    built.symbol("classify", "tc", 0, 24, FUNC)
    built.relocate("tc", 0, len(built.symbols) - 2)
    assert parse_object(built.build()).programs["classify"].relocations == (Relocation(0, "grace", None),)


def test_function_and_line_records_count_from_the_start_of_each_program(spec: ObjectSpec) -> None:
    first, second = spec.programs["first"], spec.programs["second"]
    assert (first.func_info_rec_size, first.line_info_rec_size) == (8, 16)
    assert first.func_info == struct.pack("<2I", 0, 100)
    assert second.func_info == struct.pack("<2I", 0, 200)
    assert first.line_info == struct.pack("<8I", 0, 0, 0, 1 << 10, 3, 0, 0, 2 << 10)
    assert second.line_info == struct.pack("<8I", 0, 0, 0, 3 << 10, 4, 0, 0, 4 << 10)


def test_object_without_records_still_loads() -> None:
    built = sample()
    built.records = None
    first = parse_object(built.build()).programs["first"]
    assert (first.func_info, first.func_info_rec_size, first.line_info, first.line_info_rec_size) == (b"", 0, b"", 0)


def test_linked_program_carries_the_file_descriptors(spec: ObjectSpec) -> None:
    fds = {"flows": 5, "active": 6, "rodata": 7, "bss": 8}
    assert link(spec.programs["first"], fds) == (
        struct.pack("<BBhiBBhi", 0x18, 0x11, 0, 5, 0, 0, 0, 0)
        + CALL_HELPER
        + struct.pack("<BBhiBBhi", 0x18, 0x22, 0, 6, 0, 0, 0, 0)
        + EXIT
    )
    assert link(spec.programs["second"], fds)[:16] == struct.pack("<BBhiBBhi", 0x18, 0x23, 0, 7, 0, 0, 0, 4)


def test_linking_without_a_map_names_it(spec: ObjectSpec) -> None:
    with pytest.raises(ObjectError, match="program 'first' uses map 'active', which was not created"):
        link(spec.programs["first"], {"flows": 5})


def data_sections(btf: bytes) -> dict[str, tuple[int, list[tuple[int, int]]]]:
    """Size, and (offset, size) of the variables, of every DATASEC; kinds not listed have no more than a header."""
    type_size, strings = struct.unpack_from("<II", btf, 12)
    position, found = 24, {}
    while position < 24 + type_size:
        name, info, size = struct.unpack_from("<III", btf, position)
        kind, vlen = info >> 24, info & 0xFFFF
        if kind == 15:
            words = struct.unpack_from(f"<{3 * vlen}I", btf, position + 12)
            start = 24 + strings + name
            found[btf[start : btf.index(b"\0", start)].decode()] = (
                size,
                list(zip(words[1::3], words[2::3], strict=True)),
            )
        position += 12 + {1: 4, 14: 4, 3: 12, 4: 12 * vlen, 15: 12 * vlen}.get(kind, 0)
    return found


def test_btf_describes_where_variables_really_are(spec: ObjectSpec) -> None:
    assert data_sections(spec.btf) == {
        ".maps": (72, [(0, 40), (40, 32)]),
        ".rodata": (8, [(0, 1), (4, 4)]),
        ".data.active": (4, [(0, 4)]),
        ".bss": (4, [(0, 4)]),
        "license": (4, [(0, 4)]),
    }


def test_unknown_map_attribute_is_named() -> None:
    built = Object()
    declare_map(built, type=built.types.uint(1), pinning=built.types.uint(1))
    assert "map 'flows': unknown attribute 'pinning'" in refused(built)


def test_map_attribute_that_is_no_pointer_is_refused() -> None:
    built = Object()
    declare_map(built, type=built.types.int32)
    assert "BTF type 1: kind 1, expected 2" in refused(built)


def test_error_stays_one_line_whatever_a_name_holds() -> None:
    built = Object()
    declare_map(built, "two\nlines", type=built.types.uint(1), pinning=built.types.uint(1))
    assert "map 'two\\nlines'" in refused(built)


def test_map_without_type_is_refused() -> None:
    built = Object()
    declare_map(built, max_entries=built.types.uint(1))
    assert "map 'flows': no attribute 'type'" in refused(built)


def test_map_of_maps_without_inner_map_is_refused() -> None:
    built = Object()
    declare_map(built, type=built.types.uint(12))
    assert "map 'flows': attribute 'values'" in refused(built)


def test_map_of_maps_of_maps_is_refused() -> None:
    built = Object()
    types = built.types
    itself = types.count + 5  # the struct, behind the five types of its members
    declare_map(built, type=types.uint(12), values=types.array(types.pointer(itself), 0))
    assert "map 'flows.inner': unknown attribute 'values'" in refused(built)


def test_size_that_contradicts_the_type_is_refused() -> None:
    built = Object()
    declare_map(built, type=built.types.uint(1), key_size=built.types.uint(8), key=built.types.pointer(1))
    assert "map 'flows': key_size 8, but its type has 4 bytes" in refused(built)


def test_data_section_may_not_take_the_name_of_a_map() -> None:
    built = sample()
    built.section(".data.flows", bytes(4), WRITE | ALLOC)
    assert "section '.data.flows': a map named 'flows' exists already" in refused(built)


def test_two_sections_of_one_name_are_refused() -> None:
    built = sample()
    built.section(".rodata", bytes(4), ALLOC)
    assert "a second section '.rodata'" in refused(built)


CAST = struct.pack("<BBhi", 0x85, 0, 0, KERNEL_FUNCTION)
ZERO = struct.pack("<BBhi", 0xB7, 0, 0, 0)


def test_call_of_a_function_of_the_kernel_gets_its_number_or_is_zero() -> None:
    built = Object()
    declare_program(built, EXIT + CAST + EXIT)
    program = parse_object(built.build()).programs["run"]
    assert program.kernel_calls == ((1, "bpf_cast_to_kern_ctx"),)
    numbered = struct.pack("<BBhi", 0x85, 0x20, 0, 63548)
    assert link(program, {}, {"bpf_cast_to_kern_ctx": 63548}) == EXIT + numbered + EXIT
    assert link(program, {}, {"another": 1}) == link(program, {}) == EXIT + ZERO + EXIT


def test_functions_of_the_kernel_are_numbered_as_the_programs_number_them() -> None:
    text = (Path(__file__).parents[3] / "csrc/bpf_helpers.h").read_text()
    (first,) = re.findall(r"#define KERNEL_FUNCTION (0x[0-9a-f]+)", text)
    assert int(first, 16) == KERNEL_FUNCTION
    declared = re.findall(r"\(\*(\w+)\)\([^)]*\) = \(void \*\)\(KERNEL_FUNCTION \+ (\d+)\)", text)
    assert [name for name, _ in declared] == list(KERNEL_FUNCTIONS)
    assert [int(number) for _, number in declared] == list(range(len(KERNEL_FUNCTIONS)))


def test_call_of_another_function_tells_how_to_avoid_it() -> None:
    built = Object()
    built.section(".helpers", EXIT, ALLOC)
    built.symbol("helper", ".helpers", 0, 8, FUNC)
    declare_program(built, CALL_FUNCTION + EXIT)
    built.relocate("xdp", 0, "helper", BPF_64_32)
    text = refused(built)
    assert "program 'run': instruction 0: call of 'helper'" in text
    assert "bpf-to-bpf calls are not supported; make the function __always_inline" in text


def test_function_without_a_section_of_its_own_is_refused() -> None:
    built = Object()
    declare_program(built, name="helper", section=".text")
    assert "function 'helper': bpf-to-bpf calls are not supported" in refused(built)


def test_call_within_the_section_is_refused() -> None:
    built = Object()
    declare_program(built, CALL_FUNCTION + EXIT)
    assert "program 'run': bpf-to-bpf calls are not supported" in refused(built)


def test_extern_is_named() -> None:
    built = Object()
    declare_program(built, load_address() + EXIT)
    built.symbol("jiffies", None)
    built.relocate("xdp", 0, "jiffies")
    assert "'jiffies' is not defined in the object; externs are not supported" in refused(built)


@pytest.mark.parametrize(
    ("offset", "symbol", "kind", "message"),
    [
        pytest.param(4, "active", BPF_64_64, "byte 4 is relocated, but does not load an address", id="unaligned"),
        pytest.param(16, "active", BPF_64_64, "instruction 2: byte 16 is relocated", id="no ld_imm64"),
        pytest.param(40, "active", BPF_64_64, "instruction 5: byte 40 is relocated", id="last instruction"),
        pytest.param(400, "active", BPF_64_64, "byte 400 is relocated, in no function", id="behind the code"),
        pytest.param(0, "active", BPF_64_64, "two relocations of one instruction", id="twice"),
        pytest.param(16, "active", BPF_64_ABS32, "relocation type 3 for 'active'", id="type"),
        pytest.param(16, 11, BPF_64_64, "symbol 11 of 11", id="symbol number"),
    ],
)
def test_misplaced_relocation_is_named(offset: int, symbol: str | int, kind: int, message: str) -> None:
    built = sample()
    built.relocate("xdp", offset, symbol, kind)
    assert message in refused(built)


@pytest.mark.parametrize(
    ("symbol", "addend", "message"),
    [
        pytest.param("slot", 4, "'slot': byte 8 of map 'rodata', 8 bytes long", id="behind the data"),
        pytest.param("slot", -5, "'slot': byte -1 of map 'rodata'", id="before the data"),
        pytest.param("flows", 8, "'flows' is neither a map nor a variable", id="into a map's definition"),
        pytest.param("LICENSE", 0, "'LICENSE' is neither a map nor a variable", id="no data section"),
    ],
)
def test_address_of_no_variable_is_refused(symbol: str, addend: int, message: str) -> None:
    built = sample()
    declare_program(built, load_address(1, addend) + EXIT, section="tc")
    built.relocate("tc", 0, symbol)
    assert message in refused(built)


@pytest.mark.parametrize(
    ("code", "offset"),
    [
        pytest.param(EXIT + load_address()[:8], 8, id="second half missing"),
        pytest.param(bytes([0, 0, 0, 0]) + load_address() + bytes(4), 4, id="between two instructions"),
    ],
)
def test_relocation_of_what_only_looks_like_an_address_is_refused(code: bytes, offset: int) -> None:
    built = sample()
    declare_program(built, code, section="tc")
    built.relocate("tc", offset, "slot")
    assert f"byte {offset} is relocated, but does not load an address" in refused(built)


def test_program_that_nobody_asks_for_is_not_parsed() -> None:
    built = sample()
    declare_program(built, load_address() + EXIT, section="tc")
    built.symbol("jiffies", None)
    built.relocate("tc", 0, "jiffies")
    programs = parse_object(built.build()).programs
    assert set(programs) == {"first", "second", "run"}
    assert programs["first"].relocations
    with pytest.raises(ObjectError, match=r"^object: program 'run'"):
        programs["run"]


def test_program_may_end_with_an_address() -> None:
    built = sample()
    declare_program(built, EXIT + load_address(), section="tc")
    built.relocate("tc", 8, "slot")
    assert parse_object(built.build()).programs["run"].relocations == (Relocation(1, "rodata", 4),)


def test_function_in_a_data_section_is_no_program() -> None:
    built = sample()
    built.symbol("odd", ".rodata", 0, 8, FUNC)
    assert parse_object(built.build()).programs.keys() == {"first", "second"}


def test_variable_beyond_its_section_is_named() -> None:
    built = sample()
    built.symbol("late", ".rodata", 6, 4)
    assert "ELF symbol 'late': ends beyond section '.rodata'" in refused(built)


def test_pointer_in_initialised_data_is_refused() -> None:
    built = sample()
    built.relocate(".rodata", 0, "active")
    assert "section '.rel.rodata': pointers in the data of '.rodata' are not supported" in refused(built)


@pytest.mark.parametrize(
    ("offset", "size", "message"),
    [
        pytest.param(0, 12, "bytes 0 to 12 are not instructions", id="half an instruction"),
        pytest.param(80, 16, "bytes 80 to 96 are not instructions", id="behind the section"),
        pytest.param(8, 0, "bytes 8 to 8 are not instructions", id="empty"),
        pytest.param(8, 16, "overlaps another", id="inside another"),
    ],
)
def test_function_that_is_no_piece_of_its_section_is_named(offset: int, size: int, message: str) -> None:
    built = sample()
    built.symbol("odd", "xdp", offset, size, FUNC)
    text = refused(built)
    assert message in text
    assert "function 'odd'" in text or "function 'first'" in text


def test_two_programs_of_one_name_are_refused() -> None:
    built = sample()
    declare_program(built, name="first", section="tc")
    assert "section 'tc': a second program 'first'" in refused(built)


def test_object_compiled_without_types_says_how_to_compile() -> None:
    data = sample().build().replace(b"\0.BTF\0", b"\0.FTB\0")
    with pytest.raises(ObjectError, match=r"xdp\.o: no section '\.BTF'; compile with -g"):
        parse_object(data, "xdp.o")


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        pytest.param(0, 0, id="magic"),
        pytest.param(4, 1, id="32 bit"),
        pytest.param(5, 2, id="big endian"),
        pytest.param(16, 2, id="executable"),
        pytest.param(18, 62, id="x86-64"),
    ],
)
def test_file_of_another_kind_is_refused(offset: int, value: int) -> None:
    data = bytearray(sample().build())
    data[offset] = value
    with pytest.raises(ObjectError, match="object: ELF header: not a little-endian 64-bit relocatable BPF object"):
        parse_object(bytes(data))


def test_huge_section_of_zeros_is_refused() -> None:
    built = sample()
    data = built.build()
    header = 64 + 64 * built.index(".bss")
    with pytest.raises(ObjectError, match="1152921504606846976 zeroed bytes"):
        parse_object(data[: header + 32] + struct.pack("<Q", 1 << 60) + data[header + 40 :])


def parses_or_is_refused(data: bytes) -> bool:
    """Whether it parses; any exception but ObjectError fails the test. What parses must also link."""
    try:
        parsed = parse_object(data)
        programs = dict(parsed.programs)
    except ObjectError:
        return False
    for program in programs.values():
        assert len(link(program, dict.fromkeys(parsed.maps, 3))) == len(program.instructions)
    return True


@pytest.mark.usefixtures("time_limit")
def test_every_truncation_of_an_object_is_refused() -> None:
    data = sample().build()
    assert parses_or_is_refused(data)
    assert not [length for length in range(len(data)) if parses_or_is_refused(data[:length])]


@pytest.mark.usefixtures("time_limit")
def test_every_truncation_of_every_section_parses_or_is_refused() -> None:
    data = sample().build()
    count, refusals = struct.unpack_from("<H", data, 60)[0], 0
    for section in range(count):
        field = 64 + 64 * section + 32
        (size,) = struct.unpack_from("<Q", data, field)
        for shorter in range(size):
            refusals += not parses_or_is_refused(data[:field] + struct.pack("<Q", shorter) + data[field + 8 :])
    assert refusals > 1000


def test_section_number_one_too_high_parses_or_is_refused() -> None:
    """In every section header's link and info, and in every symbol."""
    built = sample()
    data = built.build()
    (count,) = struct.unpack_from("<H", data, 60)
    headers = [struct.unpack_from("<IIQQQQ", data, 64 + 64 * section) for section in range(count)]
    symbols = next(offset for _, kind, _, _, offset, _ in headers if kind == SYMTAB)
    fields = [(64 + 64 * section + field, "<I") for section in range(count) for field in (40, 44)]
    fields += [(symbols + 24 * number + 6, "<H") for number in range(len(built.symbols))]
    for offset, width in fields:
        broken = bytearray(data)
        struct.pack_into(width, broken, offset, count)
        parses_or_is_refused(bytes(broken))


def corrupted(data: bytes, chance: random.Random) -> bytes:
    """One to four words of a file, of one to eight bytes, replaced by what tends to hurt."""
    broken = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        size = chance.choice((1, 2, 4, 8))
        offset = chance.randrange(0, len(data) - size) // size * size
        word = chance.choice((0, 1, chance.randrange(256), (1 << 8 * size) - 1, 1 << 8 * size - 1))
        broken[offset : offset + size] = word.to_bytes(size, "little")
    return bytes(broken)


@pytest.mark.usefixtures("time_limit")
def test_corrupt_objects_parse_or_are_refused() -> None:
    data, chance = sample().build(), random.Random(4791)
    outcomes = [parses_or_is_refused(corrupted(data, chance)) for _ in range(6000)]
    assert outcomes.count(True) > 300, "corruption must not only hit the headers"
    assert outcomes.count(False) > 300


@pytest.fixture
def compiled() -> bytes:
    path = files("xtrace") / "xdp_monitor.o"
    if not path.is_file():
        pytest.skip("xtrace/xdp_monitor.o is not built")
    return path.read_bytes()


def test_compiled_monitor_has_its_flow_tables_and_a_program_that_uses_them(compiled: bytes) -> None:
    spec = parse_object(compiled, "xdp_monitor.o")
    assert (spec.maps["flows"].key_size, spec.maps["flows"].value_size) == (4, 96)
    assert spec.maps["active"].variables == {"active": (0, 4)}
    assert spec.maps["grace"].inner is not None
    assert spec.license == "GPL"
    used = {relocation.map_name for relocation in spec.programs["xdp_ingress"].relocations}
    assert {"flows", "flow_index", "rodata", "active"} <= used <= spec.maps.keys()


@pytest.mark.usefixtures("time_limit")
def test_corrupt_compiled_monitor_parses_or_is_refused(compiled: bytes) -> None:
    chance = random.Random(8915)
    for _ in range(1000):
        parses_or_is_refused(corrupted(compiled, chance))
