"""The workflows: what they take from others is pinned, and what they run is there. `.ci/rehearse` runs their steps."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.image.archive import labels
from tests.support.workflows import ROOT, WORKFLOWS, jobs, script, steps

EACH = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
OF_CONTAINERS = {"--privileged", "--pid", "--cgroupns"}
"""Options of `docker create`, which takes those of jobs: an unknown one ends the job."""
PUBLISHES = {"contents", "packages", "id-token", "attestations"}


@EACH
def test_actions_are_pinned_to_a_commit_whose_tag_is_named(workflow: Path) -> None:
    used = re.findall(r"\buses: (.*)", workflow.read_text())
    assert used
    local = [line for line in used if line.startswith("./")]
    assert [name for name in local if not (ROOT / name).is_file()] == []
    pinned = r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+"
    assert [line for line in used if line not in local and not re.fullmatch(pinned, line)] == []


def test_an_action_is_the_same_wherever_it_is_used() -> None:
    used = {line for workflow in WORKFLOWS for line in re.findall(r"\buses: (\w.*)", workflow.read_text())}
    names = [line.partition("@")[0] for line in used]
    assert sorted(names) == sorted(set(names))


@EACH
def test_scripts_are_there_and_take_no_expressions(workflow: Path) -> None:
    """GitHub would put text of whoever named a branch into the script; variables it leaves to the shell."""
    commands = [step["run"] for step in steps(workflow) if "run" in step]
    assert [command for command in commands if "${{" in command] == []
    named = {name for command in commands for name in re.findall(r"(?<![\w/])\.ci/[\w-]+", command)}
    assert [name for name in named if not os.access(ROOT / name, os.X_OK)] == []


@EACH
def test_jobs_have_a_limit_and_only_the_rights_they_name(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text())["permissions"] == {}
    for name, job in jobs(workflow).items():
        assert "uses" in job or job["timeout-minutes"] <= 120, name
        rights = {right for right, level in job["permissions"].items() if level == "write"}
        assert rights == (PUBLISHES if name == "publish" else set()), name


@EACH
def test_engines_know_the_options_of_containers(workflow: Path) -> None:
    for job in jobs(workflow).values():
        container: Any = job.get("container", "")
        options = "" if isinstance(container, str) else container.get("options", "")
        assert set(re.findall(r"--[\w-]+", options)) <= OF_CONTAINERS


def test_what_publishes_builds_nothing_and_only_for_a_tag() -> None:
    publish = jobs(ROOT / ".github/workflows/release.yml")["publish"]
    assert publish["if"] == "github.event_name == 'push'"
    assert set(publish["needs"]) == {"tests", "build", "image"}
    assert not re.search(r"\b(make|pip|apt-get)\b", " ".join(step.get("run", "") for step in publish["steps"]))


def test_a_job_becomes_a_script_that_asks_for_expressions() -> None:
    said = script(ROOT / ".github/workflows/release.yml", "publish")
    assert 'subject-digest="$(expression steps.push.outputs.digest)"\n' in said
    assert 'GH_TOKEN="$(expression github.token)"\n' in said
    assert said.count("\nstep ") + 1 == len(jobs(ROOT / ".github/workflows/release.yml")["publish"]["steps"])


def test_an_image_has_the_address_of_its_source_if_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """By which GitHub's registry shows it beside the repository."""
    name = "org.opencontainers.image.source"
    monkeypatch.delenv("SOURCE", raising=False)
    assert name not in labels("1.2.3", "abc", "2023-11-14T22:13:20Z")
    monkeypatch.setenv("SOURCE", "https://example.org/xtrace-catch")
    assert labels("1.2.3", "abc", "2023-11-14T22:13:20Z")[name] == "https://example.org/xtrace-catch"
    assert "\nARG SOURCE\n" in (ROOT / "Dockerfile").read_text().partition("AS archive")[2], "is set where it is made"
