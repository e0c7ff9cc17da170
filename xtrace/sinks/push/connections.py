"""Connections to a server by urllib3: TLS, client certificates, proxies."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import urllib3
from urllib3.exceptions import HTTPError

from xtrace.errors import UsageError
from xtrace.sinks.push.secrets import Secrets
from xtrace.sinks.renewed import Note, Renewed
from xtrace.sinks.tls import reason
from xtrace.target import PREFIX, Target

Certificates = Renewed[ssl.SSLContext]


def manager(
    target: Target, secrets: Secrets, connecting: Callable[[], None], certificates: Certificates | None
) -> urllib3.PoolManager:
    """Return connections, direct or by a proxy, that call `connecting`. Raises UsageError for an invalid proxy.

    `certificates`: for https; each new connection takes the context that is current then.
    """
    made = _manager(target, secrets, certificates)
    # the pool keeps a connection object when it connects again, and does not count that
    pool = made.connection_from_url(target.url)

    class Connection(pool.ConnectionCls):  # type: ignore[name-defined, misc]
        def connect(self) -> None:
            connecting()
            if certificates is not None:
                self.ssl_context = certificates.current()
            super().connect()

    pool.ConnectionCls = Connection
    return made


def _manager(target: Target, secrets: Secrets, certificates: Certificates | None) -> urllib3.PoolManager:
    parts = urlsplit(target.url)
    context = certificates.current() if certificates else None
    options: dict[str, Any] = {"maxsize": 1, "ssl_context": context, "retries": False}
    proxy = proxy_for(parts.scheme, parts.netloc)
    if proxy is None:
        return urllib3.PoolManager(**options)
    try:
        url = urllib3.util.parse_url(proxy if "://" in proxy else f"http://{proxy}")
        headers = None
        if url.auth:
            username, _, password = unquote(url.auth).partition(":")
            headers = {"proxy-authorization": "Basic " + secrets.note_basic(username, password)}
        return urllib3.ProxyManager(url._replace(auth=None).url, proxy_headers=headers, **options)
    except (HTTPError, ValueError):  # their texts quote the URL, which may contain a password
        raise UsageError(f"{parts.scheme}_proxy: not an http or https URL (use http://host:3128)") from None


def certificates_of(target: Target) -> Certificates | None:
    """Return the TLS context for a target, made anew with its files; None without TLS. Raises UsageError."""
    if not target.is_https:
        return None

    loaded = 0

    def make(note: Note, before: ssl.SSLContext | None) -> ssl.SSLContext:
        nonlocal loaded
        for file in files_of(target):
            note(file)
        made = tls_context(target)
        found = made.cert_store_stats()["x509"]
        if loaded and not found:  # OpenSSL does not say that it cannot read the system's
            raise UsageError(f"{', '.join(files_of(target))}: no certificates (a file of PEM certificates is needed)")
        loaded = found
        return made

    return Renewed(f"push to {target.shown}", make)


def files_of(target: Target) -> list[str]:
    """Return the files that a TLS context is made of; without an own authority the system's, whether or not there."""
    usual = ssl.get_default_verify_paths()
    systems = (
        os.environ.get(usual.openssl_cafile_env, usual.openssl_cafile),
        os.environ.get(usual.openssl_capath_env, usual.openssl_capath),
    )
    authorities = (target.ca_file,) if target.ca_file else systems
    return [file for file in (*authorities, target.cert_file, target.key_file) if file]


def tls_context(target: Target) -> ssl.SSLContext:
    """Return the TLS context for a target. Raises UsageError for unusable files."""
    try:
        context = ssl.create_default_context(cafile=target.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"{PREFIX}CA_FILE {target.ca_file}: {reason(error)} (a file of PEM certificates is needed)"
        ) from None
    if target.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if target.cert_file and target.key_file:
        try:
            # without the callback OpenSSL would prompt for an encrypted key's passphrase on the terminal
            context.load_cert_chain(target.cert_file, target.key_file, password=lambda: "")
        except (OSError, ssl.SSLError) as error:
            files = f"{PREFIX}CERT_FILE {target.cert_file}, {PREFIX}KEY_FILE {target.key_file}"
            if _is_encrypted(target.key_file):
                raise UsageError(f"{files}: the key is encrypted (openssl pkey decrypts it)") from None
            raise UsageError(f"{files}: {reason(error)} (a matching pair of PEM files is needed)") from None
    return context


def _is_encrypted(path: str) -> bool:
    """Return whether a PEM file mentions an encrypted key (RFC 7468, and RFC 1421's Proc-Type)."""
    try:
        return b"ENCRYPTED" in Path(path).read_bytes()
    except OSError:
        return False


def proxy_for(scheme: str, netloc: str) -> str | None:
    """Return the proxy for a server according to http_proxy, https_proxy and no_proxy; None if direct."""
    proxies = getproxies_environment()
    if proxy_bypass_environment(netloc, proxies):
        return None
    return proxies.get(scheme)
