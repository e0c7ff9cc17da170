"""The information elements and templates of --ipfix. Numbers, types and meanings: IANA's registry "IPFIX"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from struct import Struct

REVERSE = 29305
"""Enterprise number of an element's reverse direction (RFC 5103 6.1)."""
VARIABLE = 0xFFFF
"""As a length: each value has its own (RFC 7011 7)."""


@dataclass(frozen=True)
class Element:
    """An information element with the length that it has here."""

    number: int
    code: str
    """of struct; empty: variable length"""
    enterprise: int = 0

    def specifier(self) -> bytes:
        """Return its field specifier (RFC 7011 3.2)."""
        length = Struct(f">{self.code}").size if self.code else VARIABLE
        if self.enterprise:
            return Struct(">HHI").pack(self.number | 0x8000, length, self.enterprise)
        return Struct(">HH").pack(self.number, length)

    def reversed(self) -> Element:
        """Return the element of the other direction."""
        return Element(self.number, self.code, REVERSE)


OCTETS, PACKETS = Element(1, "Q"), Element(2, "Q")
PROTOCOL, TCP_FLAGS = Element(4, "B"), Element(6, "H")
SOURCE_PORT, DESTINATION_PORT = Element(7, "H"), Element(11, "H")
SOURCE_IPV4, DESTINATION_IPV4 = Element(8, "4s"), Element(12, "4s")
SOURCE_IPV6, DESTINATION_IPV6 = Element(27, "16s"), Element(28, "16s")
INGRESS_INTERFACE, EGRESS_INTERFACE = Element(10, "I"), Element(14, "I")
ICMP_IPV4, ICMP_IPV6 = Element(32, "H"), Element(139, "H")
VLAN, DIRECTION, DSCP, ETHERTYPE = Element(58, "H"), Element(61, "B"), Element(195, "B"), Element(256, "H")
START_MS, END_MS = Element(152, "Q"), Element(153, "Q")
BIFLOW_DIRECTION = Element(239, "B")
LAYER2_OCTETS = Element(352, "Q")

EXPORTED_RECORDS = Element(42, "Q")
INTERFACE_NAME = Element(82, "")
EXPORTING_PROCESS, DOMAIN = Element(144, "I"), Element(149, "I")
IGNORED_PACKETS, IGNORED_OCTETS = Element(164, "Q"), Element(165, "Q")
NOT_SENT_FLOWS, NOT_SENT_PACKETS, NOT_SENT_OCTETS = Element(166, "Q"), Element(167, "Q"), Element(168, "Q")
SELECTOR, OBSERVED_PACKETS, SELECTED_PACKETS = Element(302, "Q"), Element(318, "Q"), Element(319, "Q")


@dataclass(frozen=True, eq=False)
class Template:
    """The fields of a kind of records. With scopes it is an options template."""

    number: int
    """256 or more"""
    fields: Sequence[Element]
    scopes: int = 0
    """how many of the fields, from the first, are scopes"""
    packed: Struct = field(init=False)
    """of the fields with a fixed length"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "packed", Struct(">" + "".join(each.code for each in self.fields)))

    def record(self) -> bytes:
        """Return the (options) template record (RFC 7011 3.4.1, 3.4.2.2)."""
        counts = (len(self.fields), self.scopes) if self.scopes else (len(self.fields),)
        head = Struct(f">H{len(counts)}H").pack(self.number, *counts)
        return head + b"".join(each.specifier() for each in self.fields)


COUNTED = (PACKETS, OCTETS, LAYER2_OCTETS, START_MS, END_MS)
"""What differs between the two directions of a connection."""
SEEN = (*COUNTED, INGRESS_INTERFACE, EGRESS_INTERFACE, DIRECTION, VLAN, ETHERTYPE, DSCP)
"""The last fields of every flow."""
PORTS = (SOURCE_PORT, DESTINATION_PORT, PROTOCOL, TCP_FLAGS)

IPV4 = Template(256, (SOURCE_IPV4, DESTINATION_IPV4, *PORTS, *SEEN))
IPV6 = Template(257, (SOURCE_IPV6, DESTINATION_IPV6, *PORTS, *SEEN))
IPV4_ICMP = Template(258, (SOURCE_IPV4, DESTINATION_IPV4, ICMP_IPV4, PROTOCOL, *SEEN))
IPV6_ICMP = Template(259, (SOURCE_IPV6, DESTINATION_IPV6, ICMP_IPV6, PROTOCOL, *SEEN))
NO_ADDRESSES = Template(260, SEEN)
BOTH = (*SEEN, *(each.reversed() for each in (*COUNTED, TCP_FLAGS)), BIFLOW_DIRECTION)
"""The last fields of a flow with its opposite (RFC 5103)."""
IPV4_BOTH = Template(261, (SOURCE_IPV4, DESTINATION_IPV4, *PORTS, *BOTH))
IPV6_BOTH = Template(262, (SOURCE_IPV6, DESTINATION_IPV6, *PORTS, *BOTH))
METERING = Template(270, (DOMAIN, IGNORED_PACKETS, IGNORED_OCTETS), scopes=1)
EXPORTING = Template(
    271, (EXPORTING_PROCESS, NOT_SENT_FLOWS, NOT_SENT_PACKETS, NOT_SENT_OCTETS, EXPORTED_RECORDS), scopes=1
)
FILTERING = Template(272, (SELECTOR, OBSERVED_PACKETS, SELECTED_PACKETS), scopes=1)
INTERFACE = Template(273, (INGRESS_INTERFACE, INTERFACE_NAME), scopes=1)

TEMPLATES = (
    *(IPV4, IPV6, IPV4_ICMP, IPV6_ICMP, NO_ADDRESSES, IPV4_BOTH, IPV6_BOTH),
    *(METERING, EXPORTING, FILTERING, INTERFACE),
)
