"""Access to this tree without privileges: it may be in a closed home, even to a root without capabilities."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from tests.support.net import ROOT

READING = ("dac_override", "dac_read_search")
"""Capabilities that only open files."""


def needed_to_read(prefix: Sequence[str]) -> tuple[str, ...]:
    """Return READING if a command run with `prefix` cannot run the tool from this tree, else nothing."""
    probe = subprocess.run([*prefix, sys.executable, "-c", "import xtrace"], cwd=ROOT, capture_output=True)
    return READING if probe.returncode else ()
