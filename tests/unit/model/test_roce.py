"""Opcodes of the base transport header by name, as rows and records show them."""

from __future__ import annotations

import pytest

from xtrace.model.roce import CNP, opcode_name

RELIABLE_CONNECTION = {
    0x00: "SEND_FIRST",
    0x01: "SEND_MIDDLE",
    0x02: "SEND_LAST",
    0x03: "SEND_LAST_WITH_IMM",
    0x04: "SEND_ONLY",
    0x05: "SEND_ONLY_WITH_IMM",
    0x06: "RDMA_WRITE_FIRST",
    0x07: "RDMA_WRITE_MIDDLE",
    0x08: "RDMA_WRITE_LAST",
    0x09: "RDMA_WRITE_LAST_WITH_IMM",
    0x0A: "RDMA_WRITE_ONLY",
    0x0B: "RDMA_WRITE_ONLY_WITH_IMM",
    0x0C: "RDMA_READ_REQUEST",
    0x0D: "RDMA_READ_RESPONSE_FIRST",
    0x0E: "RDMA_READ_RESPONSE_MIDDLE",
    0x0F: "RDMA_READ_RESPONSE_LAST",
    0x10: "RDMA_READ_RESPONSE_ONLY",
    0x11: "ACKNOWLEDGE",
    0x12: "ATOMIC_ACKNOWLEDGE",
    0x13: "COMPARE_SWAP",
    0x14: "FETCH_ADD",
    0x16: "SEND_LAST_WITH_INVALIDATE",
    0x17: "SEND_ONLY_WITH_INVALIDATE",
}
"""IBA 9.2, table 38, and rdma/ib_pack.h of the kernel."""


@pytest.mark.parametrize("opcode, name", RELIABLE_CONNECTION.items())
def test_reliable_connection_has_the_plain_names(opcode: int, name: str) -> None:
    assert opcode_name(opcode) == name


@pytest.mark.parametrize(
    "opcode, name",
    [
        (0x20, "UC_SEND_FIRST"),
        (0x24, "UC_SEND_ONLY"),
        (0x28, "UC_RDMA_WRITE_LAST"),
        (0x2B, "UC_RDMA_WRITE_ONLY_WITH_IMM"),
        (0x40, "RD_SEND_FIRST"),
        (0x51, "RD_ACKNOWLEDGE"),
        (0x54, "RD_FETCH_ADD"),
        (0x55, "RD_RESYNC"),
        (0x64, "UD_SEND_ONLY"),
        (0x65, "UD_SEND_ONLY_WITH_IMM"),
        (0xA0, "XRC_SEND_FIRST"),
        (0xA8, "XRC_RDMA_WRITE_LAST"),
        (0xB1, "XRC_ACKNOWLEDGE"),
    ],
)
def test_every_other_service_goes_before_the_name(opcode: int, name: str) -> None:
    assert opcode_name(opcode) == name


def test_congestion_notification_has_its_own_name() -> None:
    assert (CNP, opcode_name(0x81)) == (0x81, "CNP")


@pytest.mark.parametrize(
    "opcode, name",
    [
        (0x18, "0x18"),
        (0x1F, "0x1f"),
        (0x3F, "0x3f"),
        (0x80, "0x80"),
        (0x82, "0x82"),
        (0x88, "0x88"),
        (0xC0, "0xc0"),
        (0xE4, "0xe4"),
        (0xFF, "0xff"),
    ],
)
def test_opcode_without_a_name_is_its_number(opcode: int, name: str) -> None:
    assert opcode_name(opcode) == name


def test_no_two_opcodes_have_the_same_name() -> None:
    assert len({opcode_name(opcode) for opcode in range(256)}) == 256
