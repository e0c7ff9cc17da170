"""What these tests share: the libraries that are probed, each way to probe them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REQUIRED, skip_or_fail
from tests.nccl.jobs import PACKAGE, WHEEL, newest_library, real_library
from tests.netns.tool import bounded
from tests.support.net import read_until
from xtrace.kernel import uprobe


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """NVIDIA's own library: downloaded where this tier is required, else only if it is in the cache.

    A copy, of which probes see no calls but those of this run.
    """
    library = real_library(fetch=bool(REQUIRED & {"all", "nccl"}))
    if library is None:
        skip_or_fail("nccl", f"no {WHEEL} in XTRACE_NCCL_CACHE; XTRACE_REQUIRE=nccl downloads it, 322 MB")
    assert library is not None
    copy = tmp_path_factory.mktemp("real") / library.name
    shutil.copyfile(library, copy)
    yield copy
    copy.unlink()


@pytest.fixture(scope="session")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The newest library that pip offers, in the same way."""
    library = newest_library(fetch=bool(REQUIRED & {"all", "nccl"}))
    if library is None:
        skip_or_fail("nccl", f"no newer {PACKAGE} in XTRACE_NCCL_CACHE; XTRACE_REQUIRE=nccl downloads it, 350 MB")
    assert library is not None
    copy = tmp_path_factory.mktemp("newest") / library.name
    shutil.copyfile(library, copy)
    yield copy
    copy.unlink()


@pytest.fixture(params=["uprobe_multi", "perf_event"])
def way(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment in which the tool probes functions in one way, and in the other."""
    if request.param == "perf_event":
        return {"XTRACE_FEATURES_OFF": "uprobe_multi"}
    if not uprobe.has_multi():
        pytest.skip("this kernel has no multi links (Linux 6.6)")
    return {}


@pytest.fixture(scope="session")
def unchanged_root() -> None:
    """A chroot shows the files of processes in other mount namespaces by paths from the machine's root."""
    command = ["unshare", "--mount", "sh", "-c", "echo ready; read line"]
    with bounded(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as process:
        read_until(process.stdout, b"ready")
        if not Path(f"/proc/{process.pid}/exe").readlink().exists():
            skip_or_fail("nccl", "in a chroot files in other mount namespaces have paths of the machine's root")
