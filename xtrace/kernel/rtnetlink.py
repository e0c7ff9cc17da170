"""Interfaces, their addresses, the default route, and XDP programs by netlink (uapi/linux/rtnetlink.h, if_link.h)."""

from dataclasses import dataclass
from errno import ENODEV, ENOMSG
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from struct import Struct

from xtrace.errors import KernelError
from xtrace.kernel import syscall
from xtrace.kernel.netlink import (
    NetlinkSocket,
    attributes,
    malformed,
    pack_attribute,
    pack_nested,
    parse_attributes,
    text,
    unpack,
    unsigned,
)

RTM_NEWLINK = 16
RTM_GETLINK = 18
RTM_SETLINK = 19
RTM_NEWADDR = 20
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_GETROUTE = 26

AF_INET = 2
AF_INET6 = 10

IFF_UP = 0x1

IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_MASTER = 10
IFLA_OPERSTATE = 16
IFLA_LINKINFO = 18
IFLA_STATS64 = 23
IFLA_EXT_MASK = 29
IFLA_XDP = 43
IFLA_NEW_NETNSID = 45
IFLA_PROP_LIST = 52
IFLA_ALT_IFNAME = 53
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
IFLA_TUN_PI = 4
IFLA_INFO_SLAVE_KIND = 4

IFLA_XDP_FD = 1
IFLA_XDP_ATTACHED = 2
IFLA_XDP_FLAGS = 3
IFLA_XDP_PROG_ID = 4
IFLA_XDP_DRV_PROG_ID = 5
IFLA_XDP_SKB_PROG_ID = 6
IFLA_XDP_HW_PROG_ID = 7
IFLA_XDP_EXPECTED_FD = 8

XDP_FLAGS_UPDATE_IF_NOEXIST = 1 << 0
XDP_FLAGS_SKB_MODE = 1 << 1
XDP_FLAGS_DRV_MODE = 1 << 2
XDP_FLAGS_HW_MODE = 1 << 3
XDP_FLAGS_REPLACE = 1 << 4

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

OPERSTATES = ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")
"""IF_OPER_* of uapi/linux/if.h by number, spelled as in /sys/class/net/*/operstate."""

XDP_MODES = {1: "native", 2: "generic", 3: "offload", 4: "multi"}
"""XDP_ATTACHED_* of uapi/linux/if_link.h."""

IFNAMSIZ = 16
ALTIFNAMSIZ = 128

_IFINFOMSG = Struct("=BxHiII")  # struct ifinfomsg: family, ARPHRD type, index, flags, change
_STATS64 = Struct("=8Q")  # the start of struct rtnl_link_stats64, which grows at its end
_IFADDRMSG = Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
_RTMSG = Struct("=8BI")  # struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
_RTNEXTHOP = Struct("=HBBi")  # struct rtnexthop: length, flags, hops, index
_INT = Struct("=i")
_U32 = Struct("=I")

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class XdpOwner:
    """The XDP programs on an interface.

    `mode`: native, generic, offload, or multi for more than one of them. `prog_id` is the program's id, with
    multi that of the one which sees a packet first: offload, native, generic.
    """

    mode: str
    prog_id: int
    native_id: int | None = None
    generic_id: int | None = None
    offload_id: int | None = None


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """One interface. Counters are those of the interface since it exists, in packets and bytes.

    They are None only where the message is not a full description: the kernel also sends RTM_NEWLINK for bridge
    ports (AF_BRIDGE) and wireless events with little more than index and name. `xdp` means nothing there either.
    """

    index: int
    name: str
    flags: int
    link_type: int
    operstate: str = "unknown"
    mtu: int = 0
    kind: str = ""
    master: int | None = None
    names_protocol: bool = False
    """of a tun interface: whoever sends names each packet's protocol, which need not be what the packet is"""
    slave_kind: str = ""
    """the master's kind: bond, bridge, vrf"""
    address: str = ""
    xdp: XdpOwner | None = None
    altnames: tuple[str, ...] = ()
    moved: bool = False
    """of an RTM_DELLINK: it went to another network namespace, and lives on there"""
    rx_packets: int | None = None
    rx_bytes: int | None = None
    tx_packets: int | None = None
    tx_bytes: int | None = None
    rx_dropped: int | None = None
    tx_dropped: int | None = None

    @property
    def is_up(self) -> bool:
        """Administratively up."""
        return bool(self.flags & IFF_UP)


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


def _optional(values: dict[int, bytes], kind: int, size: int) -> int | None:
    return unsigned(values[kind], size) if kind in values else None


