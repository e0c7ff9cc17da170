"""The TLS settings of exporters: what is understood, and that nothing else is ignored."""

from __future__ import annotations

import re
import ssl
import subprocess
from pathlib import Path

import pytest

from xtrace.errors import UsageError
from xtrace.sinks.listen.web_config import WebConfig, parse, web_config


def read(path: str) -> WebConfig:
    """What a file describes, at the start."""
    return web_config(path, lambda file: None)


def test_settings_are_read_with_comments_and_quotes() -> None:
    text = """---
# who we are
tls_server_config:  # TLS
  cert_file: server.crt   # next to this file
  key_file: "server key.pem"
  client_auth_type: 'RequireAndVerifyClientCert'
  client_ca_file: /etc/ca.crt
"""
    assert parse(text, "w.yml") == {
        "tls_server_config": {
            "cert_file": "server.crt",
            "key_file": "server key.pem",
            "client_auth_type": "RequireAndVerifyClientCert",
            "client_ca_file": "/etc/ca.crt",
        }
    }


@pytest.mark.parametrize(
    "text, why",
    [
        ("", "has no tls_server_config or basic_auth_users"),
        ("basic_auth_users:\n", "has no tls_server_config or basic_auth_users"),
        ("  cert_file: a\n", "line 1: cert_file is not supported"),
        ("basic_auth_users:\n  a: x\n  a: y\n", "line 3: a needs one value, once"),
        ("basic_auth_users:\n  a: x\nbasic_auth_users:\n", "line 3: basic_auth_users is not supported"),
        ("http_server_config:\n", "line 1: http_server_config is not supported"),
        ("tls_server_config: {cert_file: a}\n", "line 1: 'tls_server_config: {cert_file: a}' is not understood"),
        ("tls_server_config:\n  cipher_suites:\n", "line 2: cipher_suites is not supported"),
        ("tls_server_config:\n  - a\n", "line 2: '- a' is not understood"),
        ("tls_server_config:\n\tcert_file: a\n", "line 2: 'cert_file: a' is not understood"),
        ("tls_server_config:\n  cert_file:\n", "line 2: cert_file needs one value, once"),
        ("tls_server_config:\n  cert_file: a\n  cert_file: b\n", "line 3: cert_file needs one value, once"),
        ("tls_server_config:\n  cert_file: &x a\n", "line 2: 'cert_file: &x a' is not understood"),
    ],
)
def test_anything_else_is_refused_with_its_line(text: str, why: str) -> None:
    with pytest.raises(
        UsageError, match=re.escape(f"--listen-config w.yml{':' if why.startswith('has') else ','} {why}")
    ):
        parse(text, "w.yml")


def pair(directory: Path) -> None:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(directory / "k.pem"))
    made = ("openssl", "req", "-x509", "-subj", "/CN=localhost", *key, "-out", str(directory / "c.pem"))
    subprocess.run(made, check=True, capture_output=True)


def written(directory: Path, *lines: str) -> str:
    path = directory / "web.yml"
    path.write_text("\n".join(("tls_server_config:", *(f"  {line}" for line in lines))) + "\n")
    return str(path)


def test_files_are_found_beside_the_configuration(tmp_path: Path) -> None:
    pair(tmp_path)
    both = ("cert_file: c.pem", "key_file: k.pem")
    plain = read(written(tmp_path, *both)).tls
    assert plain is not None
    assert (plain.verify_mode, plain.minimum_version) == (ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2)
    clients = ("client_auth_type: RequireAndVerifyClientCert", "client_ca_file: c.pem", "min_version: TLS13")
    made = read(written(tmp_path, *both, *clients)).tls
    assert made is not None
    assert (made.verify_mode, made.minimum_version) == (ssl.CERT_REQUIRED, ssl.TLSVersion.TLSv1_3)


@pytest.mark.parametrize(
    "lines, why",
    [
        (["cert_file: c.pem"], "tls_server_config has no key_file"),
        (["cert_file: none.pem", "key_file: k.pem"], "No such file"),
        (["cert_file: c.pem", "key_file: c.pem"], "PEM files, the key not encrypted"),
        (["cert_file: c.pem", "key_file: k.pem", "min_version: TLS10"], "min_version: unknown value 'TLS10'"),
        (["cert_file: c.pem", "key_file: k.pem", "client_ca_file: c.pem"], "client_ca_file and client_auth_type need"),
        (
            ["cert_file: c.pem", "key_file: k.pem", "client_auth_type: VerifyClientCertIfGiven"],
            "client_ca_file and client_auth_type need each other",
        ),
    ],
)
def test_settings_that_do_not_work_are_refused(lines: list[str], why: str, tmp_path: Path) -> None:
    pair(tmp_path)
    with pytest.raises(UsageError, match=re.escape(why)):
        read(written(tmp_path, *lines))


