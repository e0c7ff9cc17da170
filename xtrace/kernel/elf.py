"""Parses a compiled BPF object into specs of maps and programs, BTF and license.

Pure: no system call, no file. ELF follows the System V ABI and elf.h, relocations the kernel's
Documentation/bpf/llvm_reloc.rst. Anything malformed or unsupported raises ObjectError.
Long for one module, because specs, sections and relocations belong together; types are in btf.py.
"""

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple

from xtrace.errors import ObjectError
from xtrace.kernel import constants
from xtrace.kernel.btf import Btf, InfoRecords, SectionLayout, cut, parse_ext, text, unpack

__all__ = ["MapSpec", "ObjectSpec", "ProgramSpec", "Relocation", "link", "parse_object", "patch_constants"]

MAX_BSS_SIZE = 1 << 24
"""Most bytes of zeroed variables in one section; larger ones belong in their own map."""

_EM_BPF = 247
_ET_REL = 1
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS, _SHT_REL = 1, 2, 4, 8, 9
_SHF_ALLOC, _SHF_EXECINSTR = 2, 4
_STT_OBJECT, _STT_FUNC, _STT_SECTION = 1, 2, 3
_TYPE = 0x0F  # of a symbol's info
_SHN_UNDEF = 0
_R_BPF_64_64, _R_BPF_64_32 = 1, 10

_LD_IMM64 = 0x18  # BPF_LD | BPF_IMM | BPF_DW: the only instruction of two slots, with a 64-bit immediate
_CALL = 0x85  # BPF_JMP | BPF_CALL; calls a function of the object if src_reg is BPF_PSEUDO_CALL
_PSEUDO_MAP_FD, _PSEUDO_MAP_VALUE, _PSEUDO_CALL, _PSEUDO_KERNEL_CALL = 1, 2, 1, 2
_ZERO_R0 = bytes.fromhex("b700000000000000")  # r0 = 0, what a call of a function that the kernel lacks becomes
_SLOT = 8  # bytes

_MAP_TYPES_OF_MAPS = (constants.MAP_TYPE_ARRAY_OF_MAPS, constants.MAP_TYPE_HASH_OF_MAPS)

_DATA_SECTION = re.compile(r"\.(rodata|data|bss)(?:\.(.+))?", re.DOTALL)
_IDENT = b"\x7fELF\x02\x01\x01"  # 64 bit, little endian, version 1
_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QII")
_IMMEDIATE = struct.Struct("<i")

KERNEL_FUNCTION = 0x6B660000
"""From here on a called number is that of a function of the kernel, as bpf_helpers.h counts them."""
KERNEL_FUNCTIONS = ("bpf_cast_to_kern_ctx",)

NO_CALLS = "bpf-to-bpf calls are not supported; make the function __always_inline"


class MapSpec(NamedTuple):
    """One map for BPF_MAP_CREATE. Numbers are those of the kernel's include/uapi/linux/bpf.h, sizes are in bytes.

    `contents` is the initial value of the only element of a data map (.rodata, .data, .bss), with its `variables` at
    (offset, size); None and {} for other maps. `frozen`: BPF_MAP_FREEZE after setting it. `inner` is the template of
    the elements of a map of maps. The BTF IDs are 0 if the map must be created without types.
    """

    name: str
    map_type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0
    btf_key_type_id: int = 0
    btf_value_type_id: int = 0
    contents: bytes | None = None
    variables: Mapping[str, tuple[int, int]] = MappingProxyType({})
    frozen: bool = False
    inner: "MapSpec | None" = None


class Relocation(NamedTuple):
    """A load of a map (`value_offset` None), or of the address `value_offset` bytes into a data map's value.

    `offset` is the index of the ld_imm64, in instructions of the program.
    """

    offset: int
    map_name: str
    value_offset: int | None


class KernelCall(NamedTuple):
    """A call of a function of the kernel that is no helper; `offset` is its index, in instructions of the program."""

    offset: int
    function: str


class ProgramSpec(NamedTuple):
    """One function of a section. Relocated immediates are 0 until link(); info records are relative to its start."""

    name: str
    section: str
    instructions: bytes
    relocations: tuple[Relocation, ...]
    kernel_calls: tuple[KernelCall, ...]
    func_info: bytes
    func_info_rec_size: int
    line_info: bytes
    line_info_rec_size: int


