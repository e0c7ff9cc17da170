"""Interfaces, their changes, and XDP programs by netlink (uapi/linux/rtnetlink.h, if_link.h)."""

from collections.abc import Iterator
from enum import Enum
from errno import ENODEV, ENOMSG
from struct import Struct
from types import TracebackType
from typing import NamedTuple

from xtrace.errors import KernelError
from xtrace.kernel.netlink import (
    NETLINK_ROUTE,
    NetlinkSocket,
    attributes,
    malformed,
    optional_unsigned,
    pack_attribute,
    pack_nested,
    parse_attributes,
    text,
    unpack,
)

RTMGRP_LINK = 1

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_SETLINK = 19
RTM_NEWNSID = 88
RTM_GETNSID = 90

NETNSA_NSID = 1
NETNSA_FD = 3

IFF_UP = 0x1
IFF_PROMISC = 0x100
IFF_LOWER_UP = 1 << 16

IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_MASTER = 10
IFLA_OPERSTATE = 16
IFLA_LINKINFO = 18
IFLA_STATS64 = 23
IFLA_EXT_MASK = 29
IFLA_LINK_NETNSID = 37
IFLA_XDP = 43
IFLA_NEW_NETNSID = 45
IFLA_PROP_LIST = 52
IFLA_ALT_IFNAME = 53
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
IFLA_TUN_TYPE = 3
IFLA_TUN_PI = 4
IFF_TAP = 2
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
XDP_FLAGS_REPLACE = 1 << 4

OPERSTATES = ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")
"""IF_OPER_* of uapi/linux/if.h by number, spelled as in /sys/class/net/*/operstate."""

XDP_MODES = {1: "native", 2: "generic", 3: "offload", 4: "multi"}
"""XDP_ATTACHED_* of uapi/linux/if_link.h."""

IFNAMSIZ = 16
ALTIFNAMSIZ = 128

_IFINFOMSG = Struct("=BxHiII")  # struct ifinfomsg: family, ARPHRD type, index, flags, change
_STATS64 = Struct("=4Q")  # the start of struct rtnl_link_stats64, which grows at its end
_INT = Struct("=i")
_U32 = Struct("=I")


class XdpOwner(NamedTuple):
    """The XDP programs on an interface.

    `mode`: native, generic, offload, or multi for more than one of them. `prog_id` is the program's id; with
    multi, that of the first to see a packet: offload, native, generic.
    """

    mode: str
    prog_id: int
    native_id: int | None = None
    generic_id: int | None = None


class LinkInfo(NamedTuple):
    """One interface. Counters are in packets and bytes since the interface was created.

    They are None only if the message is not a full description: the kernel also sends RTM_NEWLINK for bridge
    ports (AF_BRIDGE) and wireless events with little more than index and name. `xdp` is meaningless there too.
    """

    index: int  # type: ignore[assignment]  # not that of a tuple
    name: str
    flags: int
    link_type: int
    operstate: str = "unknown"
    mtu: int = 0
    kind: str = ""
    master: int | None = None
    has_ethernet: bool | None = None
    """of a tun interface: whether its frames begin with an Ethernet header (TAP), whatever its link type; else None"""
    names_protocol: bool = False
    """of a tun interface: whoever sends names each packet's protocol, which need not be what the packet is"""
    slave_kind: str = ""
    """the master's kind: bond, bridge, vrf"""
    address: str = ""
    xdp: XdpOwner | None = None
    altnames: tuple[str, ...] = ()
    peer_netnsid: int | None = None
    """the network namespace of its peer, as this one numbers them (RTM_GETNSID); None: this one, or no peer"""
    moved: bool = False
    """of an RTM_DELLINK: it moved to another network namespace"""
    rx_packets: int | None = None
    rx_bytes: int | None = None
    tx_packets: int | None = None
    tx_bytes: int | None = None

    @property
    def is_up(self) -> bool:
        """Administratively up."""
        return bool(self.flags & IFF_UP)

    @property
    def is_promiscuous(self) -> bool:
        """Whether it receives packets for other hosts, by the wish of any process."""
        return bool(self.flags & IFF_PROMISC)

    @property
    def is_operational(self) -> bool:
        """Administratively up, with a carrier. (operstate follows the carrier up to a second later.)"""
        return self.is_up and bool(self.flags & IFF_LOWER_UP)


