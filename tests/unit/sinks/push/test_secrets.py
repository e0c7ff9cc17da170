"""Secrets in texts of others: masked in every form, also when cut, also after rotation."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from xtrace.sinks.push.secrets import MOST_SECRETS, Secrets

SECRET = 's3cr+t "x&y/z7'
BASIC = b64encode(f"monitor:{SECRET}".encode()).decode()


FORMS = {
    "as it is": SECRET,
    "URL": quote(SECRET, safe=""),
    "URL in small letters": quote(SECRET, safe="").lower(),
    "form": quote_plus(SECRET),
    "path": quote(SECRET, safe="+&/"),
    "twice": quote(quote_plus(SECRET)),
    "JSON": 's3cr+t \\"x&y/z7',
    "JSON of Go": r"s3cr+t \"x\u0026y/z7",
    "JSON of PHP": r"s3cr+t \"x&y\/z7",
    "all of it in JSON": "".join(rf"\u{ord(character):04X}" for character in SECRET),
    "JSON in JSON": r"s3cr+t \\\"x\\u0026y/z7",
    "bytes": r"s3cr\x2bt \x22x\x26y/z7",
    "HTML": "s3cr+t &quot;x&amp;y/z7",
    "HTML of Go": "s3cr+t &#34;x&amp;y/z7",
    "HTML in hexadecimal": "s3cr&#x2B;t&#x20;&#x22;x&#x26;y&#x2f;z7",
    "HTML of a URL": "s3cr%2Bt&#32;%22x&amp;y%2Fz7",
    "base64": b64encode(SECRET.encode()).decode(),
    "base64 without padding": b64encode(SECRET.encode()).decode().rstrip("="),
    "hexadecimal": SECRET.encode().hex(),
    "hexadecimal in capitals": SECRET.encode().hex().upper(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_secret_is_masked_in_every_encoding(form: str) -> None:
    secrets = Secrets()
    secrets.note(SECRET)
    assert secrets.mask(f"no user {form} here") == "no user *** here"


@pytest.mark.parametrize(
    "form", ["gehe\u00efm\U0001f511", r"gehe\u00efm\ud83d\udd11", "gehe%c3%afm%F0%9F%94%91", "gehe&#239;m&#x1f511;"]
)
def test_secret_beyond_ascii_is_masked_in_every_encoding(form: str) -> None:
    secrets = Secrets()
    secrets.note("gehe\u00efm\U0001f511")
    assert secrets.mask(f"no {form}\u00e4 here") == "no ***\u00e4 here"


def test_what_is_escaped_and_no_secret_stays_as_it_is() -> None:
    secrets = Secrets()
    secrets.note("abcd%41")
    text = r"100% of \d+ and \ud800 at &nonesuch; %zz &amp; a%20b \ "
    assert secrets.mask(text) == text
    assert secrets.mask(f"{text}abcd%41 abcdA abcd%2541 abcd") == f"{text}*** *** *** ***"


@pytest.mark.parametrize(
    "secret, text, masked",
    [
        ("hunter2\\", "password hunter2\\ is wrong", "password *** is wrong"),
        ("hunter2\\", r'{"error":"bad password hunter2\\"}', '{"error":"bad password ***"}'),
        ("hunter2\\", "password hunter2\\", "password ***"),
        ("Pa55word%", "Pa55word%20is wrong", "***20is wrong"),
        ("Pa55word%", '"Pa55word%25"', '"***"'),
        ("Xy12&lt", "no Xy12&lt; sorry", "no ***; sorry"),
        ("abcd\\u00e", r"got abcd\u00e5", "got ***5"),
        ("ab12cd34", "bad 50%ab12cd34 x", "bad 50%*** x"),
        ("u0041secret", r"C:\u0041secret", "C:\\***"),
        ("ab12cd34", "bad 50%ab12cd", "bad 50%***"),
        ('a1+b2"c%', r'{"e":"a1+b2\"c%20x"}', '{"e":"***20x"}'),
        ('a1+b2"c%', r'{"e":"{\"e\":\"a1+b2\\\"c%20x\"}"}', r'{"e":"{\"e\":\"***20x\"}"}'),
        ("a1b2&c\\", r"<b>a1b2&amp;c\x20</b>", "<b>***x20</b>"),
    ],
)
def test_secret_is_masked_where_it_and_its_neighbours_look_like_an_escape(secret: str, text: str, masked: str) -> None:
    secrets = Secrets()
    secrets.note(secret)
    assert secrets.mask(text) == masked


@pytest.mark.parametrize("end", ["s3cr", "s3cr%", "s3cr%2", r"s3cr\u00", "s3cr&#4", "s3cr%2Bt &qu", "s3cr%252"])
def test_secret_that_is_cut_within_an_escape_is_masked(end: str) -> None:
    secrets = Secrets()
    secrets.note(SECRET)
    assert secrets.mask(f"no {end}") == "no ***"


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
    for number in range(2 * MOST_SECRETS):
        secrets.note(f"secret-{number:05}-x")
    assert secrets.mask(f"secret-{2 * MOST_SECRETS - 100:05}-x") == "***"
    assert len(secrets._forms) <= MOST_SECRETS


@pytest.mark.parametrize("scheme", ["Basic", "Bearer", "Digest", "ApiKey", "Token"])
def test_name_of_a_scheme_is_no_secret(scheme: str) -> None:
    """A server that says which one it wants is understood."""
    secrets = Secrets()
    secrets.note_header(f"{scheme} abcdef")
    assert secrets.mask(f"use {scheme} authentication, not abcdef") == f"use {scheme} authentication, not ***"


def test_forms_of_the_oldest_secrets_are_forgotten_beyond_the_limit() -> None:
    secrets = Secrets()
    for number in range(MOST_SECRETS):
        secrets.note(f"secret{number}")
    assert secrets.mask("secret0") == "***"
    secrets.note("another")
    assert (secrets.mask("secret0"), secrets.mask("secret1"), secrets.mask("another")) == ("secret0", "***", "***")


def test_secret_is_masked_at_the_very_beginning_and_wherever_it_is_repeated() -> None:
    secrets = Secrets()
    secrets.note("abcdefghij", "abab")
    assert secrets.mask("abcdefghij") == "***"
    assert secrets.mask("abcdefghijabcdefghij, abcdefghij") == "******, ***"
    assert secrets.mask("xababab") == "x***", "those that overlap are one"
    assert secrets.mask("abcd") == "***", "all of the text may be the beginning of one"
    assert secrets.mask("abc") == "abc"


@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
def test_bytes_of_a_secret_that_are_no_text_are_masked_in_base64_too(encode: Callable[[bytes], bytes]) -> None:
    """From the environment they come as surrogates."""
    secrets = Secrets()
    secrets.note("geh\udcff\udcfeeim>>>")
    assert secrets.mask(f"Basic {encode(b'geh' + bytes((255, 254)) + b'eim>>>').decode()}") == "Basic ***"
    assert secrets.mask("no geh\udcff\udcfeeim>>> here") == "no *** here"
