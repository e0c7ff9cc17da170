"""`python -m tests.netns.picture`: record docs/terminal.txt from a run with real traffic, and draw it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from contextlib import ExitStack, suppress
from fcntl import ioctl
from struct import pack
from termios import TIOCSWINSZ

from deploy.picture.drawn import COLUMNS, PICTURE, TEXT, drawn
from tests.netns.tool import bounded
from tests.support.net import Namespace, quiet_pair

STREAMS = (("-p", "5201", "-b", "200M"), ("-p", "5202", "-u", "-b", "2M"))
OPTIONS = ("-i", "eth0", "-t", "1s", "-c", "3")


def recorded(namespace: Namespace) -> str:
    """What a run shows on a terminal: the command, and the table of its last interval."""
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, pack("4H", 24, COLUMNS, 0, 0))
    variables = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    command = (sys.executable, "-m", "xtrace", *OPTIONS)
    with bounded(namespace.start(*command, stdout=theirs, stderr=subprocess.DEVNULL, env=variables)) as tool:
        os.close(theirs)
        pieces = []
        with suppress(OSError):  # EIO: the tool has ended
            while piece := os.read(ours, 65536):
                pieces.append(piece)
        assert tool.wait() == 0
    os.close(ours)
    text = b"".join(pieces).decode().replace("\r", "")
    *_, table, _ = re.split(r"(?m)^(?=(?:\x1b\[1m)?(?:\d\d:\d\d:\d\d  |totals of))", text)
    return f"$ sudo xtrace-catch {' '.join(OPTIONS[:4])}\n{table.rstrip()}\n"


def main() -> None:
    """A stream over TCP, one over UDP and a ping between two namespaces."""
    with quiet_pair() as pair:
        pair.far.ip("link set far0 down")
        pair.far.ip("link set far0 name eth0")
        pair.far.ip("link set eth0 up")
        with ExitStack() as running:
            for stream in STREAMS:
                sender = f"until iperf3 -c 10.0.0.2 -t 30 {' '.join(stream)} 2>/dev/null; do :; done"
                running.enter_context(bounded(pair.far.start("iperf3", "-s", *stream[:2], stdout=subprocess.DEVNULL)))
                running.enter_context(bounded(pair.near.start("bash", "-c", sender, stdout=subprocess.DEVNULL)))
            running.enter_context(
                bounded(pair.near.start("ping", "-q", "-i0.3", "10.0.0.2", stdout=subprocess.DEVNULL))
            )
            TEXT.write_text(recorded(pair.far))
    PICTURE.write_text(drawn(TEXT.read_text()))


if __name__ == "__main__":
    main()