class ObjectSpec(NamedTuple):
    """A parsed object. `btf` is ready for BPF_BTF_LOAD; `license` is "" if missing.

    Programs are parsed when they are first asked for, by function name, and may raise ObjectError then.
    """

    maps: dict[str, MapSpec]
    programs: Mapping[str, ProgramSpec]
    btf: bytes
    license: str


def parse_object(data: bytes, name: str = "object") -> ObjectSpec:
    """Return the spec of a relocatable ELF64 file compiled with `clang -target bpf -g`.

    Raises ObjectError, prefixed with `name`, if it is malformed or not supported.
    """
    with _errors_of(name):
        return _parse(data, name)


@contextmanager
def _errors_of(name: str) -> Iterator[None]:
    try:
        yield
    except ObjectError as error:
        raise ObjectError(f"{name}: {error}") from error


def patch_constants(spec: MapSpec, values: Mapping[str, int]) -> MapSpec:
    """Return a copy of a data map's spec with those integer variables set, little endian.

    Raises ObjectError for a variable that does not exist, is not an integer, or cannot hold the value.
    """
    contents = bytearray(spec.contents or b"")
    for variable, value in values.items():
        if variable not in spec.variables:
            raise ObjectError(f"map {spec.name!r} has no variable {variable!r}")
        offset, size = spec.variables[variable]
        if size not in (1, 2, 4, 8):
            raise ObjectError(f"{variable!r} of map {spec.name!r} is not an integer: {size} bytes")
        try:
            contents[offset : offset + size] = value.to_bytes(size, "little", signed=value < 0)
        except OverflowError:
            raise ObjectError(f"{value} does not fit {variable!r} of map {spec.name!r}: {size} bytes") from None
    return spec._replace(contents=bytes(contents))


def link(program: ProgramSpec, fds: Mapping[str, int], functions: Mapping[str, int] = MappingProxyType({})) -> bytes:
    """Return the program's instructions for BPF_PROG_LOAD, with the file descriptors of its maps filled in.

    `functions` has the BTF IDs of functions of the kernel; a call of one that it lacks becomes 0.
    Raises ObjectError if `fds` lacks a map that the program uses.
    """
    code = bytearray(program.instructions)
    for relocation in program.relocations:
        if relocation.map_name not in fds:
            raise ObjectError(f"program {program.name!r} uses map {relocation.map_name!r}, which was not created")
        start = relocation.offset * _SLOT
        pseudo = _PSEUDO_MAP_FD if relocation.value_offset is None else _PSEUDO_MAP_VALUE
        code[start + 1] = code[start + 1] & 0x0F | pseudo << 4
        _IMMEDIATE.pack_into(code, start + 4, fds[relocation.map_name])
        _IMMEDIATE.pack_into(code, start + _SLOT + 4, relocation.value_offset or 0)
    for call in program.kernel_calls:
        start = call.offset * _SLOT
        code[start : start + _SLOT] = _ZERO_R0
        if call.function in functions:
            code[start : start + 2] = bytes((_CALL, _PSEUDO_KERNEL_CALL << 4))
            _IMMEDIATE.pack_into(code, start + 4, functions[call.function])
    return bytes(code)


class _Section(NamedTuple):
    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int


class _Symbol(NamedTuple):
    name: int
    info: int
    other: int
    section: int
    value: int
    size: int

    @property
    def type(self) -> int:
        return self.info & _TYPE


