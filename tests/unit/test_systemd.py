"""The service's unit file, as systemd's own tools judge it, and its settings."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from xtrace.options.table import OPTIONS, VARIABLES

SERVICE = Path(__file__).parents[2] / "deploy/systemd/xtrace-catch.service"
SETTINGS = SERVICE.with_suffix(".default")


def test_the_exposure_is_at_most_2() -> None:
    """The threshold is in tenths; the command fails above it."""
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(SERVICE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / SERVICE.name
    text = SERVICE.read_text()
    assert text.count("/usr/bin/xtrace-catch") == 1
    unit.write_text(text.replace("/usr/bin/xtrace-catch", "/usr/bin/env"))  # verify wants it to exist
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_starts_after_what_names_containers_and_wants_none_of_it() -> None:
    lines = SERVICE.read_text().splitlines()
    after = {unit for line in lines if line.startswith("After=") for unit in line.removeprefix("After=").split()}
    runtimes = {f"{name}.service" for name in ("docker", "containerd", "crio", "kubelet", "podman")}
    assert after == {"network-online.target", *runtimes}
    assert [line for line in lines if line.startswith(("Wants=", "Requires="))] == ["Wants=network-online.target"]


def test_the_settings_name_variables_that_exist() -> None:
    known = {variable for option in OPTIONS for variable in option.variables} | {row.name for row in VARIABLES}
    named = re.findall(r"^#?([A-Z_]+)=", SETTINGS.read_text(), re.MULTILINE)
    assert len(named) > 5
    assert set(named) - known == {"OPTIONS"}, "OPTIONS is the unit's own"
    assert "$OPTIONS" in SERVICE.read_text()
