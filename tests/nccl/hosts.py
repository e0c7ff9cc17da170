"""A job of eight ranks over two hosts: network namespaces, each with its own copy of the library and of the tool."""

from __future__ import annotations

import ctypes
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.nccl.jobs import standin
from tests.nccl.shown import make
from tests.netns.tool import Tool, bounded, environment
from tests.support.net import Namespace, Pair, read_until

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RANKS = 8
MEETING_BYTES = 1 << 20
MEETING_WORDS = 3 + 2 * 16
"""Of one rank."""
HOSTS = ("n1", "n2")


class Cluster:
    """Two hosts and the ranks on them, four each."""

    def __init__(self, directory: Path, pair: Pair, opened: ExitStack) -> None:
        self.directory = directory
        self._opened = opened
        self._spaces: dict[str, Namespace] = dict(zip(HOSTS, (pair.near, pair.far), strict=True))
        self.libraries = {host: directory / host / "libnccl.so.2" for host in HOSTS}
        self.views = {}
        self.ranks: dict[int, subprocess.Popen[bytes]] = {}
        for host in HOSTS:
            (directory / host).mkdir()
            shutil.copy(standin(), self.libraries[host])
            self.views[host] = make(directory / host / "proc")
        (directory / "meeting").write_bytes(bytes(MEETING_BYTES))

    def host_of(self, rank: int) -> str:
        return HOSTS[rank * len(HOSTS) // RANKS]

    def keep(self, host: str) -> None:
        """A process that has the host's library mapped, as other jobs do: it is probed before the ranks start."""
        script = "import ctypes, sys; ctypes.CDLL(sys.argv[1]); print('ready', flush=True); input()"
        command = [sys.executable, "-c", script, str(self.libraries[host])]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._opened.enter_context(bounded(process))
        read_until(process.stdout, b"ready")
        self._show(host, process)

    def _show(self, host: str, process: subprocess.Popen[bytes]) -> None:
        link = self.views[host] / str(process.pid)
        link.symlink_to(f"/proc/{process.pid}")
        self._opened.callback(link.unlink)

    def start_rank(self, rank: int, fault: str = "none", others: Sequence[int] = ()) -> None:
        """Start it, others as threads of its process; it has a communicator once all others have started, too."""
        host = self.host_of(rank)
        here = ",".join(str(number) for number in (rank, *others))
        command = [sys.executable, str(HERE / "rank.py"), str(self.libraries[host]), here, str(RANKS), fault]
        env = {**os.environ, "STANDIN_MEETING": str(self.directory / "meeting")}
        if not others:
            env |= {"RANK": here, "WORLD_SIZE": str(RANKS), "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
        process = subprocess.Popen(
            self._spaces[host].command(*command, str(self.directory)), stdout=subprocess.PIPE, env=env
        )
        self.ranks[rank] = self._opened.enter_context(bounded(process))
        self._show(host, process)

    def wait_until_ready(self) -> None:
        """Until all call in their loop, except those whose fault comes before that."""
        for process in self.ranks.values():
            read_until(process.stdout, b"ready")

    def wait_until_others_begin(self, but: int) -> None:
        """Until all other ranks are about to join their communicator."""
        for rank, process in self.ranks.items():
            if rank != but:
                read_until(process.stdout, b"begins")

    def begun(self) -> list[int]:
        """Collectives that each rank has begun, as the stand-in's struct meeting has it."""
        words = memoryview((self.directory / "meeting").read_bytes()).cast("Q")
        return [words[1 + rank * MEETING_WORDS + 1] for rank in range(RANKS)]

    def go(self) -> None:
        """Let the fault begin."""
        (self.directory / "go").touch()

    def records(self, host: str) -> Path:
        return self.directory / f"{host}.jsonl"

    def watch(self, host: str, *arguments: str, **variables: str) -> Tool:
        """A copy of the tool, which sees this host's ranks."""
        output = self._opened.enter_context(self.records(host).open("w+b"))
        env = environment(XTRACE_PROCFS=str(self.views[host]), XTRACE_HOST=host, **variables)
        command = [sys.executable, "-m", "xtrace", "-m", "nccl", "-o", "json", *arguments]
        process = subprocess.Popen(
            self._spaces[host].command(*command), cwd=ROOT, stdout=output, stderr=subprocess.PIPE, env=env
        )
        return Tool(self._opened.enter_context(bounded(process)), output)

    def hang(self, *arguments: str) -> list[dict[str, Any]]:
        """The verdicts of `xtrace-catch hang` on the records of both hosts, as of now."""
        files = [str(self.records(host)) for host in HOSTS]
        return hang(*arguments, *files)

    def named_after(self, since: float, wanted: set[tuple[str, int | None]], *arguments: str) -> float:
        """Seconds from a moment to the end of the first interval whose records are enough; nan if none are."""
        lines = {host: [(ended(line), line) for line in self.records(host).open("rb")] for host in HOSTS}
        for until in sorted({end for found in lines.values() for end, _ in found if end > since}):
            for host, found in lines.items():
                self._cut(host).write_bytes(b"".join(line for end, line in found if end <= until))
            if kinds(hang(*arguments, *(str(self._cut(host)) for host in HOSTS))) == wanted:
                return until - since
        return math.nan

    def _cut(self, host: str) -> Path:
        return self.directory / f"{host}.cut"


def ended(line: bytes) -> float:
    """When the interval of a record ended, in seconds since the epoch."""
    return datetime.fromisoformat(json.loads(line)["ts"].replace("Z", "+00:00")).timestamp()


def hang(*arguments: str) -> list[dict[str, Any]]:
    """The verdicts of `xtrace-catch hang -o json` on some files."""
    from tests.support.net import records

    command = [sys.executable, "-m", "xtrace", "hang", "-o", "json", *arguments]
    return records(subprocess.run(command, check=True, capture_output=True, cwd=ROOT).stdout)


@contextmanager
def cluster(directory: Path, pair: Pair) -> Iterator[Cluster]:
    """Hosts without ranks."""
    with ExitStack() as opened:
        yield Cluster(directory, pair, opened)


@contextmanager
def inside(space: Namespace) -> Iterator[None]:
    """This thread, and what it starts, is in the network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as before, Path(f"/run/netns/{space.name}").open() as other:
        assert libc.setns(other.fileno(), 0) == 0
        try:
            yield
        finally:
            assert libc.setns(before.fileno(), 0) == 0


def within(seconds: float, found: Any, every_s: float = 0.1) -> Any:
    """What `found()` returns as soon as it is something, and how long that took; what it returned last else."""
    begun = time.monotonic()
    while not (result := found()) and time.monotonic() - begun < seconds:
        time.sleep(every_s)
    return result, time.monotonic() - begun


def kinds(verdicts: Sequence[dict[str, Any]]) -> set[tuple[str, int | None]]:
    """Class and rank of each verdict."""
    return {(verdict["verdict"], verdict["rank"]) for verdict in verdicts}
