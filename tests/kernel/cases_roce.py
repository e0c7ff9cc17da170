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
CNP = 0x81
CONNECTED = {
    "RC": range(0x18),
    "RC flush and atomic write": (0x1C, 0x1D),
    "UC": (*range(0x20, 0x2C), 0x36, 0x37),
    "RD": (0x40, 0x4B, 0x51),
    "XRC": (0xA0, 0xAC, 0xB4),
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


def v1(transport: bytes) -> bytes:
    return ethernet(ROCE_V1, grh(transport))


V2_FLOW, V2_FLOW6 = flow4(UDP), flow6(UDP)
V1_FLOW = flow6(0)._replace(ethertype=ROCE_V1)
PORTS_ONLY = flow4(UDP, 49152, ROCE_V2_PORT)

OPCODE_CASES = [
    *(
        Case(f"RoCE v2 {name} 0x{opcode:02x}", v2(bth(opcode, QPN, bytes(32))), pair(V2_FLOW, opcode), "RoCE_v2")
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
    Case("RoCE v2 all flags but the version", v2(bth(4, QPN, version=0xF0)), pair(V2_FLOW, 4), "RoCE_v2"),
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
        over_ipv6(DESTINATION, extension(UDP, roce(bth(6, QPN)))),
        pair(V2_FLOW6, 6),
        "RoCE_v2",
    ),
    Case(
        "RoCE v2 behind IPv4 options",
        ethernet(IPV4, ipv4(UDP, roce(bth(6, QPN)), options=b"\x01" * 40)),
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
    Case("UDP 4791 without payload", over_ipv4(UDP, udp(49152, ROCE_V2_PORT)), PORTS_ONLY, "UDP"),
    Case("UDP 4791 with 11 bytes", over_ipv4(UDP, udp(49152, ROCE_V2_PORT, bytes(11))), PORTS_ONLY, "UDP"),
    Case(
        "UDP 4791 with 12 bytes",
        over_ipv4(UDP, udp(49152, ROCE_V2_PORT, bth(4, QPN))),
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
        over_ipv4(UDP, udp(49152, ROCE_V2_PORT, bth(0x64, 1, deth(2))))[:-1],
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
    Case("RoCE v1 cut in its transport header", ethernet(ROCE_V1, ipv6(27, bth(4, 1)))[:-1], V1_FLOW, "RoCE_v1_IBoE"),
    Case("RoCE v1 without anything", ethernet(ROCE_V1), only(ROCE_V1), "RoCE_v1_IBoE"),
]

ROCE_GROUPS = {"RoCE opcodes": OPCODE_CASES, "RoCE v2": V2_CASES, "RoCE v1": V1_CASES}
