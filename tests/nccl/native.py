"""What these tests run besides the tool: C programs and libraries of this directory, compiled for this machine, or for
a guest of another architecture (tests/vm)."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

GUARDED = "guarded/libnccl.so.2"
LANDING_PADS = {"x86_64": "-fcf-protection=branch", "aarch64": "-mbranch-protection=standard"}
"""What GUARDED is compiled with: its functions begin with a landing pad; those of arm64 also sign the return address,
on CPUs that can."""
SHARED = ("-shared", "-fPIC")
PROGRAMS = {
    "libnccl.so.2": (("standin.c",), SHARED),
    "stripped/libnccl.so.2": (("standin.c",), (*SHARED, "-s")),
    GUARDED: (("standin.c",), SHARED),
    "newer/libnccl.so.2": (("standin.c",), (*SHARED, "-DNEWER")),
    "hidden/libnccl.so.2": (("hidden.c",), (*SHARED, "-s")),
    "caller": (("caller.c",), ()),
    "rate": (("rate.c",), ()),
    "static": (("static.c", "standin.c"), ()),
}
"""Name -> its sources, and flags besides FLAGS."""

# with a frame pointer functions begin with a push, as NCCL's do: the kernel need not single-step that
FLAGS = ("-O1", "-fno-omit-frame-pointer", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter")


def compile_native(
    name: str, directory: Path, compiler: Sequence[str] = ("gcc",), machine: str = platform.machine()
) -> Path:
    """One of PROGRAMS, compiled into the directory for a machine by its compiler."""
    sources, flags = PROGRAMS[name]
    pads = (LANDING_PADS[machine],) if name == GUARDED else ()
    target = directory / name
    target.parent.mkdir(parents=True, exist_ok=True)
    paths = [str(HERE / source) for source in sources]
    command = [*compiler, *FLAGS, *flags, *pads, "-o", str(target), *paths, "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    return target


@lru_cache
def native(name: str) -> Path:
    """One of PROGRAMS: as `python -m tests.support.build` compiled it, else compiled now."""
    compiled = os.environ.get("XTRACE_TEST_OBJECTS")
    if compiled:
        return Path(compiled) / HERE.relative_to(ROOT) / name
    return compile_native(name, _directory())


@lru_cache(maxsize=1)
def _directory() -> Path:
    """Until the run's end; others may read it, as a container's user."""
    directory = tempfile.TemporaryDirectory(prefix="xtrace-nccl-")
    _kept.append(directory)
    Path(directory.name).chmod(0o755)
    return Path(directory.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []
