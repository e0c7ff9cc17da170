"""The line in which the filter is typed."""

from __future__ import annotations

from xtrace.errors import UsageError
from xtrace.sinks.live import keys
from xtrace.sinks.live.matching import Matcher
from xtrace.sinks.live.words import matcher

LABEL = "filter: "


class Prompt:
    """A text that is edited at its end. It begins with the filter that holds."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._complaint = ""
        """what is wrong with it"""

    @property
    def line(self) -> str:
        """What to show."""
        return f"{LABEL}{self._text}{f'  ({self._complaint})' if self._complaint else ''}"

    @property
    def column(self) -> int:
        """Where the next character goes."""
        return len(LABEL) + len(self._text)

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
