"""Collectors of flow records on loopback: nfdump's, pmacct's, and a bare socket whose messages tshark reads."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals
from typing import Any, Protocol

from tests.netns.tool import LIMIT_S, eventually
from tests.push.server import free_port

Flows = Counter[tuple[str, str, int, int, int]]
"""Packets by addresses, ports and protocol."""

PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "ipv6-icmp": 58, "sctp": 132}
BUFFER = 8 << 20


class Collector(Protocol):
    """A collector that can be ended and started again; it keeps what it got."""

    port: int

    def start(self) -> None:
        """Start, and wait until it listens."""

    def stop(self) -> None:
        """End it, in order."""

    def packets(self) -> Flows:
        """Return all it got, once it has ended."""


class _Process:
    """A collector that is a program, with its children."""

    ends_with: Signals

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        self._process = subprocess.Popen(
            self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert eventually(lambda: is_bound(self.port)), "the collector does not start"

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(self.ends_with)
        self._process.wait(LIMIT_S)
        assert eventually(lambda: not is_alive(self._process.pid if self._process else 0))
        self._process = None

    def close(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
            self._process.wait()


class Nfdump(_Process):
    """nfcapd, which writes files, and nfdump, which reads them."""

    ends_with = SIGTERM

    def command(self) -> list[str]:
        own = self.directory / str(time.monotonic_ns())
        own.mkdir()
        where = ["-w", str(own), "-b", "127.0.0.1", "-p", str(self.port)]
        return ["nfcapd", *where, "-B", str(BUFFER), "-t", "3600"]

    def packets(self) -> Flows:
        found: Flows = Counter()
        for file in sorted(self.directory.glob("*/nfcapd.*")):
            fields = "fmt:%sa,%da,%sp,%dp,%pr,%pkt"
            shown = subprocess.check_output(["nfdump", "-6", "-q", "-r", str(file), "-o", fields], text=True)
            for line in shown.splitlines():
                source, destination, *numbers = (part.strip() for part in line.split(","))
                ports, protocol, packets = numbers[:2], numbers[2], int(numbers[3])
                name = PROTOCOLS.get(protocol.lower(), protocol)
                found[source, destination, int(ports[0]), int(ports[1]), int(name)] += packets
        return found


class Pmacct(_Process):
    """nfacctd, whose plugin appends JSON Lines."""

    ends_with = SIGINT

    def command(self) -> list[str]:
        config = self.directory / "nfacctd.conf"
        settings = {
            "nfacctd_ip": "127.0.0.1",
            "nfacctd_port": str(self.port),
            "nfacctd_pipe_size": str(BUFFER),
            "plugins": "print[all]",
            "plugin_pipe_size": str(256 << 20),
            "aggregate[all]": "src_host, dst_host, src_port, dst_port, proto",
            "print_refresh_time[all]": "3600",
            "print_cache_entries[all]": "200003",
            "print_output[all]": "json",
            "print_output_file[all]": str(self.directory / "flows.json"),
            "print_output_file_append[all]": "true",
            "logfile": str(self.directory / "log"),
        }
        config.write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
        return ["nfacctd", "-f", str(config)]

    def packets(self) -> Flows:
        found: Flows = Counter()
        for line in (self.directory / "flows.json").read_text().splitlines():
            flow = json.loads(line)
            ends = flow["ip_src"], flow["ip_dst"], flow["port_src"], flow["port_dst"]
            found[(*ends, PROTOCOLS[flow["ip_proto"]])] += flow["packets"]
        return found


class Bare:
    """A socket that keeps whole messages."""

    def __init__(self, protocol: str) -> None:
        self.port = free_port()
        self.messages: list[bytes] = []
        self._protocol = protocol
        self._socket: socket.socket | None = None

    def start(self) -> None:
        kind = socket.SOCK_DGRAM if self._protocol == "udp" else socket.SOCK_STREAM
        self._socket = socket.socket(socket.AF_INET, kind)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._socket.bind(("127.0.0.1", self.port))
        if self._protocol == "tcp":
            self._socket.listen()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._datagrams if self._protocol == "udp" else self._streams)
        self._thread.start()

    def stop(self) -> None:
        assert self._socket is not None
        self._stopping.set()
        self._thread.join(LIMIT_S)
        self._socket.close()
        self._socket = None

    def close(self) -> None:
        if self._socket is not None:
            self.stop()

    def _datagrams(self) -> None:
        assert self._socket is not None
        self._socket.settimeout(0.05)
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                self.messages.append(self._socket.recv(1 << 16))

    def _streams(self) -> None:
        assert self._socket is not None
        self._socket.settimeout(0.05)
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                peer, _ = self._socket.accept()
                with peer:
                    peer.settimeout(0.05)
                    self._stream(peer)

    def _stream(self, peer: socket.socket) -> None:
        """Read messages up to the end of the connection, or until the collector is to end and has read everything."""
        data = b""
        while True:
            try:
                piece = peer.recv(1 << 20)
                if not piece:
                    return
                data += piece
            except TimeoutError:
                if self._stopping.is_set():
                    return
            while len(data) >= 4 and len(data) >= (length := struct.unpack_from(">H", data, 2)[0]):
                self.messages.append(data[:length])
                data = data[length:]

    def shown(self, directory: Path, *fields: str) -> list[dict[str, Any]]:
        """Return what tshark finds in each message: `fields` of Wireshark's dissector "cflow", each a list."""
        capture = directory / "messages.pcap"
        capture.write_bytes(as_capture(self.messages))
        arguments = [argument for name in (*fields, "_ws.expert.message") for argument in ("-e", name)]
        decode = ["-d", f"udp.port=={PORT},cflow", "-T", "json", *arguments]
        shown = json.loads(subprocess.check_output(["tshark", "-n", "-r", str(capture), *decode], text=True))
        return [message["_source"]["layers"] for message in shown]


PORT = 4739


def as_capture(messages: Sequence[bytes]) -> bytes:
    """Return a pcap file of UDP packets with these payloads."""
    made = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 16, 101)]  # LINKTYPE_RAW
    for number, message in enumerate(messages):
        udp = struct.pack(">HHHH", 50000, PORT, 8 + len(message), 0) + message
        ends = socket.inet_aton("127.0.0.1") * 2
        packet = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), number & 0xFFFF, 0, 64, 17, 0) + ends + udp
        made.append(struct.pack("<IIII", number, 0, len(packet), len(packet)) + packet)
    return b"".join(made)


def is_bound(port: int) -> bool:
    """Return whether a UDP socket has the port."""
    lines = Path("/proc/net/udp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(f":{port:04X}") for line in lines)


def is_read(port: int) -> bool:
    """Return whether the UDP socket at the port has nothing left to be read."""
    lines = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return all(fields[4].endswith(":00000000") for fields in lines if fields[1].endswith(f":{port:04X}"))


def is_alive(group: int) -> bool:
    """Return whether a process group has a process."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def collecting(name: str, directory: Path) -> Iterator[Nfdump | Pmacct]:
    """Run a collector for the block."""
    made = Nfdump(directory) if name == "nfdump" else Pmacct(directory)
    made.start()
    try:
        yield made
    finally:
        made.close()


@contextmanager
def receiving(protocol: str) -> Iterator[Bare]:
    """The same with a bare socket."""
    made = Bare(protocol)
    made.start()
    try:
        yield made
    finally:
        made.close()
