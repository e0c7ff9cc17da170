"""Reading this tree without privileges: it may lie in a home that is closed to others, to a root without them too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from tests.support.net import ROOT

READING = ("dac_override", "dac_read_search")
"""Capabilities that open files and do nothing else."""


def needed_to_read(prefix: Sequence[str]) -> tuple[str, ...]:
    """READING where a command behind `prefix` cannot run the tool from this tree; else nothing."""
    probe = subprocess.run([*prefix, sys.executable, "-c", "import xtrace"], cwd=ROOT, capture_output=True)
    return READING if probe.returncode else ()
