"""The Helm chart, which says the same as the kustomize base and its overlays.

Rendered here by the few forms that its templates use, as Helm 4.2.3 rendered them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.unit.test_kubernetes import MANIFESTS, NEWEST, OLDEST, content

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm"
VALUES = content(CHART / "values.yaml")
BLOCK = re.compile(r"\s*\{\{- (?:(if) \.Values\.(\w+)|(range) (?:\$name, \$value := )?\.Values\.(\w+)|(end)) \}\}")
FORMS = {
    r"\{\{ toJson \.Values\.(\w+) \}\}": lambda found, scope: json.dumps(scope[found[1]]),
    r"\{\{ \.Values\.(\w+) \}\}": lambda found, scope: str(scope[found[1]]),
    r"\{\{ toJson (\.) \}\}": lambda found, scope: json.dumps(scope[found[1]]),
    re.escape('{{ toJson (ternary $value (toJson $value) (kindIs "string" $value)) }}'): (
        lambda _, scope: json.dumps(
            scope["$value"] if isinstance(scope["$value"], str) else json.dumps(scope["$value"])
        )
    ),
    r"\{\{ \$name \}\}": lambda found, scope: str(scope["$name"]),
    r"\{\{ \.Release\.Namespace \}\}": lambda found, scope: "monitoring",
}


def rendered(lines: Iterator[str], scope: dict[str, Any]) -> Iterator[str]:
    """Lines up to the end of this block; `scope`: values, and what a range is at."""
    for line in lines:
        block = BLOCK.fullmatch(line)
        if block is None:
            for form, written in FORMS.items():
                line = re.sub(form, lambda found, written=written: written(found, scope), line)  # type: ignore[misc]
            assert "{{" not in line, f"a form that this test does not know: {line}"
            yield line
        elif block[5]:
            return
        else:
            yield from repeated(block, list(inner(lines)), scope)


def inner(lines: Iterator[str]) -> Iterator[str]:
    """Lines of a block, which has no other block in it, and its end."""
    for line in lines:
        yield line
        if BLOCK.fullmatch(line):
            return


def repeated(block: re.Match[str], lines: list[str], scope: dict[str, Any]) -> Iterator[str]:
    given = scope[block[2] or block[4]]
    if block[1]:
        scopes = [scope] if given else []
    elif isinstance(given, dict):
        scopes = [{**scope, "$name": name, "$value": value} for name, value in sorted(given.items())]
    else:
        scopes = [{**scope, ".": value} for value in given]
    for one in scopes:
        yield from rendered(iter(lines), one)


def manifest(template: str, **changed: Any) -> Any:
    """What a template makes of the chart's values, some of them changed."""
    lines = (CHART / f"templates/{template}.yaml").read_text().splitlines()
    made = yaml.safe_load("\n".join(rendered(iter(lines), {**VALUES, **changed})))
    if made:
        assert made["metadata"].pop("namespace") == "monitoring"
    return made


def patched(resource: Any, patch: str) -> Any:
    """The resource with an overlay's additions."""
    for change in yaml.safe_load(patch):
        *path, last = change["path"].strip("/").split("/")
        place = resource
        for part in path:
            place = place[int(part)] if part.isdigit() else place[part]
        if last == "-":
            place.append(change["value"])
        else:
            place[last] = change["value"]
    return resource


def test_by_default_it_is_the_base() -> None:
    assert manifest("daemonset") == content(MANIFESTS / "base/daemonset.yaml")


def test_with_nccl_it_is_the_overlay() -> None:
    (patch,) = content(MANIFESTS / "nccl/kustomization.yaml")["patches"]
    assert manifest("daemonset", nccl=True) == patched(content(MANIFESTS / "base/daemonset.yaml"), patch["patch"])


@pytest.mark.parametrize("value", ["podMonitor", "vmPodScrape"])
def test_what_operators_scrape_by_is_optional_and_that_of_the_overlays(value: str) -> None:
    name = value.lower()
    assert manifest(name) is None
    assert manifest(name, **{value: True}) == content(MANIFESTS / name / f"{name}.yaml")


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("nccl", [False, True])
def test_every_value_is_used_and_what_it_makes_is_valid(version: str, nccl: bool) -> None:
    usual = manifest("daemonset", nccl=nccl)
    changes: dict[str, Any] = {
        "image": "registry/x:1", "interfaces": "eth*", "port": 9470, "options": ["--tcp", "-t", "1s"],
        "variables": {"XTRACE_LABELS": "a=1", "INTERVAL_MS": 1000000}, "resources": {}, "nodeSelector": {"a": "b"},
        "tolerations": [], "maxUnavailable": 1,
    }  # fmt: skip
    assert {*VALUES} == {*changes, "nccl", "podMonitor", "vmPodScrape"}
    for name, value in changes.items():
        made = manifest("daemonset", nccl=nccl, **{name: value})
        assert made != usual, name
        kubernetes_validate.validate(made, version, strict=True)
    (container,) = manifest("daemonset", **changes)["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["-o", "none", "--tcp", "-t", "1s"]
    assert container["env"][-2:] == [
        {"name": "INTERVAL_MS", "value": "1000000"}, {"name": "XTRACE_LABELS", "value": "a=1"},
    ]  # fmt: skip


def test_its_version_is_the_projects() -> None:
    chart = content(CHART / "Chart.yaml")
    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert chart["version"] == chart["appVersion"] == re.sub(r"rc(\d+)$", r"-rc.\1", version)
    assert chart["kubeVersion"] == f">={OLDEST}.0-0"
