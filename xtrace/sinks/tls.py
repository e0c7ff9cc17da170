"""What OpenSSL says of files, in words."""

from __future__ import annotations

WORDS = dict.fromkeys(("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"), "certificate and key do not match")


def reason(error: OSError) -> str:
    """Return why files could not be loaded: a reason of OpenSSL's, or the system's."""
    said: str | None = getattr(error, "reason", None)
    return WORDS.get(said, said) if said else error.strerror or str(error)
