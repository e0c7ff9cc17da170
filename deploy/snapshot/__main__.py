"""`python -m deploy.snapshot`: write the snapshot, or say what may not go."""

from __future__ import annotations

import sys

from deploy.snapshot.compared import CHANGELOG, SNAPSHOT, broken, parsed, written
from deploy.snapshot.promises import promises, version


def main() -> int:
    """Write the file if no promise is broken. Returns the exit code."""
    now = promises()
    before = parsed(SNAPSHOT.read_text()) if SNAPSHOT.exists() else None
    faults = broken(before, now, version(), CHANGELOG.read_text()) if before else []
    for fault in faults:
        print(f"make: {fault}", file=sys.stderr)
    if not faults:
        SNAPSHOT.write_text(written(now, version()))
    return 1 if faults else 0


sys.exit(main())
