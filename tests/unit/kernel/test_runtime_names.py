"""Names of containers and pods, as runtimes and the kubelet write them: trees of files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from xtrace.kernel import runtime_names
from xtrace.kernel.runtime_names import Names, docker_directory, names_of, pod_name

ID = "0123456789abcdef" * 4
OTHER = "f" * 64
UID = "0a1b2c3d-0000-1111-2222-333344445555"
CONTAINERD = "run/containerd/io.containerd.runtime.v2.task"
DNS_POD = "kube-system/coredns-7f-x"
K3S = "run/k3s/containerd/io.containerd.runtime.v2.task"
CRI = {
    "io.kubernetes.cri.container-type": "container",
    "io.kubernetes.cri.container-name": "coredns",
    "io.kubernetes.cri.sandbox-namespace": "kube-system",
    "io.kubernetes.cri.sandbox-name": "coredns-7f-x",
}
STORAGE = "var/lib/containers/storage/overlay-containers"


def write(root: Path, name: str, content: bytes | object) -> None:
    """Write a file below a root, as JSON unless it is bytes."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


@pytest.mark.parametrize(
    "content, name",
    [
        (b'{"ID": "x", "Name": "/web-1", "Config": {}}', "web-1"),
        (b'{"Name": "/a\\u001b[2J"}', "a?[2J"),
        (b'{"Name": "/\\ud800"}', "?"),
        (b'{"Name": "/' + 1000 * b"n" + b'"}', 253 * "n"),
        (b'{"Name": "/"}', None),
        (b'{"Name": 7}', None),
        (b"{}", None),
        (b"[]", None),
        (b"{", None),
        (b"\xff", None),
        (100_000 * b"[", None),
        (b'{"Name": "/late", "x": "' + (1 << 20) * b"x" + b'"}', None),
    ],
    ids=lambda value: str(value)[:24],
)
def test_container_has_the_name_in_dockers_file(tmp_path: Path, content: bytes, name: str | None) -> None:
    write(tmp_path, f"var/lib/docker/containers/{ID}/config.v2.json", content)
    assert names_of(ID, tmp_path) == Names(name)
    assert names_of(OTHER, tmp_path) == Names()


@pytest.mark.parametrize(
    "content, data",
    [
        (b'{"data-root": "/srv/docker", "bip": "10.0.0.1/24"}', "srv/docker"),
        (b'{"data-root": "relative"}', "var/lib/docker"),
        (b'{"data-root": "/a\\u0000b"}', "var/lib/docker"),
        (b'{"data-root": 7}', "var/lib/docker"),
        (b'{"graph": "/old"}', "var/lib/docker"),
        (b"[]", "var/lib/docker"),
        (b"{", "var/lib/docker"),
    ],
)
def test_docker_may_keep_its_data_elsewhere(tmp_path: Path, content: bytes, data: str) -> None:
    assert docker_directory(tmp_path) == tmp_path / "var/lib/docker/containers"
    write(tmp_path, "etc/docker/daemon.json", content)
    assert docker_directory(tmp_path) == tmp_path / data / "containers"
    write(tmp_path, f"{data}/containers/{ID}/config.v2.json", {"Name": "/web-1"})
    assert names_of(ID, tmp_path) == Names("web-1")


@pytest.mark.parametrize(
    "bundle, notes, names",
    [
        (f"{CONTAINERD}/k8s.io/{ID}", CRI, Names("coredns", DNS_POD)),
        (f"{K3S}/k8s.io/{ID}", CRI, Names("coredns", DNS_POD)),
        (f"{CONTAINERD}/default/{ID}", {"nerdctl/name": "db", "nerdctl/namespace": "default"}, Names("db")),
        (
            f"{CONTAINERD}/k8s.io/{ID}",
            {**{key: CRI[key] for key in CRI if "sandbox" in key}, "io.kubernetes.cri.container-type": "sandbox"},
            Names(None, DNS_POD),
        ),
        # a pod's own annotations, where containerd lets them through, and an image's
        (f"{CONTAINERD}/k8s.io/{ID}", {**CRI, "nerdctl/name": "db"}, Names("coredns", DNS_POD)),
        (
            f"{CONTAINERD}/k8s.io/{ID}",
            {"io.kubernetes.cri.container-type": "sandbox", "nerdctl/name": "db", "io.kubernetes.container.name": "db"},
            Names(),
        ),
        (f"{CONTAINERD}/default/{ID}", {"nerdctl/name": "web", "io.kubernetes.pod.name": "db"}, Names("web")),
        (f"{STORAGE}/{ID}/userdata", {**CRI, "io.kubernetes.container.name": "db", "nerdctl/name": "db"}, Names()),
        (f"{CONTAINERD}/k8s.io/{ID}", {**CRI, "io.kubernetes.cri.sandbox-name": "a/b"}, Names("coredns")),
        (f"{CONTAINERD}/k8s.io/{ID}", {**CRI, "io.kubernetes.cri.sandbox-name": 7}, Names("coredns")),
        (f"{CONTAINERD}/k8s.io/{ID}", {**CRI, "io.kubernetes.cri.container-name": ["x"]}, Names(None, DNS_POD)),
        (
            f"{CONTAINERD}/k8s.io/{ID}",
            {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.container-name": "a\x1b]0;b\x07"},
            Names("a?]0;b?"),
        ),
        (f"{CONTAINERD}/k8s.io/{ID}", 7, Names()),
        (f"{CONTAINERD}/k8s.io/{OTHER}", CRI, Names()),
    ],
)
def test_container_has_the_names_in_the_notes_of_its_runtime(
    tmp_path: Path, bundle: str, notes: object, names: Names
) -> None:
    write(tmp_path, f"{bundle}/config.json", {"ociVersion": "1.1.0", "annotations": notes})
    assert names_of(ID, tmp_path) == names


