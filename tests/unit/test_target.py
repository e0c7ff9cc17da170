"""--push and VICTORIAMETRICS_*: what is understood, what is refused, and that no secret is in any text."""

from __future__ import annotations

import pytest

from xtrace.errors import UsageError
from xtrace.target import DEFAULT_URL, ENDS, IMPORT_PATH, Target, forgotten, parse_target

SECRET = "s3cr3t"


def target(given: str | None = None, **variables: str) -> Target:
    found = parse_target(given, {f"VICTORIAMETRICS_{name}": value for name, value in variables.items()})
    assert found is not None
    assert SECRET not in repr(found)
    assert SECRET not in found.shown
    return found


def refusal(given: str | None = None, **variables: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse_target(given, {f"VICTORIAMETRICS_{name}": value for name, value in variables.items()})
    assert SECRET not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "given, url",
    [
        ("http://m:8428", f"http://m:8428{IMPORT_PATH}"),
        ("https://m/", f"https://m{IMPORT_PATH}"),
        ("http://[::1]:8428/insert/0/prometheus/api/v1/import/prometheus", None),
        ("http://m/any?extra_label=a%3Db", None),
        ("http://m/any/", None),
        ("http://m/rewrite", None),
        (f"http://m{IMPORT_PATH}/", f"http://m{IMPORT_PATH}"),
        (f"http://m{IMPORT_PATH}/metrics/job/a", None),
    ],
)
def test_path_is_added_where_there_is_none(given: str, url: str | None) -> None:
    assert target(given).url == (url or given)


@pytest.mark.parametrize(
    "given, form, url, found",
    [
        ("http://m:8428", "auto", f"http://m:8428{IMPORT_PATH}", "import"),
        ("http://m/api/v1/write/", "auto", "http://m/api/v1/write", "remote-write"),
        ("http://m/insert/0/prometheus/api/v1/write?x=1", "auto", None, "remote-write"),
        ("http://m/api/v1/push", "auto", None, "remote-write"),
        ("http://m/api/v1/receive", "auto", None, "remote-write"),
        ("http://m/push", "auto", None, "import"),
        ("http://m:9090", "remote-write", "http://m:9090/api/v1/write", "remote-write"),
        ("http://m/any", "remote-write", None, "remote-write"),
        ("http://m/api/v1/prom/remote/write", "remote-write", None, "remote-write"),
        ("http://m/any", "import", None, "import"),
    ],
)
def test_format_is_that_of_the_path_or_as_given(given: str, form: str, url: str | None, found: str) -> None:
    made = parse_target(given, {}, form)
    assert made is not None and (made.url, made.form) == (url or given, found)


@pytest.mark.parametrize("prefix", ["", "/insert/0", "/insert/multitenant"])
@pytest.mark.parametrize("form, end", [(form, end) for form, ends in ENDS.items() for end in ends])
def test_each_known_path_has_its_format_below_any_prefix(form: str, end: str, prefix: str) -> None:
    given = f"http://m{prefix}{end}"
    for asked in ("auto", form):
        for written in (given, given + "/", given + "?x=1"):
            made = parse_target(written, {}, asked)
            assert made is not None and (made.form, made.shown) == (form, given)


@pytest.mark.parametrize("form, path", [("import", "/api/v1/write"), ("remote-write", IMPORT_PATH)])
def test_path_of_another_format_is_refused(form: str, path: str) -> None:
    with pytest.raises(UsageError, match=f"^--push: {path} does not take --push-format {form} "):
        parse_target(f"http://m{path}", {}, form)


@pytest.mark.parametrize("on", ["true", "1", "yes", "TRUE"])
def test_environment_alone_pushes_to_the_documented_default(on: str) -> None:
    assert target(ENABLED=on).url == DEFAULT_URL
    assert target(ENABLED=on, REMOTE_WRITE="http://m:1/x").url == "http://m:1/x"


@pytest.mark.parametrize("off", ["false", "0", "no", ""])
def test_nothing_is_pushed_unless_enabled_and_the_option_wins(off: str) -> None:
    variables = {"VICTORIAMETRICS_ENABLED": off, "VICTORIAMETRICS_REMOTE_WRITE": "http://m:1"}
    assert parse_target(None, variables) is None
    assert target("http://n:2", ENABLED=off).shown == f"http://n:2{IMPORT_PATH}"


def test_address_without_the_switch_is_warned_of() -> None:
    address = {"VICTORIAMETRICS_REMOTE_WRITE": f"http://u:{SECRET}@m"}
    warning = forgotten(None, address)
    assert warning is not None and SECRET not in warning
    assert forgotten("http://m", address) is None
    assert forgotten(None, {**address, "VICTORIAMETRICS_ENABLED": "false"}) is None
    assert forgotten(None, {}) is None


def test_userinfo_is_taken_out_of_the_url_and_the_query_out_of_what_is_shown() -> None:
    found = target(ENABLED="true", REMOTE_WRITE=f"https://a%40b:{SECRET}@m:1/x?authKey={SECRET}")
    assert (found.url, found.shown) == (f"https://m:1/x?authKey={SECRET}", "https://m:1/x")
    assert (found.username, found.password) == ("a@b", SECRET)


