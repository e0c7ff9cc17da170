"""Every row of the table of options is complete, is read, and stands in the documents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from xtrace.errors import UsageError
from xtrace.options import usage
from xtrace.options.command_line import Settings
from xtrace.options.option import Option, Source, Takes
from xtrace.options.table import GROUPS, LABEL, LISTEN_CONFIG, MODES, OPTIONS, PUSH, THRESHOLD, VARIABLES

ROOT = Path(__file__).parents[3]

EXAMPLES = {
    "--mode": "rdma", "--interface": "eth7", "--device": "mlx5_7", "--exclude-device": "mlx5_8", "--direction": "both",
    "--filter": "udp", "--net": "10.0.0.0/8", "--exclude-net": "10.0.0.0/8", "--port": "7", "--interval": "7s",
    "--count": "7", "--format": "text", "--top": "7", "--push": "http://m:7", "--max-series": "7", "--label": "a=7",
    "--color": "always", "--tunnel": "inner", "--by": "owner",
    "--series-by": "hosts", "--push-format": "import", "--spool": "/7:7G", "--listen": "h:7", "--ipfix": "h:7",
    "--listen-config": "/7.yml", "--metrics": "counters",
    "--hook": "tc", "--xdp-mode": "native", "--max-flows": "7", "--max-calls": "700",
    "--threshold": "idle=7", "--ras": "h:7",
    "--ras-interval": "7m", "--sysfs": "/7", "--procfs": "/7", "--user": "7:7",
}  # fmt: skip
"""A value that is not the default, for each option that takes one."""

WITH_VALUE = [option for option in OPTIONS if option.takes is not Takes.NOTHING]


def rows(options: Sequence[Option[Any]] = OPTIONS) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("option", options, ids=[option.name for option in options])


def settings(*arguments: str, **environment: str) -> Settings:
    return Settings(arguments, environment, {})


@rows()
def test_row_is_complete(option: Option[Any]) -> None:
    assert re.fullmatch(r"[^\n.]+[^\n.]|.*\.\.\.\)", option.help), "one line without a full stop"
    assert option.group in GROUPS and set(option.modes) <= set(MODES)
    assert (option.takes is Takes.NOTHING) == (option.metavar == "") == (option.name not in EXAMPLES)
    assert all(re.fullmatch(r"-[a-zA-Z]", flag) for flag in option.flags[:-1])
    assert re.fullmatch(r"--[a-z]+(-[a-z]+)*", option.name)
    assert not option.details or option.details.endswith(".")


@rows(WITH_VALUE)
def test_every_flag_takes_its_value_and_a_wrong_one_is_named(option: Option[Any]) -> None:
    text = EXAMPLES[option.name]
    value = option.parse(text, option.name)
    assert value != option.default
    for flag in option.flags:
        assert settings(flag, text).value(option) == value
    assert settings().value(option) == option.default
    if option not in (PUSH, LABEL, LISTEN_CONFIG) and option.source is not Source.DIRECTORIES:
        with pytest.raises(UsageError, match=f"^{option.name}[: ]"):
            settings(option.name, "," if option is not THRESHOLD else "x").value(option)


@rows([option for option in OPTIONS if option.takes is Takes.NOTHING])
def test_every_switch_is_on_by_every_flag(option: Option[Any]) -> None:
    for flag in option.flags:
        assert settings(flag).value(option) is True


@rows([option for option in WITH_VALUE if option.variables and option not in (PUSH, LABEL)])
def test_variable_is_read_where_the_option_is_not_given(option: Option[Any]) -> None:
    text = EXAMPLES[option.name]
    (variable,) = option.variables
    assert settings(**{variable: text}).value(option) == option.parse(text, variable)
    assert settings(**{variable: ""}).value(option) == option.default
    assert settings(option.name, text, **{variable: "nonsense,"}).value(option) == option.parse(text, variable)


@rows([option for option in WITH_VALUE if option.default and option.default_text])
def test_default_is_the_one_that_is_documented(option: Option[Any]) -> None:
    assert option.parse(option.default_text, option.name) == option.default


@rows([option for option in OPTIONS if option.values])
def test_completed_words_are_taken(option: Option[Any]) -> None:
    for word in option.values:
        option.parse(word, option.name)


def test_no_flag_and_no_variable_stands_for_two_things() -> None:
    flags = [flag for option in OPTIONS for flag in option.flags]
    variables = [name for option in OPTIONS for name in option.variables]
    variables += [name for variable in VARIABLES for name in variable.name.split(", ")]
    assert len(flags) == len(set(flags))
    assert len(variables) == len(set(variables))


def test_every_variable_of_the_push_is_listed() -> None:
    source = (ROOT / "xtrace/target.py").read_text()
    read = {f"VICTORIAMETRICS_{name}" for name in re.findall(r"(?:variable\(\"|\{PREFIX\})([A-Z_]+)", source)}
    listed = {variable.name for variable in VARIABLES} | set(PUSH.variables)
    assert read == {name for name in listed if name.startswith("VICTORIAMETRICS_")}


@rows()
def test_whole_help_has_the_row(option: Option[Any]) -> None:
    text = usage.complete()
    assert re.search(rf"^ +{re.escape(option.synopsis)}(\s|$)", text, re.MULTILINE)
    assert option.help in re.sub(r"\s+", " ", text)
    assert [name for name in option.variables if name not in text] == []


def test_words_with_hyphens_are_not_broken_at_the_end_of_a_line() -> None:
    room = usage.WIDTH - usage.HELP_COLUMN
    lines = list(usage._columns("  --x", f"{'a' * (room - 10)} remote-write-of-samples"))
    assert [line[usage.HELP_COLUMN :] for line in lines] == ["a" * (room - 10), "remote-write-of-samples"]
