"""Certificates, keys and users that are replaced while a confined run goes on, by real TLS."""

from __future__ import annotations

import http.client
import os
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import pytest

from tests.netns.test_confinement import may_daemon_read_the_code
from tests.netns.tool import Tool, eventually, total
from tests.push.compare import assert_server_has_all, last
from tests.push.double import Answer, Double, double
from tests.push.server import Server, free_port, victoria_metrics
from tests.push.test_scrape import SECRET
from tests.push.wire import wire
from tests.support.net import of_type
from xtrace.kernel import confinement

AS_JSON = ("-o", "json", "-t", "200ms")
NAMES = ("cert.pem", "key.pem")
AS_USUAL = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"
ADVICE = b" (PEM files, the key not encrypted)"
STAYS = b"; what was read before stays in use"


def make_pair(name: str, directory: Path) -> None:
    """A self-signed certificate of 127.0.0.1, and its key."""
    directory.mkdir(parents=True, exist_ok=True)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(directory / "key.pem"))
    subject = ("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")
    command = ("openssl", "req", "-x509", *subject, *key, "-out", str(directory / "cert.pem"))
    subprocess.run(command, check=True, capture_output=True)


class Renamed:
    """The files in a directory, each replaced by renaming another to it."""

    def __init__(self, directory: Path, first: str) -> None:
        self.directory = directory
        make_pair(first, directory)

    def replace(self, name: str) -> None:
        """Put others in their place."""
        make_pair(name, self.directory / "new")
        for file in NAMES:
            (self.directory / "new" / file).rename(self.directory / file)


class Linked:
    """The files as Kubernetes mounts them: links by `..data`, which is replaced as a whole."""

    def __init__(self, directory: Path, first: str) -> None:
        self.directory = directory
        make_pair(first, directory / f"..{first}")
        (directory / "..data").symlink_to(f"..{first}")
        for file in NAMES:
            (directory / file).symlink_to(f"..data/{file}")

    def replace(self, name: str) -> None:
        """Put others in their place."""
        old = self.directory / (self.directory / "..data").readlink()
        make_pair(name, self.directory / f"..{name}")
        (self.directory / "..data_tmp").symlink_to(f"..{name}")
        (self.directory / "..data_tmp").rename(self.directory / "..data")
        shutil.rmtree(old)


class Archived:
    """The files as ACME clients keep them: a link each, to one of many in another directory."""

    def __init__(self, directory: Path, first: str) -> None:
        self.directory, self._archive = directory, directory.with_name("archive")
        directory.mkdir()
        self.replace(first)

    def replace(self, name: str) -> None:
        """Put others in their place."""
        make_pair(name, self._archive)
        for file in NAMES:
            kept = (self._archive / file).rename(self._archive / f"{name}-{file}")
            (self.directory / "link").symlink_to(os.path.relpath(kept, self.directory))
            (self.directory / "link").rename(self.directory / file)


