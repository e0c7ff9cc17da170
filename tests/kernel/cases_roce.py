"""RoCE v1 and v2: the base transport header by opcode class, and what only looks like it."""

from __future__ import annotations

from tests.kernel.case import Case, flow4, flow6, only, over_ipv4, over_ipv6
from tests.support.frames import (
    DESTINATION,
    IPV4,
    IPV6,
    ROCE_V1,
    ROCE_V2_PORT,
    UDP,
    VLAN,
    bth,
    deth,
    ethernet,
    extension,
    grh,
    ipv4,
    ipv6,
    roce,
    udp,
    vlan,
)
from xtrace.model.flow import FRAGMENT, HAS_SRC_QPN, LATER_FRAGMENT, FlowKey
from xtrace.model.flow import ROCE_V1 as IS_V1
from xtrace.model.flow import ROCE_V2 as IS_V2

QPN, SOURCE_QPN = 0x123456, 0xABCDEF
INVARIANT_CRC = 4
CNP = 0x81
CONNECTED = {
    "RC": (*range(0x15), 0x16, 0x17),
    "RC flush and atomic write": (0x1C, 0x1D),
    "UC": range(0x20, 0x2C),
    "RD": range(0x40, 0x56),
    "XRC": (*range(0xA0, 0xB5), 0xB6, 0xB7),
    "manufacturer's": (0xC0, 0xFF),
}
"""Opcodes (IBA 9.2, table 38) by the class in their upper three bits."""

DATAGRAM = (0x64, 0x65)


def pair(key: FlowKey, opcode: int, dst_qpn: int = QPN, src_qpn: int | None = None, *, flags: int = IS_V2) -> FlowKey:
    """The flow of a queue pair, with the numbers where others have ports."""
    key = key._replace(src_port=dst_qpn & 0xFFFF, dst_port=dst_qpn >> 16)
    flags |= key.flags | (0 if src_qpn is None else HAS_SRC_QPN)
    return key._replace(opcode=opcode, src_qpn=src_qpn or 0, flags=flags)


def v2(transport: bytes) -> bytes:
    return over_ipv4(UDP, roce(transport))


def claiming(length: int, datagram: bytes) -> bytes:
    """The UDP datagram with this in its length field."""
    return datagram[:4] + length.to_bytes(2, "big") + datagram[6:]


def v1(transport: bytes) -> bytes:
    return ethernet(ROCE_V1, grh(transport))


V2_FLOW, V2_FLOW6 = flow4(UDP), flow6(UDP)
V1_FLOW = flow6(0)._replace(ethertype=ROCE_V1)
PORTS_ONLY = flow4(UDP, 49152, ROCE_V2_PORT)

OPCODE_CASES = [
    *(
        Case(f"RoCE v2 {name} 0x{opcode:02x}", v2(bth(opcode, QPN, bytes(40))), pair(V2_FLOW, opcode), "RoCE_v2")
        for name, opcodes in CONNECTED.items()
        for opcode in opcodes
    ),
    *(
        Case(
            f"RoCE v2 UD 0x{opcode:02x}",
            v2(bth(opcode, 1, deth(SOURCE_QPN, bytes(16)))),
            pair(V2_FLOW, opcode, 1, SOURCE_QPN),
            "RoCE_v2",
        )
        for opcode in DATAGRAM
    ),
    Case("RoCE v2 CNP", v2(bth(CNP, QPN, bytes(16), congestion=0x40)), pair(V2_FLOW, CNP), "RoCE_v2"),
    Case("RoCE v2 FECN", v2(bth(4, QPN, congestion=0x80)), pair(V2_FLOW, 4), "RoCE_v2"),
    Case("RoCE v2 FECN and BECN", v2(bth(4, QPN, congestion=0xC0)), pair(V2_FLOW, 4), "RoCE_v2"),
    Case("RoCE v2 all flags but the version", v2(bth(4, QPN, bytes(4), version=0xF0)), pair(V2_FLOW, 4), "RoCE_v2"),
    Case("RoCE v2 highest queue pair", v2(bth(4, 0xFFFFFF)), pair(V2_FLOW, 4, 0xFFFFFF), "RoCE_v2"),
    Case("RoCE v2 queue pair 0", v2(bth(4, 0)), pair(V2_FLOW, 4, 0), "RoCE_v2"),
    Case("RoCE v2 UD from queue pair 0", v2(bth(0x64, 1, deth(0))), pair(V2_FLOW, 0x64, 1, 0), "RoCE_v2"),
]

