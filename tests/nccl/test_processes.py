"""Processes come and go, live in other namespaces, have several libraries, or hide their symbols."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import held_by_others, loaded_programs, skip_or_fail
from tests.nccl.jobs import (
    STANDIN_FUNCTIONS,
    calling,
    expected,
    job,
    operations,
    standin,
    total,
    wait_for_probes,
    watching,
)
from tests.nccl.native import native
from tests.nccl.shown import make, shown
from tests.netns.tool import Result, eventually
from tests.support.net import of_type
from xtrace.kernel.symbols import function_offsets

LINGERS_S = 30
"""A file stays probed for 10 s after its last process."""

CALLS = 1_100

PROBES = {"call_begins", "call_returns"}
BREAKPOINT = b"\xcc"


def processes(records: Sequence[dict[str, Any]], pid: int) -> list[dict[str, Any]]:
    return [record for record in of_type(records, "nccl_process") if record["pid"] == pid]


def has_all(result: Result, pid: int, calls: int = CALLS) -> bool:
    """Whether all calls of a caller were counted, once."""
    found = operations(result.records, pid)
    wanted = sum(count for count, _ in expected(STANDIN_FUNCTIONS, calls).values())
    return total(found, "calls") == total(found, "returned") == wanted


def test_no_process_is_no_error_and_one_that_comes_is_seen() -> None:
    with watching("-t", "100ms", stdout=subprocess.PIPE) as tool:
        tool.wait_until_it_prints(b'"type":"start"')
        tool.wait_until_it_prints(b'"processes":0')
        with calling(standin(), CALLS) as caller:
            wait_for_probes(tool)
            caller.begin()
            caller.wait()
            result = tool.stop()
            assert result.code == 0
            assert has_all(result, caller.pid)
    assert b"no process uses NCCL now" in result.stderr


def test_a_later_process_with_the_same_library_is_counted_from_its_first_call() -> None:
    with calling(standin(), CALLS) as first, watching("-t", "100ms") as tool:
        wait_for_probes(tool)
        with calling(standin(), CALLS) as second:
            # at once, whether the tool has noticed it or not
            second.begin()
            second.wait()
            result = tool.stop()
        assert has_all(result, second.pid)
        assert total(operations(result.records, first.pid), "calls") == 0


def test_a_process_that_maps_its_library_late_is_seen(tmp_path: Path) -> None:
    script = "import ctypes, sys; sys.stdin.readline(); ctypes.CDLL(sys.argv[1]); print('loaded', flush=True); input()"
    command = ["python3", "-c", script, str(standin())]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
        watching("-t", "100ms", stdout=subprocess.PIPE) as tool,
    ):
        assert process.stdin is not None
        tool.wait_until_it_prints(b'"type":"start"')
        with shown(process.pid):
            process.stdin.write(b"\n")
            process.stdin.flush()
            wait_for_probes(tool)
        process.stdin.close()
        assert tool.stop().code == 0


def test_an_ended_process_has_a_last_record_and_then_none() -> None:
    with watching("-t", "100ms", stdout=subprocess.PIPE) as tool:
        with calling(standin(), CALLS) as caller:
            wait_for_probes(tool)
            caller.end()
        tool.wait_until_it_prints(b'"ended":true')
        tool.wait_until_it_prints(b'"processes":0')
        result = tool.stop()
    last = processes(result.records, caller.pid)[-1]
    assert last["ended"]
    assert [record["ended"] for record in processes(result.records, caller.pid)].count(True) == 1
    assert result.code == 0


def test_one_that_is_killed_in_its_calls_leaves_exact_counts() -> None:
    with calling(standin(), 100_000_000, 2) as caller, watching("-t", "100ms", stdout=subprocess.PIPE) as tool:
        wait_for_probes(tool)
        caller.begin()
        tool.wait_until_it_prints(b'"function":"AllReduce"')
        caller.process.kill()
        tool.wait_until_it_prints(b'"ended":true')
        result = tool.stop()
    found = operations(result.records, caller.pid)
    # each of its threads may have been in one call
    assert 0 <= total(found, "calls") - total(found, "returned") <= 2
    assert sum(record["calls"] for record in of_type(result.records, "nccl")) >= total(found, "calls")
    assert result.code == 0


@pytest.mark.usefixtures("unchanged_root")
def test_a_process_in_another_mount_namespace_is_found_by_its_own_path(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    # the library is where only that namespace has it
    script = f'mount -t tmpfs none {inner} && cp {standin()} {inner}/libnccl.so.2 && exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-c", script, "sh"]
    library = inner / "libnccl.so.2"
    with calling(library, CALLS, prefix=prefix) as caller, watching("-t", "100ms") as tool:
        wait_for_probes(tool, library)
        assert not library.exists()
        caller.begin()
        caller.wait()
        result = tool.stop()
        assert has_all(result, caller.pid)
        assert processes(result.records, caller.pid)[0]["libraries"] == [str(library)]


def test_a_process_in_another_pid_namespace_is_named_by_the_number_that_proc_has() -> None:
    prefix = ["unshare", "--pid", "--fork", "--kill-child"]
    with calling(standin(), CALLS, prefix=prefix) as caller, watching("-t", "100ms") as tool:
        wait_for_probes(tool)
        children = Path(f"/proc/{caller.pid}/task/{caller.pid}/children").read_text().split()
        caller.begin()
        caller.wait()
        assert has_all(tool.stop(), int(children[0]))


def test_a_library_that_was_deleted_is_probed_all_the_same(tmp_path: Path) -> None:
    library = tmp_path / "libnccl.so.2"
    shutil.copy(standin(), library)
    with calling(library, CALLS) as caller:
        library.unlink()
        with watching("-t", "100ms") as tool:
            wait_for_probes(tool, Path(f"{library} (deleted)"))
            caller.begin()
            caller.wait()
            assert has_all(tool.stop(), caller.pid)


def overlay(directory: Path, number: int) -> list[str]:
    """A prefix that runs a command in a mount namespace where `directory`/merged is an overlay of the image."""
    for name in ("image", "merged", f"upper{number}", f"work{number}"):
        (directory / name).mkdir(exist_ok=True)
    options = ",".join(
        f"{kind}dir={directory}/{name}"
        for kind, name in (("lower", "image"), ("upper", f"upper{number}"), ("work", f"work{number}"))
    )
    script = f'mount -t overlay overlay -o {options} {directory}/merged && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh"]


@pytest.fixture
def image(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A directory on a tmpfs, which overlayfs takes as its upper layer; with the library in its image."""
    directory = tmp_path_factory.mktemp("overlay")
    subprocess.run(["mount", "-t", "tmpfs", "none", str(directory)], check=True)
    (directory / "image").mkdir()
    shutil.copy(standin(), directory / "image/libnccl.so.2")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.mark.usefixtures("unchanged_root")
