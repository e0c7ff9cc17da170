"""Programs at tc by netlink: the clsact qdisc, and bpf filters on it in direct-action mode; drops of queues.

For kernels without TCX links. Messages and numbers: uapi/linux/rtnetlink.h, pkt_sched.h, pkt_cls.h; their handling
in the kernel: net/sched/sch_api.c, cls_api.c, cls_bpf.c. A filter outlives the process that created it.
"""

from __future__ import annotations

import socket as sockets
from enum import IntEnum
from errno import EEXIST, ENOSPC
from struct import Struct
from typing import NamedTuple

from xtrace.errors import KernelError
from xtrace.kernel.netlink import (
    NetlinkSocket,
    pack_attribute,
    pack_nested,
    parse_attributes,
    text,
    unpack,
)

NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400

RTM_NEWQDISC = 36
RTM_GETQDISC = 38
RTM_NEWTFILTER = 44
RTM_DELTFILTER = 45
RTM_GETTFILTER = 46

TC_H_ROOT = 0xFFFFFFFF
TC_H_CLSACT = 0xFFFFFFF1
CLSACT_HANDLE = 0xFFFF0000
"""TC_H_MAKE(TC_H_CLSACT, 0), shared with the ingress qdisc."""

TCA_KIND = 1
TCA_OPTIONS = 2
TCA_STATS2 = 7
TCA_CHAIN = 11
TCA_STATS_QUEUE = 3
TCA_BPF_FD = 6
TCA_BPF_NAME = 7
TCA_BPF_FLAGS = 8
TCA_BPF_FLAG_ACT_DIRECT = 1 << 0

ETH_P_ALL = 0x0003
MAX_PRIORITY = 0xFFFF
MAX_HANDLE = 0x7FFFFFFF
"""The kernel accepts 32 bits, but its idr warns about some uses beyond INT_MAX (lib/idr.c)."""


class Parent(IntEnum):
    """Parents of filters on clsact: TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS), and TC_H_MIN_EGRESS."""

    INGRESS = 0xFFFFFFF2
    EGRESS = 0xFFFFFFF3

    def __str__(self) -> str:
        return self.name.lower()


_TCMSG = Struct("=B3xiIII")  # struct tcmsg: family, ifindex, handle, parent, info
_U32 = Struct("=I")
_QUEUE = Struct("=5I")  # struct gnet_stats_queue: qlen, backlog, drops, requeues, overlimits


class TcFilter(NamedTuple):
    """One filter on the clsact qdisc of an interface.

    `protocol` is an ethertype, or ETH_P_ALL. `name` is that of a bpf filter, "" if it has none.
    """

    ifindex: int
    parent: Parent
    priority: int
    protocol: int
    handle: int
    kind: str
    name: str = ""


NO_QUEUE = "noqueue"
"""The kind of a root qdisc that only says that there is none."""


class RootQdisc(NamedTuple):
    """An interface's root qdisc. `drops`: packets, of 32 bits; a merged packet counts once."""

    kind: str
    handle: int
    drops: int


def root_qdiscs(socket: NetlinkSocket) -> dict[int, RootQdisc]:
    """Root qdiscs by interface index; those of interfaces without a queue are of the kind NO_QUEUE. Raises KernelError.

    Classful qdiscs count what their children drop as their own (qdisc_tree_reduce_backlog()), and multiqueue ones add
    their queues up in the dump (mq_dump()): so the root has it all.
    """
    replies = socket.dump(RTM_GETQDISC, _TCMSG.pack(0, 0, 0, 0, 0), what="RTM_GETQDISC", keep=_is_root)
    found = {}
    for kind, payload in replies:
        values = parse_attributes(payload[_TCMSG.size :])
        queue = parse_attributes(values.get(TCA_STATS2, b"")).get(TCA_STATS_QUEUE)
        name = text(values.get(TCA_KIND, b""))
        if kind != RTM_NEWQDISC or queue is None:
            continue
        _, ifindex, handle, _, _ = unpack(_TCMSG, payload, "tcmsg")
        found[ifindex] = RootQdisc(name, handle, unpack(_QUEUE, queue, "gnet_stats_queue")[2])
    return found


def _is_root(payload: bytes) -> bool:
    """Whether tcm_parent is TC_H_ROOT."""
    return bool(unpack(_TCMSG, payload, "tcmsg")[3] == TC_H_ROOT)


def _call(message: str, ifindex: int, parent: Parent) -> str:
    return f"{message}({parent} of interface {ifindex})"


def ensure_clsact(socket: NetlinkSocket, ifindex: int) -> None:
    """Create the clsact qdisc unless it exists. It is never deleted: others may use it too.

    Raises KernelError, EEXIST if an ingress qdisc is in its place: that qdisc would accept an egress filter and
    run it at ingress (ingress_tcf_block() in net/sched/sch_ingress.c).
    """
    what = f"RTM_NEWQDISC(clsact on interface {ifindex})"
    request = _TCMSG.pack(0, ifindex, CLSACT_HANDLE, TC_H_CLSACT, 0) + pack_attribute(TCA_KIND, b"clsact\0")
    try:
        socket.request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, request, what=what)
    except KernelError as error:
        kind = _qdisc_at_clsact(socket, ifindex) if error.errno == EEXIST else None
        if kind is None:
            raise
        if kind != "clsact":
            meaning = (
                f"a qdisc of kind {kind} is in the place of clsact: if it and its filters are not needed,"
                f" `tc qdisc del dev ... {kind}` removes them"
            )
            detail = "; ".join(filter(None, (error.detail, meaning)))
            raise KernelError(what, EEXIST, detail) from error


