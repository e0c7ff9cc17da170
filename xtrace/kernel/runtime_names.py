"""Names of containers and pods, from the files that runtimes and the kubelet leave. Reading them needs root.

Docker: config.v2.json below its data-root. containerd: config.json of a bundle below its state directory, with the
annotations of its CRI plugin (pkg/cri/annotations) or of nerdctl. CRI-O: the same file below containers/storage, with
`io.kubernetes.*`. Podman: the list of containers/storage (containers.go). kubelet: the links and directories of logs,
POD_NAMESPACE_CONTAINER-ID.log and NAMESPACE_POD_UID; no name of Kubernetes has an underscore.
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

CONTAINER_NAMES = ("io.kubernetes.cri.container-name", "io.kubernetes.container.name", "nerdctl/name")
NAMESPACES = ("io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace")
POD_NAMES = ("io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name")
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
    found = Names()
    for look in (_by_kubelet, _by_docker, _by_bundle, _by_list):
        more = look(container, root)
        found = Names(found.container or more.container, found.pod or more.pod)
        if found.container:
            break
    return found


def _by_kubelet(container: str, root: Path) -> Names:
    ending = f"-{container}.log"
    names = (name.removesuffix(ending).split("_") for name in _entries(root / LOGS) if name.endswith(ending))
    return next((Names(_safe(parts[2]), _pod(parts[1], parts[0])) for parts in names if len(parts) == 3), Names())


def _by_docker(container: str, root: Path) -> Names:
    name = _fields_of(docker_containers(root) / container / "config.v2.json").get("Name")
    return Names(_safe(name.lstrip("/")) if isinstance(name, str) else None)


def _by_bundle(container: str, root: Path) -> Names:
    """Read the annotations of the runtime's own configuration."""
    namespaces = (root / bundles / namespace for bundles in BUNDLES for namespace in _entries(root / bundles))
    for directory in (*(path / container for path in namespaces), root / STORAGE / container / "userdata"):
        notes = _fields_of(directory / "config.json").get("annotations")
        if isinstance(notes, dict):
            name, namespace, pod = (
                next((notes[key] for key in keys if key in notes), None)
                for keys in (CONTAINER_NAMES, NAMESPACES, POD_NAMES)
            )
            return Names(None if name == SANDBOX else _safe(name), _pod(namespace, pod))
    return Names()


def _by_list(container: str, root: Path) -> Names:
    """Look into the lists of containers/storage, of root's containers."""
    for name in LISTS:
        listed = _content(root / STORAGE / name, MOST_LIST_BYTES)
        for each in listed if isinstance(listed, list) else ():
            names = each.get("names") if isinstance(each, dict) and each.get("id") == container else None
            if isinstance(names, list) and names:
                return Names(_safe(names[0]))
    return Names()


def pod_name(uid: str, root: Path = ROOT) -> str | None:
    """Return NAMESPACE/NAME of a pod's uid; None if the kubelet does not run here, or does not know it."""
    parts = (name.split("_") for name in _entries(root / PODS))
    return next((_pod(*part[:2]) for part in parts if len(part) == 3 and part[2] == uid), None)
