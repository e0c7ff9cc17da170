"""The archive of the container image: what is in it, and that it is the same whoever makes it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from deploy.image.archive import config_of, layer_of, write

EPOCH = 1_700_000_000
CREATED = "2023-11-14T22:13:20Z"
FILES = {
    "xtrace-catch": (b"\x7fELF", 0o755),
    "etc/ssl/certs/ca-certificates.crt": (b"-----", 0o644),
    "licenses/xtrace-catch/LICENSE": (b"GPL", 0o640),
    "sbom/xtrace-catch.cdx.json": (b"{}", 0o600),
}


def filled(place: Path, names: list[str], mtime: int) -> Path:
    """A directory with the files, made in this order and with these times."""
    for name in names:
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content, mode = FILES[name]
        path.write_bytes(content)
        path.chmod(mode)
        os.utime(path, (mtime, mtime))
    return place


def archive(place: Path, revision: str = "abc") -> bytes:
    target = io.BytesIO()
    layer = layer_of(place, EPOCH)
    write(target, "xtrace-catch:latest", layer, config_of(layer, "arm64", "1.2.3", revision, EPOCH), EPOCH)
    return target.getvalue()


def contents(packed: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        files = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        return {name: file.read() for name, file in files.items() if file}


@pytest.fixture
def image(tmp_path: Path) -> dict[str, bytes]:
    return contents(archive(filled(tmp_path / "one", list(FILES), EPOCH)))


def blob(image: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    """What a descriptor refers to, which must be as it says."""
    content = image[f"blobs/{descriptor['digest'].replace(':', '/')}"]
    assert descriptor["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert descriptor["size"] == len(content)
    return content


def test_who_makes_it_and_when_changes_nothing(tmp_path: Path) -> None:
    one = filled(tmp_path / "one", list(FILES), EPOCH)
    other = filled(tmp_path / "other", list(reversed(FILES)), EPOCH + 86_400)
    (other / "licenses").chmod(0o700)
    assert archive(one) == archive(other)
    assert archive(one) != archive(one, revision="abd")


def test_layer_has_the_files_of_root_that_everybody_may_read(tmp_path: Path) -> None:
    layer = layer_of(filled(tmp_path, list(FILES), 7), EPOCH)
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == sorted((member.name for member in members), key=Path)
    modes = {member.name: member.mode for member in members if member.isfile()}
    assert modes == {name: 0o755 if name == "xtrace-catch" else 0o644 for name in FILES}
    assert {member.mode for member in members if member.isdir()} == {0o755}
    assert {(member.uid, member.gid, member.uname, member.mtime) for member in members} == {(0, 0, "", EPOCH)}


def test_layout_and_docker_manifest_name_the_same_image(image: dict[str, bytes]) -> None:
    assert json.loads(image["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(image["index.json"])["manifests"]
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "latest"
    assert entry["annotations"]["io.containerd.image.name"] == "docker.io/library/xtrace-catch:latest"
    manifest = json.loads(blob(image, entry))
    (layer,) = manifest["layers"]
    config = json.loads(blob(image, manifest["config"]))
    assert config["rootfs"] == {"type": "layers", "diff_ids": [layer["digest"]]}
    assert contents(blob(image, layer)) == {name: content for name, (content, _) in FILES.items()}
    (loaded,) = json.loads(image["manifest.json"])
    assert image[loaded["Config"]] == blob(image, manifest["config"])
    assert [image[name] for name in loaded["Layers"]] == [blob(image, layer)]
    assert loaded["RepoTags"] == ["xtrace-catch:latest"]


def test_config_has_labels_and_entry_point(image: dict[str, bytes]) -> None:
    (loaded,) = json.loads(image["manifest.json"])
    config = json.loads(image[loaded["Config"]])
    assert (config["architecture"], config["os"], config["created"]) == ("arm64", "linux", CREATED)
    assert config["config"]["Entrypoint"] == ["/xtrace-catch"]
    labels = config["config"]["Labels"]
    assert labels.pop("org.opencontainers.image.description")
    assert labels == {
        "org.opencontainers.image.title": "xtrace-catch",
        "org.opencontainers.image.licenses": "GPL-3.0-only",
        "org.opencontainers.image.version": "1.2.3",
        "org.opencontainers.image.revision": "abc",
        "org.opencontainers.image.created": CREATED,
    }


def test_a_tree_without_a_revision_has_no_such_label(tmp_path: Path) -> None:
    packed = contents(archive(filled(tmp_path, list(FILES), EPOCH), revision=""))
    (loaded,) = json.loads(packed["manifest.json"])
    assert "org.opencontainers.image.revision" not in json.loads(packed[loaded["Config"]])["config"]["Labels"]
