"""The command line and the environment, read by the table of options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, TypeVar

from xtrace.errors import UsageError
from xtrace.options.option import Option, Takes
from xtrace.options.table import OPTIONS

T = TypeVar("T")


class Answered(Exception):
    """The command line asked for the help or the version; `str()` is its text."""


class _Answer(argparse.Action):
    """Ends parsing with a text. argparse's own actions print it themselves, and complain of a closed pipe."""

    def __call__(self, *_: Any) -> NoReturn:
        raise Answered(self.const())


class Settings:
    """What was given, for each option."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        answers: Mapping[Option[bool], Callable[[], str]],
    ) -> None:
        """`answers`: options that end the run at once, and their texts. Raises Answered, UsageError."""
        self._environment = environment
        self._given = _parse(arguments, answers)
        for option in OPTIONS:
            if option.takes is Takes.ONE and len(set(self.texts(option))) > 1:
                # without the values: that of --push may hold a password
                raise UsageError(f"{option.name} is given more than once, with different values (give it once)")

    def texts(self, option: Option[Any]) -> list[str]:
        """What the command line has for an option, one text for each time; "true" for a switch."""
        return self._given[option.name] or []

    def is_given(self, option: Option[Any]) -> bool:
        """Whether the command line has it."""
        return bool(self.texts(option))

    def value(self, option: Option[T]) -> T:
        """From the command line, or else from the environment, or else the default. Raises UsageError."""
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
        # nothing is formatted by it; with a width it does not ask the terminal, for which it would import a lot
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
    """Name of an option -> its texts, "true" for a switch; None where it is not given."""
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


def _unknown(argument: str) -> UsageError:
    """What an argument that is no option may have been meant to be."""
    if not argument.startswith("-"):
        return UsageError(f"unexpected argument '{argument}' (use -i to name an interface; see --help)")
    from difflib import get_close_matches  # only where somebody mistyped

    flag = argument.partition("=")[0]
    close = get_close_matches(flag, [option.name for option in OPTIONS], n=1)
    advice = f"did you mean {close[0]}?" if close else "see --help-all"
    return UsageError(f"unknown option {flag} ({advice})")
