"""The line in which the filter is typed."""

from __future__ import annotations

from xtrace.errors import UsageError
from xtrace.sinks.live import keys
from xtrace.sinks.live.matching import Matcher
from xtrace.sinks.live.words import matcher
from xtrace.sinks.text.fit import GAP

LABEL = "filter: "
LEAST_SHOWN = 8
"""Columns of the text beside a long complaint."""


class Prompt:
    """A text that is edited at its end. It begins with the filter that holds."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._complaint = ""
        """what is wrong with it"""

    def line(self, columns: int) -> tuple[str, int]:
        """Return what to show in so many columns, and the column of the next character.

        Of a long text that is its end, which is edited; what is wrong with it stays.
        """
        complaint = f"  ({self._complaint})" if self._complaint else ""
        room = max(LEAST_SHOWN, columns - len(LABEL) - len(complaint) - 1)
        text = self._text if len(self._text) <= room else GAP + self._text[len(GAP) - room :]
        return f"{LABEL}{text}{complaint}", len(LABEL) + len(text)

    def type(self, key: str) -> None:
        """Change the text as a key says."""
        if key == keys.BACKSPACE:
            self._text = self._text[:-1]
        elif key == keys.CLEAR:
            self._text = ""
        elif len(key) == 1:
            self._text += key

    def finish(self) -> Matcher | None:
        """Return what the text selects; None if it makes no sense, which the line says then."""
        try:
            return matcher(self._text)
        except UsageError as error:
            self._complaint = str(error)
            return None
