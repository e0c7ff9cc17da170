"""Packets entering one interface handed to the peer of another: `python -m tests.netns.redirect_peer FROM TO`.

Lasts until stdin closes.
"""

from __future__ import annotations

import socket
import sys
from contextlib import closing
from pathlib import Path

from tests.support.build import compile_bpf
from xtrace.kernel import constants
from xtrace.kernel.bpf import Map, Program
from xtrace.kernel.elf import patch_constants
from xtrace.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from xtrace.model.words import Direction
from xtrace.monitors.flows.clsact import TcAttachment


def main(source: str, target: str) -> None:
    """Attach, report it on stdout, wait."""
    spec = compile_bpf(Path(__file__).parent / "redirect_peer.c")
    constant = patch_constants(spec.maps["rodata"], {"ifindex": socket.if_nametoindex(target)})
    with (
        Map.create(constant) as rodata,
        Program.prepare(
            spec.programs["hand_to_peer"],
            {"rodata": rodata},
            prog_type=constants.PROG_TYPE_SCHED_CLS,
            attach_type=0,
        )() as program,
        NetlinkSocket(NETLINK_ROUTE) as netlink,
        closing(TcAttachment.attach(netlink, socket.if_nametoindex(source), Direction.INGRESS, program.fileno())),
    ):
        print("attached", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
