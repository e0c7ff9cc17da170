"""A link that loses one in N TCP packets to a port until stdin closes: `python -m tests.netns.lossy IF PORT N`."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from tests.support.build import compile_bpf, loaded
from xtrace.kernel import constants
from xtrace.kernel.bpf import Link


def main(interface: str, port: str, one_in: str) -> None:
    spec = compile_bpf(Path(__file__).with_suffix(".c"))
    with (
        loaded(spec, "lossy", {"port": int(port), "one_in": int(one_in)}) as program,
        Link.attach(program, socket.if_nametoindex(interface), constants.ATTACH_TYPE_XDP, constants.XDP_FLAGS_GENERIC),
    ):
        print("attached", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
