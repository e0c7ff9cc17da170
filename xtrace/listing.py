"""Lists of interfaces (-l) and RDMA ports (-l -m rdma)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from errno import EINVAL
from typing import Any

import orjson

from xtrace.errors import KernelError
from xtrace.kernel import addresses, constants, infiniband, tc
from xtrace.kernel.bpf import attached_programs
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.model.owners import Surroundings, TcOwners
from xtrace.model.rdma import PortRecord
from xtrace.printable import RAW_BYTES, printable
from xtrace.sinks.jsonl.rdma import port_summary
from xtrace.sinks.render import valid_unicode
from xtrace.sinks.stream import OutputStream

HEADINGS = ("NAME", "INDEX", "STATE", "TYPE", "MTU", "MAC", "XDP", "TC", "RDMA", "ADDRESSES")
RDMA_HEADINGS = ("DEVICE", "PORT", "INTERFACE", "STATE", "LINK", "LAYER", "RATE", "DRIVER", "PCI", "NUMA", "COUNTERS")
TCX_TYPES = {
    tc.Parent.INGRESS: constants.ATTACH_TYPE_TCX_INGRESS,
    tc.Parent.EGRESS: constants.ATTACH_TYPE_TCX_EGRESS,
}
LINK_TYPES = {1: "ethernet", 24: "ieee1394", 32: "infiniband", 512: "ppp", 768: "ipip", 772: "loopback", 65534: "none"}
"""The common ARPHRD_* of linux/if_arp.h."""


def surroundings(links: Sequence[LinkInfo], socket: NetlinkSocket) -> dict[int, Surroundings]:
    """Return what else is on these interfaces, by index; what cannot be read is left out. Needs no privileges."""
    found_addresses = addresses.of_interfaces(socket)
    devices: dict[str, str] = {}
    for device in infiniband.device_names():
        for port in infiniband.port_numbers(device):
            if name := infiniband.netdev(device, port):
                devices.setdefault(name, device)
    return {
        link.index: Surroundings(
            found_addresses.get(link.index, ()),
            {str(parent): _tc_owners(socket, link.index, parent) for parent in tc.Parent},
            devices.get(link.name),
        )
        for link in links
    }


def _tc_owners(socket: NetlinkSocket, index: int, parent: tc.Parent) -> TcOwners:
    """Return the programs at tc in one direction."""
    tcx: tuple[int, ...] | None
    try:
        tcx = attached_programs(index, TCX_TYPES[parent])
    except KernelError as error:
        tcx = () if error.errno == EINVAL else None
    try:
        names = tuple(found.name or found.kind for found in tc.filters(socket, index, parent))
    except KernelError:
        names = ()  # the interface is gone
    return TcOwners(tcx, names)


def print_interfaces(
    links: Sequence[LinkInfo], around: Mapping[int, Surroundings], output: OutputStream, as_json: bool
) -> None:
    """Write a table, or JSON Lines."""
    nothing = Surroundings()
    pairs = [(link, around.get(link.index, nothing)) for link in links]
    if as_json:
        lines = [orjson.dumps(_record(*pair), option=orjson.OPT_APPEND_NEWLINE) for pair in pairs]
        output.write(b"".join(lines))
        return
    _print_table([HEADINGS, *(_row(*pair) for pair in pairs)], output)


def print_rdma_ports(records: Sequence[PortRecord], output: OutputStream, as_json: bool, host: str) -> None:
    """Write a table like ibdev2netdev's, with more columns, or JSON Lines."""
    if as_json:
        lines = [orjson.dumps(port_summary(record, host), option=orjson.OPT_APPEND_NEWLINE) for record in records]
        output.write(b"".join(lines))
        return
    _print_table([RDMA_HEADINGS, *(_rdma_row(record) for record in records)], output)


def _print_table(texts: Sequence[tuple[str, ...]], output: OutputStream) -> None:
    rows = [tuple(printable(text, kept=RAW_BYTES) for text in row) for row in texts]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    output.write("".join(f"{line}\n" for line in table).encode("utf-8", "surrogateescape"))


def _type(link: LinkInfo) -> str:
    return link.kind or LINK_TYPES.get(link.link_type, str(link.link_type))


def _row(link: LinkInfo, around: Surroundings) -> tuple[str, ...]:
    owner = f"id {link.xdp.prog_id} ({link.xdp.mode})" if link.xdp else "-"
    own = (link.name, str(link.index), link.operstate, _type(link), str(link.mtu), link.address or "-", owner)
    at_tc = [f"{way}: {text}" for way, owners in around.tc.items() if (text := _owners(owners))]
    return (*own, "; ".join(at_tc) or "-", around.rdma_device or "-", " ".join(around.addresses) or "-")


def _owners(owners: TcOwners) -> str:
    """Return `id 12, xtrace-catch:1a2b`; empty if there is none, `?` if they cannot be queried."""
    tcx = ["?"] if owners.tcx is None else [f"id {number}" for number in owners.tcx]
    return ", ".join([*tcx, *owners.filters])


def _rdma_row(record: PortRecord) -> tuple[str, ...]:
    info = record.info
    counters = f"{len(record.hardware)}+{len(record.standard)}"
    numa = "-" if info.numa_node is None else str(info.numa_node)
    texts = (info.netdev, info.state, info.physical_state, info.link_layer, info.rate, info.driver, info.pci)
    cells = tuple(text or "-" for text in texts)
    return (record.id.device, str(record.id.port), *cells, numa, "unavailable" if record.unavailable else counters)


def _record(link: LinkInfo, around: Surroundings) -> dict[str, Any]:
    return {
        "type": "link",
        "name": valid_unicode(link.name),
        "index": link.index,
        "state": link.operstate,
        "up": link.is_up,
        "link_type": _type(link),
        "mtu": link.mtu,
        "mac": link.address or None,
        "xdp": {"prog_id": link.xdp.prog_id, "mode": link.xdp.mode} if link.xdp else None,
        "tc": {
            way: {"tcx": owners.tcx, "filters": [valid_unicode(name) for name in owners.filters]}
            for way, owners in around.tc.items()
        },
        "rdma_device": around.rdma_device,
        "addresses": list(around.addresses),
    }