@pytest.mark.parametrize("name", ["containers.json", "volatile-containers.json"])
def test_container_of_podman_has_its_name_in_the_list(tmp_path: Path, name: str) -> None:
    # an image's annotations, which Podman has copied
    write(tmp_path, f"{STORAGE}/{ID}/userdata/config.json", {"annotations": CRI})
    write(tmp_path, f"{STORAGE}/{name}", [{"id": OTHER, "names": ["db"]}, 7, {"id": ID, "names": ["web", "alias"]}])
    assert names_of(ID, tmp_path) == Names("web")
    assert names_of("e" * 64, tmp_path) == Names()
    odd = ({"id": ID}, [{"id": ID, "names": []}], [{"id": ID, "names": [7]}], [{"id": ID, "names": "web"}])
    for content in (*odd, [{"id": [ID], "names": ["web"]}]):
        write(tmp_path, f"{STORAGE}/{name}", content)
        assert names_of(ID, tmp_path) == Names()


@pytest.mark.parametrize(
    "name, names",
    [
        ("k8s_web_web-0_shop_0a1b_0", Names("web", "shop/web-0")),
        ("k8s_POD_web-0_shop_0a1b_0", Names(None, "shop/web-0")),
        ("k8s_db", Names("k8s_db")),
        ("a_web_web-0_shop_0a1b_0", Names("a_web_web-0_shop_0a1b_0")),
    ],
)
def test_container_of_crio_has_the_names_that_crio_gave_it(tmp_path: Path, name: str, names: Names) -> None:
    notes = {**CRI, "io.kubernetes.container.name": "web", "io.kubernetes.pod.namespace": "shop"}
    write(tmp_path, f"{STORAGE}/{ID}/userdata/config.json", {"annotations": notes})
    write(tmp_path, f"{STORAGE}/containers.json", [{"id": ID, "names": [name, "alias"]}])
    assert names_of(ID, tmp_path) == names


def test_a_list_is_read_once_for_each_of_its_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    content = runtime_names._content

    def reading(path: Path, most: int = 0) -> object:
        read.append(path)
        return content(path, most)

    path = tmp_path / STORAGE / "containers.json"
    write(tmp_path, f"{STORAGE}/containers.json", [{"id": ID, "names": ["web"]}, {"id": OTHER, "names": ["db"]}])
    monkeypatch.setattr(runtime_names, "_content", reading)
    assert [names_of(each, tmp_path) for each in (ID, OTHER, "e" * 64)] == [Names("web"), Names("db"), Names()]
    assert read.count(path) == 1
    # as containers/storage writes it: another file takes its place
    write(tmp_path, "new.json", [{"id": ID, "names": ["sql"]}, {"id": OTHER, "names": ["db"]}])
    (tmp_path / "new.json").replace(path)
    assert [names_of(each, tmp_path) for each in (ID, OTHER)] == [Names("sql"), Names("db")]
    assert read.count(path) == 2
    # written anew within what the clock of the file system tells apart
    now = path.stat()
    path.write_text(json.dumps([{"id": ID, "names": ["longer"]}, {"id": OTHER, "names": ["db"]}]))
    os.utime(path, ns=(now.st_atime_ns, now.st_mtime_ns))
    assert [names_of(each, tmp_path) for each in (ID, OTHER)] == [Names("longer"), Names("db")]


def test_kubelets_link_names_container_and_pod_whatever_the_runtime(tmp_path: Path) -> None:
    logs = tmp_path / "var/log/containers"
    logs.mkdir(parents=True)
    for name in (f"web-0_shop_nginx-1-{ID}.log", f"db-0_shop_pg-{OTHER}.log", f"odd-{'e' * 64}.log", "x_y_z.log"):
        (logs / name).symlink_to("/missing")
    write(tmp_path, f"var/lib/docker/containers/{ID}/config.v2.json", {"Name": "/k8s_nginx-1_web-0_shop_x_0"})
    assert names_of(ID, tmp_path) == Names("nginx-1", "shop/web-0")
    assert names_of("e" * 64, tmp_path) == Names()


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    directory = tmp_path / "var/lib/docker/containers" / ID
    directory.mkdir(parents=True)
    os.mkfifo(directory / "config.v2.json")
    (tmp_path / CONTAINERD / "k8s.io" / ID / "config.json").mkdir(parents=True)
    assert names_of(ID, tmp_path) == Names()


def test_so_many_entries_of_a_directory_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_names, "MOST_ENTRIES", 3)
    for number in range(5):
        (tmp_path / f"var/log/pods/default_web-{number}_{number}").mkdir(parents=True)
    assert len([uid for uid in map(str, range(5)) if pod_name(uid, tmp_path)]) == 3


def test_pod_has_the_name_of_its_log_directory(tmp_path: Path) -> None:
    for name in (f"kube-system_dns-1_{UID}", f"default_web_{UID[:-1]}6", "odd"):
        (tmp_path / "var/log/pods" / name).mkdir(parents=True)
    assert pod_name(UID, tmp_path) == "kube-system/dns-1"
    assert pod_name("f" * 36, tmp_path) is None
    assert pod_name(UID, tmp_path / "missing") is None


def test_confined_run_may_read_all_of_these() -> None:
    listed = {str(path) for path in runtime_names.directories()}
    assert {"/var/log/pods", "/var/log/containers", f"/{CONTAINERD}"} <= listed
