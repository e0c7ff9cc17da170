"""What a run may still do, once it counts."""

from __future__ import annotations

from typing import NamedTuple


class Confinement(NamedTuple):
    """Whether files are out of reach."""

    why_no_landlock: str | None = None
    """None: Landlock is enforced"""


CONFINED = Confinement()
