"""Batches in files, so that they survive the end of the process: one file per batch, whole or not at all.

A file `N.batch` waits for delivery, in the order of the numbers; `N.unsure` does too, but the server may have stored
it, at least in part. `N.sent` was acknowledged lately, and is kept until the server cannot lose it any more
(acknowledged.py). A file begins with a checksum: a power failure may tear it.
"""

from __future__ import annotations

import fcntl
import logging
import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from re import sub
from struct import Struct, error
from urllib.parse import urlsplit
from zlib import crc32

from xtrace.errors import UsageError
from xtrace.sinks.metrics.sample import Labels
from xtrace.sinks.push.batch import Batch
from xtrace.sinks.push.selfcheck import Probe

log = logging.getLogger(__name__)

WAITING, UNSURE, SENT, PARTIAL = ".batch", ".unsure", ".sent", ".partial"
MAGIC = b"xtspool1"
_CHECKSUM = Struct("<I")
_HEAD = Struct("<IqH")
"""samples; the probe's time in ms, and the length of its selector, which follows; 0 if there is none."""
_BEFORE_SELECTOR = len(MAGIC) + _CHECKSUM.size + _HEAD.size


class Spool:
    """The batches of one set of series for one server, in a directory below `directory`."""

    def __init__(self, directory: str, limit: int, server: str, labels: Labels, form: str) -> None:
        """Raises UsageError if the directory cannot be used, or another run uses it."""
        self.limit = limit
        self.directory = directory
        self.damaged = 0
        """files that were no batches, and are removed"""
        self._told = set[int | None]()
        """errors of files that could not be read"""
        own = Path(directory) / own_name(server, labels, form)
        self._own = own
        try:
            own.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(own / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as failed:
            raise UsageError(f"--spool {own}: {failed.strerror} (choose a directory on a local disk)") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise UsageError(f"--spool {own}: another run uses it (give each run its own directory)") from None
        self._sweep()
        numbers = [int(path.stem) for path in self._files(WAITING, UNSURE, SENT) if path.stem.isdigit()]
        self._next = max(numbers, default=0) + 1

    def close(self) -> None:
        """Let other runs use the directory."""
        os.close(self._lock)

    def load(self, *ends: str) -> list[Batch]:
        """Return the batches of earlier runs that wait (WAITING, UNSURE) or were acknowledged (SENT), oldest first.

        Files that cannot be read are told of, and left as they are.
        """
        found = []
        for path in sorted(self._files(*ends)):
            try:
                batch = self._load(path)
            except OSError as failed:
                self.tell_unreadable(path.name, failed)
                continue
            if batch is None:
                self.damaged += 1
                self.remove(path.name)
            else:
                found.append(batch)
        return found

    def put(self, batch: Batch, body: bytes) -> str:
        """Write a batch with its compressed body; return the file's name. Raises OSError."""
        selector = batch.probe.selector.encode() if batch.probe else b""
        at_ms = batch.probe.at_ms if batch.probe else 0
        checked = _HEAD.pack(batch.samples, at_ms, len(selector)) + selector + body
        name = f"{self._next:016d}"
        self._next += 1
        partial = self._own / (name + PARTIAL)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            with os.fdopen(os.open(partial, flags, 0o600), "wb", buffering=0) as file:
                content = memoryview(MAGIC + _CHECKSUM.pack(crc32(checked)) + checked)
                while content:
                    content = content[file.write(content) or 0 :]
            partial.rename(self._own / (name + WAITING))
        except OSError:
            with suppress(OSError):
                partial.unlink()
            raise
        return name + WAITING

    def read(self, name: str) -> bytes | None:
        """Return a batch's body; None if the file is damaged. Raises OSError if it cannot be read, or is gone."""
        content = (self._own / name).read_bytes()
        try:
            (checksum,) = _CHECKSUM.unpack_from(content, len(MAGIC))
            *_, length = _HEAD.unpack_from(content, len(MAGIC) + _CHECKSUM.size)
        except error:
            return None
        checked = memoryview(content)[len(MAGIC) + _CHECKSUM.size :]
        return content[_BEFORE_SELECTOR + length :] if crc32(checked) == checksum else None

    def mark(self, name: str, end: str) -> str:
        """Note that a batch was acknowledged (SENT), or has to be looked for (UNSURE); return the file's name now."""
        renamed = str(Path(name).with_suffix(end))
        if renamed != name and (self._own / renamed).exists():
            return name  # an earlier version, which does not know all of these, gave the number again
        try:
            (self._own / name).rename(self._own / renamed)
        except OSError:
            return name
        return renamed

    def remove(self, name: str) -> None:
        """Remove a batch."""
        with suppress(OSError):
            (self._own / name).unlink()

    def tell_unreadable(self, name: str, failed: OSError) -> None:
        """Say why a file stays where it is; once for each error, as it is mostly the same for all files."""
        if failed.errno not in self._told:
            log.error("--spool %s: %s; it stays there for a later run", self._own / name, failed.strerror)
        self._told.add(failed.errno)

    def _load(self, path: Path) -> Batch | None:
        """Return a batch without its body; None if the file is damaged. Raises OSError."""
        try:
            with path.open("rb") as file:
                head = file.read(_BEFORE_SELECTOR)
                samples, at_ms, length = _HEAD.unpack_from(head, len(MAGIC) + _CHECKSUM.size)
                selector = file.read(length).decode()
                status = os.fstat(file.fileno())
        except (error, UnicodeDecodeError):
            return None
        if not head.startswith(MAGIC):
            return None
        probe = Probe(selector, at_ms) if selector else None
        return Batch(
            b"",
            samples,
            probe,
            is_packed=True,
            size=status.st_size,
            file=path.name,
            in_doubt=path.suffix == UNSURE,
            changed_at=status.st_ctime,
        )

    def _files(self, *ends: str) -> list[Path]:
        return [path for end in ends for path in self._own.glob(f"*{end}")]

    def _sweep(self) -> None:
        """Remove what a killed run was writing; report what is for other servers."""
        for path in self._own.glob(f"*{PARTIAL}"):
            self.remove(path.name)
        waiting = (path for end in (WAITING, UNSURE) for path in Path(self.directory).glob(f"*/*{end}"))
        others = {path.parent.name for path in waiting} - {self._own.name}
        if others:
            log.warning(
                "--spool %s: has samples for other servers or labels, left alone: %s",
                self.directory,
                ", ".join(sorted(others)),
            )


def own_name(server: str, labels: Labels, form: str) -> str:
    """Return the directory's name for a server and a set of constant labels: readable, and never the same for two."""
    digest = sha256(repr((server, sorted(labels), form)).encode()).hexdigest()[:16]
    return f"{sub('[^A-Za-z0-9.-]+', '-', urlsplit(server).netloc)[:40]}-{digest}"
