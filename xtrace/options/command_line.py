"""Reads command line and environment by the table of options."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from xtrace.errors import UsageError
from xtrace.options.option import Option, Takes
from xtrace.options.table import MODES, OPTIONS

T = TypeVar("T")


class Answered(Exception):
    """Raised for --help and --version; `str()` is the text to print."""


Answers = Mapping[Option[bool], Callable[[], str]]
"""Options that are answered by a text, and what makes it."""


class Settings:
    """The values of all options."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], answers: Answers) -> None:
        """Parse `arguments`. Raises Answered, UsageError."""
        self._environment = environment
        self._given = _parse(arguments, answers)
        for option in OPTIONS:
            if option.takes is Takes.ONE and len(set(self.texts(option))) > 1:
                # without the values: --push may contain a password
                raise UsageError(f"{option.name} is given more than once, with different values (give it once)")

    def texts(self, option: Option[Any]) -> list[str]:
        """Return the option's values on the command line, one for each time it is given; "true" for a switch."""
        return self._given[option.name]

    def is_given(self, option: Option[Any]) -> bool:
        """Return whether the option is on the command line."""
        return bool(self.texts(option))

    def value(self, option: Option[T]) -> T:
        """Return the value from the command line, else the environment, else the default. Raises UsageError."""
        texts = self.texts(option)
        if texts:
            return option.parse(",".join(texts) if option.takes is Takes.LIST else texts[0], option.name)
        for variable in option.variables:
            if self._environment.get(variable):
                return option.parse(self._environment[variable], variable)
        return option.default


FLAGS: Mapping[str, Option[Any]] = {flag: option for option in OPTIONS for flag in option.flags}


def _parse(arguments: Sequence[str], answers: Answers) -> dict[str, list[str]]:
    """Return each option's texts by name, "true" for a switch; none if it is not given.

    Raises what comes first, Answered or UsageError; for what is unknown only after the rest.
    """
    given: dict[str, list[str]] = {option.name: [] for option in OPTIONS}
    unknown: list[str] = []
    left = deque(arguments)
    while left and (argument := left.popleft()) != "--":
        option, value = _apart(argument)
        if option is None:
            unknown.append(argument)
        elif option.takes is Takes.NOTHING:
            if value is not None:
                left.appendleft(_next_switch(argument, option, value))
            if option in answers:
                raise Answered(answers[option]())
            given[option.name].append("true")
        else:
            given[option.name].append(_value(option, left) if value is None else value)
    unknown += left
    if unknown:
        raise _unknown(unknown[0])
    return given


def _apart(argument: str) -> tuple[Option[Any] | None, str | None]:
    """Return the option that an argument names, None if it names none, and the value in it: `--count=3`, `-c3`."""
    if argument in FLAGS:
        return FLAGS[argument], None
    flag, equals, value = argument.partition("=")
    if equals and flag in FLAGS:
        return FLAGS[flag], value
    return FLAGS.get(argument[:2]), argument[2:]


def _next_switch(argument: str, option: Option[Any], rest: str) -> str:
    """Return what is left of several short flags in one, such as `-lV`. Raises UsageError for a switch with a value."""
    if argument.startswith("--") or f"-{rest[:1]}" not in FLAGS:
        raise UsageError(f"{option.name} takes no value")
    return f"-{rest}"


def _value(option: Option[Any], left: deque[str]) -> str:
    """Take the value from the arguments that follow. Raises UsageError if there is none, but another option."""
    following = left[0] if left else "--"
    is_number = following[1:].replace(".", "", 1).isdigit()  # a negative one, which is for the option to refuse
    if following.startswith("-") and following != "-" and not is_number:
        raise UsageError(f"{option.name} needs a value ({option.usage})")
    return left.popleft()


ELSEWHERE = {
    "-n": "addresses and ports are always numbers; -c N ends after N intervals",
    "-v": "--debug says more; -V prints the version",
    "--verbose": "use --debug",
    "--json": "use -o json",
}
"""Flags of other tools, and what to use here."""

EXPRESSIONS = frozenset(
    {"and", "dst", "host", "icmp", "ip", "ip6", "net", "not", "port", "portrange", "src", "tcp", "udp"}
)
"""How expressions of tcpdump begin."""


def _unknown(argument: str) -> UsageError:
    """Return the error for an unknown argument, with a suggestion."""
    if argument in EXPRESSIONS:
        return UsageError(
            f"unexpected argument '{argument}' (filters are options: --net, --port, --filter; see --help)"
        )
    if not argument.startswith("-"):
        flag = "-m" if argument in MODES else "-i"
        return UsageError(f"unexpected argument '{argument}' (did you mean {flag} {argument}? see --help)")
    from difflib import get_close_matches  # only needed for a typo

    flag = argument.partition("=")[0]
    if flag in ELSEWHERE:
        return UsageError(f"unknown option {flag} ({ELSEWHERE[flag]})")
    # without the dashes, which make all of them alike
    close = get_close_matches(flag.lstrip("-"), [option.name.lstrip("-") for option in OPTIONS], n=1)
    advice = f"did you mean --{close[0]}?" if close else "see --help-all"
    return UsageError(f"unknown option {flag} ({advice})")