def connected(port: int, own: Path | None = None) -> http.client.HTTPSConnection:
    """A connection that stays open, whoever the server is; the client's own certificate and key are in a directory."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if own:
        context.load_cert_chain(own / "cert.pem", own / "key.pem")
    made = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
    made.connect()
    return made


def ask(client: http.client.HTTPSConnection) -> int:
    """The status of a page by this connection, which stays open."""
    client.request("GET", "/healthz")
    response = client.getresponse()
    response.read()
    return response.status


def shown(port: int) -> bytes:
    """The certificate that a new connection is shown."""
    with closing(connected(port)) as client:
        return certificate_of(client)


def shows(port: int, certificate: bytes) -> bool:
    """Whether a new connection is shown this one."""
    return shown(port) == certificate


def certificate_of(client: http.client.HTTPSConnection) -> bytes:
    assert isinstance(client.sock, ssl.SSLSocket)
    found = client.sock.getpeercert(binary_form=True)
    assert found
    return found


def in_file(file: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(file.read_text())


@contextmanager
def serving(config: Path, *more: str) -> Iterator[tuple[Tool, int]]:
    """A run that serves as a file says, confined."""
    port = free_port()
    options = ("--listen", f"127.0.0.1:{port}", "--listen-config", str(config), *more)
    with wire() as wired, wired.traffic(), wired.watching(*AS_JSON, *options) as tool:
        tool.wait_for_intervals(1)
        yield tool, port
        result = tool.stop()
    assert result.code == 0, result.said
    (start,) = of_type(result.records, "start")
    assert start["landlock"] is (confinement.why_no_landlock() is None)
    assert total(result.records) > 0


@pytest.mark.parametrize("layout", [Renamed, Linked, Archived])
def test_a_renewed_certificate_is_shown_to_new_connections_and_old_ones_get_an_answer(
    layout: Callable[[Path, str], Renamed | Linked | Archived], tmp_path: Path
) -> None:
    files = layout(tmp_path / "certs", "one")
    config = tmp_path / "config/web.yml"
    config.parent.mkdir()
    config.write_text("".join(["tls_server_config:\n", *(f"  {n[:-4]}_file: ../certs/{n}\n" for n in NAMES)]))
    with serving(config) as (tool, port):
        for name in ("two", "three"):
            with closing(connected(port)) as old:
                assert certificate_of(old) == in_file(files.directory / "cert.pem")
                assert ask(old) == 200 and old.sock is not None
                files.replace(name)
                new = in_file(files.directory / "cert.pem")
                assert eventually(partial(shows, port, new)), "the old one is shown"
                tool.wait_until_it_says(b": read anew: ")
                assert old.sock is not None
                assert ask(old) == 200
                assert old.sock is None, "it stays open after that"


def test_a_client_whose_authority_is_gone_gets_one_more_answer_at_most(tmp_path: Path) -> None:
    clients = [tmp_path / name for name in ("one", "two")]
    for directory in (tmp_path, *clients):
        make_pair(directory.name, directory)
    shutil.copy(clients[0] / "cert.pem", tmp_path / "clients.pem")
    config = tmp_path / "web.yml"
    required = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: clients.pem\n"
    config.write_text(AS_USUAL + required)
    with serving(config) as (tool, port), closing(connected(port, clients[0])) as old:
        assert [ask(old), ask(old)] == [200, 200] and old.sock is not None
        shutil.copy(clients[1] / "cert.pem", tmp_path / "clients.pem")
        assert eventually(lambda: ask(old) == 200 and old.sock is None), "it stays open"
        tool.wait_until_it_says(b": read anew: ")
        with closing(connected(port, clients[0])) as again, pytest.raises(OSError):
            ask(again)
        with closing(connected(port, clients[1])) as other:
            assert ask(other) == 200


def test_a_pair_that_does_not_match_a_removed_and_half_a_file_change_nothing(tmp_path: Path) -> None:
    make_pair("one", tmp_path)
    config = tmp_path / "web.yml"
    config.write_text(AS_USUAL)
    first = in_file(tmp_path / "cert.pem")
    make_pair("two", tmp_path / "two")
    half = (tmp_path / "two/cert.pem").read_text()[:300]
    with serving(config) as (tool, port), connecting(port) as seen:
        shutil.copy(tmp_path / "two/cert.pem", tmp_path / "cert.pem")
        tool.wait_until_it_says(b"certificate and key do not match" + ADVICE + STAYS)
        (tmp_path / "cert.pem").write_text(half)
        tool.wait_until_it_says(ADVICE + STAYS)
        (tmp_path / "cert.pem").unlink()
        tool.wait_until_it_says(b"No such file or directory" + ADVICE + STAYS)
        config.write_text("tls_server_config:\n  cert_file: ce")
        tool.wait_until_it_says(b"has no key_file (set cert_file and key_file)" + STAYS)
        make_pair("two", tmp_path)
        config.write_text(AS_USUAL)
        tool.wait_until_it_says(b": read anew: ")
        assert shown(port) == in_file(tmp_path / "cert.pem")
    assert seen >= {first}, "nobody has connected"
    assert seen <= {first, in_file(tmp_path / "cert.pem")}


@contextmanager
def connecting(port: int) -> Iterator[set[bytes]]:
    """Connect again and again during the block; what was shown. That a connection is refused is an error."""
    seen, ended = set[bytes](), threading.Event()
    failed: list[Exception] = []

    def connect() -> None:
        try:
            while not ended.wait(0.05):
                seen.add(shown(port))
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=connect)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
    assert not failed


@pytest.mark.parametrize("mode", [0o600, 0o644], ids=["closed from the start on", "closed later"])
def test_a_key_of_root_is_read_by_another_user_if_it_was_closed_to_it_at_the_start(mode: int) -> None:
    keeps = mode == 0o600 or not may_daemon_read_the_code()
    with TemporaryDirectory() as place:
        directory = Path(place)
        directory.chmod(0o711)
        (directory / "web.yml").write_text(AS_USUAL)
        make_pair("one", directory)
        (directory / "key.pem").chmod(mode)
        with serving(directory / "web.yml", "--user", "daemon") as (tool, port), connecting(port):
            make_pair("two", directory / "new")
            (directory / "new/key.pem").chmod(0o600)
            for file in NAMES:
                (directory / "new" / file).rename(directory / file)
            if not keeps:
                tool.wait_until_it_says(b"Permission denied" + ADVICE + STAYS + b" (after the start only files that ")
                (directory / "key.pem").chmod(0o644)
            tool.wait_until_it_says(b": read anew: ")
            assert shown(port) == in_file(directory / "cert.pem")


def status(port: int, user: str) -> str:
    """The status of a page for a user, by curl."""
    command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-u", user, f"http://127.0.0.1:{port}/healthz"]
    return subprocess.check_output(command, text=True)


def test_changed_users_count_from_the_next_request_on(tmp_path: Path) -> None:
    config = tmp_path / "web.yml"
    config.write_text(f"basic_auth_users:\n  alice: {SECRET}\n")
    with serving(config) as (tool, port):
        assert status(port, "alice:U*U") == "200"
        (tmp_path / "new").write_text(f"basic_auth_users:\n  bob: {SECRET}\n")
        (tmp_path / "new").rename(config)
        assert eventually(lambda: status(port, "bob:U*U") == "200")
        assert status(port, "alice:U*U") == "401"
        tool.wait_until_it_says(b"read anew")


def test_push_goes_on_with_a_new_authority_and_nothing_is_lost(tmp_path: Path) -> None:
    """Twice the server's certificate is none that the tool believes, until the file of authorities is replaced."""
    served, trusted = tmp_path / "served", tmp_path / "trusted"
    for name, directory in (("one", served), ("another", trusted)):
        make_pair(name, directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served / "cert.pem", served / "key.pem")
    variables = {"VICTORIAMETRICS_CA_FILE": str(trusted / "cert.pem")}
    with (
        victoria_metrics() as server,
        double(lambda n: None, behind=server.base, tls=context, keeps_open=False) as front,
        wire() as wired,
        wired.traffic(),
    ):
        with wired.watching("--push", front.base, *AS_JSON, variables=variables) as tool:
            for following in ("two", None):
                tool.wait_until_it_says(b"TLS: self-signed certificate")
                tool.wait_for_intervals(3)
                shutil.copy(served / "cert.pem", tmp_path / "new")
                (tmp_path / "new").rename(trusted / "cert.pem")
                tool.wait_until_it_says(f": read anew: {trusted}/cert.pem".encode())
                tool.wait_until_it_says(b"delivering again after")
                # an end before the server was asked whether it still has what it had acknowledged would send it again
                assert eventually(partial(has_asked, front, len(front.requests)))
                assert eventually(partial(has_all_until, server, time.time()), pause_s=0.2)
                if following:
                    make_pair(following, served)
                    context.load_cert_chain(served / "cert.pem", served / "key.pem")
            result = tool.stop()
        assert result.code == 0, result.said
        (start,) = of_type(result.records, "start")
        assert start["landlock"] is (confinement.why_no_landlock() is None)
        assert_server_has_all(server, result.records)
        assert last(server, "xtrace_interface_packets_total") == total(result.records) > 0