class _Elf:
    """Sections and symbols. `objects` has each section's variables by section index: offset and size in bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.sections = self._read_sections()
        self._by_name: dict[str, int] = {}
        for index, section in enumerate(self.sections):
            # debug sections may share a name, loaded sections may not
            if self._by_name.setdefault(section.name, index) != index and section.flags & _SHF_ALLOC:
                raise ObjectError(f"ELF section {index}: a second section {section.name!r}")
        self._symbols, self._names = self._read_symbols()
        self.objects = self._read_objects()

    def _read_sections(self) -> list[_Section]:
        ident, kind, machine, _, _, _, start, _, _, _, _, entry_size, count, names = unpack(
            _ELF_HEADER, self._data, 0, "ELF header"
        )
        if not ident.startswith(_IDENT) or kind != _ET_REL or machine != _EM_BPF:
            raise ObjectError("ELF header: not a little-endian 64-bit relocatable BPF object")
        if entry_size != _SECTION_HEADER.size or names >= count:
            raise ObjectError(f"ELF header: {count} sections of {entry_size} bytes, names in section {names}")
        table = cut(self._data, start, count * entry_size, "ELF section headers")
        headers = list(_SECTION_HEADER.iter_unpack(table))
        strings = cut(self._data, headers[names][4], headers[names][5], "ELF section names")
        sections = []
        for index, (name, type_, flags, _, offset, size, link_, info, _, _) in enumerate(headers):
            if type_ == _SHT_NOBITS and size > MAX_BSS_SIZE:
                raise ObjectError(f"ELF section {index}: {size} zeroed bytes, at most {MAX_BSS_SIZE}")
            if type_ != _SHT_NOBITS and offset + size > len(self._data):
                raise ObjectError(f"ELF section {index}: ends beyond the file: truncated or corrupt")
            named = text(strings, name, f"name of ELF section {index}")
            sections.append(_Section(named, type_, flags, offset, size, link_, info))
        return sections

    def _read_symbols(self) -> tuple[list[tuple[int, ...]], bytes]:
        """Return the symbols, most of which are labels, and the section with their names."""
        table = next((section for section in self.sections if section.type == _SHT_SYMTAB), None)
        if table is None:
            raise ObjectError("ELF: no symbol table; do not strip the object")
        if table.size % _SYMBOL.size or table.link >= len(self.sections):
            raise ObjectError(f"ELF symbol table: {table.size} bytes, names in section {table.link}")
        return list(_SYMBOL.iter_unpack(self.contents(table))), self.contents(self.sections[table.link])

    def symbols(self, type_: int) -> list[_Symbol]:
        """Return the symbols of that type."""
        return [_Symbol._make(symbol) for symbol in self._symbols if symbol[1] & _TYPE == type_]

    def symbol(self, index: int, what: str) -> _Symbol:
        """Return the symbol with that index, to which `what` refers."""
        if index >= len(self._symbols):
            raise ObjectError(f"{what}: symbol {index} of {len(self._symbols)}")
        return _Symbol._make(self._symbols[index])

    def _read_objects(self) -> dict[int, dict[str, tuple[int, int]]]:
        objects: dict[int, dict[str, tuple[int, int]]] = {}
        for symbol in self.symbols(_STT_OBJECT):
            if 0 < symbol.section < len(self.sections):
                name, section = self.symbol_name(symbol), self.sections[symbol.section]
                if symbol.value + symbol.size > section.size:
                    raise ObjectError(f"ELF symbol {name!r}: ends beyond section {section.name!r}")
                objects.setdefault(symbol.section, {})[name] = (symbol.value, symbol.size)
        return objects

    def symbol_name(self, symbol: _Symbol) -> str:
        """Return the name of a symbol; a section symbol has the section's."""
        if symbol.type == _STT_SECTION and symbol.section < len(self.sections):
            return self.sections[symbol.section].name
        return text(self._names, symbol.name, "ELF symbol names")

    def index(self, name: str) -> int | None:
        """Return the index of the section of that name."""
        return self._by_name.get(name)

    def contents(self, section: _Section) -> bytes:
        """Return the bytes of a section; zeros for NOBITS."""
        if section.type == _SHT_NOBITS:
            return bytes(section.size)
        return self._data[section.offset : section.offset + section.size]

    def named(self, name: str) -> bytes | None:
        """Return the bytes of the section of that name."""
        index = self.index(name)
        return None if index is None else self.contents(self.sections[index])

    def layouts(self) -> dict[str, SectionLayout]:
        """Return the layout of each loaded section."""
        return {
            section.name: SectionLayout(section.size, self.objects.get(index, {}))
            for index, section in enumerate(self.sections)
            if section.flags & _SHF_ALLOC
        }


