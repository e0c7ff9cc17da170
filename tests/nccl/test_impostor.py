"""A process that makes another file stand under a library's path does not move the probes of that library."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nccl.jobs import (
    HERE,
    STANDIN_FUNCTIONS,
    calling,
    expected,
    operations,
    standin,
    total,
    wait_for_probes,
    watching,
)
from tests.nccl.shown import shown
from tests.nccl.test_privileges import NAMES, limited
from tests.netns.tool import bounded
from xtrace.kernel.symbols import function_offsets

CALLS = 1_100
SYMBOL = struct.Struct("<IBBHQQ")


def with_moved_function(library: Path, name: str) -> bytes:
    """The same bytes, but that the symbol's value is two larger: in the middle of an instruction."""
    content = bytearray(library.read_bytes())
    with library.open("rb") as file:
        offset = function_offsets(file.fileno(), [name], name)[name]
    moved = 0
    for at in range(0, len(content) - SYMBOL.size, 8):
        _, info, _, section, value, _ = SYMBOL.unpack_from(content, at)
        if info & 0x0F == 2 and 0 < section < 64 and value == offset:
            struct.pack_into("<Q", content, at + 8, value + 2)
            moved += 1
    assert moved
    return bytes(content)


@pytest.mark.usefixtures("unchanged_root")
@pytest.mark.parametrize("prefix", [[], limited(*NAMES)], ids=["root", "three capabilities"])
def test_another_file_under_the_path_of_a_library_moves_no_probe(tmp_path: Path, prefix: list[str]) -> None:
    """Only root may follow the links in map_files; the others reach the crafted file, and probe that."""
    shared = tmp_path / "shared"
    shared.mkdir()
    crafted = tmp_path / "crafted"
    crafted.write_bytes(with_moved_function(standin(), "ncclAllReduce"))
    subprocess.run(["mount", "-t", "tmpfs", "none", str(shared)], check=True)
    try:
        library = shared / "libnccl.so.2"
        shutil.copy(standin(), library)
        command = ["unshare", "--mount", sys.executable, str(HERE / "impostor.py"), str(library), str(crafted)]
        with bounded(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as impostor:
            assert impostor.stdout is not None
            assert impostor.stdout.readline() == b"ready\n"
            with shown(impostor.pid), watching("-t", "100ms", prefix=prefix) as tool:
                wait_for_probes(tool, library)
                with calling(library, CALLS) as caller:
                    if prefix:
                        tool.wait_until_it_says(f"(pid {caller.pid}:".encode())
                    caller.begin()
                    caller.wait()
                    found = operations(tool.stop().records, caller.pid)
            assert total(found, "calls") == sum(calls for calls, _ in expected(STANDIN_FUNCTIONS, CALLS).values())
    finally:
        subprocess.run(["umount", "--lazy", str(shared)], check=True)
