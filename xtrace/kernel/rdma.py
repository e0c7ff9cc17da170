"""RDMA devices, ports, hardware counters and queue pairs by netlink (uapi/rdma/rdma_netlink.h). Needs no privileges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from errno import ENODEV, ENOENT
from ipaddress import ip_address
from struct import Struct

from xtrace.errors import KernelError
from xtrace.kernel.netlink import (
    NetlinkSocket,
    attributes,
    optional_unsigned,
    pack_attribute,
    parse_attributes,
    text,
    unsigned,
)

NETLINK_RDMA = 20

_NLDEV = 5 << 10
"""RDMA_NL_NLDEV as part of a message type (RDMA_NL_GET_TYPE())."""

GET = _NLDEV | 1
PORT_GET = _NLDEV | 5
SYS_GET = _NLDEV | 6
RES_QP_GET = _NLDEV | 10
RES_CM_ID_GET = _NLDEV | 11
STAT_GET = _NLDEV | 17

DEV_INDEX = 1
DEV_NAME = 2
PORT_INDEX = 3  # of a device: its number of ports
FW_VERSION = 5
LID = 9
PORT_STATE = 12
PORT_PHYS_STATE = 13
RES_QP = 19
RES_LQPN = 21
RES_RQPN = 22
RES_TYPE = 26
RES_STATE = 27
RES_PID = 28
RES_KERN_NAME = 29
RES_CM_ID = 30
RES_SRC_ADDR = 33
RES_DST_ADDR = 34
NDEV_NAME = 51
SYS_NETNS_MODE = 66
DEV_PROTOCOL = 67
STAT_HWCOUNTERS = 80
STAT_HWCOUNTER_NAME = 82
STAT_HWCOUNTER_VALUE = 83

PORT_STATES = ("NOP", "DOWN", "INIT", "ARMED", "ACTIVE", "ACTIVE_DEFER")
"""enum ib_port_state (include/rdma/ib_verbs.h) by number, spelled as in sysfs."""

PHYSICAL_STATES = (
    "NOP", "SLEEP", "POLLING", "DISABLED", "PORT_CONFIGURATION_TRAINING", "LINK_UP", "LINK_ERROR_RECOVERY", "PHY_TEST",
)  # fmt: skip
"""enum ib_port_phys_state (include/rdma/ib_verbs.h) by number."""

QP_TYPES = {0: "SMI", 1: "GSI", 2: "RC", 3: "UC", 4: "UD", 8: "RAW_PACKET", 9: "XRC_INI", 10: "XRC_TGT", 0xFF: "DRIVER"}
"""enum ib_qp_type (include/rdma/ib_verbs.h)."""

QP_STATES = ("RESET", "INIT", "RTR", "RTS", "SQD", "SQE", "ERR")
"""enum ib_qp_state (include/rdma/ib_verbs.h) by number."""

UNCONNECTED = frozenset({"RESET", "INIT"})
"""States in which a queue pair has no remote yet, and neither receives nor sends packets."""

_U32 = Struct("=I")
_AF_INET, _AF_INET6 = 2, 10


@dataclass(frozen=True, slots=True)
class RdmaDevice:
    """One RDMA device. One that is removed and added again has another index."""

    index: int
    name: str
    ports: int
    protocol: str = ""
    """`ib`, `roce`, `iw`, `opa`; "" if the driver does not report it"""
    firmware: str = ""


@dataclass(frozen=True, slots=True)
class RdmaPort:
    """One port's state. Ports count from 1."""

    number: int
    state: str
    physical_state: str
    lid: int | None = None
    netdev: str | None = None
    """None: it has none, or one in another network namespace"""


@dataclass(frozen=True, slots=True)
class QueuePair:
    """One queue pair. `pid` is the thread that created it, in this PID namespace; None once it has ended."""

    number: int
    port: int | None
    type: str
    state: str
    remote: int | None = None
    """number of the remote queue pair, for connected types"""
    pid: int | None = None
    kernel: str | None = None
    """the kernel module that owns it"""


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection of a queue pair made by RDMA-CM; addresses as text."""

    queue_pair: int
    source: str
    destination: str


def _name(names: tuple[str, ...], number: int) -> str:
    return names[number] if number < len(names) else f"{number}"


def _required(values: dict[int, bytes], kind: int, size: int) -> int:
    return unsigned(values.get(kind, b""), size)


def _optional_text(values: dict[int, bytes], kind: int) -> str | None:
    return text(values[kind]) if kind in values else None


def _of(device_index: int, port: int | None = None) -> bytes:
    request = pack_attribute(DEV_INDEX, _U32.pack(device_index))
    return request if port is None else request + pack_attribute(PORT_INDEX, _U32.pack(port))


def parse_device(payload: bytes) -> RdmaDevice:
    """Parse a reply to GET. Raises KernelError if damaged."""
    values = parse_attributes(payload)
    return RdmaDevice(
        index=_required(values, DEV_INDEX, 4),
        name=text(values.get(DEV_NAME, b"")),
        ports=_required(values, PORT_INDEX, 4),
        protocol=text(values.get(DEV_PROTOCOL, b"")),
        firmware=text(values.get(FW_VERSION, b"")),
    )


def parse_port(payload: bytes) -> RdmaPort:
    """Parse a reply to PORT_GET. Raises KernelError if damaged."""
    values = parse_attributes(payload)
    return RdmaPort(
        number=_required(values, PORT_INDEX, 4),
        state=_name(PORT_STATES, _required(values, PORT_STATE, 1)),
        physical_state=_name(PHYSICAL_STATES, _required(values, PORT_PHYS_STATE, 1)),
        lid=optional_unsigned(values, LID, 4),
        netdev=_optional_text(values, NDEV_NAME),
    )


def parse_counters(payload: bytes) -> dict[str, int]:
    """Parse a reply to STAT_GET: values by the driver's names. Raises KernelError if damaged."""
    table = parse_attributes(payload).get(STAT_HWCOUNTERS, b"")
    entries = (parse_attributes(entry) for _, entry in attributes(table))
    return {
        text(values.get(STAT_HWCOUNTER_NAME, b"")): _required(values, STAT_HWCOUNTER_VALUE, 8) for values in entries
    }