_Targets = dict[int, dict[int, str] | MapSpec]
"""What code may refer to, by section index: maps by their offset in .maps, or a data map."""
_Referent = tuple[str, int, int]
"""What a relocation refers to: a symbol's name, the index of its section, and its offset there."""
_CodeRelocation = tuple[int, int, _Referent]
"""Offset in bytes, type, what it refers to."""


class _Function(NamedTuple):
    """A program as it stands in its section, from byte `start` on. Offsets of its relocations count from there."""

    section: str
    start: int
    code: bytes
    relocations: list[_CodeRelocation]


def _parse(data: bytes, name: str) -> ObjectSpec:
    elf = _Elf(data)
    blob = elf.named(".BTF")
    if blob is None:
        raise ObjectError("no section '.BTF'; compile with -g")
    btf = Btf(blob)
    fixed = btf.with_layout(elf.layouts())
    maps: dict[str, MapSpec] = {}
    targets: _Targets = {}
    if (index := elf.index(".maps")) is not None:
        declared = {elf.objects[index][variable.name][0]: variable for variable in btf.variables(".maps")}
        targets[index] = {offset: variable.name for offset, variable in declared.items()}
        maps = {variable.name: _map_spec(btf, variable.name, variable.type_id) for variable in declared.values()}
    for index, spec in _data_maps(elf, btf):
        if spec.name in maps:
            raise ObjectError(f"section {elf.sections[index].name!r}: a map named {spec.name!r} exists already")
        maps[spec.name] = targets[index] = spec
    license_name = text((elf.named("license") or b"") + b"\0", 0, "section 'license'")
    return ObjectSpec(maps, _Programs(name, elf, btf, targets), fixed, license_name)


def _map_spec(btf: Btf, name: str, struct_id: int, is_inner: bool = False) -> MapSpec:
    """Return a map's spec from its defining struct (MAP_UINT and the like in csrc/bpf_helpers.h)."""
    numbers: dict[str, int] = {}
    types: dict[str, int] = {}
    inner: MapSpec | None = None
    for member, type_id in btf.members(struct_id):
        if member in ("type", "key_size", "value_size", "max_entries", "map_flags"):
            numbers[member] = btf.array(btf.pointee(type_id))[1]
        elif member in ("key", "value"):
            types[member] = btf.pointee(type_id)
        elif member == "values" and not is_inner:
            inner = _map_spec(btf, f"{name}.inner", btf.pointee(btf.array(type_id)[0]), is_inner=True)
        else:
            raise ObjectError(f"map {name!r}: unknown attribute {member!r}")
    if "type" not in numbers:
        raise ObjectError(f"map {name!r}: no attribute 'type'")
    if (inner is None) == (numbers["type"] in _MAP_TYPES_OF_MAPS):
        raise ObjectError(f"map {name!r}: attribute 'values' is required for maps of maps, and for no others")
    if inner is not None:
        numbers.setdefault("value_size", 4)  # in: a file descriptor; out: a map ID
    for part, type_id in types.items():
        size = btf.size_of(type_id)
        if numbers.setdefault(f"{part}_size", size) != size:
            raise ObjectError(f"map {name!r}: {part}_size {numbers[f'{part}_size']}, but its type has {size} bytes")
    # the kernel accepts both types or none (map_check_btf() in kernel/bpf/syscall.c)
    typed = len(types) == 2
    return MapSpec(
        name=name,
        map_type=numbers["type"],
        key_size=numbers.get("key_size", 0),
        value_size=numbers.get("value_size", 0),
        max_entries=numbers.get("max_entries", 0),
        flags=numbers.get("map_flags", 0),
        btf_key_type_id=types["key"] if typed else 0,
        btf_value_type_id=types["value"] if typed else 0,
        inner=inner,
    )


