"""What runs in each guest of a pair: brings up software RDMA; a then runs the tests, b what they tell it to."""

from __future__ import annotations

import json
import os
import platform
import signal
import socketserver
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.rdma.peer import Peer
from tests.vm.inside import LONGEST_TEXT, Channel, Reporter, arguments

ADDRESSES = {"a": "10.77.0.1", "b": "10.77.0.2"}
PORT = 7707
DEVICE = "rxe0"
READY_WITHIN_S = 120
GID = "0000:0000:0000:0000:0000:ffff:0a4d:000{}"
"""The GID of the end's IPv4 address, by the address's last number."""


def modprobe(*modules: str) -> None:
    """Load modules; those that are built in, or that this kernel does not have, are no failure."""
    for module in modules:
        subprocess.run(["modprobe", "-q", module], check=False)


def wait_for(what: str, ready: Callable[[], object]) -> None:
    """Poll until `ready()`; RuntimeError when that takes too long."""
    deadline = time.monotonic() + READY_WITHIN_S
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"no {what} within {READY_WITHIN_S} s")
        time.sleep(0.1)


def bring_up(role: str) -> None:
    """The wire, and an RDMA device on it."""
    modprobe("virtio_pci", "virtio_net", "crc32_generic", "crc32c_generic", "ib_uverbs", "rdma_ucm", "rdma_rxe")
    wait_for("eth0", Path("/sys/class/net/eth0").exists)
    address = ADDRESSES[role]
    for words in (
        ["ip", "addr", "add", f"{address}/24", "dev", "eth0"],
        ["ip", "link", "set", "eth0", "up"],
        ["rdma", "link", "add", DEVICE, "type", "rxe", "netdev", "eth0"],
    ):
        subprocess.run(words, check=True)
    gids = Path(f"/sys/class/infiniband/{DEVICE}/ports/1/gids")
    wanted = GID.format(address[-1])
    wait_for("GID", lambda: wanted in [(gids / str(slot)).read_text().strip() for slot in range(4)])


class Agent(socketserver.StreamRequestHandler):
    """Runs commands for the other guest: a JSON line asks, a JSON line answers."""

    started: ClassVar[dict[int, subprocess.Popen[str]]] = {}

    def handle(self) -> None:
        for line in self.rfile:
            asked = json.loads(line)
            if "quit" in asked:
                assert isinstance(self.server, Server)
                self.server.ended = True
                return
            self.wfile.write(json.dumps(self._do(asked)).encode() + b"\n")

    def _do(self, asked: dict[str, Any]) -> dict[str, Any]:
        """`start` a command and give its number; `wait` for the end of one that was started; `stop` all others."""
        if "start" in asked:
            process = subprocess.Popen(
                asked["start"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
            )
            self.started[process.pid] = process
            return {"pid": process.pid}
        if "stop" in asked:
            for process in self.started.values():
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
            self.started.clear()
            return {}
        process = self.started.pop(asked["wait"])
        if asked.get("interrupt"):
            process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        return {"code": process.returncode, "out": out, "err": err}


class Server(socketserver.TCPServer):
    """Serves one connection after the other, until one says that it was the last."""

    ended = False


def serve() -> None:
    """Be the other guest's hands until it says it is done."""
    with Server((ADDRESSES["b"], PORT), Agent) as server:
        while not server.ended:
            server.handle_request()


def run_tests(channel: Channel) -> int:
    """The tests, once the other guest answers."""
    os.environ["XTRACE_TEST_OBJECTS"] = str(Path("build").resolve())
    os.environ["XTRACE_RDMA_PEER"] = f"{ADDRESSES['b']}:{PORT}"
    where = os.environ["XTRACE_RDMA_PEER"]
    with Peer.connect(where, READY_WITHIN_S):
        pass  # it answers; tests make their own connections, of which it serves one at a time
    try:
        options = ["-q", "--color=no", "--tb=short", *arguments()]
        return int(pytest.main(options, plugins=[Reporter(channel)]))
    finally:
        with Peer.connect(where, READY_WITHIN_S) as peer:
            peer.quit()


def main() -> None:
    channel = Channel(sys.argv[1])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    channel.send(release=platform.release(), python=platform.python_version(), boot_s=uptime)
    words = dict(word.partition("=")[::2] for word in Path("/proc/cmdline").read_text().split())
    try:
        bring_up(words["xtrace_role"])
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        channel.send(test="bringing up software RDMA", outcome="failed", why=str(error)[-LONGEST_TEXT:])
        return
    if words["xtrace_role"] == "b":
        serve()
        channel.send(ended=0)
    else:
        channel.send(ended=run_tests(channel))


if __name__ == "__main__":
    main()
