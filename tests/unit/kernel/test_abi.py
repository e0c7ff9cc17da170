"""Layouts by what cffi read in the headers: what Python's records must agree with."""

from __future__ import annotations

import pytest

from xtrace.kernel import abi
from xtrace.kernel.syscall import ffi


def test_layout_has_the_bytes_that_c_writes() -> None:
    written = ffi.new("struct nccl_communicator *", {"nranks": 8, "rank": 3, "device": -1, "user": 77})
    fields = [name for name, _ in ffi.typeof("struct nccl_communicator").fields if name != "padding"]
    assert abi.layout("struct nccl_communicator", *fields).unpack(ffi.buffer(written))[:4] == (8, 3, -1, 77)


def test_padding_is_skipped() -> None:
    written = ffi.new("struct nccl_communicator_key *", {"communicator": 1 << 40, "tgid": 9, "padding": 77})
    layout = abi.layout("struct nccl_communicator_key", "communicator", "tgid")
    assert layout.size == ffi.sizeof("struct nccl_communicator_key")
    assert layout.unpack(ffi.buffer(written)) == (1 << 40, 9)


def test_of_a_union_the_first_member_counts() -> None:
    key = ffi.new("struct flow_key *", {"src": bytes(range(16)), "dst_qpn": 0x00030002, "src_qpn": 4, "flags": 9})
    fields = [name for name, _ in ffi.typeof("struct flow_key").fields if name != "dst_qpn"]
    values = dict(zip(fields, abi.layout("struct flow_key", *fields).unpack(ffi.buffer(key)), strict=True))
    assert (values["src"], values["src_port"], values["dst_port"]) == (bytes(range(16)), 2, 3)
    assert (values["src_qpn"], values["flags"]) == (4, 9)


def test_structs_and_arrays_within_are_one_value_for_each_of_their_integers() -> None:
    counters = ffi.new("struct interface_counters *")
    counters.total.bytes, counters.unattributed[1].packets = 5, 7
    values = abi.layout("struct interface_counters", "total", "filtered", "unattributed", "filtered_fragments").unpack(
        ffi.buffer(counters)
    )
    assert (values[1], values[6], sum(values)) == (5, 7, 12)


@pytest.mark.parametrize(
    "fields",
    [("prefix_length", "family"), ("family", "prefix_length", "address"), ("prefix_length", "family", "adress")],
)
def test_fields_that_are_not_the_headers_are_refused(fields: tuple[str, ...]) -> None:
    with pytest.raises(TypeError, match=r"^struct network has the fields prefix_length, family, address; expected"):
        abi.layout("struct network", *fields)


def test_pointers_have_no_layout() -> None:
    with pytest.raises(TypeError, match="pointers"):
        abi.layout("struct xt_text", "start", "length")


@pytest.mark.parametrize("by_number", [{0: "a"}, {0: "a", 2: "c"}, {0: "a", 1: "b", 2: "c"}])
def test_number_without_a_name_is_refused_as_is_a_name_too_many(by_number: dict[int, str]) -> None:
    with pytest.raises(TypeError, match="below 2"):
        abi.names(by_number, 2)


def test_names_come_in_the_order_of_their_numbers() -> None:
    assert abi.names({1: "b", 0: "a"}, 2) == ("a", "b")
