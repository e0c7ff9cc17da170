"""BTF blobs written down as tables of types: what is read from them, what is filled in, what is refused."""

import struct

import pytest

from xtrace.errors import ObjectError
from xtrace.kernel.btf import Btf, InfoRecords, SectionLayout, parse_ext

INT, PTR, ARRAY, STRUCT, TYPEDEF, CONST, FUNC, VAR, DATASEC = 1, 2, 3, 4, 8, 10, 12, 14, 15
STRINGS = b"\0int\0name\0.data\0xdp\0"
NO_NAME, INT_NAME, NAME, DATA, XDP = 0, 1, 5, 10, 16


def types(*rows: tuple[int, ...], strings: bytes = STRINGS) -> bytes:
    """A blob whose types, from id 1 on, are (kind, name, size or type, vlen, words behind the header...)."""
    body = b"".join(
        struct.pack(f"<{3 + len(words)}I", name, kind << 24 | vlen, value, *words)
        for kind, name, value, vlen, *words in rows
    )
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings)) + body + strings


def ext(func_info: bytes = b"", line_info: bytes = b"", core: bytes | None = None) -> bytes:
    sizes = [0, len(func_info), len(func_info), len(line_info)]
    if core is not None:
        sizes += [len(func_info) + len(line_info), len(core)]
    header = struct.pack("<HBBI", 0xEB9F, 1, 0, 8 + 4 * len(sizes)) + struct.pack(f"<{len(sizes)}I", *sizes)
    return header + func_info + line_info + (core or b"")


INT32 = (INT, INT_NAME, 4, 0, 32)


def test_sizes_follow_typedefs_arrays_and_pointers() -> None:
    btf = Btf(types(INT32, (CONST, 0, 1, 0), (TYPEDEF, NAME, 2, 0), (ARRAY, 0, 0, 0, 3, 1, 5), (PTR, 0, 4, 0)))
    assert [btf.size_of(type_id) for type_id in (1, 2, 3, 4, 5)] == [4, 4, 4, 20, 8]


def test_members_carry_names_and_types() -> None:
    btf = Btf(types(INT32, (STRUCT, 0, 8, 2, INT_NAME, 1, 0, NAME, 1, 32)))
    assert btf.members(2) == [("int", 1), ("name", 1)]


@pytest.mark.parametrize(
    "row",
    [
        pytest.param((TYPEDEF, NAME, 1, 0), id="typedef of itself"),
        pytest.param((ARRAY, 0, 0, 0, 1, 1, 1), id="array of itself"),
    ],
)
def test_loop_of_types_is_refused(row: tuple[int, ...]) -> None:
    with pytest.raises(ObjectError, match="loop"):
        Btf(types(row)).size_of(1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param([INT32, (CONST, 0, 3, 0)], "type 3 does not exist, the last is 2", id="missing type"),
        pytest.param([(31, 0, 0, 0), (31, 0, 0, 0)], "type 1: unknown kind 31", id="unknown kind"),
        pytest.param([(FUNC, NAME, 0, 0), (FUNC, NAME, 0, 0)], "type 2: kind 12 has no size", id="function"),
        pytest.param([INT32, (ARRAY, 0, 0, 0, 1, 1, 0xFFFFFFFF)], "too many", id="array beyond 4 GiB"),
        pytest.param([(DATASEC, DATA, 0, 0), (DATASEC, DATA, 0, 0)], "a second section '.data'", id="section twice"),
        pytest.param([INT32, (STRUCT, 0, 8, 200)], "type 2: extends beyond the types", id="too many members"),
    ],
)
def test_malformed_types_are_named(rows: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ObjectError, match=message):
        len(Btf(types(*rows)).datasecs), Btf(types(*rows)).size_of(2)


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        pytest.param(b"\x9f\xeb\1\0", "BTF header: .* truncated", id="cut in the header"),
        pytest.param(types(INT32)[:-1], "BTF strings: .* truncated", id="cut in the strings"),
        pytest.param(b"\xeb\x9f" + types()[2:], "magic 0x9feb", id="big endian"),
        pytest.param(types((DATASEC, 99, 0, 0)), "no string at offset 99", id="string beyond the table"),
        pytest.param(types((DATASEC, 0, 0, 0), strings=b"\xff\0"), "not UTF-8", id="string of no characters"),
        pytest.param(types((DATASEC, 0, 0, 0), strings=b"abc"), "no string at offset 0", id="string without end"),
    ],
)
def test_malformed_blob_is_named(blob: bytes, message: str) -> None:
    with pytest.raises(ObjectError, match=message):
        len(Btf(blob).datasecs)