def test_two_containers_of_one_image_are_counted_once_each(image: Path, way: dict[str, str]) -> None:
    if "overlay" not in Path("/proc/filesystems").read_text():
        skip_or_fail("nccl", "this kernel has no overlayfs")
    library = image / "merged/libnccl.so.2"
    with (
        calling(library, CALLS, prefix=overlay(image, 1)) as one,
        calling(library, 2 * CALLS, prefix=overlay(image, 2)) as other,
        watching("-t", "100ms", variables=way) as tool,
    ):
        wait_for_probes(tool, library)
        for caller in (one, other):
            caller.begin()
        for caller in (one, other):
            caller.wait()
        result = tool.stop()
        assert has_all(result, one.pid)
        assert has_all(result, other.pid, 2 * CALLS)


def test_hidden_symbols_are_said_and_nothing_is_shown_as_zero() -> None:
    hidden = native("hidden/libnccl.so.2")
    with calling_nothing(hidden) as process, shown(process.pid), watching("-t", "100ms") as tool:
        tool.wait_until_it_says(b"no symbol ncclAllReduce (stripped or hidden): its calls are not seen")
        result = tool.stop()
    found = processes(result.records, process.pid)
    assert {(record["probed"], record["calls"], record["requested_bytes"]) for record in found} == {(False, None, None)}
    assert result.code == 0


