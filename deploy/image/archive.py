"""Packs directories as container images that are the same, byte for byte, whoever makes them and when.

Engines stamp the images they build with times, names of containers and their own version, so that no two builds are
equal. This archive is an OCI image layout (opencontainers/image-spec) with one uncompressed layer for each
architecture, and also has the manifest that `docker load` of every version reads. Names are sorted, owners are root,
times SOURCE_DATE_EPOCH.

    python -m deploy.image.archive NAME OWN VERSION REVISION DIRECTORY... >ARCHIVE

Each directory is the root of one architecture, by which it is called. NAME is that of all together; an engine that
knows but one architecture by a name has the images of others than OWN as NAME-ARCHITECTURE.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

TYPE = "application/vnd.oci.image"
LABEL = "org.opencontainers.image"
ENTRY_POINT = "/xtrace-catch"
BLOBS = "blobs/sha256"


class Archive:
    """A tar archive without anything of the machine that makes it."""

    def __init__(self, target: BinaryIO, epoch: int) -> None:
        self._tar = tarfile.TarFile(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT)
        self._epoch = epoch

    def add(self, name: str, content: bytes | None, *, executable: bool = False) -> None:
        """Append a file that everybody may read, or without content a directory."""
        member = tarfile.TarInfo(name)
        member.mtime = self._epoch
        member.mode = 0o755 if executable or content is None else 0o644
        member.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
        member.size = len(content or b"")
        self._tar.addfile(member, io.BytesIO(content or b""))

    def close(self) -> None:
        """Write the end."""
        self._tar.close()


def layer_of(directory: Path, epoch: int) -> bytes:
    """Return the directory's contents as a tar archive: files and directories, nothing else."""
    packed = io.BytesIO()
    archive = Archive(packed, epoch)
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        content = None if path.is_dir() else path.read_bytes()
        archive.add(name, content, executable=bool(path.stat().st_mode & 0o111))
    archive.close()
    return packed.getvalue()


def labels(version: str, revision: str, created: str) -> dict[str, str]:
    """Return the image's labels (image-spec, annotations); one whose value is not known is absent. The environment's
    SOURCE is the repository's address, by which registries find it.
    """
    values = {
        "title": "xtrace-catch",
        "description": "Network monitor that counts every packet of every flow exactly once",
        "licenses": "GPL-3.0-only",
        "version": version,
        "revision": revision,
        "created": created,
        "source": os.environ.get("SOURCE", ""),
    }
    return {f"{LABEL}.{name}": value for name, value in values.items() if value}


def dumped(value: Any) -> bytes:
    """Return JSON, one way."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def descriptor(kind: str, blob: bytes) -> dict[str, Any]:
    """Return what refers to a blob."""
    return {"mediaType": f"{TYPE}.{kind}", "digest": f"sha256:{digest(blob)}", "size": len(blob)}


def digest(blob: bytes) -> str:
    """Return the blob's name."""
    return hashlib.sha256(blob).hexdigest()


def config_of(layer: bytes, architecture: str, version: str, revision: str, epoch: int) -> bytes:
    """Return what engines run: its hash is the image's id."""
    created = datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return dumped(
        {
            "architecture": architecture,
            "os": "linux",
            "created": created,
            "config": {"Entrypoint": [ENTRY_POINT], "Labels": labels(version, revision, created)},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest(layer)}"]},
            "history": [{"created": created, "created_by": "deploy/image/archive.py"}],
        }
    )


@dataclass(frozen=True)
class Image:
    """What is in the archive of one architecture."""

    name: str
    """in an engine"""
    architecture: str
    layer: bytes
    config: bytes

    @property
    def manifest(self) -> bytes:
        """The blob that refers to the others."""
        parts = {
            "config": descriptor("config.v1+json", self.config),
            "layers": [descriptor("layer.v1.tar", self.layer)],
        }
        return dumped({"schemaVersion": 2, "mediaType": f"{TYPE}.manifest.v1+json", **parts})

    @property
    def listed(self) -> dict[str, Any]:
        """What refers to it in an index."""
        platform = {"architecture": self.architecture, "os": "linux"}
        return {**descriptor("manifest.v1+json", self.manifest), "platform": platform}

    @property
    def loaded(self) -> dict[str, Any]:
        """What refers to it for `docker load`."""
        files = {"Config": f"{BLOBS}/{digest(self.config)}", "Layers": [f"{BLOBS}/{digest(self.layer)}"]}
        return {**files, "RepoTags": [self.name]}


def image_of(root: Path, name: str, own: str, version: str, revision: str, epoch: int) -> Image:
    """Return the image of a root, a directory that is called as the architecture."""
    architecture, layer = root.name, layer_of(root, epoch)
    config = config_of(layer, architecture, version, revision, epoch)
    return Image(name if architecture == own else f"{name}-{architecture}", architecture, layer, config)


def index_of(images: Sequence[Image]) -> bytes:
    """Return the blob by which one name is that of several images."""
    listed = [image.listed for image in images]
    return dumped({"schemaVersion": 2, "mediaType": f"{TYPE}.index.v1+json", "manifests": listed})


def layout_of(name: str, named: dict[str, Any]) -> bytes:
    """Return the layout's index, which names what is in it for containerd, too."""
    names = {"io.containerd.image.name": f"docker.io/library/{name}", f"{LABEL}.ref.name": name.partition(":")[2]}
    return dumped({"schemaVersion": 2, "manifests": [{**named, "annotations": names}]})


def write(target: BinaryIO, name: str, images: Sequence[Image], epoch: int) -> None:
    """Write the archive: of one image, which has its own name, or of several that together are called `name`."""
    blobs = [blob for image in images for blob in (image.config, image.layer, image.manifest)]
    if len(images) == 1:
        layout = layout_of(images[0].name, images[0].listed)
    else:
        index = index_of(images)
        blobs.append(index)
        layout = layout_of(name, descriptor("index.v1+json", index))
    archive = Archive(target, epoch)
    archive.add("blobs", None)
    archive.add(BLOBS, None)
    for blob in blobs:
        archive.add(f"{BLOBS}/{digest(blob)}", blob)
    archive.add("index.json", layout)
    archive.add("manifest.json", dumped([image.loaded for image in images]))
    archive.add("oci-layout", dumped({"imageLayoutVersion": "1.0.0"}))
    archive.close()


def main(name: str, own: str, version: str, revision: str, *roots: str) -> None:
    """Write the archive to stdout; SOURCE_DATE_EPOCH is when it was created."""
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])
    images = [image_of(Path(root), name, own, version, revision, epoch) for root in sorted(roots)]
    write(sys.stdout.buffer, name, images, epoch)


if __name__ == "__main__":
    main(*sys.argv[1:])