# Two variables of a section .data, in the wrong order and without offsets, as clang leaves them.
VARIABLES = (
    INT32,
    (VAR, NAME, 1, 0, 1),
    (VAR, INT_NAME, 1, 0, 1),
    (DATASEC, DATA, 0, 2, 2, 0, 4, 3, 0, 4),
)


def layout(size: int, **offsets: int) -> dict[str, SectionLayout]:
    return {".data": SectionLayout(size, {name: (offset, 4) for name, offset in offsets.items()})}


def test_section_gets_its_size_and_variables_in_order() -> None:
    fixed = Btf(types(*VARIABLES)).with_layout(layout(12, name=8, int=0))
    assert fixed == types(*VARIABLES[:3], (DATASEC, DATA, 12, 2, 3, 0, 4, 2, 8, 4))


@pytest.mark.parametrize(
    ("layouts", "message"),
    [
        pytest.param({}, "does not contain it; externs", id="no such section"),
        pytest.param(layout(8, name=0), "no symbol for variable 'int'", id="no symbol"),
        pytest.param(layout(8, name=0, int=2), "overlap", id="overlap"),
        pytest.param(layout(8, name=0, int=8), "need 12 bytes, the section has 8", id="beyond the end"),
    ],
)
def test_section_that_does_not_fit_is_refused(layouts: dict[str, SectionLayout], message: str) -> None:
    with pytest.raises(ObjectError, match=message):
        Btf(types(*VARIABLES)).with_layout(layouts)


def test_section_of_something_else_than_variables_is_refused() -> None:
    with pytest.raises(ObjectError, match="type 1 is not a variable"):
        Btf(types(INT32, (DATASEC, DATA, 0, 1, 1, 0, 4))).variables(".data")


def test_records_of_a_piece_of_code_count_instructions_from_its_start() -> None:
    records = InfoRecords(12, {"xdp": struct.pack("<9I", 0, 1, 2, 16, 3, 4, 24, 5, 6)})
    assert records.of("xdp", 16, 16) == struct.pack("<6I", 0, 3, 4, 1, 5, 6)
    assert records.of("tc", 0, 16) == b""


def test_record_that_points_into_an_instruction_is_refused() -> None:
    with pytest.raises(ObjectError, match="into an instruction, at 4"):
        InfoRecords(8, {"xdp": struct.pack("<2I", 4, 1)}).of("xdp", 0, 16)


def test_records_in_no_order_are_refused() -> None:
    with pytest.raises(ObjectError, match="records of section 'xdp' are in no order"):
        InfoRecords(8, {"xdp": struct.pack("<6I", 16, 1, 8, 2, 24, 3)}).of("xdp", 0, 32)


