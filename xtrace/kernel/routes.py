"""The default route and the address that its packets get, by netlink (uapi/linux/rtnetlink.h, if_addr.h)."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from struct import Struct

from xtrace.kernel.netlink import (
    NetlinkSocket,
    malformed,
    optional_unsigned,
    parse_attributes,
    unpack,
)

RTM_NEWADDR = 20
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_GETROUTE = 26

AF_INET = 2
AF_INET6 = 10

IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_F_SECONDARY = 0x01  # for IPv6 the same bit is IFA_F_TEMPORARY
IFA_F_DADFAILED = 0x08
IFA_F_DEPRECATED = 0x20
IFA_F_TENTATIVE = 0x40

RTA_OIF = 4
RTA_GATEWAY = 5
RTA_PRIORITY = 6
RTA_PREFSRC = 7
RTA_MULTIPATH = 9
RTA_VIA = 18
RT_TABLE_MAIN = 254
RT_SCOPE_LINK = 253
RTN_UNICAST = 1
RTNH_F_DEAD = 0x1
RTM_F_CLONED = 0x200

IFADDRMSG = Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
_RTMSG = Struct("=8BI")  # struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
_RTNEXTHOP = Struct("=HBBi")  # struct rtnexthop: length, flags, hops, index

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """Interface index, the source address packets get (None: no usable one), the gateway (None: on-link)."""

    index: int
    source: str | None
    gateway: str | None


@dataclass(frozen=True, slots=True)
class _Route:
    metric: int
    index: int
    source: Address | None
    gateway: Address | None


def _address(value: bytes) -> Address:
    try:
        return ip_address(value)
    except ValueError:
        raise malformed(f"an address of {len(value)} bytes") from None


def _gateway(values: dict[int, bytes]) -> Address | None:
    """RTA_VIA (struct rtvia: u16 family, address) is an IPv4 route's IPv6 gateway."""
    if RTA_GATEWAY in values:
        return _address(values[RTA_GATEWAY])
    return _address(values[RTA_VIA][2:]) if RTA_VIA in values else None


def _first_path(value: bytes) -> tuple[int, Address | None] | None:
    """Interface index and gateway of the first live path of a multipath route."""
    offset = 0
    while offset < len(value):
        length, flags, _, index = unpack(_RTNEXTHOP, value[offset:], "rtnexthop")
        if length < _RTNEXTHOP.size or offset + length > len(value):
            raise malformed(f"a next hop claims {length} of {len(value) - offset} bytes")
        if not flags & RTNH_F_DEAD:
            return index, _gateway(parse_attributes(value[offset + _RTNEXTHOP.size : offset + length]))
        offset += (length + 3) & ~3
    return None


def _parse_default(family: int, payload: bytes) -> _Route | None:
    """The default route in an RTM_NEWROUTE without destination; None if unusable or not of the main table.

    A route given only as a next hop object (sysctl nexthop_compat_mode=0) is ignored.
    """
    found, _, src_len, tos, table, _, _, kind, flags = unpack(_RTMSG, payload, "rtmsg")
    values = parse_attributes(payload[_RTMSG.size :])
    # Check the family: with IPv6 disabled the kernel answers an IPv6 dump with all routes.
    if (found, src_len, tos, table, kind) != (family, 0, 0, RT_TABLE_MAIN, RTN_UNICAST):
        return None
    if flags & (RTM_F_CLONED | RTNH_F_DEAD):
        return None
    index = optional_unsigned(values, RTA_OIF, 4)
    path = (index, _gateway(values)) if index else _first_path(values.get(RTA_MULTIPATH, b""))
    if path is None:
        return None
    source = _address(values[RTA_PREFSRC]) if RTA_PREFSRC in values else None
    return _Route(optional_unsigned(values, RTA_PRIORITY, 4) or 0, path[0], source, path[1])


def _rank_address(family: int, route: _Route, payload: bytes) -> tuple[tuple[int, bool, bool, int], Address] | None:
    """(rank, address) of an RTM_NEWADDR as source for `route`, lowest first; None if it cannot be one.

    The order of inet_select_addr() (net/ipv4/devinet.c): global scope, then the route's own interface, the
    gateway's subnet, primary before secondary. For IPv6 that puts stable before temporary addresses, so that
    the address names the host for long.
    """
    found, prefix, flags, scope, index = unpack(IFADDRMSG, payload, "ifaddrmsg")
    values = parse_attributes(payload[IFADDRMSG.size :])
    peer = values.get(IFA_ADDRESS, b"")
    local = values.get(IFA_LOCAL, peer)
    if found != family or not local or flags & (IFA_F_DADFAILED | IFA_F_DEPRECATED | IFA_F_TENTATIVE):
        return None
    if scope > RT_SCOPE_LINK or (scope == RT_SCOPE_LINK and index != route.index):
        return None
    try:
        subnet = ip_network((peer or local, prefix), strict=False)
    except ValueError:
        raise malformed(f"an address of {len(peer)} bytes with prefix length {prefix}") from None
    outside = route.gateway is None or route.gateway not in subnet
    return (scope, index != route.index, outside, flags & IFA_F_SECONDARY), _address(local)


def _source(socket: NetlinkSocket, family: int, route: _Route) -> Address | None:
    request = IFADDRMSG.pack(family, 0, 0, 0, 0)
    replies = socket.dump(RTM_GETADDR, request, what="RTM_GETADDR")
    ranked = [_rank_address(family, route, payload) for kind, payload in replies if kind == RTM_NEWADDR]
    return min((entry for entry in ranked if entry), key=lambda entry: entry[0], default=(None, None))[1]


def _is_default(payload: bytes) -> bool:
    """Whether rtm_dst_len is 0. A payload too short for it passes too: the parser rejects it."""
    return payload[1:2] in (b"\0", b"")


def default_route(socket: NetlinkSocket) -> DefaultRoute | None:
    """The host's default route: IPv4 before IPv6, lowest metric, main table, unicast only. Raises KernelError.

    The source is the route's own (RTA_PREFSRC) or the address the kernel would choose.
    """
    for family in (AF_INET, AF_INET6):
        request = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        replies = socket.dump(RTM_GETROUTE, request, what="RTM_GETROUTE", keep=_is_default)
        parsed = [_parse_default(family, payload) for kind, payload in replies if kind == RTM_NEWROUTE]
        route = min((entry for entry in parsed if entry), key=lambda entry: entry.metric, default=None)
        if route:
            source = route.source or _source(socket, family, route)
            return DefaultRoute(
                route.index, str(source) if source else None, str(route.gateway) if route.gateway else None
            )
    return None
