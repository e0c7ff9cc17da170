"""Names of ICMP messages, by the registries of IANA."""

from __future__ import annotations

import pytest

from xtrace.model.icmp import icmp_name

ICMP = {0: "echo reply", 3: "unreachable", 5: "redirect", 8: "echo", 11: "time exceeded"}
"""RFC 792"""
ICMPV6 = {
    1: "unreachable",
    2: "too big",
    3: "time exceeded",
    128: "echo",
    129: "echo reply",
    130: "multicast query",
    131: "multicast report",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbor solicitation",
    136: "neighbor advertisement",
    143: "multicast report v2",
}
"""RFC 4443, 2710, 4861, 3810"""


@pytest.mark.parametrize("protocol, names", [(1, ICMP), (58, ICMPV6), (6, {})])
def test_common_messages_have_names_and_others_numbers(protocol: int, names: dict[int, str]) -> None:
    for number in range(256):
        assert icmp_name(protocol, number, 0) == names.get(number, f"type={number} code=0")
        assert icmp_name(protocol, number, 4) == (
            f"{names[number]} code=4" if number in names else f"type={number} code=4"
        )
