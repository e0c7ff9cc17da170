"""The tables of docs/troubleshooting.md."""

from __future__ import annotations

from itertools import groupby

from deploy.messages.cures import CURES
from deploy.messages.found import Message, messages

VERBS = ("add", "choose", "give", "leave", "name", "put", "remove", "run", "see", "set", "unset", "update", "use")
"""What a message says at its end begins so, or names values and examples."""
BY_EXAMPLE = "Correct it: the message says what it takes."


def cure(message: Message) -> str:
    """Return what to do. Raises KeyError if nobody knows."""
    if message.text in CURES:
        return CURES[message.text]
    own = message.own_cure
    if own is None:
        raise KeyError(f"deploy/messages/cures.py does not say what to do about: {message.text}")
    return f"{own[0].upper()}{own[1:]}." if own.split()[0] in VERBS else BY_EXAMPLE


def tables() -> str:
    """Return one table per kind of message."""
    lines: list[str] = []
    for title, group in groupby(messages(), key=lambda message: message.title):
        lines += [f"### {title}", "", "| message | what to do |", "| --- | --- |"]
        lines += [f"| `{_cell(message.text)}` | {_cell(cure(message))} |" for message in group]
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
