"""What the file is, and what it takes."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.image.chroot import LIMIT_S, MOUNT
from tests.support.net import ROOT, Pair

MOST_BYTES, MOST_COMPRESSED = 25_000_000, 10_000_000
MOST_MEMORY_KB = (18 if sys.version_info < (3, 12) else 21) << 10
"""Debian 12's Python 3.11 takes 16.4 MiB; Debian 13's 3.13 took 18.0 when that took 15.3. Five more list interfaces."""
TRIES = 5
EARLY, EARLY_S = 40, 0.08
"""How many interrupts, over how long after the start."""
FOR_EVER = ("-i", "lo", "--hook", "tc", "-t", "1h", "-o", "none")


def test_it_needs_no_shared_library(executable: Path) -> None:
    told = subprocess.run(["ldd", str(executable)], capture_output=True, text=True)
    assert (told.returncode, told.stderr.strip()) == (1, "not a dynamic executable")


def test_it_is_no_larger_than_promised(executable: Path) -> None:
    content = executable.read_bytes()
    assert len(content) <= MOST_BYTES
    assert len(gzip.compress(content, 9)) <= MOST_COMPRESSED


def memory_kb(executable: Path) -> int:
    """The most memory that --version takes, by GNU time, which is small itself."""
    command = ["time", "-f", "%M", str(executable), "--version"]
    told = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True).stderr
    return int(told)


def test_the_version_is_told_in_little_memory(root: Path) -> None:
    """The least of several runs, of a file as it is copied; how long it takes is for benchmarks/ (start-static).

    (What the linker has just written lies in the page cache in larger pieces, which count as memory as a whole.)
    """
    assert min(memory_kb(root / "xtrace-catch") for _ in range(TRIES)) <= MOST_MEMORY_KB


def ends_after(delay_s: float, executable: Path) -> tuple[int, bytes]:
    """Exit code and stderr of a run that gets a SIGINT so long after its start."""
    with subprocess.Popen([executable, *FOR_EVER], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as started:
        time.sleep(delay_s)
        started.send_signal(signal.SIGINT)
        _, said = started.communicate()
    return started.returncode, said


def test_an_early_ctrl_c_is_no_traceback_and_is_not_lost(executable: Path) -> None:
    """Before the executable runs at all, the signal kills it; from then on it is a request to stop."""
    for number in range(EARLY):
        code, said = ends_after(number * EARLY_S / EARLY, executable)
        assert code in (0, -signal.SIGINT)
        assert b"Traceback" not in said


def test_no_path_of_the_machine_that_built_it_is_in_it(executable: Path) -> None:
    content = executable.read_bytes()
    # the tree's own name alone may be as short as /src, which is part of other words
    paths = [str(path).encode() for path in ROOT.iterdir()] + [b"\0%b\0" % bytes(ROOT)]
    assert [path for path in paths if path in content] == []
    assert str(Path.home()).encode() + b"/." not in content


def test_licences_and_parts_list_name_what_is_linked(executable: Path) -> None:
    """Of this executable, and of what was built for another architecture beside it."""
    all_built = list(executable.parent.glob(f"{executable.name}*.cdx.json"))
    assert executable.with_name(f"{executable.name}.cdx.json") in all_built
    for built in all_built:
        components = json.loads(built.read_text())["components"]
        names = {part["name"] for part in components}
        assert {"cffi", "orjson", "urllib3", "openssl", "glibc", "libffi", "zlib"} <= names, built
        licences = executable.parent / built.name.replace(executable.name, "licenses").removesuffix(".cdx.json")
        for part in components:
            texts = list((licences / part["name"]).glob("*"))
            (licence,) = part["licenses"]
            named_by_text = licence.get("license", {}).get("name", "").startswith("see ")
            assert texts or not named_by_text, part  # some crates name a licence and bring no text


def test_it_runs_where_a_python_of_its_version_is_beside_it(root: Path, pair: Pair) -> None:
    """In /usr/bin, its prefix would be /usr, and modules of ours parts of the standard library there."""
    for version in range(10, 15):
        library = root / f"usr/lib/python3.{version}"
        (library / "lib-dynload").mkdir(parents=True)
        (library / "os.py").touch()
    (root / "usr/bin").mkdir()
    (root / "xtrace-catch").rename(root / "usr/bin/xtrace-catch")
    inside = MOUNT.replace("/xtrace-catch", "/usr/bin/xtrace-catch")
    command = ["unshare", "-m", "sh", "-c", inside, str(root), "-i", "far0", "-t", "100ms", "-c", "1", "-o", "none"]
    done = subprocess.run(pair.far.command(*command), capture_output=True, text=True, timeout=LIMIT_S)
    assert (done.returncode, done.stderr.count("loaded on far0")) == (0, 1), done.stderr
