"""Lists of interfaces (-l) and RDMA ports (-l -m rdma)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.model.rdma import PortRecord
from xtrace.printable import RAW_BYTES, printable
from xtrace.sinks.jsonl.rdma import port_summary
from xtrace.sinks.render import valid_unicode
from xtrace.sinks.stream import OutputStream

HEADINGS = ("NAME", "INDEX", "STATE", "TYPE", "MTU", "MAC", "XDP")
RDMA_HEADINGS = ("DEVICE", "PORT", "INTERFACE", "STATE", "LINK", "LAYER", "RATE", "DRIVER", "PCI", "NUMA", "COUNTERS")
LINK_TYPES = {1: "ethernet", 24: "ieee1394", 32: "infiniband", 512: "ppp", 768: "ipip", 772: "loopback", 65534: "none"}
"""The common ARPHRD_* of linux/if_arp.h."""


def print_interfaces(links: Sequence[LinkInfo], output: OutputStream, as_json: bool) -> None:
    """Write a table, or JSON Lines."""
    if as_json:
        lines = [orjson.dumps(_record(link), option=orjson.OPT_APPEND_NEWLINE) for link in links]
        output.write(b"".join(lines))
        return
    _print_table([HEADINGS, *(_row(link) for link in links)], output)


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


def _row(link: LinkInfo) -> tuple[str, ...]:
    owner = f"id {link.xdp.prog_id} ({link.xdp.mode})" if link.xdp else "-"
    return (link.name, str(link.index), link.operstate, _type(link), str(link.mtu), link.address or "-", owner)


def _rdma_row(record: PortRecord) -> tuple[str, ...]:
    info = record.info
    counters = f"{len(record.hardware)}+{len(record.standard)}"
    numa = "-" if info.numa_node is None else str(info.numa_node)
    texts = (info.netdev, info.state, info.physical_state, info.link_layer, info.rate, info.driver, info.pci)
    cells = tuple(text or "-" for text in texts)
    return (record.id.device, str(record.id.port), *cells, numa, "unavailable" if record.unavailable else counters)


def _record(link: LinkInfo) -> dict[str, Any]:
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
    }