V2_CASES = [
    Case("RoCE v2 over IPv6", over_ipv6(UDP, roce(bth(6, QPN, bytes(16)))), pair(V2_FLOW6, 6), "RoCE_v2"),
    Case(
        "RoCE v2 UD over IPv6",
        over_ipv6(UDP, roce(bth(0x64, 1, deth(SOURCE_QPN)))),
        pair(V2_FLOW6, 0x64, 1, SOURCE_QPN),
        "RoCE_v2",
    ),
    Case(
        "RoCE v2 behind an IPv6 extension header",
        over_ipv6(DESTINATION, extension(UDP, roce(bth(6, QPN, bytes(16))))),
        pair(V2_FLOW6, 6),
        "RoCE_v2",
    ),
    Case(
        "RoCE v2 behind IPv4 options",
        ethernet(IPV4, ipv4(UDP, roce(bth(6, QPN, bytes(16))), options=b"\x01" * 40)),
        pair(V2_FLOW, 6),
        "RoCE_v2",
    ),
    Case(
        "RoCE v2, 802.1Q",
        ethernet(VLAN, vlan(42, IPV4, ipv4(UDP, roce(bth(8, QPN))))),
        pair(flow4(UDP, vlan_id=42), 8),
        "RoCE_v2",
    ),
    Case(
        "RoCE v2 over IPv6, 802.1Q",
        ethernet(VLAN, vlan(42, IPV6, ipv6(UDP, roce(bth(0x64, 1, deth(2)))))),
        pair(flow6(UDP, vlan_id=42), 0x64, 1, 2),
        "RoCE_v2",
    ),
    Case(
        "RoCE v2 in a first fragment",
        ethernet(IPV4, ipv4(UDP, roce(bth(4, QPN)), more=True)),
        pair(flow4(UDP, flags=FRAGMENT), 4),
        "RoCE_v2",
    ),
    Case(
        "RoCE v2 in a later fragment",
        ethernet(IPV4, ipv4(UDP, roce(bth(4, QPN)), offset=1)),
        flow4(UDP, flags=FRAGMENT | LATER_FRAGMENT),
        "UDP",
    ),
    *(
        Case(
            f"UDP 4791 of {length} bytes, header included, in a first fragment",
            ethernet(IPV4, ipv4(UDP, claiming(length, roce(bth(4, QPN))), more=True)),
            flow4(UDP, 49152, ROCE_V2_PORT, flags=FRAGMENT),
            "UDP",
        )
        for length in (0, 4)
    ),
    Case("UDP 4791 without payload", over_ipv4(UDP, udp(49152, ROCE_V2_PORT)), PORTS_ONLY, "UDP"),
    Case("UDP 4791 with 11 bytes", over_ipv4(UDP, udp(49152, ROCE_V2_PORT, bytes(11))), PORTS_ONLY, "UDP"),
    Case("UDP 4791 with 12 bytes", over_ipv4(UDP, udp(49152, ROCE_V2_PORT, bth(4, QPN))), PORTS_ONLY, "UDP"),
    Case(
        "UDP 4791 with 16 bytes",
        over_ipv4(UDP, udp(49152, ROCE_V2_PORT, bth(4, QPN) + bytes(4))),
        pair(V2_FLOW, 4),
        "RoCE_v2",
    ),
    *(
        Case(f"UDP 4791 with transport version {version}", v2(bth(4, QPN, version=version)), PORTS_ONLY, "UDP")
        for version in (1, 8, 15)
    ),
    Case("UDP from 4791", over_ipv4(UDP, udp(ROCE_V2_PORT, 5, bth(4, QPN))), flow4(UDP, ROCE_V2_PORT, 5), "UDP"),
    Case(
        "RoCE v2 UD whose source queue pair is cut",
        v2(bth(0x64, 1, deth(2)))[: -INVARIANT_CRC - 1],
        pair(V2_FLOW, 0x64, 1),
        "RoCE_v2",
    ),
]

V1_CASES = [
    Case("RoCE v1", v1(bth(4, QPN)), pair(V1_FLOW, 4, flags=IS_V1), "RoCE_v1_IBoE"),
    Case("RoCE v1 UD", v1(bth(0x64, 1, deth(9))), pair(V1_FLOW, 0x64, 1, 9, flags=IS_V1), "RoCE_v1_IBoE"),
    Case("RoCE v1 CNP", v1(bth(CNP, QPN, bytes(16))), pair(V1_FLOW, CNP, flags=IS_V1), "RoCE_v1_IBoE"),
    Case(
        "RoCE v1, 802.1Q",
        ethernet(VLAN, vlan(42, ROCE_V1, grh(bth(4, QPN)))),
        pair(V1_FLOW._replace(vlan_id=42), 4, flags=IS_V1),
        "RoCE_v1_IBoE",
    ),
    Case(
        "RoCE v1 between IPv4 identifiers",
        ethernet(ROCE_V1, grh(bth(4, QPN), src="::ffff:10.0.0.1", dst="::ffff:10.0.0.2")),
        pair(flow4(0)._replace(ethertype=ROCE_V1), 4, flags=IS_V1),
        "RoCE_v1_IBoE",
    ),
    Case(
        "RoCE v1 with UDP as next header",
        ethernet(ROCE_V1, grh(bth(4, QPN), next_header=UDP)),
        V1_FLOW,
        "RoCE_v1_IBoE",
    ),
    Case("RoCE v1 with transport version 1", v1(bth(4, QPN, version=1)), V1_FLOW, "RoCE_v1_IBoE"),
    Case("RoCE v1 of another version", ethernet(ROCE_V1, grh(bth(4, QPN), version=4)), only(ROCE_V1), "RoCE_v1_IBoE"),
    Case("RoCE v1 that ends with its global route header", ethernet(ROCE_V1, ipv6(27)), V1_FLOW, "RoCE_v1_IBoE"),
    Case("RoCE v1 cut in its transport header", v1(bth(4, 1))[: -INVARIANT_CRC - 1], V1_FLOW, "RoCE_v1_IBoE"),
    Case("RoCE v1 without anything", ethernet(ROCE_V1), only(ROCE_V1), "RoCE_v1_IBoE"),
]

