"""A double of NCCL's RAS service: it speaks the part of the documented protocol that the tool uses.

NCCL's own service needs GPUs. The commands, the answers and the document's fields are those of NCCL 2.30's
src/ras/client_support.cc and of its user guide's chapter on RAS.
"""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

FUNCTIONS = ("Broadcast", "Reduce", "AllGather", "AllReduce", "ReduceScatter")


def rank(number: int, counts: Mapping[str, int], async_error: int = 0) -> dict[str, Any]:
    """One that answered."""
    return {
        "rank": number,
        "host": "192.0.2.1",
        "pid": 1000 + number,
        "cuda_dev": number,
        "nvml_dev": number,
        "status": {
            "init_state": 0,
            "async_error": async_error,
            "finalize_called": False,
            "destroy_flag": False,
            "abort_flag": False,
        },
        "collective_counts": {name: counts.get(name, 0) for name in FUNCTIONS},
    }


def missing(number: int) -> dict[str, Any]:
    """One that did not."""
    status = {"unresponsive": True, "considered_dead": False}
    return {"rank": number, "host": "192.0.2.2", "pid": 2000, "cuda_dev": 0, "nvml_dev": 0, "status": status}


def communicator(size: int, ranks: Sequence[dict[str, Any]], lacking: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "hash": "0x9f3c",
        "secondary_hash": "0x1:0x2",
        "size": size,
        "ranks_count": len(ranks),
        "missing_ranks_count": len(lacking),
        "ranks": list(ranks),
        "missing_ranks": list(lacking),
    }


def document(*communicators: dict[str, Any]) -> bytes:
    """What STATUS answers in JSON."""
    return json.dumps(
        {
            "nccl_version": "2.28.9",
            "cuda_runtime_version": 12080,
            "cuda_driver_version": 13000,
            "timestamp": "2026-01-01 00:00:00",
            "communicators_count": len(communicators),
            "communicators": communicators,
            "ras": {"collection_time_sec": 0.012, "timeouts_count": 1},
        },
        indent=2,
    ).encode()


def without_commas(answer: bytes) -> bytes:
    """As NCCL 2.28.9 writes it: none between a missing rank's devices and its status."""
    return re.sub(rb'("nvml_dev": \d+),(\s+"status": \{\s+"unresponsive")', rb"\1\2", answer)


class Service(socketserver.ThreadingTCPServer):
    """Listens on a port of loopback."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, answer: bytes, has_json: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.answer, self.has_json = answer, has_json
        self.commands: list[str] = []


class _Connection(socketserver.StreamRequestHandler):
    server: Service

    def handle(self) -> None:
        for line in self.rfile:
            command = line.decode().rstrip("\r\n")
            self.server.commands.append(command)
            words = command.upper()
            if words.startswith("CLIENT PROTOCOL "):
                self.wfile.write(b"SERVER PROTOCOL 2\n")
            elif words == "SET FORMAT JSON" and self.server.has_json:
                self.wfile.write(b"OK\n")
            elif words in ("STATUS", "VERBOSE STATUS"):
                self.wfile.write(self.server.answer)
                return
            else:
                self.wfile.write(f"ERROR: Unknown command {command}\n".encode())


@contextmanager
def serving(answer: bytes, has_json: bool = True) -> Iterator[Service]:
    """The service, until the end of the block."""
    with Service(answer, has_json) as service:
        thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield service
        finally:
            service.shutdown()
            thread.join()
