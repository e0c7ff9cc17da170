"""Authentication, TLS and proxies; no secret appears in any message."""

from __future__ import annotations

import base64
import shlex
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.tool import Result, environment, run_to_end
from tests.push.double import Answer, double
from tests.push.server import victoria_metrics
from tests.push.wire import Here, Wire, wire

SECRET = "s3cr3t-Value"


@pytest.fixture
def wired() -> Iterator[Wire]:
    with wire() as made:
        yield made


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """A self-signed certificate of 127.0.0.1 and its key."""
    files = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    command = ["openssl", "req", *kind, *names, "-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True)
    return files


def run(wired: Wire, url: str, count: int = 2, /, **variables: str) -> Result:
    """A short run at debug level with the push variables given."""
    of_push = {"VICTORIAMETRICS_" + name: value for name, value in variables.items() if name.isupper()}
    proxies = {name: value for name, value in variables.items() if name.islower()}
    settings = {"VICTORIAMETRICS_ENABLED": "true", "VICTORIAMETRICS_REMOTE_WRITE": url, **of_push, **proxies}
    options = ("-i", wired.watched, "-o", "none", "-t", "200ms", "-c", str(count), "--debug")
    with wired.traffic():
        result = run_to_end(Here(), *options, variables=settings)
    assert SECRET not in result.stderr.decode() + result.stdout.decode()
    assert base64.b64encode(f"monitor:{SECRET}".encode()).decode() not in result.stderr.decode()
    return result


def said_of_push(result: Result) -> list[str]:
    return [line.partition("prometheus: ")[2] for line in result.said if line.startswith("push to ")]


def test_password_from_a_file_that_changes_is_read_again_and_nothing_is_lost(wired: Wire, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("old\n")
    arguments = ("-httpAuth.username=monitor", f"-httpAuth.password={SECRET}")

    def turn(number: int) -> Answer | None:
        if number == 1:
            file.write_text(SECRET + "\n")
        return Answer(401, b"not the old one") if number == 0 else Answer()

    with double(turn) as asked:
        result = run(wired, asked.base, 4, USERNAME="monitor", PASSWORD_FILE=str(file))
        sent = [base64.b64decode(request.headers["Authorization"].split()[1]).decode() for request in asked.requests]
    assert sent == ["monitor:old", "monitor:old", *["monitor:" + SECRET] * (len(sent) - 2)] and len(sent) > 2
    failed, again = said_of_push(result)
    assert failed.startswith("401 Unauthorized: not the *** one; set VICTORIAMETRICS_USERNAME and _PASSWORD_FILE")
    assert failed.endswith("; samples are queued, retrying")
    assert again.startswith("delivering again after ")
    assert result.code == 0
    bodies = [request.body for request in asked.requests]
    assert bodies[0] == bodies[1] and len(set(bodies)) == len(bodies) - 1, "the rejected batch came again"
    with victoria_metrics(*arguments, user=f"monitor:{SECRET}") as server:
        assert run(wired, server.url, USERNAME="monitor", PASSWORD_FILE=str(file)).code == 0
        assert server.export("xtrace_interface_packets_total")


def test_wrong_password_is_reported_once_and_the_run_continues(wired: Wire) -> None:
    with victoria_metrics("-httpAuth.username=monitor", "-httpAuth.password=right", user="monitor:right") as server:
        result = run(wired, server.url, 4, USERNAME="monitor", PASSWORD=SECRET)
        assert not server.export('{__name__!=""}')
    assert result.code == 1
    failed, ended = said_of_push(result)
    assert failed.startswith("401 Unauthorized") and failed.endswith("; samples are queued, retrying")
    assert ended.startswith("ended; not delivered within 2.0 s: ")


def test_userinfo_of_the_url_is_used_and_not_logged(wired: Wire) -> None:
    with victoria_metrics(
        "-httpAuth.username=monitor", f"-httpAuth.password={SECRET}", user=f"monitor:{SECRET}"
    ) as server:
        url = server.url.replace("://", f"://monitor:{SECRET}@")
        result = run(wired, url)
        assert (result.code, said_of_push(result)) == (0, [])
        assert server.export("xtrace_interface_packets_total")


def test_token_and_headers_are_sent(wired: Wire, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET + "\n")
    with double(lambda n: Answer()) as asked:
        result = run(wired, asked.base, BEARER_TOKEN_FILE=str(file), HEADERS=f"X-Tenant: 7^^X-Key:{SECRET}")
    assert result.code == 0
    for request in asked.requests:
        assert request.headers["Authorization"] == f"Bearer {SECRET}"
        assert (request.headers["X-Tenant"], request.headers["X-Key"]) == ("7", SECRET)
        assert request.headers["User-Agent"].startswith("xtrace-catch/")


def test_secret_file_that_is_missing_at_the_start_is_refused(wired: Wire, tmp_path: Path) -> None:
    with double(lambda n: Answer()) as asked:
        result = run(wired, asked.base, BEARER_TOKEN_FILE=str(tmp_path / "none"))
        assert not asked.requests
    assert result.code == 2
    told = f"xtrace-catch: VICTORIAMETRICS_BEARER_TOKEN_FILE {tmp_path}/none: No such file or directory ("
    assert [line for line in result.said if line.startswith(told)]


def test_secret_file_that_disappears_is_reported_and_retried(wired: Wire, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET)

    def turn(number: int) -> Answer:
        file.unlink(missing_ok=True)
        return Answer()

    with double(turn) as asked:
        result = run(wired, asked.base, 4, BEARER_TOKEN_FILE=str(file))
        assert len(asked.requests) == 1
    assert result.code == 1
    assert said_of_push(result)[0].startswith(f"{file}: No such file or directory; samples are queued")


def test_certificate_is_verified_with_the_given_authority_and_otherwise_rejected(
    wired: Wire, certificate: tuple[str, str]
) -> None:
    files = [f"-tlsCertFile={certificate[0]}", f"-tlsKeyFile={certificate[1]}"]
    with victoria_metrics("-tls", *files, scheme="https") as server:
        refused = run(wired, server.url)
        assert refused.code == 1
        assert said_of_push(refused)[0].startswith("TLS: self-signed certificate; samples are queued")
        trusted = run(wired, server.url, CA_FILE=certificate[0])
        assert (trusted.code, said_of_push(trusted)) == (0, [])
        careless = run(wired, server.url, INSECURE_SKIP_VERIFY="true")
        assert (careless.code, said_of_push(careless)) == (
            0,
            ["the server's certificate is not verified"],
        )


def test_client_certificate_is_presented(wired: Wire, certificate: tuple[str, str]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.load_verify_locations(certificate[0])
    context.verify_mode = ssl.CERT_REQUIRED
    own = {"CERT_FILE": certificate[0], "KEY_FILE": certificate[1]}
    with double(lambda n: Answer(), tls=context) as asked:
        assert run(wired, asked.base, CA_FILE=certificate[0], **own).code == 0
        assert asked.requests


def test_encrypted_key_is_refused_without_a_prompt(wired: Wire, certificate: tuple[str, str], tmp_path: Path) -> None:
    encrypted = str(tmp_path / "encrypted.pem")
    convert = ["openssl", "pkey", "-in", certificate[1], "-aes256", "-passout", f"pass:{SECRET}", "-out", encrypted]
    subprocess.run(convert, check=True)
    variables = environment(
        VICTORIAMETRICS_ENABLED="true",
        VICTORIAMETRICS_REMOTE_WRITE="https://127.0.0.1:1",
        VICTORIAMETRICS_CERT_FILE=certificate[0],
        VICTORIAMETRICS_KEY_FILE=encrypted,
    )
    tool = shlex.join([sys.executable, "-m", "xtrace", "-i", wired.watched, "-c", "1"])
    # with a terminal, on which OpenSSL could ask; as input it gets an end of file
    command = ["script", "--quiet", "--return", "--command", tool, "/dev/null"]
    done = subprocess.run(command, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stdout
    assert "pass phrase" not in done.stdout
    assert f"VICTORIAMETRICS_KEY_FILE {encrypted}: the key is encrypted (openssl pkey decrypts it)" in done.stdout


def test_proxy_variables_are_honoured(wired: Wire) -> None:
    with double(lambda n: Answer()) as proxy:
        named = proxy.base.replace("://", f"://monitor:{SECRET}@")
        through = run(wired, "http://metrics.invalid:8428", http_proxy=named)
        assert through.code == 0
        assert proxy.requests[0].target == "http://metrics.invalid:8428/api/v1/import/prometheus"
        basic = base64.b64decode(proxy.requests[0].headers["Proxy-Authorization"].split()[1]).decode()
        assert basic == f"monitor:{SECRET}"
        proxy.requests.clear()
        around = run(wired, "http://metrics.invalid:8428", http_proxy=named, no_proxy=".invalid")
        assert (around.code, proxy.requests) == (1, [])


@pytest.mark.parametrize(
    "variables, words",
    [
        ({"CA_FILE": "/none"}, "VICTORIAMETRICS_CA_FILE /none: No such file or directory"),
        ({"CERT_FILE": "/none", "KEY_FILE": "/none"}, "VICTORIAMETRICS_CERT_FILE /none"),
    ],
)
def test_file_that_cannot_be_used_is_a_usage_error_before_anything_is_attached(
    wired: Wire, variables: dict[str, str], words: str
) -> None:
    result = run(wired, "https://127.0.0.1:1", **variables)
    assert result.code == 2
    assert words in result.stderr.decode()
    assert "loaded on" not in result.stderr.decode()


def test_url_without_the_switch_is_warned_of_once(wired: Wire) -> None:
    options = ("-i", wired.watched, "-o", "none", "-t", "200ms", "-c", "2")
    with double(lambda n: Answer()) as asked:
        variables = {"VICTORIAMETRICS_REMOTE_WRITE": asked.base.replace("://", f"://monitor:{SECRET}@")}
        result = run_to_end(Here(), *options, variables=variables)
        assert not asked.requests
    assert (result.code, SECRET in result.stderr.decode()) == (0, False)
    warned = [line for line in result.said if "VICTORIAMETRICS" in line]
    assert len(warned) == 1 and "metrics are not pushed (set VICTORIAMETRICS_ENABLED=true too)" in warned[0]
