"""The user of --user: by its name in /etc/passwd, or by numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from xtrace.errors import UsageError

PASSWD, GROUP = Path("/etc/passwd"), Path("/etc/group")
"""Read here, not by libc: the static executable has none of the libraries that nsswitch.conf names."""
MOST_ID = 2**32 - 2
"""-1 means "as it is" to setresuid(2)."""


class Account(NamedTuple):
    """Whom a process may be."""

    user: int
    group: int
    groups: tuple[int, ...] = ()
    """supplementary ones"""


def parse_account(text: str, name: str) -> Account:
    """Return the user of `daemon`, or of `65534:65534`: user and group by number. Raises UsageError, also for root."""
    given = text.strip()
    numbers = re.fullmatch(r"([0-9]{1,10}):([0-9]{1,10})", given)
    account = Account(int(numbers[1]), int(numbers[2])) if numbers else _named(given, name)
    if max(account.user, account.group) > MOST_ID:
        raise UsageError(f"{name} {given} is out of range (0 to {MOST_ID})")
    if account.user == 0:
        raise UsageError(f"{name} {given} is root, who gives up nothing (choose another user)")
    return account


def _named(user: str, name: str) -> Account:
    for fields in _lines(PASSWD, 4):
        if fields[0] == user and fields[2].isdecimal() and fields[3].isdecimal():
            group = int(fields[3])
            others = (int(of[2]) for of in _lines(GROUP, 4) if user in of[3].split(",") and of[2].isdecimal())
            return Account(int(fields[2]), group, tuple(sorted({*others} - {group})))
    raise UsageError(f"{name}: no user '{user}' in {PASSWD} (give numbers, UID:GID)")


def _lines(path: Path, least: int) -> list[list[str]]:
    """Return the fields of each line that has at least `least` of them; nothing if there is no such file."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return []
    return [fields for fields in (line.split(":") for line in text.splitlines()) if len(fields) >= least]