def _qdisc_at_clsact(socket: NetlinkSocket, ifindex: int) -> str | None:
    """Kind of the qdisc in the place shared by clsact and ingress. The kernel dumps those of all interfaces."""
    for kind, payload in socket.dump(RTM_GETQDISC, _TCMSG.pack(0, ifindex, 0, 0, 0), what="RTM_GETQDISC"):
        _, found, _, parent, _ = unpack(_TCMSG, payload, "tcmsg")
        if (kind, found, parent) == (RTM_NEWQDISC, ifindex, TC_H_CLSACT):
            return text(parse_attributes(payload[_TCMSG.size :]).get(TCA_KIND, b""))
    return None


def _info(priority: int, protocol: int) -> int:
    """tcm_info, with the protocol in network byte order; converted only here and in _parse()."""
    return priority << 16 | sockets.htons(protocol)


def _message(where: TcFilter, *extra: bytes) -> bytes:
    header = _TCMSG.pack(0, where.ifindex, where.handle, where.parent, _info(where.priority, where.protocol))
    return header + pack_attribute(TCA_KIND, where.kind.encode() + b"\0") + b"".join(extra)


def _parse(payload: bytes, ifindex: int, parent: Parent) -> TcFilter:
    """The payload of an RTM_NEWTFILTER. KernelError if damaged."""
    _, _, handle, _, info = unpack(_TCMSG, payload, "tcmsg")
    values = parse_attributes(payload[_TCMSG.size :])
    kind = text(values.get(TCA_KIND, b""))
    # option numbers differ between kinds
    options = parse_attributes(values.get(TCA_OPTIONS, b"")) if kind == "bpf" else {}
    return TcFilter(
        ifindex,
        parent,
        priority=info >> 16,
        protocol=sockets.ntohs(info & 0xFFFF),
        handle=handle,
        kind=kind,
        name=text(options.get(TCA_BPF_NAME, b"")),
    )


def _dump(socket: NetlinkSocket, ifindex: int, parent: Parent, info: int = 0) -> list[TcFilter]:
    """Filters of chain 0, the first for every packet; `info` restricts it to one priority and protocol.

    The kernel sends an entry with handle 0 for each priority before its filters, if any (tcf_chain_dump()).
    """
    request = _TCMSG.pack(0, ifindex, 0, parent, info) + pack_attribute(TCA_CHAIN, _U32.pack(0))
    replies = socket.dump(RTM_GETTFILTER, request, what=_call("RTM_GETTFILTER", ifindex, parent))
    return [_parse(payload, ifindex, parent) for kind, payload in replies if kind == RTM_NEWTFILTER]


def filters(socket: NetlinkSocket, ifindex: int, parent: Parent) -> list[TcFilter]:
    """All filters in the order they run; none without clsact or without the interface. Raises KernelError."""
    return [found for found in _dump(socket, ifindex, parent) if found.handle]


def is_there(socket: NetlinkSocket, wanted: TcFilter) -> bool:
    """Whether a filter with this priority, protocol, handle and name exists."""
    listed = _dump(socket, wanted.ifindex, wanted.parent, _info(wanted.priority, wanted.protocol))
    return any((found.handle, found.name) == (wanted.handle, wanted.name) for found in listed)


def delete(socket: NetlinkSocket, unwanted: TcFilter) -> bool:
    """Delete this filter and no other; False if it does not exist. Raises KernelError if it stays.

    Handle 0 would delete all of a priority (tc_del_tfilter()); neither filters() nor create() yields it.
    """
    if not is_there(socket, unwanted):
        return False
    what = _call("RTM_DELTFILTER", unwanted.ifindex, unwanted.parent)
    try:
        socket.request(RTM_DELTFILTER, 0, _message(unwanted), what=what)
    except KernelError:
        # ENOENT, ENODEV, or EINVAL if its qdisc is gone: it was deleted meanwhile
        if is_there(socket, unwanted):
            raise
    return True


def create(socket: NetlinkSocket, ifindex: int, parent: Parent, prog_fd: int, name: str, handle: int) -> TcFilter:
    """Create a filter with the lowest free priority number. Raises KernelError.

    Two runs that start at the same moment may share a priority with different handles, which is harmless:
    after TC_ACT_UNSPEC the kernel continues with the next handle as with the next priority.
    """
    options = pack_nested(
        TCA_OPTIONS,
        pack_attribute(TCA_BPF_FD, _U32.pack(prog_fd)),
        pack_attribute(TCA_BPF_NAME, name.encode() + b"\0"),
        pack_attribute(TCA_BPF_FLAGS, _U32.pack(TCA_BPF_FLAG_ACT_DIRECT)),
    )
    what = _call("RTM_NEWTFILTER", ifindex, parent)
    taken = {found.priority for found in _dump(socket, ifindex, parent)}
    for priority in range(1, MAX_PRIORITY + 1):
        if priority in taken:
            continue
        wanted = TcFilter(ifindex, parent, priority, ETH_P_ALL, handle, "bpf", name)
        try:
            socket.request(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, _message(wanted, options), what=what)
        except KernelError:
            # EEXIST, or EINVAL if another protocol or kind has the priority: taken meanwhile?
            listed = _dump(socket, ifindex, parent)
            if any((found.priority, found.handle, found.name) == (priority, handle, name) for found in listed):
                return wanted  # created, but the answer was lost
            taken = {found.priority for found in listed}
            if priority not in taken:
                raise
        else:
            return wanted
    raise KernelError(what, ENOSPC, "every priority is in use")