SPARE = 0x60, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0xDE, 0xAD, 0xBE, 0xEF
UNDEFINED = (0x15, 0x18, 0x1B, 0x1E, 0x2C, 0x36, 0x56, 0x60, 0x66, 0x80, 0x82, 0xB5, 0xB8, 0xBF)
LEAST = {
    0x00: 0, 0x03: 4, 0x06: 16, 0x0B: 20, 0x0C: 16, 0x0D: 4, 0x0E: 0, 0x11: 4, 0x12: 12, 0x13: 28, 0x17: 4, 0x1C: 20,
    0x1D: 24, 0x24: 0, 0x2B: 20, 0x44: 12, 0x4D: 8, 0x53: 40, 0x55: 12, 0x65: 12, 0x81: 16, 0xA4: 4, 0xB1: 4, 0xB3: 32,
}  # fmt: skip
"""Bytes that stand between base transport header and invariant CRC at least, by opcode."""


def exactly(opcode: int, size: int) -> bytes:
    """A RoCE v2 frame with as many bytes between base transport header and invariant CRC."""
    return v2(bth(opcode, QPN, bytes(size)))


def lying(transport: bytes, length: int) -> bytes:
    """A frame to RoCE's port whose UDP header says another length."""
    datagram = roce(transport)
    return over_ipv4(UDP, datagram[:4] + length.to_bytes(2, "big") + datagram[6:])


IMPLAUSIBLE_CASES = [
    Case(
        "other UDP on 4791, as reported",
        over_ipv4(UDP, udp(40000, ROCE_V2_PORT, bytes([0x80, *SPARE]) + b"r" * 160)),
        flow4(UDP, 40000, ROCE_V2_PORT),
        "UDP",
    ),
    *(
        Case(f"UDP 4791, no opcode 0x{opcode:02x}", v2(bth(opcode, QPN, bytes(40))), PORTS_ONLY, "UDP")
        for opcode in UNDEFINED
    ),
    *(
        Case(
            f"RoCE v2 0x{opcode:02x}, as short as can be",
            exactly(opcode, size),
            pair(V2_FLOW, opcode, src_qpn=0 if opcode >> 5 == 3 else None),
            "RoCE_v2",
        )
        for opcode, size in LEAST.items()
    ),
    *(
        Case(f"UDP 4791, too short for 0x{opcode:02x}", exactly(opcode, size - 4), PORTS_ONLY, "UDP")
        for opcode, size in LEAST.items()
        if size
    ),
    *(
        Case(f"UDP 4791, {size} bytes of payload are no whole words", exactly(4, size), PORTS_ONLY, "UDP")
        for size in (1, 2, 3, 5, 254)
    ),
    *(
        Case(f"UDP 4791, {pad} bytes of pad and no payload", v2(bth(4, QPN, version=pad << 4)), PORTS_ONLY, "UDP")
        for pad in (1, 2, 3)
    ),
    *(
        Case(f"UDP 4791, partition 0x{partition:04x}", v2(bth(4, QPN, partition=partition)), PORTS_ONLY, "UDP")
        for partition in (0, 0x8000)
    ),
    Case("RoCE v2, limited member", v2(bth(4, QPN, partition=1)), pair(V2_FLOW, 4), "RoCE_v2"),
    Case("UDP 4791 that says it is longer than its packet", lying(bth(4, QPN), 28), PORTS_ONLY, "UDP"),
    Case("UDP 4791 that says it has no length", lying(bth(4, QPN), 0), PORTS_ONLY, "UDP"),
    Case("UDP 4791 that says it is shorter than its header", lying(bth(4, QPN), 4), PORTS_ONLY, "UDP"),
    Case("RoCE v2 with bytes behind the datagram", lying(bth(4, QPN, bytes(8)), 24), pair(V2_FLOW, 4), "RoCE_v2"),
    Case("RoCE v1, no opcode 0x80", v1(bth(0x80, QPN, bytes(40))), V1_FLOW, "RoCE_v1_IBoE"),
    Case("RoCE v1, no whole words", v1(bth(4, QPN, bytes(3))), V1_FLOW, "RoCE_v1_IBoE"),
    Case("RoCE v1 too short for its opcode", v1(bth(6, QPN, bytes(12))), V1_FLOW, "RoCE_v1_IBoE"),
    Case("RoCE v1, partition 0", v1(bth(4, QPN, partition=0)), V1_FLOW, "RoCE_v1_IBoE"),
]

ROCE_GROUPS = {"RoCE opcodes": OPCODE_CASES, "RoCE v2": V2_CASES, "RoCE v1": V1_CASES, "not RoCE": IMPLAUSIBLE_CASES}
