"""Priority flow control by netlink (uapi/linux/dcbnl.h). Reading needs no privileges."""

from __future__ import annotations

from struct import Struct

from xtrace.kernel.netlink import NetlinkSocket, pack_attribute, parse_attributes, unpack

RTM_GETDCB = 78
CMD_IEEE_GET = 21
ATTR_IFNAME = 1
ATTR_IEEE = 13
ATTR_IEEE_PFC = 2
PRIORITIES = 8

_DCBMSG = Struct("=BBH")  # struct dcbmsg: family, command, padding
_IEEE_PFC = Struct("@3BH8Q8Q")  # struct ieee_pfc: capability, enabled, bypass, delay, requests, indications


def pfc_frames(socket: NetlinkSocket, interface: str) -> dict[str, int]:
    """Pause frames sent (requests) and received (indications) per priority; empty if the driver does not report them.

    `socket` is one of NETLINK_ROUTE. Raises KernelError, EOPNOTSUPP from drivers without DCB.
    """
    name = interface.encode("utf-8", "surrogateescape") + b"\0"
    request = _DCBMSG.pack(0, CMD_IEEE_GET, 0) + pack_attribute(ATTR_IFNAME, name)
    for kind, payload in socket.request(RTM_GETDCB, 0, request, what=f"RTM_GETDCB({interface})"):
        attributes = parse_attributes(payload[_DCBMSG.size :]) if kind == RTM_GETDCB else {}
        found = parse_attributes(attributes.get(ATTR_IEEE, b"")).get(ATTR_IEEE_PFC)
        if found is not None:
            counts = unpack(_IEEE_PFC, found, "ieee_pfc")[4:]
            return {
                **{f"pfc_requests_prio{n}": counts[n] for n in range(PRIORITIES)},
                **{f"pfc_indications_prio{n}": counts[PRIORITIES + n] for n in range(PRIORITIES)},
            }
    return {}
