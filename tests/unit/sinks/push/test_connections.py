"""TLS: whom the tool believes, how it proves who it is, and what it says of files that are of no use."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from xtrace.errors import UsageError
from xtrace.sinks import renewed
from xtrace.sinks.push.connections import certificates_of, files_of, manager, tls_context
from xtrace.sinks.push.secrets import Secrets
from xtrace.target import Target

FILES = Path(__file__).parents[3] / "fixtures" / "tls"
CA, LEAF, KEY = (str(FILES / name) for name in ("ca.pem", "leaf.pem", "leaf.key"))
CERT_FILE, KEY_FILE = "VICTORIAMETRICS_CERT_FILE", "VICTORIAMETRICS_KEY_FILE"


def target(url: str = "https://127.0.0.1/x", **settings: str | bool | None) -> Target:
    return Target(url, url, **settings)  # type: ignore[arg-type]


def server(asks_for_certificates: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(LEAF, KEY)
    if asks_for_certificates:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(CA)
    return context


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str = "127.0.0.1") -> ssl.SSLObject:
    """Let both talk until each believes the other; the server's side. Raises what the one that does not raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for side in 4 * sides:
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return sides[1]


def test_server_is_believed_if_the_given_authority_signed_for_its_name() -> None:
    assert handshake(tls_context(target(ca_file=CA)), server()).version() is not None
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(tls_context(target(ca_file=CA)), server(), "192.0.2.1")
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        handshake(tls_context(target()), server())


@pytest.mark.parametrize("name", ["127.0.0.1", "192.0.2.1"])
def test_without_verification_any_server_is_believed(name: str) -> None:
    assert handshake(tls_context(target(skip_verify=True)), server(), name).version() is not None


def test_certificate_is_shown_to_a_server_that_asks_for_it() -> None:
    with_certificate = tls_context(target(ca_file=CA, cert_file=LEAF, key_file=KEY))
    shown = handshake(with_certificate, server(asks_for_certificates=True)).getpeercert()
    assert shown is not None
    assert shown["subjectAltName"] == (("IP Address", "127.0.0.1"),)
    with pytest.raises(ssl.SSLError, match=r"(?i)peer did not return a certificate"):
        handshake(tls_context(target(ca_file=CA)), server(asks_for_certificates=True))


@pytest.mark.parametrize("one", ["cert_file", "key_file"])
def test_a_certificate_or_a_key_alone_is_not_loaded(one: str) -> None:
    tls_context(target(**{one: "/nonexistent"}))


@pytest.mark.parametrize("name", ["encrypted.key", "encrypted-old.key"])
def test_encrypted_key_is_refused_without_asking_the_terminal_for_its_passphrase(name: str) -> None:
    key = str(FILES / name)
    with pytest.raises(UsageError) as caught:
        tls_context(target(cert_file=LEAF, key_file=key))
    assert str(caught.value) == (
        f"{CERT_FILE} {LEAF}, {KEY_FILE} {key}: the key is encrypted (openssl pkey decrypts it)"
    )


@pytest.mark.parametrize(
    "key, why",
    [
        (str(FILES / "other.key"), "certificate and key do not match"),
        ("/nonexistent", "No such file or directory"),
        (CA, None),
    ],
    ids=["another's", "missing", "no key"],
)
def test_key_of_no_use_is_refused_with_the_reason(key: str, why: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        tls_context(target(cert_file=LEAF, key_file=key))
    said = str(caught.value)
    assert said.startswith(f"{CERT_FILE} {LEAF}, {KEY_FILE} {key}: {why or ''}")
    assert said.endswith(" (a matching pair of PEM files is needed)")


@pytest.mark.parametrize("file, why", [("/nonexistent", "No such file or directory"), (KEY, "")])
def test_authorities_of_no_use_are_refused_with_the_reason(file: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        tls_context(target(ca_file=file))
    said = str(caught.value)
    assert said.startswith(f"VICTORIAMETRICS_CA_FILE {file}: {why}")
    assert said.endswith(" (a file of PEM certificates is needed)")


@pytest.mark.parametrize("url, is_https", [("http://127.0.0.1/x", False), ("https://127.0.0.1/x", True)])
def test_tls_is_set_up_for_https_alone(url: str, is_https: bool) -> None:
    """Reading all of the system's certificates takes longer than the rest of the start."""
    wanted = target(url, ca_file=CA)
    made = manager(wanted, Secrets(), lambda: None, certificates_of(wanted))
    assert isinstance(made.connection_pool_kw["ssl_context"], ssl.SSLContext) is is_https


def of_system(monkeypatch: pytest.MonkeyPatch, directory: Path) -> Path:
    """Where the system has its authorities, from now on: a file."""
    monkeypatch.setattr(renewed, "SETTLED_S", 0.0)
    monkeypatch.setenv("SSL_CERT_FILE", str(directory / "ca.crt"))
    monkeypatch.setenv("SSL_CERT_DIR", str(directory / "none"))
    return directory / "ca.crt"


def test_the_systems_authorities_are_taken_anew_and_stay_while_there_are_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file = of_system(monkeypatch, tmp_path)
    certificates = certificates_of(target())
    assert certificates is not None
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        handshake(certificates.current(), server())
    file.write_text(Path(CA).read_text())
    assert handshake(certificates.current(), server()).version() is not None
    for change in (lambda: file.write_text("half"), file.unlink):
        change()
        assert handshake(certificates.current(), server()).version() is not None
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"push to https://127.0.0.1/x: read anew: {file}",
        *[
            f"{file}, {tmp_path}/none: no certificates (a file of PEM certificates is needed);"
            " what was read before stays in use"
        ]
        * 2,
    ]


def test_without_tls_there_is_nothing_to_take_anew() -> None:
    assert certificates_of(target("http://127.0.0.1/x")) is None


def test_files_of_a_target_are_those_of_its_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = of_system(monkeypatch, tmp_path)
    assert files_of(target(cert_file=LEAF, key_file=KEY)) == [str(file), str(tmp_path / "none"), LEAF, KEY]
    assert files_of(target(ca_file=CA)) == [CA]
