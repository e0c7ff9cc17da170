"""Processes that use NCCL, and the tool that watches them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.nccl.native import native
from tests.nccl.shown import own, shown
from tests.netns.tool import Tool, bounded, environment
from xtrace.model.nccl_names import SIZES

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGE = "nvidia-nccl-cu12"
WHEEL = f"{PACKAGE}==2.27.5"

STANDIN_FUNCTIONS = (
    "AllReduce",
    "Broadcast",
    "Bcast",
    "Reduce",
    "AllGather",
    "ReduceScatter",
    "AlltoAll",
    "Gather",
    "Scatter",
    "Send",
    "Recv",
)
"""In the order of caller.c."""

REAL_FUNCTIONS = tuple(name for name in STANDIN_FUNCTIONS if name not in ("AlltoAll", "Gather", "Scatter"))
"""Those that NCCL 2.27 has."""

DATATYPE_COUNT = len(SIZES)


def standin() -> Path:
    """The stand-in library."""
    return native("libnccl.so.2")


def cache() -> Path:
    """Where libraries are kept that were downloaded."""
    chosen = os.environ.get("XTRACE_NCCL_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen) if chosen else home / "xtrace-catch" / "nccl"


def real_library(fetch: bool, wheel: str = WHEEL) -> Path | None:
    """NVIDIA's libnccl.so.2 from the cache; downloaded there only on request. None where there is none."""
    library = cache() / wheel.replace("==", "-") / "libnccl.so.2"
    if library.exists() or not fetch:
        return library if library.exists() else None
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch, wheel]
        subprocess.run(command, check=True)
        (found,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(found) as archive, archive.open("nvidia/nccl/lib/libnccl.so.2") as source:
            partial = Path(scratch) / library.name
            with partial.open("wb") as target:
                shutil.copyfileobj(source, target)
        partial.rename(library)
    return library


def newest_library(fetch: bool) -> Path | None:
    """The newest one that pip offers, downloaded only on request; else the newest in the cache, not WHEEL's."""
    if fetch:
        command = [sys.executable, "-m", "pip", "index", "versions", PACKAGE]
        offered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = re.match(rf"{PACKAGE} \(([0-9.]+)\)", offered)
        assert found is not None, offered
        return real_library(fetch, f"{PACKAGE}=={found.group(1)}")
    kept = [path for path in cache().glob(f"{PACKAGE}-*/libnccl.so.2") if path.parent.name != WHEEL.replace("==", "-")]
    return max(
        kept, key=lambda path: [int(part) for part in path.parent.name.rpartition("-")[2].split(".")], default=None
    )


class Caller:
    """A process that has a library mapped, and calls on request."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        assert self._out.readline() == b"ready\n"

    @property
    def pid(self) -> int:
        return self.process.pid

    def begin(self) -> None:
        """Let it call."""
        self._in.write(b"\n")
        self._in.flush()

    def wait(self) -> float:
        """Until it has called; nanoseconds of CPU time per call."""
        return float(self._out.readline())

    def end(self) -> None:
        """Let it exit, and wait for that."""
        self._in.close()
        self.process.wait()


@contextmanager
def calling(
    library: Path, calls: int, threads: int = 1, prefix: Sequence[str] = (), function: str = ""
) -> Iterator[Caller]:
    """A caller that has mapped the library, and waits. `function`: the only one it calls."""
    command = [
        *prefix,
        str(native("caller")),
        str(library),
        str(calls),
        str(threads),
        *([function] if function else []),
    ]
    with bounded(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as process:
        caller = Caller(process)
        with shown(process.pid):
            yield caller


def expected(functions: Sequence[str], calls: int, threads: int = 1) -> dict[tuple[str, int], tuple[int, int]]:
    """Function and datatype's number -> calls and elements, of caller.c."""
    counted: Counter[tuple[str, int]] = Counter()
    elements: Counter[tuple[str, int]] = Counter()
    for i in range(calls):
        what = functions[i % len(functions)], i // len(functions) % DATATYPE_COUNT
        counted[what] += threads
        elements[what] += (i % 1000 + 1) * threads
    return {what: (count, elements[what]) for what, count in counted.items()}


class Job:
    """A process that makes the calls it is told to, by job.py."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        assert self._out.readline() == b"ready\n"

    @property
    def pid(self) -> int:
        return self.process.pid

    def do(self, *command: object) -> Any:
        """Make a call (see job.py); its answer."""
        self._in.write(json.dumps(command).encode() + b"\n")
        self._in.flush()
        return json.loads(self._out.readline())


@contextmanager
def job(variables: Mapping[str, str] | None = None, library: Path | None = None) -> Iterator[Job]:
    """A job on the stand-in, which reads these variables, or on a copy of it."""
    command = [sys.executable, str(HERE / "job.py"), str(library or standin())]
    env = {**os.environ, **(variables or {})}
    with bounded(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)) as process:
        made = Job(process)
        with shown(process.pid):
            yield made


@contextmanager
def watching(
    *arguments: str, prefix: Sequence[str] = (), variables: dict[str, str] | None = None, **options: Any
) -> Iterator[Tool]:
    """The tool in mode nccl, JSON into a file unless piped, just started. It sees the processes that are shown."""
    variables = {"XTRACE_PROCFS": str(own()), **(variables or {})}
    command = [*prefix, sys.executable, "-m", "xtrace", "-m", "nccl", "-o", "json", *arguments]
    with tempfile.TemporaryFile() as output:
        options = {"stdout": output, "stderr": subprocess.PIPE, "env": environment(**variables), **options}
        with bounded(subprocess.Popen(command, cwd=ROOT, **options)) as process:
            yield Tool(process, output)


def wait_for_probes(tool: Tool, *libraries: Path) -> None:
    """Until these are probed, the stand-in unless told otherwise.

    In a chroot the paths of processes in other mount namespaces begin at the machine's root.
    """
    for library in libraries or (standin(),):
        line = f"{library} (pid ".encode()
        if line not in tool._said:
            tool.wait_until_it_says(line)


def of_process(records: Sequence[dict[str, Any]], pid: int) -> list[dict[str, Any]]:
    """What is told of one process, and what is not told of any."""
    return [record for record in records if record.get("pid", pid) == pid]


def operations(records: Sequence[dict[str, Any]], pid: int | None = None) -> list[dict[str, Any]]:
    """All operations of a process, or of all."""
    return [
        operation
        for record in records
        if record["type"] in ("nccl_process", "nccl_communicator") and pid in (None, record["pid"])
        for operation in record["operations"]
    ]


def total(found: Sequence[dict[str, Any]], field: str, **wanted: object) -> int:
    """The sum of a field over those that have these others."""
    return sum(record[field] for record in found if all(record[name] == value for name, value in wanted.items()))
