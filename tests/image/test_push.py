"""HTTPS to a server found by name: TLS, certificates and the resolver work where there is no shared library."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.image.chroot import LIMIT_S, ended, running
from tests.netns.tool import bounded
from tests.support.net import Pair, read_until

NAME = "metrics.test"
HOSTILE = "passwd: files systemd sss\nhosts: mymachines resolve [!UNAVAIL=return] mdns4_minimal files dns myhostname\n"
"""What distributions write; each but files and dns is a shared library of the machine's."""


@pytest.fixture
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate of NAME that signed itself, and its key."""
    place = tmp_path_factory.mktemp("certificate")
    files = str(place / "cert.pem"), str(place / "key.pem")
    kind = ("-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}")
    names = ("-addext", f"subjectAltName=DNS:{NAME}")
    subprocess.run(
        ["openssl", "req", *kind, *names, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True
    )
    return files


@contextmanager
def serving(pair: Pair, certificate: tuple[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The servers in far's loopback, and the URL to push to."""
    pipe = subprocess.PIPE
    with pair.far.start(sys.executable, "-m", "tests.image.servers", *certificate, stdin=pipe, stdout=pipe) as servers:
        try:
            port = read_until(servers.stdout, b"\n").decode().strip()
            yield servers, f"https://{NAME}:{port}"
        finally:
            servers.kill()


def prepare(root: Path, nsswitch: str | None, authority: Path | None, place: str) -> None:
    (root / "etc").mkdir()
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
    if nsswitch is not None:
        (root / "etc/nsswitch.conf").write_text(nsswitch)
    if authority is not None:
        (root / place).parent.mkdir(parents=True)
        (root / place).write_bytes(authority.read_bytes())


@pytest.mark.parametrize(
    "nsswitch, place",
    [
        (None, "etc/ssl/certs/ca-certificates.crt"),
        (HOSTILE, "etc/ssl/certs/ca-certificates.crt"),
        (None, "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),
    ],
    ids=["no nsswitch.conf", "a machine's nsswitch.conf", "certificates where Fedora has them"],
)
def test_push_over_https_by_name(
    root: Path, pair: Pair, certificate: tuple[str, str], nsswitch: str | None, place: str
) -> None:
    prepare(root, nsswitch, Path(certificate[0]), place)
    with serving(pair, certificate) as (servers, url):
        options = ("-i", "lo", "-t", "200ms", "-c", "3", "-o", "none", "--push", url)
        pings = pair.far.start("ping", "-q", "-i0.02", "127.0.0.1", stdout=subprocess.DEVNULL)
        # from before the run to after its end, which comes by itself
        with bounded(pings), running(pair.far, root, *options) as process:
            code, stdout, said = ended(process)
        pushed, _ = servers.communicate(timeout=LIMIT_S)
    assert (code, stdout) == (0, b""), said
    assert b"xtrace_network_packets_total{" in pushed
    assert b'traffic_type="ICMP"' in pushed


def test_a_certificate_nobody_vouches_for_is_refused(root: Path, pair: Pair, certificate: tuple[str, str]) -> None:
    prepare(root, None, None, "")
    with serving(pair, certificate) as (servers, url):
        with running(pair.far, root, "-i", "lo", "-t", "200ms", "-c", "2", "-o", "none", "--push", url) as process:
            code, _, said = ended(process)
        pushed, _ = servers.communicate(timeout=LIMIT_S)
    assert (code, pushed) == (1, b"")
    assert "certificate" in said
    assert "Traceback" not in said
