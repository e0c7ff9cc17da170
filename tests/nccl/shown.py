"""What the tool takes for the machine's proc in these tests: nothing but their own processes is in it.

So it neither looks into those of others, nor puts probes into their libraries, nor counts what they call.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

PROC = Path("/proc")


def make(directory: Path, proc: Path = PROC) -> Path:
    """A directory that is taken for a proc file system, as yet without processes."""
    directory.mkdir(exist_ok=True)
    for name in ("self", "stat"):
        (directory / name).symlink_to(proc / name)
    return directory


@lru_cache(maxsize=1)
def own() -> Path:
    """The one that every run of the tool gets which asks for no other; until the end of the tests."""
    directory = tempfile.TemporaryDirectory(prefix="xtrace-proc-")
    _kept.append(directory)
    Path(directory.name).chmod(0o755)
    return make(Path(directory.name))


_kept: list[tempfile.TemporaryDirectory[str]] = []


@contextmanager
def shown(pid: int, view: Path | None = None, proc: Path = PROC) -> Iterator[None]:
    """A process, and those that it has started by now, are in it for the block."""
    links = {(view or own()) / str(number): proc / str(number) for number in family(pid)}
    for link, target in links.items():
        link.symlink_to(target)
    try:
        yield
    finally:
        for link in links:
            link.unlink()


def family(pid: int) -> Iterator[int]:
    """The process, its children, theirs and so on."""
    yield pid
    for child in (PROC / f"{pid}/task/{pid}/children").read_text().split():
        yield from family(int(child))
