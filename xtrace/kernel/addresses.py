"""Addresses of interfaces, by netlink (uapi/linux/if_addr.h)."""

from __future__ import annotations

from ipaddress import ip_address

from xtrace.kernel.netlink import NetlinkSocket, malformed, parse_attributes, unpack
from xtrace.kernel.routes import IFA_ADDRESS, IFA_LOCAL, IFADDRMSG, RTM_GETADDR, RTM_NEWADDR


def of_interfaces(socket: NetlinkSocket) -> dict[int, tuple[str, ...]]:
    """Return the addresses with prefix lengths, `10.0.0.1/24`, by interface index. Raises KernelError."""
    found: dict[int, tuple[str, ...]] = {}
    for kind, payload in socket.dump(RTM_GETADDR, IFADDRMSG.pack(0, 0, 0, 0, 0), what="RTM_GETADDR"):
        if kind == RTM_NEWADDR:
            index, text = _parse(payload)
            found[index] = (*found.get(index, ()), text)
    return found


def _parse(payload: bytes) -> tuple[int, str]:
    _, prefix, _, _, index = unpack(IFADDRMSG, payload, "ifaddrmsg")
    values = parse_attributes(payload[IFADDRMSG.size :])
    packed = values.get(IFA_LOCAL, values.get(IFA_ADDRESS, b""))
    try:
        return index, f"{ip_address(packed)}/{prefix}"
    except ValueError:
        raise malformed(f"an address of {len(packed)} bytes") from None
