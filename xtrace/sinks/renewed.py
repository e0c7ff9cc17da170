"""What is made of files that are replaced while a run goes on: certificates, keys, users."""

from __future__ import annotations

import logging
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from xtrace.errors import UsageError

log = logging.getLogger(__name__)

T = TypeVar("T")
Note = Callable[[str], None]
"""Takes the path of a file that is about to be read."""
Stamp = tuple[int, ...]
"""What differs if a file is another one, or was changed; or the number of the error if it cannot be reached."""

SETTLED_S = 1.0
"""Files changed more recently are left alone: they may be written still, or one of a pair is to follow."""
RETRY_S = 60.0
"""After a failure that may have had another reason than the files, such as a lack of descriptors."""


class Renewed(Generic[T]):
    """A value made of files, and made anew when they have changed. To be used by any thread.

    As long as the new files are of no use, the value stays; that is logged, once per change.
    """

    def __init__(self, name: str, make: Callable[[Note, T | None], T]) -> None:
        """`make` reads the files, notes each of them before, and gets the value so far. Raises UsageError as it does.

        `name` begins the message about files that were read again.
        """
        self._name = name
        self._make = make
        self._lock = threading.Lock()
        self._retry_at: float | None = None
        self._said = ""
        seen: dict[str, Stamp] = {}
        self._value = make(noting(seen), None)
        self._seen = seen
        """never changed: other threads look at it"""

    @property
    def files(self) -> tuple[str, ...]:
        """The files that were read last."""
        return tuple(self._seen)

    @property
    def is_outdated(self) -> bool:
        """Whether the files that were looked at last were of no use."""
        return self._retry_at is not None

    def current(self) -> T:
        """Return the value; before, make it anew if the files have changed and are settled. Never raises."""
        if self._is_due():
            with self._lock:
                if self._is_due():  # no other thread was faster
                    self._renew()
        return self._value

    def renew(self) -> bool:
        """Make the value anew, whether or not the files have changed; return whether it was possible."""
        with self._lock:
            self._said = ""
            return self._renew()

    def _is_due(self) -> bool:
        retry_at = self._retry_at  # once: another thread may set it to None meanwhile
        if retry_at is not None and time.monotonic() >= retry_at:
            return True
        seen = self._seen
        return any(stamp(path) != was for path, was in seen.items()) and all(map(is_settled, seen))

    def _renew(self) -> bool:
        seen: dict[str, Stamp] = {}
        try:
            self._value = self._make(noting(seen, self._refuse_pipe), self._value)
        except Exception as error:  # noqa: BLE001 - whatever is in the files, the run goes on
            self._retry_at = time.monotonic() + RETRY_S
            self._say(error, is_new=seen != self._seen)
            self._seen = seen
            return False
        self._seen, self._retry_at, self._said = seen, None, ""
        log.info("%s: read anew: %s", self._name, ", ".join(file for file, was in seen.items() if len(was) > 1))
        return True

    def _refuse_pipe(self, path: str) -> None:
        """Raise UsageError for a pipe, which is read once: opening it again would wait for somebody to write."""
        try:
            is_pipe = stat.S_ISFIFO(Path(path).stat().st_mode)
        except (OSError, ValueError):
            return  # whoever reads it says why not
        if is_pipe:
            raise UsageError(f"{self._name}: {path}: a pipe cannot be read again (use a file, or restart)")

    def _say(self, error: Exception, is_new: bool) -> None:
        """Log why the value stays, unless that was said already of the same files."""
        text = str(error)
        if text == self._said and not is_new:
            return
        self._said = text
        if isinstance(error.__context__, PermissionError):
            log.error(
                "%s; what was read before stays in use (after the start only files that the run's user may read, in"
                " the directories where they were then, can be read)",
                text,
            )
        else:
            log.error("%s; what was read before stays in use", text)


def noting(seen: dict[str, Stamp], check: Note = lambda path: None) -> Note:
    """Return what notes a file with its stamp of before it is read: what changes meanwhile is seen later.

    `check` may raise UsageError for a file that must not be read.
    """

    def note(path: str) -> None:
        seen[path] = stamp(path)
        check(path)

    return note


def stamp(path: str) -> Stamp:
    """Return what tells a file from its earlier state, where links lead: Kubernetes swaps a link to a directory."""
    try:
        found = Path(path).stat()
    except OSError as error:
        return (error.errno or 0,)
    except ValueError:  # no path at all
        return ()
    if stat.S_ISFIFO(found.st_mode):  # whose times change when it is written and read
        return (found.st_dev, found.st_ino)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def is_settled(path: str) -> bool:
    """Whether the file, or the directory that it is gone from, was not changed in the last moment."""
    for place in (Path(path), Path(path).parent):
        try:
            changed_s = place.stat().st_ctime
        except (OSError, ValueError):
            continue
        return not 0 <= time.time() - changed_s < SETTLED_S
    return True