def test_a_static_build_is_found_by_its_symbols() -> None:
    static = native("static")
    with (
        subprocess.Popen([str(static)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
        shown(process.pid),
        watching("-t", "100ms") as tool,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        wait_for_probes(tool, static)
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        result = tool.stop()
        process.stdin.close()
    (reduced,) = [o for o in operations(result.records, process.pid) if o["function"] == "AllReduce" and o["calls"]]
    assert (reduced["calls"], reduced["elements"]) == (7, 70)


def test_a_static_copy_beside_the_library_is_said_and_not_shown_as_no_calls(tmp_path: Path) -> None:
    static = native("static")
    env = {**os.environ, "LD_PRELOAD": str(standin())}
    with (
        subprocess.Popen([str(static)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as process,
        shown(process.pid),
        watching("-t", "100ms") as tool,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        tool.wait_until_it_says(b": has NCCL's functions, and is not probed beside ")
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        result = tool.stop()
        process.stdin.close()
    found = processes(result.records, process.pid)
    assert {(record["probed"], record["calls"]) for record in found} == {(False, None)}
    assert f"{static}: has NCCL's functions" in result.stderr.decode()


def test_a_stripped_library_keeps_its_dynamic_symbols() -> None:
    with calling(native("stripped/libnccl.so.2"), CALLS) as caller, watching("-t", "100ms") as tool:
        wait_for_probes(tool, native("stripped/libnccl.so.2"))
        caller.begin()
        caller.wait()
        assert has_all(tool.stop(), caller.pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_the_probes(way: dict[str, str], number: signal.Signals) -> None:
    before = loaded_programs(PROBES)
    with calling(standin(), CALLS) as caller:
        unprobed = entry_bytes(caller.pid)
        with watching("-t", "100ms", variables=way) as tool:
            wait_for_probes(tool)
            assert entry_bytes(caller.pid) == BREAKPOINT
            programs = loaded_programs(PROBES) - before - held_by_others()
            assert programs
            tool.process.send_signal(number)
            tool.process.wait()
        assert eventually(lambda: not programs & loaded_programs())
        if loaded_programs(PROBES) & held_by_others():
            skip_or_fail("nccl", "another run of the tool, which probes all processes of the machine, these too")
        assert unprobed != BREAKPOINT
        assert eventually(lambda: entry_bytes(caller.pid) == unprobed)
        caller.begin()
        caller.wait()


def test_a_file_that_nobody_uses_any_more_is_let_go(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp_path)], check=True)
    try:
        library = tmp_path / "libnccl.so.2"
        shutil.copy(standin(), library)
        with watching("-t", "100ms") as tool:
            with calling(library, CALLS) as caller:
                wait_for_probes(tool, library)
                caller.end()
            # a file system is busy while one of its files is probed
            assert not unmounts(tmp_path)
            assert eventually(lambda: unmounts(tmp_path), LINGERS_S)
            assert tool.stop().code == 0
    finally:
        if tmp_path.is_mount():
            subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def unmounts(directory: Path) -> bool:
    """Whether it can be unmounted, which is then done."""
    return subprocess.run(["umount", str(directory)], capture_output=True).returncode == 0


def entry_bytes(pid: int) -> bytes:
    """The first instruction of ncclAllReduce as the process has it: a breakpoint while it is probed."""
    offset = function_offset("ncclAllReduce")
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        addresses, access, start, _, _, *path = line.split()
        if path and path[0] == str(standin()) and "x" in access:
            begin = int(addresses.partition("-")[0], 16)
            with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
                memory.seek(begin + offset - int(start, 16))
                return memory.read(1)
    raise AssertionError("the library is not mapped")


def function_offset(name: str) -> int:
    fd = os.open(standin(), os.O_RDONLY)
    try:
        return function_offsets(fd, [name], name)[name]
    finally:
        os.close(fd)


def calling_nothing(library: Path) -> subprocess.Popen[bytes]:
    """A process that has a library mapped that has none of the symbols."""
    script = "import ctypes, sys; ctypes.CDLL(sys.argv[1]); input()"
    return subprocess.Popen(["python3", "-c", script, str(library)], stdin=subprocess.PIPE)


def test_flows_and_calls_share_one_timeline() -> None:
    with (
        job() as process,
        watching("-m", "xdp,nccl", "-i", "lo", "--hook", "tc", "-t", "200ms", stdout=subprocess.PIPE) as tool,
    ):
        wait_for_probes(tool)
        process.do("CommInitRank", "world", 2, 0)
        tool.wait_until_it_prints(b'"function":"CommInitRank"')
        result = tool.stop()
    assert result.code == 0
    assert result.records[0]["modes"] == ["xdp", "nccl"]
    ticks = [record for record in result.records if record["type"] in ("interface", "nccl")]
    assert [record["type"] for record in ticks] == ["interface", "nccl"] * (len(ticks) // 2)
    assert [record["ts"] for record in ticks] == sorted(record["ts"] for record in ticks)
    assert sum(record["calls"] for record in of_type(result.records, "nccl")) == 1


def in_a_container(host_proc: Path) -> list[str]:
    """A prefix that runs the tool as a container does: own processes and proc, the machine's proc beside it."""
    script = f'mount --rbind /proc {host_proc} && exec unshare --pid --fork --mount-proc --kill-child "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh"]


@pytest.mark.usefixtures("unchanged_root")
def test_in_a_container_the_machines_proc_tells_of_all_processes(tmp_path: Path) -> None:
    host_proc = tmp_path / "proc"
    host_proc.mkdir()
    view = make(tmp_path / "view", host_proc)
    variables = {"XTRACE_PROCFS": str(view)}
    with (
        calling(standin(), CALLS) as caller,
        shown(caller.pid, view, host_proc),
        watching("-t", "100ms", prefix=in_a_container(host_proc), variables=variables, stdout=subprocess.PIPE) as tool,
    ):
        wait_for_probes(tool)
        caller.begin()
        caller.wait()
        caller.end()
        tool.wait_until_it_prints(b'"ended":true')
        # unshare would not hand a signal on; its end ends the tool
        tool.process.kill()
        result = tool.wait()
        assert has_all(result, caller.pid)
    assert b"no NIC traffic: process IDs in RDMA netlink are this container's" in result.stderr
    assert {record["devices"] for record in processes(result.records, caller.pid)} == {None}


def test_in_a_container_without_it_there_is_an_error_and_no_wrong_figure(tmp_path: Path) -> None:
    variables = {"XTRACE_PROCFS": ""}
    with watching("-t", "100ms", prefix=in_a_container(tmp_path), variables=variables) as tool:
        result = tool.wait()
    assert (result.code, result.stdout) == (1, b"")
    assert result.stderr.decode() == (
        "xtrace-catch: mode nccl: process IDs in this container's /proc differ from the kernel's, so calls cannot be"
        " assigned to processes (run it with --pid host or -v /proc:/host/proc:ro)\n"
    )