def _data_maps(elf: _Elf, btf: Btf) -> Iterator[tuple[int, MapSpec]]:
    """Yield sections of variables, by index, as arrays of one element."""
    for index, section in enumerate(elf.sections):
        found = _DATA_SECTION.fullmatch(section.name)
        if not found or not section.size or not section.flags & _SHF_ALLOC:
            continue
        kind, own_name = found.groups()
        is_constant = kind == "rodata"
        spec = MapSpec(
            name=own_name or kind,
            map_type=constants.MAP_TYPE_ARRAY,
            key_size=4,
            value_size=section.size,
            max_entries=1,
            # a named section is for variables that user space maps
            flags=constants.MAP_READ_ONLY_PROG if is_constant else constants.MAP_MMAPABLE if own_name else 0,
            btf_value_type_id=btf.datasecs.get(section.name, 0),
            contents=elf.contents(section),
            variables=elf.objects.get(index, {}),
            frozen=is_constant,
        )
        yield index, spec


class _Programs(Mapping[str, ProgramSpec]):
    """The programs of an object, each parsed when it is first asked for: a run loads only some of them."""

    def __init__(self, object_name: str, elf: _Elf, btf: Btf, targets: _Targets) -> None:
        self._object_name, self._targets = object_name, targets
        blob = elf.named(".BTF.ext")
        self._func_info, self._line_info = (
            (InfoRecords(0, {}), InfoRecords(0, {})) if blob is None else parse_ext(blob, btf)
        )
        self._functions: dict[str, _Function] = {}
        for name, function in _functions(elf):
            if name in self._functions:
                raise ObjectError(f"section {function.section!r}: a second program {name!r}")
            self._functions[name] = function
        self._parsed: dict[str, ProgramSpec] = {}

    def __getitem__(self, name: str) -> ProgramSpec:
        if name not in self._parsed:
            function = self._functions[name]
            with _errors_of(self._object_name):
                self._parsed[name] = self._spec(name, function)
        return self._parsed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def _spec(self, name: str, function: _Function) -> ProgramSpec:
        code = bytearray(function.code)
        relocated = tuple(_relocate(self._targets, code, relocation, name) for relocation in function.relocations)
        place = function.section, function.start, len(code)
        return ProgramSpec(
            name=name,
            section=function.section,
            instructions=bytes(code),
            relocations=relocated,
            kernel_calls=tuple(_kernel_calls(name, code, relocated)),
            func_info=self._func_info.of(*place),
            func_info_rec_size=self._func_info.record_size,
            line_info=self._line_info.of(*place),
            line_info_rec_size=self._line_info.record_size,
        )


def _kernel_calls(name: str, code: bytes | bytearray, relocations: Sequence[Relocation]) -> Iterator[KernelCall]:
    """Yield the calls of functions of the kernel, of those that are not helpers."""
    addresses = {relocation.offset + 1 for relocation in relocations}  # second halves of instructions
    opcodes, registers = code[::_SLOT], code[1::_SLOT]
    offset = opcodes.find(_CALL)
    while offset >= 0:
        if offset not in addresses:
            if registers[offset] >> 4 == _PSEUDO_CALL:  # a call within the section has no relocation
                raise ObjectError(f"program {name!r}: {NO_CALLS}")
            number = _IMMEDIATE.unpack_from(code, offset * _SLOT + 4)[0] - KERNEL_FUNCTION
            if 0 <= number < len(KERNEL_FUNCTIONS):
                yield KernelCall(offset, KERNEL_FUNCTIONS[number])
        offset = opcodes.find(_CALL, offset + 1)


def _functions(elf: _Elf) -> Iterator[tuple[str, _Function]]:
    """Yield each function by name, its relocations in order."""
    relocations = _code_relocations(elf)
    for symbol in _function_symbols(elf):
        name, section = elf.symbol_name(symbol), elf.sections[symbol.section]
        start, end = symbol.value, symbol.value + symbol.size
        rest = relocations.get(symbol.section, [])
        own = sorted((offset - start, type_, referent) for offset, type_, referent in rest if start <= offset < end)
        if len({offset for offset, _, _ in own}) != len(own):
            raise ObjectError(f"function {name!r}: two relocations of one instruction")
        relocations[symbol.section] = [relocation for relocation in rest if not start <= relocation[0] < end]
        yield name, _Function(section.name, start, elf.contents(section)[start:end], own)
    for index, rest in relocations.items():
        if rest:
            raise ObjectError(f"section {elf.sections[index].name!r}: byte {rest[0][0]} is relocated, in no function")


