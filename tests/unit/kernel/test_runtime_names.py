"""Names of containers and pods, as Docker and the kubelet write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from xtrace.kernel.runtime_names import container_name, containers_directory, pod_name

ID = "0123456789abcdef" * 4
UID = "0a1b2c3d-0000-1111-2222-333344445555"


@pytest.mark.parametrize(
    "content, name",
    [
        (b'{"ID": "x", "Name": "/web-1", "Config": {}}', "web-1"),
        (b'{"Name": "/a\\u001b[2J"}', "a?[2J"),
        (b'{"Name": "/"}', None),
        (b'{"Name": 7}', None),
        (b"{}", None),
        (b"[]", None),
        (b"{", None),
    ],
)
def test_container_has_the_name_in_dockers_file(tmp_path: Path, content: bytes, name: str | None) -> None:
    (tmp_path / ID).mkdir()
    (tmp_path / ID / "config.v2.json").write_bytes(content)
    assert container_name(ID, tmp_path) == name
    assert container_name("f" * 64, tmp_path) is None


@pytest.mark.parametrize(
    "content, data",
    [
        (b'{"data-root": "/srv/docker", "bip": "10.0.0.1/24"}', "/srv/docker"),
        (b'{"data-root": "relative"}', "/var/lib/docker"),
        (b'{"data-root": 7}', "/var/lib/docker"),
        (b'{"graph": "/old"}', "/var/lib/docker"),
        (b"[]", "/var/lib/docker"),
        (b"{", "/var/lib/docker"),
    ],
)
def test_docker_may_keep_its_data_elsewhere(tmp_path: Path, content: bytes, data: str) -> None:
    assert containers_directory(tmp_path / "missing") == Path("/var/lib/docker/containers")
    (tmp_path / "daemon.json").write_bytes(content)
    assert containers_directory(tmp_path / "daemon.json") == Path(data) / "containers"


def test_pod_has_the_name_of_its_log_directory(tmp_path: Path) -> None:
    for name in (f"kube-system_dns-1_{UID}", f"default_web_{UID[:-1]}6", "odd"):
        (tmp_path / name).mkdir()
    assert pod_name(UID, tmp_path) == "kube-system/dns-1"
    assert pod_name("f" * 36, tmp_path) is None
    assert pod_name(UID, tmp_path / "missing") is None
