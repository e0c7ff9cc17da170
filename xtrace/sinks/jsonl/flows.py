"""Flows as JSON Lines, rendered in C (csrc/render.c) directly from the drained buffers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson

from xtrace.model.flow import FlowSnapshot, Interface, Origin
from xtrace.model.flow_owners import FlowOwner
from xtrace.sinks.flow_lines import FlowLines, Form
from xtrace.sinks.render import valid_unicode


def flow_records(
    snapshot: FlowSnapshot, interface: Interface, chosen: Sequence[int], common: dict[str, Any]
) -> FlowLines:
    """Return the chosen flows of one interface, each as a record that begins with the fields of `common`."""
    before = orjson.dumps({"type": "flow", **common})[:-1]
    form = Form({"before": before, "units": interface.units.encode()}, _process, owner_fields)
    return FlowLines(snapshot, interface, chosen, form)


MOST_OWNERS = 1 << 14


def owner_record(owner: FlowOwner) -> dict[str, Any]:
    """Return the fields of an owner, those that are known."""
    fields = {
        "owner": owner.how,
        "pid": owner.pid,
        "command": owner.command,
        "uid": owner.uid,
        "cgroup": None if owner.cgroup is None else valid_unicode(owner.cgroup),
        "container": owner.container,
        "container_name": owner.container_name,
        "pod": owner.pod,
        "pod_name": owner.pod_name,
        "unit": None if owner.unit is None else valid_unicode(owner.unit),
    }
    return {name: value for name, value in fields.items() if value is not None}


@lru_cache(MOST_OWNERS)
def owner_fields(owner: FlowOwner) -> bytes:
    """Return the same with a leading comma."""
    return b"," + orjson.dumps(owner_record(owner))[1:-1]


def _process(origin: Origin) -> bytes:
    """Return the fields of this host's process with a leading comma; empty if it is unknown."""
    if origin.pid is None:
        return b""
    command = valid_unicode(origin.command or "")
    return b"," + orjson.dumps({"pid": origin.pid, "command": command, "container": origin.container})[1:-1]
