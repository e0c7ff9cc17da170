"""Names of containers and pods, from the files of Docker and of the kubelet. Reading them needs root."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from xtrace.kernel.proc import own_name

DOCKER_SETTINGS, DOCKER_DATA = Path("/etc/docker/daemon.json"), "/var/lib/docker"
PODS = Path("/var/log/pods")
"""With a directory NAMESPACE_NAME_UID for each pod; none of the three has an underscore."""
MOST_BYTES = 1 << 20


def _field_of(path: Path, name: str) -> object:
    import json  # only hosts with Docker need it

    try:
        with path.open("rb") as file:
            return json.loads(file.read(MOST_BYTES)).get(name)
    except (OSError, ValueError, AttributeError):
        return None


def containers_directory(settings: Path = DOCKER_SETTINGS) -> Path:
    """Return where Docker keeps what it knows of containers: below its `data-root`, which its settings may have."""
    data = _field_of(settings, "data-root")
    return Path(data if isinstance(data, str) and data.startswith("/") else DOCKER_DATA) / "containers"


docker_containers = lru_cache(maxsize=1)(containers_directory)
"""The same, as it was when it was first asked for: a confined run may not read the settings any more."""


def container_name(container: str, directory: Path | None = None) -> str | None:
    """Return the name that Docker has for a container's id; None if it has none, or may not be asked."""
    name = _field_of((directory or docker_containers()) / container / "config.v2.json", "Name")
    return own_name(name.encode(errors="replace")).lstrip("/") or None if isinstance(name, str) else None


def pod_name(uid: str, directory: Path = PODS) -> str | None:
    """Return NAMESPACE/NAME of a pod's uid; None if the kubelet does not run here, or does not know it."""
    try:
        names = os.listdir(directory)  # noqa: PTH208 - plain names
    except OSError:
        return None
    parts = (name.split("_") for name in names)
    found = (f"{part[0]}/{part[1]}" for part in parts if len(part) == 3 and part[2] == uid)
    return next((own_name(os.fsencode(name)) for name in found), None)