def _parse_xdp(value: bytes) -> XdpOwner | None:
    values = parse_attributes(value)
    attached = _optional(values, IFLA_XDP_ATTACHED, 1)
    if not attached:
        return None
    native = _optional(values, IFLA_XDP_DRV_PROG_ID, 4)
    generic = _optional(values, IFLA_XDP_SKB_PROG_ID, 4)
    offload = _optional(values, IFLA_XDP_HW_PROG_ID, 4)
    prog_id = _optional(values, IFLA_XDP_PROG_ID, 4) or offload or native or generic or 0
    return XdpOwner(XDP_MODES.get(attached, f"mode {attached}"), prog_id, native, generic, offload)


def _parse_altnames(value: bytes) -> tuple[str, ...]:
    return tuple(text(name) for kind, name in attributes(value) if kind == IFLA_ALT_IFNAME)


def parse_link(payload: bytes) -> LinkInfo:
    """The payload of an RTM_NEWLINK (or RTM_DELLINK), of a dump or a notification. KernelError if damaged."""
    _, link_type, index, flags, _ = unpack(_IFINFOMSG, payload, "ifinfomsg")
    values = parse_attributes(payload[_IFINFOMSG.size :])
    name = text(values.get(IFLA_IFNAME, b""))
    if index <= 0 or not name:
        raise malformed(f"an interface with index {index} and name {name!r}")
    operstate = _optional(values, IFLA_OPERSTATE, 1) or 0
    counters: tuple[int | None, ...] = (None,) * 8
    if IFLA_STATS64 in values:
        counters = unpack(_STATS64, values[IFLA_STATS64], "rtnl_link_stats64")
    rx_packets, tx_packets, rx_bytes, tx_bytes, _, _, rx_dropped, tx_dropped = counters
    info = parse_attributes(values.get(IFLA_LINKINFO, b""))
    kind = text(info.get(IFLA_INFO_KIND, b""))
    return LinkInfo(
        index=index,
        name=name,
        flags=flags,
        link_type=link_type,
        operstate=OPERSTATES[operstate] if operstate < len(OPERSTATES) else "unknown",
        mtu=_optional(values, IFLA_MTU, 4) or 0,
        kind=kind,
        names_protocol=kind == "tun" and _names_protocol(info.get(IFLA_INFO_DATA, b"")),
        master=_optional(values, IFLA_MASTER, 4),
        slave_kind=text(info.get(IFLA_INFO_SLAVE_KIND, b"")),
        address=values.get(IFLA_ADDRESS, b"").hex(":"),
        xdp=_parse_xdp(values.get(IFLA_XDP, b"")),
        altnames=_parse_altnames(values.get(IFLA_PROP_LIST, b"")),
        moved=IFLA_NEW_NETNSID in values,
        rx_packets=rx_packets,
        rx_bytes=rx_bytes,
        tx_packets=tx_packets,
        tx_bytes=tx_bytes,
        rx_dropped=rx_dropped,
        tx_dropped=tx_dropped,
    )


def _names_protocol(tun: bytes) -> bool:
    """Whether there is packet information, as IFF_NO_PI is not set (drivers/net/tun.c, since Linux 4.16)."""
    return bool(_optional(parse_attributes(tun), IFLA_TUN_PI, 1))


def _link_request(index: int, *extra: bytes) -> bytes:
    """Mask 0 leaves out RTEXT_FILTER_VF, a kilobyte and more for each SR-IOV function.

    RTEXT_FILTER_SKIP_STATS must stay clear: newer kernels then leave out IFLA_STATS64 too (Linux commit
    105bae321862, "rtnetlink: honor RTEXT_FILTER_SKIP_STATS in IFLA_STATS").
    """
    return _IFINFOMSG.pack(0, 0, index, 0, 0) + pack_attribute(IFLA_EXT_MASK, _U32.pack(0)) + b"".join(extra)


def links(socket: NetlinkSocket) -> list[LinkInfo]:
    """Every interface of the network namespace. Raises KernelError."""
    replies = socket.dump(RTM_GETLINK, _link_request(0), what="RTM_GETLINK")
    return [parse_link(payload) for kind, payload in replies if kind == RTM_NEWLINK]


