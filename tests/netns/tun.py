"""A raw IP interface: `python -m tests.netns.tun IF [pi]` sends what stdin brings, until it closes, into the host.

One packet per line in hexadecimal, with `pi` behind four bytes of packet information. The interface is up when `ready`
is printed, and gone with the process.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000


def main(interface: str, information: str = "") -> None:
    device = os.open("/dev/net/tun", os.O_RDWR)
    flags = IFF_TUN if information else IFF_TUN | IFF_NO_PI
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", interface.encode(), flags))
    subprocess.run(["ip", "link", "set", interface, "up"], check=True)
    print("ready", flush=True)
    for line in sys.stdin:
        os.write(device, bytes.fromhex(line))
        print("sent", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