def parse_queue_pairs(payload: bytes) -> Iterator[QueuePair]:
    """Yield the queue pairs in one part of a reply to RES_QP_GET. Raises KernelError if damaged."""
    for _, entry in attributes(parse_attributes(payload).get(RES_QP, b"")):
        values = parse_attributes(entry)
        kind = _required(values, RES_TYPE, 1)
        state = _name(QP_STATES, _required(values, RES_STATE, 1))
        yield QueuePair(
            number=_required(values, RES_LQPN, 4),
            port=optional_unsigned(values, PORT_INDEX, 4),
            type=QP_TYPES.get(kind, f"{kind}"),
            state=state,
            # reported as 0 until the transition to RTR sets it
            remote=None if state in UNCONNECTED else optional_unsigned(values, RES_RQPN, 4),
            pid=optional_unsigned(values, RES_PID, 4),
            kernel=_optional_text(values, RES_KERN_NAME),
        )


def _socket_address(value: bytes) -> str | None:
    """The address in a struct sockaddr_storage, without the port; None for other families than IP."""
    family = int.from_bytes(value[:2], "little") if len(value) >= 2 else 0
    if family == _AF_INET and len(value) >= 8:
        return str(ip_address(value[4:8]))
    if family == _AF_INET6 and len(value) >= 24:
        return str(ip_address(value[8:24]))
    return None


def parse_connections(payload: bytes) -> Iterator[Connection]:
    """The connections with queue pair and addresses in one part of an answer to RES_CM_ID_GET."""
    for _, entry in attributes(parse_attributes(payload).get(RES_CM_ID, b"")):
        values = parse_attributes(entry)
        source = _socket_address(values.get(RES_SRC_ADDR, b""))
        destination = _socket_address(values.get(RES_DST_ADDR, b""))
        if RES_LQPN in values and source and destination:
            yield Connection(_required(values, RES_LQPN, 4), source, destination)


def devices(socket: NetlinkSocket) -> list[RdmaDevice]:
    """Return the RDMA devices available in this network namespace. Raises KernelError."""
    return [parse_device(payload) for kind, payload in socket.dump(GET, what="RDMA GET") if kind == GET]


def ports(socket: NetlinkSocket, device: RdmaDevice) -> list[RdmaPort]:
    """Return a device's ports; empty if it is gone. Raises KernelError."""
    what = f"RDMA PORT_GET({device.name})"
    replies = _dump(socket, PORT_GET, device, what)
    return [parse_port(payload) for payload in replies]


def counters(socket: NetlinkSocket, device: RdmaDevice, port: int) -> dict[str, int]:
    """A port's hardware counters, all read at once. Raises KernelError, EINVAL if the driver has none."""
    what = f"RDMA STAT_GET({device.name}/{port})"
    replies = socket.request(STAT_GET, 0, _of(device.index, port), what=what)
    return next((parse_counters(payload) for kind, payload in replies if kind == STAT_GET), {})


def queue_pairs(socket: NetlinkSocket, device: RdmaDevice) -> list[QueuePair]:
    """A device's queue pairs, of all processes visible to this one. Can take seconds. Raises KernelError."""
    replies = _dump(socket, RES_QP_GET, device, f"RDMA RES_QP_GET({device.name})")
    return [pair for payload in replies for pair in parse_queue_pairs(payload)]


def connections(socket: NetlinkSocket, device: RdmaDevice) -> list[Connection]:
    """A device's connections made by RDMA-CM. Raises KernelError."""
    replies = _dump(socket, RES_CM_ID_GET, device, f"RDMA RES_CM_ID_GET({device.name})")
    return [connection for payload in replies for connection in parse_connections(payload)]


def netns_mode(socket: NetlinkSocket) -> str:
    """`shared`: every network namespace has all devices; `exclusive`: each has its own. Raises KernelError."""
    for kind, payload in socket.request(SYS_GET, what="RDMA SYS_GET"):
        mode = parse_attributes(payload).get(SYS_NETNS_MODE)
        if kind == SYS_GET and mode is not None:
            return "shared" if unsigned(mode, 1) else "exclusive"
    return "shared"


def _dump(socket: NetlinkSocket, message: int, device: RdmaDevice, what: str) -> list[bytes]:
    """The payloads about a device; empty if it is gone or has no such objects."""
    try:
        replies = socket.dump(message, _of(device.index), what=what)
    except KernelError as error:
        if error.errno in (ENODEV, ENOENT):
            return []
        raise
    return [payload for kind, payload in replies if kind == message]
