"""A program that does nothing, by native XDP on an interface until stdin closes: `python -m benchmarks.empty IF`."""

from __future__ import annotations

import socket
import sys

from benchmarks.packet import own_programs
from xtrace.kernel import constants
from xtrace.kernel.bpf import Link


def main(interface: str) -> None:
    with own_programs("empty") as programs:
        ifindex = socket.if_nametoindex(interface)
        with Link.attach(programs["empty"], ifindex, constants.ATTACH_TYPE_XDP, constants.XDP_FLAGS_NATIVE):
            print("attached", flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
