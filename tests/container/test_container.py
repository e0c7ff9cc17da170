"""The image as a container engine runs it, with the least privileges that the engine can give.

`make docker-build` makes the image. An engine without the capabilities BPF and PERFMON gets SYS_ADMIN for both.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.conftest import skip_or_fail
from tests.support.net import assert_sums_close, of_type, records
from tests.support.schema import validate

IMAGE = "xtrace-catch:latest"
NAME = "xtrace-catch-test"
LIMIT_S = 60
MOST_BYTES = 25_000_000
KNOWN_NOWHERE = "unknown capability"
WAYS = (("BPF", "PERFMON"), ("SYS_ADMIN",))


def docker(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["docker", *arguments], capture_output=True, timeout=LIMIT_S, check=False)


@pytest.fixture(autouse=True, scope="module")
def image() -> dict[str, Any]:
    """What the engine knows of the image."""
    shown = docker("image", "inspect", IMAGE)
    if shown.returncode:
        skip_or_fail("container", f"tier container needs an engine and {IMAGE}: make docker-build")
    (known,) = json.loads(shown.stdout)
    found: dict[str, Any] = known
    return found


def create(*arguments: str) -> None:
    """A container that is not started yet."""
    usual = ("--network", "host", "--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "--read-only", "--name", NAME)
    for capabilities in WAYS:
        given = [part for name in capabilities for part in ("--cap-add", name)]
        made = docker("create", *usual, *given, IMAGE, *arguments)
        if KNOWN_NOWHERE not in made.stderr.decode():
            break
    assert made.returncode == 0, made.stderr


@contextmanager
def running(*arguments: str) -> Iterator[None]:
    """The container in the background, once its program is attached; removed at the end."""
    create(*arguments)
    try:
        assert docker("start", NAME).returncode == 0
        deadline = time.monotonic() + LIMIT_S
        while b"loaded on" not in docker("logs", NAME).stderr:
            assert time.monotonic() < deadline, docker("logs", NAME).stderr
        yield
    finally:
        docker("rm", "-f", NAME)


def test_image_is_one_layer_with_an_entry_point_and_labels(image: dict[str, Any]) -> None:
    config = image["Config"]
    assert config["Entrypoint"] == ["/xtrace-catch"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "GPL-3.0-only"
    assert config["Labels"]["org.opencontainers.image.version"]
    assert image["Created"].startswith(config["Labels"]["org.opencontainers.image.created"].rstrip("Z"))
    assert len(image["RootFS"]["Layers"]) == 1
    assert image["Size"] <= MOST_BYTES


def test_image_has_no_shell() -> None:
    told = docker("run", "--rm", "--entrypoint", "/bin/sh", IMAGE, "-c", "true")
    assert told.returncode == 127


def test_version_without_any_privilege() -> None:
    told = docker("run", "--rm", "--cap-drop", "ALL", "--network", "none", "--read-only", IMAGE, "--version")
    assert (told.returncode, told.stderr) == (0, b"")
    assert told.stdout.startswith(b"xtrace-catch ")


def test_missing_capabilities_are_named() -> None:
    told = docker("run", "--rm", "--cap-drop", "ALL", "--network", "host", IMAGE, "-i", "lo")
    assert told.returncode == 77
    assert b"CAP_BPF and CAP_NET_ADMIN and CAP_PERFMON" in told.stderr


def test_stop_ends_it_with_the_last_interval_in_the_log() -> None:
    with running("-i", "lo", "-t", "1h", "--net", "127.0.0.9"):
        subprocess.run(["ping", "-q", "-c3", "-i0.1", "127.0.0.9"], check=True, capture_output=True)
        docker("stop", NAME)  # after 10 s it would kill it
        state = json.loads(docker("inspect", "-f", "{{json .State}}", NAME).stdout)
        lines = records(docker("logs", NAME).stdout)
    assert state["ExitCode"] == 0
    validate(lines)
    assert_sums_close(lines)
    assert sum(flow["packets"] for flow in of_type(lines, "flow")) == 6
    assert lines[-1]["type"] == "end"
