"""NCCL's newest interface: functions that end in Config, one-sided ones, and those that this version does not know."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.nccl.jobs import operations, standin, total, wait_for_probes, watching
from tests.nccl.native import native
from tests.nccl.shown import shown
from tests.netns.tool import bounded
from xtrace.monitors.nccl.libraries import SYMBOLS, find_functions, find_unknown

CALLS = 1000

CALLER = """
import ctypes, sys
from ctypes import c_int, c_size_t, c_void_p
library, buffer, null = ctypes.CDLL(sys.argv[1]), ctypes.create_string_buffer(8), c_void_p()
two = [buffer, ctypes.byref(buffer, 1), c_size_t(3), c_int(7)]
calls = {
    "ncclAllReduceConfig": [*two, c_int(0), null, null, null],
    "ncclBroadcastConfig": [*two, c_int(0), null, null, null],
    "ncclReduceConfig": [*two, c_int(0), c_int(0), null, null, null],
    "ncclAllGatherConfig": [*two, null, null, null],
    "ncclReduceScatterConfig": [*two, c_int(0), null, null, null],
    "ncclAlltoAllConfig": [*two, null, null, null],
    "ncclGatherConfig": [*two, c_int(0), null, null, null],
    "ncclScatterConfig": [*two, c_int(0), null, null, null],
    "ncclPutSignal": [buffer, c_size_t(3), c_int(7), c_int(0), null, c_size_t(0), *[c_int(0)] * 3, null, null],
    "ncclSignal": [*[c_int(0)] * 4, null, null],
    "ncclWaitSignal": [c_int(0), null, null, null],
}
print("ready", flush=True)
sys.stdin.readline()
for name, arguments in calls.items():
    for _ in range(int(sys.argv[2]) if hasattr(library, name) else 0):
        getattr(library, name)(*arguments)
print("called", flush=True)
sys.stdin.readline()
"""


def called(library: Path) -> dict[str, tuple[int, int]]:
    """Function -> calls and elements that the tool counts of CALLS calls of each newer function of a library."""
    command = [sys.executable, "-c", CALLER, str(library), str(CALLS)]
    with bounded(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with shown(process.pid), watching("-t", "1h") as tool:
            wait_for_probes(tool, library)
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"called\n"
            found = operations(tool.stop().records, process.pid)
            process.stdin.close()
    return {
        name: (total(found, "calls", function=name), total(found, "elements", function=name))
        for name in {operation["function"] for operation in found}
    }


def newer_functions(library: Path) -> set[str]:
    """Of a library: those that CALLER calls, without `nccl`."""
    names = {number: symbol.removeprefix("nccl") for symbol, number in SYMBOLS.items()}
    defined = {names[number] for number in find_functions(str(library))}
    return {name for name in defined if name.endswith(("Config", "Signal"))} - {"CommInitRankConfig"}


@pytest.mark.parametrize("which", ["standin", "newest"])
def test_calls_of_newer_functions_are_counted(which: str, request: pytest.FixtureRequest) -> None:
    library = standin() if which == "standin" else request.getfixturevalue("newest")
    functions = newer_functions(library)
    assert len(functions) >= 6
    wanted = {name: (CALLS, 0 if name in ("Signal", "WaitSignal") else 3 * CALLS) for name in functions}
    assert called(library) == wanted


def test_the_newest_library_has_no_collective_that_is_neither_probed_nor_listed(newest: Path) -> None:
    assert find_unknown(str(newest)) == ()


def test_a_collective_that_is_not_known_is_said_once() -> None:
    newer = native("newer/libnccl.so.2")
    command = [sys.executable, "-c", CALLER, str(newer), "0"]
    with bounded(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with shown(process.pid), watching("-t", "100ms") as tool:
            wait_for_probes(tool, newer)
            said = tool.stop().stderr.decode()
    (line,) = [line for line in said.splitlines() if "does not know" in line]
    assert line.endswith("does not know ncclAllReduceTwice: calls of these are not seen (update xtrace-catch)")