@pytest.mark.parametrize(
    "given, variables, words",
    [
        (None, {"ENABLED": "maybe"}, "VICTORIAMETRICS_ENABLED: 'maybe' is not a boolean (use true or false)"),
        ("m:8428", {}, "--push: not an http or https URL (use http://host:8428/api/v1/import/prometheus)"),
        ("ftp://m", {}, "--push: not an http or https URL (use http://host:8428/api/v1/import/prometheus)"),
        ("http://", {}, "--push: not an http or https URL (use http://host:8428/api/v1/import/prometheus)"),
        ("http://m:x", {}, "--push: not a valid URL (use http://host:8428/api/v1/import/prometheus)"),
        (f"http://m:{SECRET}@", {}, "--push: not "),
        ("", {}, "--push: not an http or https URL (use http://host:8428/api/v1/import/prometheus)"),
        ("http://m/api/v1/import", {}, "--push: JSON lines, /api/v1/import, is not supported (use http"),
        ("http://m/x/api/v1/import/", {}, "--push: JSON lines, /x/api/v1/import, is not supported (use http"),
        ("http://m//api/v1//import", {}, "--push: JSON lines, /api/v1/import, is not supported (use http"),
        ("http://m/api/v1/%69mport", {}, "--push: JSON lines, /api/v1/%69mport, is not supported (use http"),
        (f"http://name:1#{SECRET}@m/", {}, "--push: what follows # is not sent to any server; in a name or"),
        ("http://m/api/v1/import/csv", {}, "--push: CSV, /api/v1/import/csv, is not supported (use http"),
        ("http://m/write", {}, "--push: the line protocol of InfluxDB, /write, is not supported (use http"),
        ("http://m/vm/write", {}, "--push: the line protocol of InfluxDB, /vm/write, is not supported (use http"),
        (
            "http://m/influx/write",
            {},
            "--push: the line protocol of InfluxDB, /influx/write, is not supported (use http",
        ),
        (
            f"http://u:{SECRET}@m",
            {},
            "a password on the command line is visible to all users of this host (set VICTORIAMETRICS_USERNAME and",
        ),
        (
            f"http://{SECRET}@m",
            {},
            "a user name or token on the command line is visible to all users of this host (set VICTORIAMETRICS_",
        ),
        *(
            (
                f"http://m/x?n=1&{name}={SECRET}",
                {},
                f"--push: {name} in the URL on the command line is visible to all users of this host"
                " (put the URL in VICTORIAMETRICS_REMOTE_WRITE)",
            )
            for name in ("authKey", "token", "access_token", "api_key", "password", "sig", "X-Amz-Credential")
        ),
        (f"http://m/x?token{SECRET * 9}=1", {}, "--push: a secret in the URL on the command line"),
        (
            "http://m",
            {"PASSWORD": SECRET},
            "VICTORIAMETRICS_PASSWORD[_FILE] is set without VICTORIAMETRICS_USERNAME (set both)",
        ),
        ("http://m", {"USERNAME": "u", "PASSWORD": SECRET, "PASSWORD_FILE": "f"}, "are both set (unset one)"),
        ("http://m", {"BEARER_TOKEN": SECRET, "BEARER_TOKEN_FILE": "f"}, "are both set (unset one)"),
        ("http://m", {"USERNAME": "u", "BEARER_TOKEN": SECRET}, "are both set (unset one)"),
        ("http://m", {"USERNAME": "u", "BEARER_TOKEN_FILE": "f"}, "are both set (unset one)"),
        (None, {"ENABLED": "1", "REMOTE_WRITE": "http://u@m", "BEARER_TOKEN": SECRET}, "are both set (unset one)"),
        (
            "http://m",
            {"CERT_FILE": "c"},
            "VICTORIAMETRICS_CERT_FILE or VICTORIAMETRICS_KEY_FILE is set without the other (set both)",
        ),
        ("http://m", {"HEADERS": SECRET}, "malformed header (use 'Name: value', several separated by ^^)"),
        (
            "http://m",
            {"HEADERS": f"bad name: {SECRET}"},
            "malformed header (use 'Name: value', several separated by ^^)",
        ),
        ("http://m", {"HEADERS": f"X: a\n{SECRET}"}, "malformed header (use 'Name: value', several separated by ^^)"),
        (
            "http://m",
            {"HEADERS": "Content-Type: x"},
            "VICTORIAMETRICS_HEADERS: Content-Type is set by xtrace-catch itself (leave it out)",
        ),
        ("http://m", {"HEADERS": f"Authorization: {SECRET}", "USERNAME": "u"}, "is set (use one)"),
        (
            "http://m",
            {"INSECURE_SKIP_VERIFY": "si"},
            "VICTORIAMETRICS_INSECURE_SKIP_VERIFY: 'si' is not a boolean (use true or false)",
        ),
    ],
)
def test_what_is_wrong_is_said_without_secrets(given: str | None, variables: dict[str, str], words: str) -> None:
    assert words in refusal(given, **variables)


def test_headers_are_separated_as_vmagent_separates_them() -> None:
    assert target("http://m", HEADERS=f"X-A: 1^^X-B:{SECRET}^^").headers == (("X-A", "1"), ("X-B", SECRET))
