"""TLS by a configuration file in the form of Prometheus' exporters (web.config.file).

https://prometheus.io/docs/prometheus/latest/configuration/https/

The file is YAML. Only what this form needs of it is read: mappings of two levels, plain or quoted words, comments.
Everything else, and every setting without an effect here, is refused: a setting for access must not be ignored.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from xtrace.errors import UsageError

_T = TypeVar("_T")

VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
CLIENTS = {
    "NoClientCert": ssl.CERT_NONE,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
}
TLS, USERS = "tls_server_config", "basic_auth_users"
SETTINGS = ("cert_file", "key_file", "client_ca_file", "client_auth_type", "min_version")

_LINE = re.compile(r"""( *)([A-Za-z0-9_.-]+):(?:\s+("[^"]*"|'[^']*'|[^"'\s#\[{&*!|>%@`][^#]*?))?\s*(?:\s#.*|\#.*)?""")


def tls_context(path: str) -> ssl.SSLContext:
    """Return the TLS context that a file describes. Raises UsageError."""
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not text"
        raise UsageError(
            f"--listen-config {path}: {why} (a web.config.file of Prometheus' exporters is needed)"
        ) from None
    settings = parse(text, path)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = _word(settings, "min_version", VERSIONS, "TLS12", path)
    clients = _word(settings, "client_auth_type", CLIENTS, "NoClientCert", path)
    if ("client_ca_file" in settings) != (clients is not ssl.CERT_NONE):
        raise UsageError(f"--listen-config {path}: client_ca_file and client_auth_type need each other (set both)")
    names = {name: str(Path(path).parent / settings[name]) for name in settings if name.endswith("_file")}
    try:
        # without the callback OpenSSL would prompt for an encrypted key's passphrase on the terminal
        made.load_cert_chain(names["cert_file"], names["key_file"], password=lambda: "")
        if "client_ca_file" in names:
            made.load_verify_locations(names["client_ca_file"])
    except KeyError as missing:
        raise UsageError(
            f"--listen-config {path}: {TLS} has no {missing.args[0]} (set cert_file and key_file)"
        ) from None
    except OSError as error:
        why = getattr(error, "reason", None) or error.strerror
        files = ", ".join(names.values())
        raise UsageError(f"--listen-config {path}: {files}: {why} (PEM files, the key not encrypted)") from None
    made.verify_mode = clients
    return made


def parse(text: str, path: str) -> Mapping[str, str]:
    """Return the settings of tls_server_config. Raises UsageError for anything else in the file."""
    section, settings = "", dict[str, str]()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#") or line.strip() == "---":
            continue
        found = _LINE.fullmatch(line)
        where = f"--listen-config {path}, line {number}"
        if not found:
            raise UsageError(f"{where}: '{line.strip()}' is not understood (use 'name: value', indented by spaces)")
        indent, name, value = found.groups()
        if not indent:
            section = name
            if section == USERS:
                raise UsageError(f"{where}: {USERS} is not supported (use client certificates, or a proxy in front)")
        if (not indent and (section != TLS or value is not None)) or (indent and name not in SETTINGS):
            raise UsageError(f"{where}: {name} is not supported ({TLS} with {', '.join(SETTINGS)})")
        if indent:
            if value is None or name in settings:
                raise UsageError(f"{where}: {name} needs one value, once")
            settings[name] = value[1:-1] if value[0] in "\"'" else value
    if section != TLS:
        raise UsageError(f"--listen-config {path}: has no {TLS} (or leave out --listen-config)")
    return settings


def _word(settings: Mapping[str, str], name: str, words: Mapping[str, _T], default: str, path: str) -> _T:
    word = settings.get(name, default)
    if word not in words:
        raise UsageError(f"--listen-config {path}: {name}: unknown value '{word}' (available: {', '.join(words)})")
    return words[word]