def _function_symbols(elf: _Elf) -> Iterator[_Symbol]:
    """Yield the functions that are programs, by section and offset; none overlaps another."""
    ends: dict[int, int] = {}
    for symbol in sorted(elf.symbols(_STT_FUNC), key=lambda symbol: (symbol.section, symbol.value)):
        if not 0 < symbol.section < len(elf.sections):
            continue
        section = elf.sections[symbol.section]
        if section.type != _SHT_PROGBITS or not section.flags & _SHF_EXECINSTR:
            continue
        name, start, end = elf.symbol_name(symbol), symbol.value, symbol.value + symbol.size
        if section.name == ".text":  # where clang puts functions without SEC(): what programs call
            raise ObjectError(f"function {name!r}: {NO_CALLS}")
        if start % _SLOT or symbol.size % _SLOT or not symbol.size or end > section.size:
            raise ObjectError(f"function {name!r}: bytes {start} to {end} are not instructions of {section.name!r}")
        if start < ends.get(symbol.section, 0):
            raise ObjectError(f"function {name!r}: overlaps another in section {section.name!r}")
        ends[symbol.section] = end
        yield symbol


def _code_relocations(elf: _Elf) -> dict[int, list[_CodeRelocation]]:
    """Return the relocations of each code section. A loader does not need those of debug and BTF sections."""
    found: dict[int, list[_CodeRelocation]] = {}
    for section in elf.sections:
        if section.type not in (_SHT_REL, _SHT_RELA):
            continue
        if section.info >= len(elf.sections):
            raise ObjectError(f"section {section.name!r}: relocates section {section.info}, which does not exist")
        target = elf.sections[section.info]
        if not target.flags & _SHF_ALLOC:
            continue
        if section.type == _SHT_RELA or not target.flags & _SHF_EXECINSTR:
            raise ObjectError(f"section {section.name!r}: pointers in the data of {target.name!r} are not supported")
        if section.size % _RELOCATION.size:
            raise ObjectError(f"section {section.name!r}: {section.size} bytes, not a multiple of {_RELOCATION.size}")
        own = found.setdefault(section.info, [])
        referents: dict[int, _Referent] = {}
        for offset, type_, index in _RELOCATION.iter_unpack(elf.contents(section)):
            if index not in referents:
                symbol = elf.symbol(index, f"section {section.name!r}")
                referents[index] = (elf.symbol_name(symbol), symbol.section, symbol.value)
            own.append((offset, type_, referents[index]))
    return found


def _relocate(targets: _Targets, code: bytearray, relocation: _CodeRelocation, program: str) -> Relocation:
    """Return what an instruction of `code` refers to, and zero its immediate, which held the addend."""
    offset, type_, (name, section, value) = relocation
    if section == _SHN_UNDEF:
        raise _refusal(program, offset, f"{name!r} is not defined in the object; externs are not supported")
    if type_ == _R_BPF_64_32:
        raise _refusal(program, offset, f"call of {name!r}: {NO_CALLS}")
    if type_ != _R_BPF_64_64:
        raise _refusal(program, offset, f"relocation type {type_} for {name!r} is not supported")
    if offset % _SLOT or offset + 2 * _SLOT > len(code) or code[offset] != _LD_IMM64:
        raise _refusal(program, offset, f"byte {offset} is relocated, but does not load an address")
    low, high = slice(offset + 4, offset + 8), slice(offset + 12, offset + 16)
    place = value + int.from_bytes(code[low] + code[high], "little", signed=True)
    code[low] = code[high] = bytes(4)
    target = targets.get(section, {})
    if isinstance(target, MapSpec):
        if not 0 <= place < target.value_size:
            outside = f"byte {place} of map {target.name!r}, {target.value_size} bytes long"
            raise _refusal(program, offset, f"{name!r}: {outside}")
        return Relocation(offset // _SLOT, target.name, place)
    if place not in target:
        raise _refusal(program, offset, f"{name!r} is neither a map nor a variable")
    return Relocation(offset // _SLOT, target[place], None)


def _refusal(program: str, offset: int, why: str) -> ObjectError:
    return ObjectError(f"program {program!r}: instruction {offset // _SLOT}: {why}")
