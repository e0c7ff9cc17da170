"""Send a bounded number of frames out of an interface, as fast as one CPU can: `python -m tests.support.flood`.

Uses BPF_PROG_TEST_RUN with live frames (Linux 5.18), so it needs no packet socket and no NIC; the
receiving end of a veth must have native XDP on, or it takes no such frames. Older kernels send the same
frames from a packet socket, slowly.
"""

from __future__ import annotations

import argparse
import errno
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

from tests.support.build import compile_bpf, loaded
from xtrace.errors import KernelError
from xtrace.kernel import constants

BATCH = 64
MAX_REPEAT = 1 << 20
"""Frames per system call, small enough to handle a signal within a second."""


def frame(source_net: int, size: int = 64) -> bytes:
    """Return a UDP frame from 10.<source_net>.0.0; the program sets source port and last two address bytes."""
    payload = size - 14 - 20 - 8
    ethernet = bytes.fromhex("02000000000a02000000000b0800")
    ip = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 28 + payload, 0, 0, 64, 17, 0, bytes([10, source_net, 0, 0]), bytes([10, 255, 0, 1])
    )
    return ethernet + ip + struct.pack("!HHHH", 0, 9, 8 + payload, 0) + bytes(payload)


def flood(ifindex: int, packets: int, flows: int, source_net: int) -> None:
    """Send `packets` frames (a multiple of the batch) over `flows` flows (a power of two)."""
    spec = compile_bpf(Path(__file__).parent / "flood.c")
    with loaded(spec, "flood", {"target_ifindex": ifindex, "flows": flows}) as program:
        while packets:
            now = min(packets, MAX_REPEAT)
            flags = constants.TEST_RUN_LIVE_FRAMES
            program.test_run(frame(source_net), repeat=now, flags=flags, batch_size=BATCH)
            packets -= now


def flood_from_socket(interface: str, packets: int, flows: int, source_net: int) -> None:
    """Send the same frames as flood(), from user space."""
    start = bytearray(frame(source_net))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((interface, 0))
        for number in range(packets):
            flow = number % flows
            start[28:30], start[34:36] = struct.pack("!H", flow), struct.pack("!H", 1024 + (flow & 0x3FFF))
            with suppress(OSError):  # ENOBUFS: the peer's ring is full
                sender.send(start)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("interface")
    parser.add_argument("packets", type=int)
    parser.add_argument("--flows", type=int, default=512)
    parser.add_argument("--source-net", type=int, default=1)
    parser.add_argument("--cpu", type=int)
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    load = (options.packets, options.flows, options.source_net)
    try:
        flood(socket.if_nametoindex(options.interface), *load)
    except KernelError as error:
        if error.errno != errno.EINVAL:
            raise
        flood_from_socket(options.interface, *load)


if __name__ == "__main__":
    main()