def test_missing_file_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^--listen-config /nonexistent: No such file or directory \("):
        read("/nonexistent")


def test_users_have_bcrypt_hashes_with_or_without_tls(tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text(f"basic_auth_users:\n  alice: {HASH}\n  bob: '{HASH}'\n")
    made = read(str(path))
    assert (made.tls, made.users) == (None, {"alice": HASH, "bob": HASH})
    path.write_text("basic_auth_users:\n  alice: secret\n")
    with pytest.raises(UsageError, match=r"basic_auth_users: alice has no bcrypt hash \(htpasswd -nBC 10 alice\)"):
        read(str(path))


@pytest.mark.parametrize(
    "lines, mode, version",
    [
        (["client_auth_type: NoClientCert", "min_version: TLS12"], ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2),
        (
            ["client_auth_type: VerifyClientCertIfGiven", "client_ca_file: c.pem"],
            ssl.CERT_OPTIONAL,
            ssl.TLSVersion.TLSv1_2,
        ),
        (["min_version: TLS13"], ssl.CERT_NONE, ssl.TLSVersion.TLSv1_3),
    ],
)
def test_words_mean_what_exporters_mean_by_them(
    lines: list[str], mode: ssl.VerifyMode, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    pair(tmp_path)
    made = read(written(tmp_path, "cert_file: c.pem", "key_file: k.pem", *lines)).tls
    assert made is not None
    assert (made.verify_mode, made.minimum_version) == (mode, version)


HASH = "$2y$10$" + "a" * 53


def test_it_and_all_files_that_it_names_are_noted_before_they_are_read(tmp_path: Path) -> None:
    lines = (
        "cert_file: c.pem",
        "key_file: k.pem",
        "client_auth_type: VerifyClientCertIfGiven",
        "client_ca_file: a.pem",
    )
    path, noted = written(tmp_path, *lines), list[str]()
    with pytest.raises(UsageError, match="No such file"):
        web_config(path, noted.append)
    assert noted == [path, *(str(tmp_path / name) for name in ("c.pem", "k.pem", "a.pem"))]


PAIR = "tls_server_config:\n  cert_file: c.pem\n  key_file: k.pem\n"
CLIENTS = "  client_ca_file: c.pem\n  client_auth_type: "
REQUIRED, OPTIONAL = (f"{CLIENTS}{word}\n" for word in ("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"))
ALICE = f"basic_auth_users:\n  alice: {HASH}\n"


@pytest.mark.parametrize(
    "before, after, lost",
    [
        (PAIR + ALICE, PAIR, "basic_auth_users"),
        (PAIR + ALICE, ALICE, "tls_server_config"),
        (PAIR + REQUIRED, PAIR + OPTIONAL, "client_auth_type"),
        (PAIR + REQUIRED, PAIR, "client_auth_type"),
        (PAIR + "  min_version: TLS13\n", PAIR, "min_version TLS13"),
        (PAIR + REQUIRED + ALICE, ALICE, "client_auth_type, tls_server_config"),
        (PAIR, PAIR + ALICE, None),
        (ALICE, PAIR + ALICE, None),
        (PAIR + OPTIONAL, PAIR + REQUIRED, None),
        (PAIR + ALICE, PAIR + ALICE.replace("alice", "bob"), None),
    ],
)
def test_a_changed_file_may_not_open_it_to_more_clients(
    before: str, after: str, lost: str | None, tmp_path: Path
) -> None:
    """What looks like it may be half of a file that is being written."""
    pair(tmp_path)
    path = tmp_path / "web.yml"
    path.write_text(before)
    first = read(str(path))
    path.write_text(after)
    if lost is None:
        assert web_config(str(path), lambda file: None, first).users == read(str(path)).users
        return
    with pytest.raises(UsageError) as caught:
        web_config(str(path), lambda file: None, first)
    assert str(caught.value) == f"--listen-config {path}: has no {lost} any more (restart to go without)"
