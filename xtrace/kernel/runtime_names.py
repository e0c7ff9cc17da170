"""Names of containers and pods, from the files that runtimes and the kubelet leave. Reading them needs root.

Docker: config.v2.json below its data-root. Podman and CRI-O: the lists of containers/storage (containers.go), in which
CRI-O's containers are called k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT; annotations beside them may be an image's or a
pod's. containerd: config.json of a bundle below its state directory, with the annotations of its CRI plugin
(pkg/cri/annotations) or of nerdctl. kubelet: the links and directories of logs, POD_NAMESPACE_CONTAINER-ID.log and
NAMESPACE_POD_UID; no name of Kubernetes has an underscore.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from xtrace.printable import own_name

ROOT = Path("/")
DOCKER_SETTINGS, DOCKER_DATA = "etc/docker/daemon.json", "/var/lib/docker"
PODS, LOGS = "var/log/pods", "var/log/containers"
BUNDLES = tuple(
    f"{state}/io.containerd.runtime.v2.task"
    for state in ("run/containerd", "run/k3s/containerd", "var/snap/microk8s/common/run/containerd")
)
"""With a directory for each of containerd's namespaces, and in it one for each container."""
STORAGE = "var/lib/containers/storage/overlay-containers"
LISTS = ("containers.json", "volatile-containers.json")

CRI = "io.kubernetes.cri."
NERDCTL_NAME = "nerdctl/name"
CRIO_PREFIX, CRIO_PARTS = "k8s", 6
SANDBOX = "POD"
"""What CRI-O calls the container that keeps a pod's namespaces; containerd's has no name."""

MOST_BYTES = 1 << 20
MOST_LIST_BYTES = 1 << 22
MOST_ENTRIES = 1 << 14
"""Of a directory; there is one for each container that has run lately."""
LONGEST_NAME = 253
"""In characters; Kubernetes allows no longer ones."""


class Names(NamedTuple):
    """What a container and its pod are called; None: not known."""

    container: str | None = None
    pod: str | None = None
    """NAMESPACE/NAME"""


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _content(path: Path, most: int = MOST_BYTES) -> object:
    """Return what a file of JSON has; None if it cannot be read, is no file, or is longer than that."""
    import json  # only hosts with containers need it

    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            found: object = json.loads(file.read(most))
    except (OSError, ValueError, RecursionError):
        return None
    return found


def _fields_of(path: Path) -> Mapping[str, object]:
    found = _content(path)
    return found if isinstance(found, dict) else {}


def _entries(directory: Path) -> Iterator[str]:
    try:
        with os.scandir(directory) as entries:
            yield from (entry.name for entry in islice(entries, MOST_ENTRIES))
    except OSError:
        return


def _safe(name: object) -> str | None:
    """Return a name as it may be printed; None if it is none."""
    return own_name(name[:LONGEST_NAME].encode(errors="replace")) or None if isinstance(name, str) else None


def _pod(namespace: object, name: object) -> str | None:
    parts = (_safe(namespace), _safe(name))
    return None if None in parts or any("/" in part for part in parts if part) else f"{parts[0]}/{parts[1]}"


def docker_directory(root: Path = ROOT) -> Path:
    """Return where Docker keeps what it knows of containers: below its `data-root`, which its settings may have."""
    data = _fields_of(root / DOCKER_SETTINGS).get("data-root")
    chosen = data if isinstance(data, str) and data.startswith("/") and "\0" not in data else DOCKER_DATA
    return root / chosen.lstrip("/") / "containers"


docker_containers = lru_cache(maxsize=1)(docker_directory)
"""The same, as it was when it was first asked for: a confined run may not read the settings any more."""


def directories() -> tuple[Path, ...]:
    """Return all directories below which names are read."""
    return (docker_containers(ROOT), *(ROOT / path for path in (PODS, LOGS, *BUNDLES, STORAGE)))


def names_of(container: str, root: Path = ROOT) -> Names:
    """Return the names that belong to a container's id, 64 hexadecimal digits, as far as files may be read and tell."""
    looks = (_by_kubelet, _by_docker, _by_list, _by_bundle)
    return next(filter(any, (look(container, root) for look in looks)), Names())


def _by_kubelet(container: str, root: Path) -> Names:
    ending = f"-{container}.log"
    names = (name.removesuffix(ending).split("_") for name in _entries(root / LOGS) if name.endswith(ending))
    return next((Names(_safe(parts[2]), _pod(parts[1], parts[0])) for parts in names if len(parts) == 3), Names())


def _by_docker(container: str, root: Path) -> Names:
    name = _fields_of(docker_containers(root) / container / "config.v2.json").get("Name")
    return Names(_safe(name.lstrip("/")) if isinstance(name, str) else None)


def _by_bundle(container: str, root: Path) -> Names:
    """Read containerd's annotations: those of its CRI plugin, which marks its own, or else nerdctl's."""
    for path in (root / bundles / namespace for bundles in BUNDLES for namespace in _entries(root / bundles)):
        notes = _fields_of(path / container / "config.json").get("annotations")
        if isinstance(notes, dict):
            if f"{CRI}container-type" not in notes:
                return Names(_safe(notes.get(NERDCTL_NAME)))
            pod = _pod(notes.get(f"{CRI}sandbox-namespace"), notes.get(f"{CRI}sandbox-name"))
            return Names(_safe(notes.get(f"{CRI}container-name")), pod)
    return Names()


def _by_list(container: str, root: Path) -> Names:
    """Look into the lists of containers/storage, of root's containers."""
    lists = (_list(root / STORAGE / name) for name in LISTS)
    return next((_listed(names[container]) for names in lists if container in names), Names())


def _list(path: Path) -> Mapping[str, str]:
    """Return the first name of each container in a list, by id, as it is now."""
    try:
        now = path.stat()
    except OSError:
        return {}
    return _list_as_of(path, now.st_mtime_ns, now.st_size, now.st_ino)


@lru_cache(maxsize=len(LISTS))
def _list_as_of(path: Path, *_version: int) -> Mapping[str, str]:
    """Read it once for each version: it has thousands of containers, and is asked for each of them."""
    listed = _content(path, MOST_LIST_BYTES)
    entries = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    named = ((each.get("id"), each.get("names")) for each in entries)
    return {
        number: names[0]
        for number, names in named
        if isinstance(number, str) and isinstance(names, list) and names and isinstance(names[0], str)
    }


def _listed(name: str) -> Names:
    parts = name.split("_")
    if parts[0] != CRIO_PREFIX or len(parts) != CRIO_PARTS:
        return Names(_safe(name))
    return Names(None if parts[1] == SANDBOX else _safe(parts[1]), _pod(parts[3], parts[2]))


def pod_name(uid: str, root: Path = ROOT) -> str | None:
    """Return NAMESPACE/NAME of a pod's uid; None if the kubelet does not run here, or does not know it."""
    parts = (name.split("_") for name in _entries(root / PODS))
    return next((_pod(*part[:2]) for part in parts if len(part) == 3 and part[2] == uid), None)
