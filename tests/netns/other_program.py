"""Somebody else's XDP program, on an interface until stdin closes: `python -m tests.netns.other_program IF MODE`."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from tests.support.build import compile_bpf, loaded
from xtrace.kernel import constants
from xtrace.kernel.bpf import Link

FLAGS = {"native": constants.XDP_FLAGS_NATIVE, "generic": constants.XDP_FLAGS_GENERIC}


def main(interface: str, mode: str) -> None:
    spec = compile_bpf(Path(__file__).with_suffix(".c"))
    with (
        loaded(spec, "other_program") as program,
        Link.attach(program, socket.if_nametoindex(interface), constants.ATTACH_TYPE_XDP, FLAGS[mode]),
    ):
        print("attached", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