def _parse_xdp(value: bytes) -> XdpOwner | None:
    values = parse_attributes(value)
    attached = optional_unsigned(values, IFLA_XDP_ATTACHED, 1)
    if not attached:
        return None
    native = optional_unsigned(values, IFLA_XDP_DRV_PROG_ID, 4)
    generic = optional_unsigned(values, IFLA_XDP_SKB_PROG_ID, 4)
    offload = optional_unsigned(values, IFLA_XDP_HW_PROG_ID, 4)
    prog_id = optional_unsigned(values, IFLA_XDP_PROG_ID, 4) or offload or native or generic or 0
    return XdpOwner(XDP_MODES.get(attached, f"mode {attached}"), prog_id, native, generic)


def _parse_altnames(value: bytes) -> tuple[str, ...]:
    return tuple(text(name) for kind, name in attributes(value) if kind == IFLA_ALT_IFNAME)


def parse_link(payload: bytes) -> LinkInfo:
    """The payload of an RTM_NEWLINK (or RTM_DELLINK), of a dump or a notification. KernelError if damaged."""
    _, link_type, index, flags, _ = unpack(_IFINFOMSG, payload, "ifinfomsg")
    values = parse_attributes(payload[_IFINFOMSG.size :])
    name = text(values.get(IFLA_IFNAME, b""))
    if index <= 0 or not name:
        raise malformed(f"an interface with index {index} and name {name!r}")
    operstate = optional_unsigned(values, IFLA_OPERSTATE, 1) or 0
    counters: tuple[int | None, ...] = (None,) * 4
    if IFLA_STATS64 in values:
        counters = unpack(_STATS64, values[IFLA_STATS64], "rtnl_link_stats64")
    rx_packets, tx_packets, rx_bytes, tx_bytes = counters
    info = parse_attributes(values.get(IFLA_LINKINFO, b""))
    kind = text(info.get(IFLA_INFO_KIND, b""))
    tun = _parse_tun(info.get(IFLA_INFO_DATA, b"")) if kind == "tun" else _NO_TUN
    return LinkInfo(
        index=index,
        name=name,
        flags=flags,
        link_type=link_type,
        operstate=OPERSTATES[operstate] if operstate < len(OPERSTATES) else "unknown",
        mtu=optional_unsigned(values, IFLA_MTU, 4) or 0,
        kind=kind,
        has_ethernet=tun.has_ethernet,
        names_protocol=tun.names_protocol,
        master=optional_unsigned(values, IFLA_MASTER, 4),
        slave_kind=text(info.get(IFLA_INFO_SLAVE_KIND, b"")),
        address=values.get(IFLA_ADDRESS, b"").hex(":"),
        xdp=_parse_xdp(values.get(IFLA_XDP, b"")),
        altnames=_parse_altnames(values.get(IFLA_PROP_LIST, b"")),
        peer_netnsid=optional_unsigned(values, IFLA_LINK_NETNSID, 4),
        moved=IFLA_NEW_NETNSID in values,
        rx_packets=rx_packets,
        rx_bytes=rx_bytes,
        tx_packets=tx_packets,
        tx_bytes=tx_bytes,
    )


class _Tun(NamedTuple):
    """What drivers/net/tun.c tells of an interface since Linux 4.16."""

    has_ethernet: bool | None
    names_protocol: bool


_NO_TUN = _Tun(None, False)


def _parse_tun(value: bytes) -> _Tun:
    """There is packet information if IFF_NO_PI is not set. TUNSETLINK sets a link type that changes no frame."""
    values = parse_attributes(value)
    kind = optional_unsigned(values, IFLA_TUN_TYPE, 1)
    return _Tun(None if kind is None else kind == IFF_TAP, bool(optional_unsigned(values, IFLA_TUN_PI, 1)))


def _link_request(index: int, *extra: bytes) -> bytes:
    """An RTM_GETLINK request. Mask 0 omits RTEXT_FILTER_VF, a kilobyte and more for each SR-IOV function.

    RTEXT_FILTER_SKIP_STATS must stay clear: with it newer kernels omit IFLA_STATS64 too (Linux commit
    105bae321862, "rtnetlink: honor RTEXT_FILTER_SKIP_STATS in IFLA_STATS").
    """
    return _IFINFOMSG.pack(0, 0, index, 0, 0) + pack_attribute(IFLA_EXT_MASK, _U32.pack(0)) + b"".join(extra)


