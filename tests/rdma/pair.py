"""Running things on this end and the other at the same time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from tests.rdma.peer import Peer
from tests.support.pcap import read

Opcodes = Counter[tuple[str, int]]
"""Packets by direction (`rx`, `tx`) and BTH opcode."""

DEVICE = "rxe0"
HERE, THERE = "10.77.0.1", "10.77.0.2"
PERFTEST_PORT = 18515
TOOL = [sys.executable, "-m", "xtrace"]
COUNTERS = Path(f"/sys/class/infiniband/{DEVICE}/ports/1")
LATE_BLOCKS_S = 1.5
"""tcpdump gets its last packets from the kernel by blocks, the last of them this much later."""

READY_WITHIN_S = 180
"""Two emulated machines share what is left of this one's CPUs."""
CLIENT_LIMIT, SERVER_LIMIT = ("timeout", "--signal=KILL", "120"), ("timeout", "--signal=KILL", "150")
"""perftest whose other end gave up waits for ever, or repeats itself. The client ends first: rxe does not count
packets to a queue pair that is gone."""

UNTIL_STOPPED = ["ib_send_bw", "--events", "--noPeak", "-n", "10000000", "-s", "4096"]
"""Traffic that lasts until a test has seen what it waits for. Both ends sleep between completions: polling takes all
of an emulated machine."""

started: list[subprocess.Popen[Any]] = []
"""What a test has started here; its end stops what is left."""


def launch(words: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a process that does not outlive the test."""
    process = subprocess.Popen(words, start_new_session=True, **options)
    started.append(process)
    return process


def stop_all() -> None:
    """Kill what is left, and close its pipes."""
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # with what it has started itself
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()
    started.clear()


def listening(port: int) -> bool:
    """Whether a TCP socket listens on the port."""
    tables = (Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6"))
    return any(re.search(rf":{port:04X} 0+:0000 0A", text) for text in tables)


def wait_until(ready: Any, what: str) -> None:
    """Poll until `ready()`."""
    deadline = time.monotonic() + READY_WITHIN_S
    while not ready():
        assert time.monotonic() < deadline, f"no {what} within {READY_WITHIN_S} s"
        time.sleep(0.05)


class Server:
    """A perftest program here, waiting for the one that the peer runs."""

    def __init__(self, *words: str) -> None:
        self.words = [*SERVER_LIMIT, *words, "-d", DEVICE]
        self.process = launch(self.words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        wait_until(lambda: listening(PERFTEST_PORT) or self.process.poll() is not None, "perftest server")
        self.pid = self._own_child()

    def _own_child(self) -> int:
        """The number of perftest itself, the only child of what limits its time."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    def finish(self) -> None:
        """Its end. On a slow emulated machine perftest may give up; what it sent by then is counted all the same."""
        try:
            self.process.communicate(timeout=READY_WITHIN_S)
        except subprocess.TimeoutExpired:  # its client gave up before it was connected
            self.kill()

    def kill(self) -> None:
        """End it, and what limits its time."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


def stop_traffic(peer: Peer, server: Server) -> None:
    """End both ends of UNTIL_STOPPED."""
    peer.stop_all()
    server.kill()


def start_client(peer: Peer, *words: str) -> int:
    """The same program there, with this end as its server."""
    return peer.start(*CLIENT_LIMIT, *words, "-d", DEVICE, HERE)


def traffic(peer: Peer, *words: str) -> None:
    """One perftest run between both ends, to its end."""
    server = Server(*words)
    peer.wait(start_client(peer, *words))
    server.finish()


class Tool:
    """The tool on this end, its JSON Lines in a file."""

    def __init__(self, directory: Path, *words: str, user: str | None = None, form: str = "json") -> None:
        self.output = directory / "out.jsonl"
        self.errors = directory / "err"
        command = [*TOOL, "-o", form, *words]
        if user:
            command = ["setpriv", "--reuid", user, "--regid", "nogroup", "--clear-groups", *command]
        with self.output.open("wb") as out, self.errors.open("wb") as err:
            self.process = launch(command, stdout=out, stderr=err)
        try:
            wait_until(lambda: self._started(form) or self.process.poll() is not None, "start of the tool")
        except AssertionError as late:
            raise AssertionError(f"{late}; stderr: {self.errors.read_text()}") from None
        assert self.process.poll() is None, self.errors.read_text()

    def _started(self, form: str) -> bool:
        """Whether it runs: by its start record, or in text by the first interval's lines."""
        return bool(self.records("start") if form == "json" else self.output.stat().st_size)

    def records(self, kind: str) -> list[dict[str, Any]]:
        """Records of a kind that it has written so far."""
        lines = self.output.read_bytes().splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.endswith(b"\n")]
        return [record for record in found if record["type"] == kind]

    def stop(self) -> str:
        """End it in order; returns its stderr."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(READY_WITHIN_S) == 0, self.errors.read_text()
        return self.errors.read_text()


def hardware_counters() -> dict[str, int]:
    """rxe's own, from sysfs."""
    files = (COUNTERS / "hw_counters").iterdir()
    return {file.name: int(file.read_text()) for file in files if file.name != "lifespan"}


