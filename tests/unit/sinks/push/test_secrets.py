"""Secrets in texts of others: masked in every form, also when cut, also after rotation."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote, quote_plus

import pytest

from xtrace.sinks.push.secrets import MOST_FORMS, Secrets

SECRET = 's3cr+t "x&y/z7'
BASIC = b64encode(f"monitor:{SECRET}".encode()).decode()


@pytest.mark.parametrize(
    "form", [SECRET, quote(SECRET, safe=""), quote_plus(SECRET), 's3cr+t \\"x&y/z7', "s3cr+t &quot;x&amp;y/z7"]
)
def test_secret_is_masked_in_every_encoding(form: str) -> None:
    secrets = Secrets()
    secrets.note(SECRET)
    assert secrets.mask(f"no user {form} here") == "no user *** here"


def test_basic_credentials_are_masked_with_and_without_padding() -> None:
    secrets = Secrets()
    assert secrets.note_basic("monitor", SECRET) == BASIC
    assert BASIC.endswith("=")
    for form in (BASIC, BASIC.rstrip("="), SECRET):
        assert secrets.mask(f"Basic {form}, monitor") == "Basic ***, monitor"


def test_user_name_without_password_is_masked_because_it_may_be_a_token() -> None:
    secrets = Secrets()
    secrets.note_basic("glsa-123", None)
    assert secrets.mask("unknown glsa-123") == "unknown ***"


@pytest.mark.parametrize(
    "header, text, masked",
    [
        ("Bearer abcdef", "bad Bearer abcdef", "bad ***"),
        ("Bearer abcdef", "bad token 'abcdef'", "bad token '***'"),
        ("a=1; session=abcdef", "no session abcdef", "no *** ***"),
        (f"Basic {BASIC}", f"user monitor, password {SECRET}", "user monitor, password ***"),
        ("Basic not-base64!", "x not-base64! y", "x *** y"),
    ],
)
def test_parts_of_headers_are_masked_too(header: str, text: str, masked: str) -> None:
    secrets = Secrets()
    secrets.note_header(header)
    assert secrets.mask(text) == masked


@pytest.mark.parametrize(
    "text, masked",
    [
        ("POST /x?authKey=s3%2Bcret&n=1", "POST /x?***"),
        ("key s3+cret of tenant 1", "key *** of tenant 1"),
        ("authKey=s3+cret", "***"),
        ("n=1 is wrong", "*** is wrong"),
    ],
)
def test_values_of_a_query_are_masked(text: str, masked: str) -> None:
    secrets = Secrets()
    secrets.note_query("authKey=s3%2Bcret&n=1")
    assert secrets.mask(text) == masked


def test_secret_that_is_cut_at_the_end_of_the_text_is_masked() -> None:
    secrets = Secrets()
    secrets.note("abcdefghij")
    assert secrets.mask("token abcdefgh") == "token ***"
    assert secrets.mask("token abc") == "token abc", "too short to be a part of it"


def test_earlier_secrets_stay_masked_and_their_number_is_bounded() -> None:
    secrets = Secrets()
    for number in range(2 * MOST_FORMS):
        secrets.note(f"secret-{number:05}-x")
    assert secrets.mask(f"secret-{2 * MOST_FORMS - 100:05}-x") == "***"
    assert len(secrets._forms) <= MOST_FORMS


@pytest.mark.parametrize("scheme", ["Basic", "Bearer", "Digest", "ApiKey", "Token"])
def test_name_of_a_scheme_is_no_secret(scheme: str) -> None:
    """A server that says which one it wants is understood."""
    secrets = Secrets()
    secrets.note_header(f"{scheme} abcdef")
    assert secrets.mask(f"use {scheme} authentication, not abcdef") == f"use {scheme} authentication, not ***"


def test_forms_of_the_oldest_secrets_are_forgotten_beyond_the_limit() -> None:
    secrets = Secrets()
    for number in range(MOST_FORMS):
        secrets.note(f"secret{number}")
    assert secrets.mask("secret0") == "***"
    secrets.note("another")
    assert (secrets.mask("secret0"), secrets.mask("secret1"), secrets.mask("another")) == ("secret0", "***", "***")