def link(socket: NetlinkSocket, name_or_index: str | int) -> LinkInfo | None:
    """One interface by index, name or alternative name; None if there is none. Raises KernelError for the rest."""
    if isinstance(name_or_index, int):
        if not 0 < name_or_index < 1 << 31:
            return None
        request = _link_request(name_or_index)
    else:
        name = name_or_index.encode("utf-8", "surrogateescape")
        if not 0 < len(name) < ALTIFNAMSIZ or b"\0" in name:
            return None
        # Both are looked up among names and alternative names; the short one is refused when too long.
        kind = IFLA_IFNAME if len(name) < IFNAMSIZ else IFLA_ALT_IFNAME
        request = _link_request(0, pack_attribute(kind, name + b"\0"))
    what = f"RTM_GETLINK({name_or_index})"
    try:
        replies = socket.request(RTM_GETLINK, 0, request, what=what)
    except KernelError as error:
        if error.errno == ENODEV:
            return None
        raise
    for kind, payload in replies:
        if kind == RTM_NEWLINK:
            return parse_link(payload)
    raise KernelError(what, ENOMSG, syscall.error_name(ENOMSG), "acknowledged without a description")


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
    """What an RTM_NEWROUTE without destination says, if it is a usable default route of the main table.

    A route of which the kernel names only a next hop object (sysctl nexthop_compat_mode=0) is passed over.
    """
    found, _, src_len, tos, table, _, _, kind, flags = unpack(_RTMSG, payload, "rtmsg")
    values = parse_attributes(payload[_RTMSG.size :])
    # The family counts: with IPv6 switched off the kernel answers an IPv6 dump with all it has.
    if (found, src_len, tos, table, kind) != (family, 0, 0, RT_TABLE_MAIN, RTN_UNICAST):
        return None
    if flags & (RTM_F_CLONED | RTNH_F_DEAD):
        return None
    index = _optional(values, RTA_OIF, 4)
    path = (index, _gateway(values)) if index else _first_path(values.get(RTA_MULTIPATH, b""))
    if path is None:
        return None
    source = _address(values[RTA_PREFSRC]) if RTA_PREFSRC in values else None
    return _Route(_optional(values, RTA_PRIORITY, 4) or 0, path[0], source, path[1])


def _rank_address(family: int, route: _Route, payload: bytes) -> tuple[tuple[int, bool, bool, int], Address] | None:
    """(rank, address) of an RTM_NEWADDR as source for `route`, lowest first; None if it cannot be one.

    The order of inet_select_addr() (net/ipv4/devinet.c): global scope, then the route's own interface, the
    gateway's subnet, primary before secondary. For IPv6 that puts stable before temporary addresses, so that
    the address names the host for long.
    """
    found, prefix, flags, scope, index = unpack(_IFADDRMSG, payload, "ifaddrmsg")
    values = parse_attributes(payload[_IFADDRMSG.size :])
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
    request = _IFADDRMSG.pack(family, 0, 0, 0, 0)
    replies = socket.dump(RTM_GETADDR, request, what="RTM_GETADDR")
    ranked = [_rank_address(family, route, payload) for kind, payload in replies if kind == RTM_NEWADDR]
    return min((entry for entry in ranked if entry), key=lambda entry: entry[0], default=(None, None))[1]


def _is_default(payload: bytes) -> bool:
    """Has rtm_dst_len 0. A payload too short to tell passes too, for the parser to complain."""
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


def _set_xdp(socket: NetlinkSocket, what: str, ifindex: int, *members: bytes) -> None:
    request = _IFINFOMSG.pack(0, 0, ifindex, 0, 0) + pack_nested(IFLA_XDP, *members)
    socket.request(RTM_SETLINK, 0, request, what=f"RTM_SETLINK({what} interface {ifindex})")


def xdp_attach(socket: NetlinkSocket, ifindex: int, prog_fd: int, flags: int) -> None:
    """Attach a program where there is none. `flags`: one XDP_FLAGS_*_MODE, or 0 for the kernel's choice.

    Raises KernelError with the driver's reason as detail; EBUSY or EEXIST when a program is there.
    The program stays after this process ends: xdp_detach() removes it.
    """
    if prog_fd < 0:
        # The kernel takes -1 as "remove what is there" and then ignores XDP_FLAGS_UPDATE_IF_NOEXIST.
        raise ValueError("xdp_attach() needs a program")
    _set_xdp(
        socket,
        "XDP attach to",
        ifindex,
        pack_attribute(IFLA_XDP_FD, _INT.pack(prog_fd)),
        pack_attribute(IFLA_XDP_FLAGS, _U32.pack(flags | XDP_FLAGS_UPDATE_IF_NOEXIST)),
    )


def xdp_detach(socket: NetlinkSocket, ifindex: int, expected_prog_fd: int, flags: int) -> None:
    """Remove this program and no other. `flags` as for the attach.

    Raises KernelError: EEXIST when the interface has another program or none, EBUSY when a link holds it.
    """
    if expected_prog_fd < 0:
        raise ValueError("xdp_detach() needs the program it removes")
    _set_xdp(
        socket,
        "XDP detach from",
        ifindex,
        pack_attribute(IFLA_XDP_FD, _INT.pack(-1)),
        pack_attribute(IFLA_XDP_FLAGS, _U32.pack(flags | XDP_FLAGS_REPLACE)),
        pack_attribute(IFLA_XDP_EXPECTED_FD, _INT.pack(expected_prog_fd)),
    )