def netnsid(socket: NetlinkSocket, descriptor: int) -> int | None:
    """The number of another network namespace in the socket's own, as interfaces name it; None: it has none.

    `descriptor` is of /proc/PID/ns/net. Raises KernelError.
    """
    request = _U32.pack(0) + pack_attribute(NETNSA_FD, _U32.pack(descriptor))  # struct rtgenmsg, padded
    for kind, payload in socket.request(RTM_GETNSID, 0, request, what="RTM_GETNSID"):
        if kind == RTM_NEWNSID:
            number = optional_unsigned(parse_attributes(payload[_U32.size :]), NETNSA_NSID, 4)
            return None if number is None or number >> 31 else number
    return None


def links(socket: NetlinkSocket) -> list[LinkInfo]:
    """Every interface of the network namespace. Raises KernelError."""
    replies = socket.dump(RTM_GETLINK, _link_request(0), what="RTM_GETLINK")
    return [parse_link(payload) for kind, payload in replies if kind == RTM_NEWLINK]


def link(socket: NetlinkSocket, name_or_index: str | int) -> LinkInfo | None:
    """One interface by index, name or alternative name; None if there is none. Raises KernelError otherwise."""
    if isinstance(name_or_index, int):
        if not 0 < name_or_index < 1 << 31:
            return None
        request = _link_request(name_or_index)
    else:
        name = name_or_index.encode("utf-8", "surrogateescape")
        if not 0 < len(name) < ALTIFNAMSIZ or b"\0" in name:
            return None
        # Both attributes look up names and alternative names; IFLA_IFNAME rejects long ones.
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
    raise KernelError(what, ENOMSG, "acknowledged without a description")


class LinkChange(Enum):
    """The kind of a change."""

    APPEARED_OR_CHANGED = RTM_NEWLINK
    GONE = RTM_DELLINK
    """deleted, or moved to another network namespace (LinkInfo.moved)"""


class LinkEvent(NamedTuple):
    """A change of an interface, and the interface as it was then; it may be different by now."""

    change: LinkChange
    link: LinkInfo


class LinkEvents:
    """Changes of the interfaces of the network namespace from now on. Owns a socket; poll() fileno() to wait."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(NETLINK_ROUTE, RTMGRP_LINK)

    def __enter__(self) -> "LinkEvents":
        self._socket.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.__exit__(kind, error, trace)

    def fileno(self) -> int:
        """Readable when there are events."""
        return self._socket.fileno()

    def read(self) -> Iterator[LinkEvent]:
        """The pending events, oldest first. KernelError if some were lost: links() then gives the whole picture.

        Partial descriptions, as bridges and wireless drivers send them, are skipped.
        """
        for kind, payload in self._socket.notifications():
            if kind in (RTM_NEWLINK, RTM_DELLINK):
                described = parse_link(payload)
                if described.rx_packets is not None:
                    yield LinkEvent(LinkChange(kind), described)

    def discard(self) -> None:
        """Drop the pending events."""
        self._socket.discard()


def _set_xdp(socket: NetlinkSocket, what: str, ifindex: int, *members: bytes) -> None:
    request = _IFINFOMSG.pack(0, 0, ifindex, 0, 0) + pack_nested(IFLA_XDP, *members)
    socket.request(RTM_SETLINK, 0, request, what=f"RTM_SETLINK({what} interface {ifindex})")


def xdp_attach(socket: NetlinkSocket, ifindex: int, prog_fd: int, flags: int) -> None:
    """Attach a program if there is none yet. `flags`: one XDP_FLAGS_*_MODE, or 0 for the kernel's choice.

    Raises KernelError with the driver's reason as detail; EBUSY or EEXIST if a program is attached.
    The program stays after this process ends: xdp_detach() removes it.
    """
    if prog_fd < 0:
        # With -1 the kernel removes the attached program and ignores XDP_FLAGS_UPDATE_IF_NOEXIST.
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
