"""Lists of options and variables in the manual page and docs/options.md."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from textwrap import wrap
from typing import Any

from xtrace.options.option import Option
from xtrace.options.table import GROUPS, OPTIONS, VARIABLES

WIDTH = 78
"""Line width of the manual page's source."""


def replace_parts(text: str, begin: str, end: str, parts: Mapping[str, str]) -> str:
    """Replace the parts of `text` between `begin`, formatted with the part's name, and `end`. Raises ValueError."""
    for name, new in parts.items():
        start = text.index(begin.format(name)) + len(begin.format(name))
        text = text[:start] + new + text[text.index(end, start) :]
    return text


def sentences(option: Option[Any]) -> str:
    """Return help and details of an option as sentences."""
    text = _capitalized(option.help, option.values)
    modes = [f"Only in mode {' or '.join(option.modes)}."] if option.modes else []
    return " ".join(filter(None, [f"{text}.", option.details, *modes]))


def _capitalized(text: str, names: Collection[str]) -> str:
    """Capitalize the first letter, unless the first word is one of `names`."""
    return text if re.split(r"\W", text)[0] in names else text[0].upper() + text[1:]


def variables() -> Iterator[tuple[str, str, str]]:
    """Yield name, meaning and default of all environment variables."""
    for option in OPTIONS:
        # the details of --push explain its two variables
        meaning = f"the same as {option.name}" if len(option.variables) == 1 else f"see {option.name}"
        yield from ((variable, meaning, "") for variable in option.variables)
    yield from VARIABLES


def markdown_options() -> str:
    """Return a table for each group."""
    lines = []
    for group in GROUPS:
        lines += ["", f"### {group}", "", "| option | environment | default | meaning |", "| --- | --- | --- | --- |"]
        for option in (option for option in OPTIONS if option.group == group):
            *short, name = option.flags
            flags = ", ".join([*(f"`{flag}`" for flag in short), f"`{f'{name} {option.usage}'.strip()}`"])
            environment = ", ".join(f"`{variable}`" for variable in option.variables)
            lines.append(_row(flags, environment, _markdown(option.default_text), _markdown(sentences(option))))
    return "\n".join([*lines, "", ""])


def markdown_environment() -> str:
    """Return a table of the variables without an option."""
    lines = ["", "| variable | default | meaning |", "| --- | --- | --- |"]
    for name, meaning, default in VARIABLES:
        names = ", ".join(f"`{part}`" for part in name.split(", "))
        lines.append(_row(names, _markdown(default), _markdown(meaning)))
    return "\n".join([*lines, "", ""])


def _row(*cells: str) -> str:
    return f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in cells)}|"


def _markdown(text: str) -> str:
    return text.replace("*", r"\*").replace("|", r"\|")


def manual_options() -> str:
    """Return a section of the manual page for each group."""
    lines = []
    for group in GROUPS:
        lines.append(f".SS {group}")
        for option in (option for option in OPTIONS if option.group == group):
            flags = ' ", " '.join(_roff(flag) for flag in option.flags)
            usage = re.sub(r"[A-Z]+", r"\\fI\g<0>\\fP", option.usage)
            lines += [".TP", f'.BR {flags} " {usage}"' if usage else f".BR {flags}"]
            default = f"Default: {option.default_text}." if option.default_text else ""
            environment = f"Environment: {', '.join(option.variables)}." if option.variables else ""
            lines += _paragraph(" ".join(filter(None, [sentences(option), default, environment])))
    return "\n".join([*lines, ""])


def manual_environment() -> str:
    """Return all variables, including those of options."""
    lines = []
    for name, meaning, default in variables():
        lines += [".TP", f".B {name}"]
        text = _capitalized(meaning, ("host_ip", "collect_agg"))
        lines += _paragraph(f"{text}. Default: {default}." if default else f"{text}.")
    return "\n".join([*lines, ""])


def _paragraph(text: str) -> list[str]:
    """Return lines of running text, none of which looks like a roff request."""
    lines = wrap(_roff(text), WIDTH, break_long_words=False, break_on_hyphens=False)
    return [f"\\&{line}" if line.startswith((".", "'")) else line for line in lines]


def _roff(text: str) -> str:
    """Escape option dashes as minus signs, which can be copied, instead of hyphens."""
    return re.sub(r"(?<![\w-])--?(?=[a-z])", lambda found: r"\-" * len(found.group()), text).replace("^", r"\(ha")
