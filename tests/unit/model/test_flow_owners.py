"""Owners of flows: the one word by which a person knows them."""

from __future__ import annotations

from typing import Any

import pytest

from xtrace.model.flow_owners import FlowOwner, How

ALL = FlowOwner(
    How.CREATED,
    pid=7,
    uid=1000,
    command="curl",
    cgroup="/user.slice",
    container="0123456789abcdef" * 4,
    container_name="web",
    pod="8e3f",
    pod_name="shop/web-0",
    unit="nginx.service",
)


@pytest.mark.parametrize(
    "unknown, name",
    [
        ((), "web"),
        (("container_name",), "shop/web-0"),
        (("container_name", "pod_name"), "0123456789ab"),
        (("container_name", "pod_name", "container"), "nginx.service"),
        (("container_name", "pod_name", "container", "unit"), "curl"),
        (("container_name", "pod_name", "container", "unit", "command"), "/user.slice"),
        (("container_name", "pod_name", "container", "unit", "command", "cgroup"), "created"),
    ],
)
def test_name_of_an_owner_is_the_most_telling_that_is_known(unknown: tuple[str, ...], name: str) -> None:
    """A container without a name has twelve digits of its id, as container engines show it."""
    fields: dict[str, Any] = dict.fromkeys(unknown)
    assert ALL._replace(**fields).name == name