CAPTURE = "exec tcpdump -Z root -i eth0 -s 160 -B 16384 -w {0} udp port 4791 2>{0}.stderr"
LISTENING = "grep -q 'listening on' {0}.stderr"
OPCODES = "-m", "tests.rdma.pair"


class Capture:
    """tcpdump on this end."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._process = launch(["sh", "-c", CAPTURE.format(file)])
        wait_until(lambda: subprocess.call(["sh", "-c", LISTENING.format(file)]) == 0, "capture")

    def finish(self) -> Opcodes:
        """Packets by direction and opcode."""
        time.sleep(LATE_BLOCKS_S)
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        return opcodes(self._file, HERE)


class PeerCapture:
    """tcpdump on the other end."""

    def __init__(self, peer: Peer, file: str) -> None:
        self._peer, self._file = peer, file
        self._pid = peer.start("sh", "-c", CAPTURE.format(file))
        wait_until(lambda: peer.run("sh", "-c", LISTENING.format(file)).code == 0, "capture there")

    def finish(self) -> Opcodes:
        """Packets by direction and opcode, seen from there."""
        time.sleep(LATE_BLOCKS_S)
        self._peer.wait(self._pid, interrupt=True)
        done = self._peer.run(sys.executable, *OPCODES, self._file, THERE)
        assert done.code == 0, done
        return Counter({(direction, opcode): count for direction, opcode, count in json.loads(done.out)})


class PeerTool:
    """The tool on the other end; its records are known when it has ended."""

    def __init__(self, peer: Peer, *words: str) -> None:
        self._peer = peer
        self._pid = peer.start("sh", "-c", f"exec {' '.join(TOOL)} -o json {' '.join(words)} >/tmp/tool.out")
        started = 'grep -q \'"type":"start"\' /tmp/tool.out'
        wait_until(lambda: peer.run("sh", "-c", started).code == 0, "start record there")

    def stop(self) -> list[dict[str, Any]]:
        """All it wrote."""
        done = self._peer.wait(self._pid, interrupt=True)
        assert done.code == 0, done
        return [json.loads(line) for line in self._peer.run("cat", "/tmp/tool.out").out.splitlines()]


def opcodes(file: Path, address: str) -> Opcodes:
    """RoCE v2 packets of a capture by direction, seen from `address`, and BTH opcode."""
    own = ip_address(address).packed
    found: Opcodes = Counter()
    for captured in read(file):
        frame = captured.frame
        udp = 14 + 4 * (frame[14] & 0x0F)
        found["tx" if frame[26:30] == own else "rx", frame[udp + 8]] += 1
    return found


if __name__ == "__main__":
    print(json.dumps([[*key, count] for key, count in opcodes(Path(sys.argv[1]), sys.argv[2]).items()]))