def test_records_are_read_by_the_size_the_header_gives() -> None:
    func_info = struct.pack("<6I", 12, XDP, 1, 0, 7, 99)
    functions, lines = parse_ext(ext(func_info), Btf(types()))
    assert functions == InfoRecords(12, {"xdp": struct.pack("<3I", 0, 7, 99)})
    assert lines == InfoRecords(0, {})


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        pytest.param(ext()[:10], "header: .* truncated", id="cut in the header"),
        pytest.param(b"\0\0" + ext()[2:], "magic 0x0", id="magic"),
        pytest.param(ext(struct.pack("<I", 4)), "func_info: records of 4 bytes", id="function record too small"),
        pytest.param(ext(b"", struct.pack("<I", 8)), "line_info: records of 8 bytes", id="line record too small"),
        pytest.param(ext(struct.pack("<I", 10)), "multiple of 4", id="odd record size"),
        pytest.param(ext(struct.pack("<3I", 8, XDP, 9)), "72 bytes .* truncated", id="records missing"),
        pytest.param(ext(struct.pack("<3I", 8, 99, 0)), "no string at offset 99", id="no section name"),
        pytest.param(ext(core=b"1234"), "CO-RE relocations are not supported", id="CO-RE"),
    ],
)
def test_malformed_records_are_named(blob: bytes, message: str) -> None:
    with pytest.raises(ObjectError, match=message):
        parse_ext(blob, Btf(types()))


def test_empty_co_re_table_is_no_reason_to_refuse() -> None:
    assert parse_ext(ext(core=b""), Btf(types()))[0].sections == {}


UNION, ENUM = 5, 6
NAMED = b"\0int\0outer\0inner\0other\0"
OUTER, INNER, OTHER = 5, 11, 17
BIT_FIELDS = 1 << 31


def test_types_are_found_by_kind_and_name() -> None:
    rows = (INT32, (STRUCT, OUTER, 0, 0), (TYPEDEF, INNER, 1, 0), (STRUCT, OTHER, 0, 0), (STRUCT, OUTER, 0, 0))
    btf = Btf(types(*rows, (STRUCT, 999, 0, 0), strings=NAMED))
    found = {name: btf.find(STRUCT, name) for name in ("outer", "inner", "other", "oute", "missing")}
    assert found == {"outer": 2, "inner": None, "other": 4, "oute": None, "missing": None}
    assert btf.find(TYPEDEF, "inner") == 3


def test_name_that_does_not_end_is_no_name() -> None:
    assert Btf(types((STRUCT, 1, 0, 0), strings=b"\0outer\0")).find(STRUCT, "outer") == 1
    assert Btf(types((STRUCT, 1, 0, 0), strings=b"\0outer")).find(STRUCT, "outer") is None


def test_constants_of_an_enum_are_unsigned() -> None:
    btf = Btf(types((ENUM, OUTER, 4, 2, INNER, 7, OTHER, 0xFFFFFFFF), strings=NAMED))
    assert btf.constants(1) == {"inner": 7, "other": 0xFFFFFFFF}


def test_member_is_found_through_structs_arrays_and_unions_without_a_name() -> None:
    btf = Btf(
        types(
            INT32,
            (STRUCT, INNER, 8, 2, INT_NAME, 1, 0, OTHER, 1, 32),
            (UNION, 0, 8, 1, INNER, 2, 0),
            (ARRAY, 0, 0, 0, 2, 1, 3),
            (STRUCT, OUTER, 40, 3, 0, 3, 64, OTHER, 4, 128, INT_NAME, 1, 320),
            strings=NAMED,
        )
    )
    assert btf.place(5, "inner", "other") == (12, 4, 1)
    assert btf.place(5, "other", "other") == (20, 4, 1)
    assert btf.place(5, "other") == (16, 24, 4)
    assert btf.place(5, "int") == (40, 4, 1)
    assert btf.place(5, "inner", "missing") is None
    assert btf.place(5, "int", "int") is None


def test_bit_field_has_no_place_and_what_stands_beside_it_has() -> None:
    rows = [INT32, (STRUCT, OUTER, 8, 2, INNER, 1, 5 << 24, OTHER, 1, 32)]
    blob = bytearray(types(*rows, strings=NAMED))
    info = 24 + 16 + 4
    struct.pack_into("<I", blob, info, struct.unpack_from("<I", blob, info)[0] | BIT_FIELDS)
    btf = Btf(bytes(blob))
    assert btf.place(2, "inner") is None
    assert btf.place(2, "other") == (4, 4, 1)
