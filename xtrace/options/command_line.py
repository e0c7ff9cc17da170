"""Reads command line and environment by the table of options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, TypeVar

from xtrace.errors import UsageError
from xtrace.options.option import Option, Takes
from xtrace.options.table import MODES, OPTIONS

T = TypeVar("T")


class Answered(Exception):
    """Raised for --help and --version; `str()` is the text to print."""


class _Answer(argparse.Action):
    """Ends parsing with a text. argparse's own actions print it themselves, and fail on a closed pipe."""

    def __call__(self, *_: Any) -> NoReturn:
        raise Answered(self.const())


class Settings:
    """The values of all options."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        answers: Mapping[Option[bool], Callable[[], str]],
    ) -> None:
        """Parse `arguments`. `answers` are options that print a text and exit. Raises Answered, UsageError."""
        self._environment = environment
        self._given = _parse(arguments, answers)
        for option in OPTIONS:
            if option.takes is Takes.ONE and len(set(self.texts(option))) > 1:
                # without the values: --push may contain a password
                raise UsageError(f"{option.name} is given more than once, with different values (give it once)")

    def texts(self, option: Option[Any]) -> list[str]:
        """Return the option's values on the command line, one for each time it is given; "true" for a switch."""
        return self._given[option.name] or []

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


def _parser(answers: Mapping[Option[bool], Callable[[], str]]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xtrace-catch",
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
        # it formats nothing; a given width keeps it from importing shutil to query the terminal
        formatter_class=partial(argparse.HelpFormatter, width=80),
    )
    for option in OPTIONS:
        if option in answers:
            parser.add_argument(*option.flags, dest=option.name, action=_Answer, nargs=0, const=answers[option])
        elif option.takes is Takes.NOTHING:
            parser.add_argument(*option.flags, dest=option.name, action="append_const", const="true")
        else:
            parser.add_argument(*option.flags, dest=option.name, action="append")
    return parser


def _parse(arguments: Sequence[str], answers: Mapping[Option[bool], Callable[[], str]]) -> dict[str, list[str] | None]:
    """Return each option's texts by name, "true" for a switch; None if it is not given."""
    try:
        given, rest = _parser(answers).parse_known_args(arguments)
    except argparse.ArgumentError as error:
        flag = str(error.argument_name).rpartition("/")[2]
        option = next(option for option in OPTIONS if option.name == flag)
        if option.takes is Takes.NOTHING:
            raise UsageError(f"{option.name} takes no value") from None
        raise UsageError(f"{option.name} needs a value ({option.usage})") from None
    unknown = [argument for argument in rest if argument != "--"]
    if unknown:
        raise _unknown(unknown[0])
    return vars(given)


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