def has_asked(front: Double, begun: int) -> bool:
    """Whether, after so many requests, the tool has asked what the server has."""
    return any(urlsplit(request.target).path == "/api/v1/export" for request in front.requests[begun:])


def has_all_until(server: Server, at_s: float) -> bool:
    """Whether an interval that ended later has arrived, and none waited then."""
    (waiting,) = server.export("xtrace_catch_push_queue_batches").values()
    return waiting[-1][0] > 1000 * at_s and waiting[-1][1] == 0


def test_a_new_client_certificate_is_presented_by_the_next_connection(tmp_path: Path) -> None:
    for name in ("server", "one", "two"):
        make_pair(name, tmp_path / name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server/cert.pem", tmp_path / "server/key.pem")
    for name in ("one", "two"):
        context.load_verify_locations(tmp_path / name / "cert.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    own = tmp_path / "one"
    paths = {"CA_FILE": tmp_path / "server/cert.pem", "CERT_FILE": own / "cert.pem", "KEY_FILE": own / "key.pem"}
    variables = {f"VICTORIAMETRICS_{name}": str(path) for name, path in paths.items()}
    with ExitStack() as opened:
        asked = opened.enter_context(double(lambda n: Answer(), tls=context, keeps_open=False))
        wired = opened.enter_context(wire())
        opened.enter_context(wired.traffic())
        tool = opened.enter_context(wired.watching("--push", asked.base, *AS_JSON, variables=variables))
        assert eventually(lambda: bool(asked.requests))
        for file in NAMES:
            (tmp_path / "two" / file).rename(own / file)
        assert eventually(lambda: asked.requests[-1].client == "two")
        assert tool.stop().code == 0
    clients = [request.client for request in asked.requests]
    assert set(clients) == {"one", "two"} and clients == sorted(clients), "the old one was presented again"
