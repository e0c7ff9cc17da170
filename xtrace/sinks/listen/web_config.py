"""TLS and passwords by a configuration file in the form of Prometheus' exporters (web.config.file).

https://prometheus.io/docs/prometheus/latest/configuration/https/

The file is YAML. Only what this form needs of it is read: mappings of two levels, plain or quoted words, comments.
Everything else, and every setting without an effect here, is refused: a setting for access must not be ignored.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from xtrace.errors import UsageError
from xtrace.sinks.renewed import Note
from xtrace.sinks.tls import reason

_T = TypeVar("_T")

VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
CLIENTS = {
    "NoClientCert": ssl.CERT_NONE,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
}
TLS, USERS = "tls_server_config", "basic_auth_users"
SETTINGS = ("cert_file", "key_file", "client_ca_file", "client_auth_type", "min_version")
_BCRYPT = re.compile(r"\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}")

_LINE = re.compile(r"""( *)([A-Za-z0-9_.-]+):(?:\s+("[^"]*"|'[^']*'|[^"'\s#\[{&*!|>%@`][^#]*?))?\s*(?:\s#.*|\#.*)?""")


@dataclass(frozen=True)
class WebConfig:
    """Who may connect, and how."""

    tls: ssl.SSLContext | None = None
    users: Mapping[str, str] = field(default_factory=dict)
    """bcrypt hashes of passwords, by user; empty: nobody needs one"""

    @property
    def protection(self) -> set[str]:
        """What keeps clients out, by the names of the settings."""
        required = self.tls is not None and self.tls.verify_mode is ssl.CERT_REQUIRED
        newest = self.tls is not None and self.tls.minimum_version is VERSIONS["TLS13"]
        kinds = {
            TLS: self.tls is not None,
            USERS: bool(self.users),
            "client_auth_type": required,
            "min_version TLS13": newest,
        }
        return {name for name, is_there in kinds.items() if is_there}


def web_config(path: str, note: Note, before: WebConfig | None = None) -> WebConfig:
    """Return what a file describes; `note` is told of it, and of those that it names, just before they are read.

    Raises UsageError, also for what would be open to more clients than `before`: half a file must not open it to all.
    """
    made = _web_config(path, note)
    lost = (before.protection - made.protection) if before else set()
    if lost:
        gone = ", ".join(sorted(lost))
        raise UsageError(f"--listen-config {path}: has no {gone} any more (restart to go without)")
    return made


def _web_config(path: str, note: Note) -> WebConfig:
    note(path)
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not text"
        raise UsageError(
            f"--listen-config {path}: {why} (a web.config.file of Prometheus' exporters is needed)"
        ) from None
    sections = parse(text, path)
    for user, hashed in sections.get(USERS, {}).items():
        if not _BCRYPT.fullmatch(hashed):
            raise UsageError(f"--listen-config {path}: {USERS}: {user} has no bcrypt hash (htpasswd -nBC 10 {user})")
    return WebConfig(tls_context(sections[TLS], path, note) if TLS in sections else None, sections.get(USERS, {}))


def tls_context(settings: Mapping[str, str], path: str, note: Note) -> ssl.SSLContext:
    """Return the TLS context of tls_server_config. Raises UsageError."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = _word(settings, "min_version", VERSIONS, "TLS12", path)
    clients = _word(settings, "client_auth_type", CLIENTS, "NoClientCert", path)
    if ("client_ca_file" in settings) != (clients is not ssl.CERT_NONE):
        raise UsageError(f"--listen-config {path}: client_ca_file and client_auth_type need each other (set both)")
    names = {name: str(Path(path).parent / settings[name]) for name in settings if name.endswith("_file")}
    for file in names.values():
        note(file)
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
        files, why = ", ".join(names.values()), reason(error)
        raise UsageError(f"--listen-config {path}: {files}: {why} (PEM files, the key not encrypted)") from None
    made.verify_mode = clients
    return made


def parse(text: str, path: str) -> Mapping[str, Mapping[str, str]]:
    """Return the settings of tls_server_config and basic_auth_users. Raises UsageError for anything else."""
    sections, section = dict[str, dict[str, str]](), ""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#") or line.strip() == "---":
            continue
        found = _LINE.fullmatch(line)
        where = f"--listen-config {path}, line {number}"
        if not found:
            raise UsageError(f"{where}: '{line.strip()}' is not understood (use 'name: value', indented by spaces)")
        indent, name, value = found.groups()
        if indent and section:
            _set(sections[section], section, name, value, where)
        elif name not in (TLS, USERS) or value is not None or name in sections:
            raise UsageError(f"{where}: {name} is not supported ({TLS} and {USERS}, each once)")
        else:
            section, sections[name] = name, {}
    if not any(sections.values()):
        raise UsageError(f"--listen-config {path}: has no {TLS} or {USERS} (or leave out --listen-config)")
    return sections


def _set(settings: dict[str, str], section: str, name: str, value: str | None, where: str) -> None:
    """Add one setting to its section."""
    if section != USERS and name not in SETTINGS:
        raise UsageError(f"{where}: {name} is not supported ({TLS} with {', '.join(SETTINGS)})")
    if value is None or name in settings:
        raise UsageError(f"{where}: {name} needs one value, once")
    settings[name] = value[1:-1] if value[0] in "\"'" else value


def _word(settings: Mapping[str, str], name: str, words: Mapping[str, _T], default: str, path: str) -> _T:
    word = settings.get(name, default)
    if word not in words:
        raise UsageError(f"--listen-config {path}: {name}: unknown value '{word}' (available: {', '.join(words)})")
    return words[word]
