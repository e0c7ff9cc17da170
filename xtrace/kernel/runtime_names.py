"""Names of containers and pods, from the files of Docker and of the kubelet. Reading them needs root."""

from __future__ import annotations

import os
from pathlib import Path

from xtrace.kernel.proc import own_name

CONTAINERS = Path("/var/lib/docker/containers")
PODS = Path("/var/log/pods")
"""With a directory NAMESPACE_NAME_UID for each pod; none of the three has an underscore."""
MOST_BYTES = 1 << 20


def container_name(container: str, directory: Path = CONTAINERS) -> str | None:
    """Return the name that Docker has for a container's id; None if it has none, or may not be asked."""
    import json  # only hosts with Docker need it

    try:
        with (directory / container / "config.v2.json").open("rb") as file:
            name = json.loads(file.read(MOST_BYTES)).get("Name")
    except (OSError, ValueError, AttributeError):
        return None
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
