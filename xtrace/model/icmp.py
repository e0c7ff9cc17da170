"""Names of ICMP messages, as the IANA registries of ICMP and ICMPv6 types have them."""

from __future__ import annotations

ICMP, ICMPV6 = 1, 58
"""IP protocol numbers."""

_NAMES = {
    (ICMP, 0): "echo reply",
    (ICMP, 3): "unreachable",
    (ICMP, 5): "redirect",
    (ICMP, 8): "echo",
    (ICMP, 11): "time exceeded",
    (ICMPV6, 1): "unreachable",
    (ICMPV6, 2): "too big",
    (ICMPV6, 3): "time exceeded",
    (ICMPV6, 128): "echo",
    (ICMPV6, 129): "echo reply",
    (ICMPV6, 130): "multicast query",
    (ICMPV6, 131): "multicast report",
    (ICMPV6, 133): "router solicitation",
    (ICMPV6, 134): "router advertisement",
    (ICMPV6, 135): "neighbor solicitation",
    (ICMPV6, 136): "neighbor advertisement",
    (ICMPV6, 143): "multicast report v2",
}


def icmp_name(protocol: int, type_: int, code: int) -> str:
    """Return `echo`, `unreachable code=3`, or `type=13 code=0` for a type without a name here."""
    name = _NAMES.get((protocol, type_))
    if name is None:
        return f"type={type_} code={code}"
    return f"{name} code={code}" if code else name
