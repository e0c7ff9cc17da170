"""Secrets: read from files, and masked in texts of servers, which may repeat what they were sent."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from html import escape
from pathlib import Path
from re import split
from urllib.parse import parse_qsl, quote, quote_plus

from xtrace.errors import UsageError
from xtrace.target import PREFIX, Target

MASK = "***"
SHORTEST_PART = 4
"""Characters of a part of a secret, or of a value in a query, that is masked by itself."""
MOST_FORMS = 512
"""Kept forms; beyond them those of the oldest secrets are forgotten."""

_NO_SECRETS = frozenset({"basic", "bearer", "digest", "apikey", "token"})
"""Authentication schemes."""


class Secrets:
    """The secrets of a run, those replaced during it included."""

    def __init__(self) -> None:
        self._forms: dict[str, None] = {}

    def note(self, *values: str | None) -> None:
        """Mask these values from now on, in all forms in which they may be repeated."""
        for value in filter(None, values):
            for form in _encoded(value):
                self._forms.setdefault(form)
        while len(self._forms) > MOST_FORMS:
            del self._forms[next(iter(self._forms))]

    def note_basic(self, username: str, password: str | None) -> str:
        """Note a user's password, return base64 of both. Without a password the name may be a token: it is noted."""
        encoded = b64encode(f"{username}:{password or ''}".encode()).decode()
        self.note(password or username, encoded, encoded.rstrip("="))
        return encoded

    def note_header(self, value: str) -> None:
        """Note a header's value and its parts, and the password in one for basic authentication."""
        self.note(value, *_parts(split(r"[\s,;=]+", value)))
        scheme, _, credentials = value.partition(" ")
        if scheme.lower() == "basic":
            try:
                username, _, password = b64decode(credentials, validate=True).decode().partition(":")
            except (Base64Error, UnicodeDecodeError):
                return
            self.note_basic(username, password)

    def note_query(self, query: str) -> None:
        """Note a URL's query, and its values."""
        pairs = parse_qsl(query, keep_blank_values=True)
        self.note(query, *(f"{name}={value}" for name, value in pairs if value), *_parts(value for _, value in pairs))

    def mask(self, text: str) -> str:
        """Replace all secrets, and the beginning of one at the very end, where the text may have been cut."""
        forms = sorted(self._forms, key=len, reverse=True)
        for form in forms:
            text = text.replace(form, MASK)
        for form in forms:
            for length in range(len(form) - 1, SHORTEST_PART - 1, -1):
                if text.endswith(form[:length]):
                    return text[:-length] + MASK
        return text


def _parts(values: Iterable[str]) -> list[str]:
    return [value for value in values if len(value) >= SHORTEST_PART and value.lower() not in _NO_SECRETS]


def _encoded(value: str) -> set[str]:
    """Return a value as is, and as it appears in URLs, JSON, HTML."""
    in_urls = (how(value, safe="", errors="surrogateescape") for how in (quote, quote_plus))
    return {value, *in_urls, json.dumps(value)[1:-1], escape(value)}


def read_secret(path: str | None) -> str | None:
    """Return a file's text without surrounding blanks. Raises OSError and UnicodeError."""
    return Path(path).read_text().strip() if path else None


def check_secret_files(target: Target) -> None:
    """Raise UsageError for files that cannot be read at startup. Later each request reads them again."""
    for name, path in (("PASSWORD_FILE", target.password_file), ("BEARER_TOKEN_FILE", target.bearer_token_file)):
        try:
            secret = read_secret(path)
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "is not text"
            raise UsageError(f"{PREFIX}{name} {path}: {why} (the file must contain only the secret)") from None
        if secret == "":
            raise UsageError(f"{PREFIX}{name} {path}: is empty (the file must contain only the secret)")
