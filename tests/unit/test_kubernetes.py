"""The manifests for Kubernetes: valid by its schemas, with the documented privileges, variables and port."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from xtrace.kernel.privileges import NCCL_NEEDS, XDP_NEEDS
from xtrace.options.table import OPTIONS, VARIABLES
from xtrace.sinks.listen import pages

MANIFESTS = Path(__file__).parents[2] / "deploy/kubernetes"
KUSTOMIZATION = "kustomization.yaml"
RESOURCES = sorted(path for path in MANIFESTS.rglob("*.yaml") if path.name != KUSTOMIZATION)
OLDEST, NEWEST = "1.30", "1.37"
OPERATORS = {"PodMonitor": "monitoring.coreos.com/v1", "VMPodScrape": "operator.victoriametrics.com/v1beta1"}
"""Kinds that Kubernetes itself does not know."""


def content(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def container() -> Any:
    (found,) = content(MANIFESTS / "base/daemonset.yaml")["spec"]["template"]["spec"]["containers"]
    return found


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("path", RESOURCES, ids=lambda path: path.stem)
def test_each_resource_is_valid(path: Path, version: str) -> None:
    resource = content(path)
    if resource["kind"] in OPERATORS:
        assert resource["apiVersion"] == OPERATORS[resource["kind"]]
    else:
        kubernetes_validate.validate(resource, version, strict=True)


def test_a_field_that_does_not_exist_is_not_valid() -> None:
    resource = content(MANIFESTS / "base/daemonset.yaml")
    resource["spec"]["template"]["spec"]["hostNet"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(resource, NEWEST, strict=True)


def test_every_resource_belongs_to_a_kustomization() -> None:
    named = {
        (path.parent / name).resolve() for path in MANIFESTS.rglob(KUSTOMIZATION) for name in content(path)["resources"]
    }
    assert named == {*RESOURCES, MANIFESTS / "base"}


def test_the_container_has_the_documented_capabilities_and_no_others() -> None:
    context = container()["securityContext"]
    assert context["capabilities"]["drop"] == ["ALL"]
    assert {f"CAP_{name}" for name in context["capabilities"]["add"]} == set(XDP_NEEDS)
    assert not context["allowPrivilegeEscalation"] and "privileged" not in context


def test_the_overlay_for_nccl_adds_what_the_mode_needs() -> None:
    (patch,) = content(MANIFESTS / "nccl" / KUSTOMIZATION)["patches"]
    changes = yaml.safe_load(patch["patch"])
    added = {change["path"].removeprefix("/spec/template/spec/"): change["value"] for change in changes}
    assert added["hostPID"] is True
    capability = added["containers/0/securityContext/capabilities/add/-"]
    assert {*XDP_NEEDS, f"CAP_{capability}"} == {*XDP_NEEDS, *NCCL_NEEDS}
    assert added["containers/0/env/-"] == {"name": "MONITOR_MODE", "value": "xdp,nccl"}


def test_variables_and_pages_exist() -> None:
    known = {variable for option in OPTIONS for variable in option.variables} | {row.name for row in VARIABLES}
    assert {variable["name"] for variable in container()["env"]} <= known
    for probe in ("livenessProbe", "readinessProbe"):
        asked = container()[probe]["httpGet"]
        assert f"\n{asked['path']} " in pages.INDEX
    (port,) = container()["ports"]
    (listening,) = (variable for variable in container()["env"] if variable["name"] == "XTRACE_LISTEN")
    assert listening["value"] == f"$(HOST_IP):{port['containerPort']}"
    names = [variable["name"] for variable in container()["env"]]
    assert names.index("HOST_IP") < names.index("XTRACE_LISTEN"), "a variable is expanded only by those before it"
