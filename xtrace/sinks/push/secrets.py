"""Secrets: read from files, and masked in texts of servers, which may repeat what they were sent."""

from __future__ import annotations

from base64 import b64decode, b64encode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator
from pathlib import Path
from re import split
from urllib.parse import parse_qsl

from xtrace.errors import UsageError
from xtrace.sinks.push.unescaped import layers, readings
from xtrace.target import PREFIX, Target

MASK = "***"
SHORTEST_PART = 4
"""Characters of a part of a secret, or of a value in a query, that is masked by itself."""
MOST_SECRETS = 128
"""Kept; beyond them the oldest are forgotten."""

_NO_SECRETS = frozenset({"basic", "bearer", "digest", "apikey", "token"})
"""Authentication schemes."""


class Secrets:
    """The secrets of a run, those replaced during it included."""

    def __init__(self) -> None:
        self._forms: dict[str, frozenset[bytes]] = {}

    def note(self, *values: str | None) -> None:
        """Mask these values from now on, however they are encoded where they are repeated."""
        for value in filter(None, values):
            if value not in self._forms:
                self._forms[value] = frozenset(_forms(value))
        while len(self._forms) > MOST_SECRETS:
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
        searched = [(layer, form) for layer in readings(text) for forms in self._forms.values() for form in forms]
        places = {place for layer, form in searched for place in layer.places(form)}
        masked, end = "", 0
        for first, last in sorted(places):
            if first >= end:
                masked += text[end:first] + MASK
            end = max(end, last)
        begun = (layer.place_of_beginning(form, SHORTEST_PART) for layer, form in searched)
        cut = [at for at in begun if at is not None and at >= end]
        return masked + (text[end : min(cut)] + MASK if cut else text[end:])


def _parts(values: Iterable[str]) -> list[str]:
    return [value for value in values if len(value) >= SHORTEST_PART and value.lower() not in _NO_SECRETS]


def _forms(value: str) -> Iterator[bytes]:
    """Yield what a text may say for a value: the value, what it means where it seems escaped, base64 of it, digits."""
    yield from filter(None, (layer.bytes for layer in layers(value)))
    if len(value) >= SHORTEST_PART:
        for how in (b64encode, urlsafe_b64encode):
            encoded = how(value.encode("utf-8", "surrogateescape"))
            yield from (encoded, encoded.rstrip(b"="), encoded.replace(b"+", b" "))
        digits = value.encode("utf-8", "surrogateescape").hex()
        yield from (digits.encode(), digits.upper().encode())


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
