"""Options that are repeated, and texts that end the run."""

from __future__ import annotations

from typing import Any

import pytest

from xtrace.config import Config, parse
from xtrace.errors import UsageError
from xtrace.model.filters import parse_networks
from xtrace.options.command_line import Answered, Settings
from xtrace.options.option import Option, Takes
from xtrace.options.table import COUNT, DEBUG, LABEL, LIST, OPTIONS, QUIET


def parsed(arguments: str, **environment: str) -> Config:
    return parse(arguments.split(), environment, "1.2.3")


def settings(*arguments: str, **environment: str) -> Settings:
    return Settings(arguments, environment, {})


@pytest.mark.parametrize(
    "arguments, found, expected",
    [
        ("-m rdma -m xdp", lambda config: config.modes, ("xdp", "rdma")),
        ("-i eth0 -i eth1,eth0", lambda config: config.interfaces, ("eth0", "eth1")),
        ("-d mlx5_0 --device rxe*", lambda config: config.rdma.devices, ("mlx5_0", "rxe*")),
        ("--exclude-device a --exclude-device b", lambda config: config.rdma.excluded, ("a", "b")),
        ("-f tcp --filter udp", lambda config: config.filters.types, {"TCP", "UDP"}),
        ("--port 1 --port 2,3", lambda config: config.filters.ports, {1, 2, 3}),
        ("--net 10.0.0.0/8 --net fd00::/8", lambda config: config.filters.networks,
            parse_networks("10.0.0.0/8,fd00::/8", "--net")),
        ("--exclude-net 10.0.0.0/8 --exclude-net ::1", lambda config: config.filters.excluded_networks,
            parse_networks("10.0.0.0/8,::1", "--net")),
        ("-m rdma --threshold idle=7 --threshold paused=8",
            lambda config: (config.rdma.limits["idle"].warn, config.rdma.limits["paused"].warn), (7.0, 8.0)),
        ("--label a=1 --label b=2,3", lambda config: config.labels, (("a", "1"), ("b", "2,3"))),
    ],
)  # fmt: skip
def test_repeated_option_adds_to_its_list(arguments: str, found: Any, expected: object) -> None:
    assert found(parsed(arguments)) == expected


def test_repeated_option_replaces_its_variable_and_does_not_add_to_it() -> None:
    assert parsed("-i eth0 -i eth1", NETWORK_INTERFACE="eth2").interfaces == ("eth0", "eth1")


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.takes is Takes.ONE], ids=lambda o: o.name)
def test_option_with_one_value_is_refused_with_two(option: Option[Any]) -> None:
    with pytest.raises(UsageError) as caught:
        settings(option.flags[0], "http://u:1@m", option.name, "http://u:2@m")
    assert str(caught.value) == f"{option.name} is given more than once, with different values (give it once)"
    assert settings(option.flags[0], "1", option.name, "1").texts(option) == ["1", "1"]


def test_switch_may_be_repeated() -> None:
    assert settings("--debug", "--debug").value(DEBUG) is True
    assert settings().value(DEBUG) is False


def test_value_may_follow_at_once_or_after_an_equals_sign() -> None:
    for arguments in (("-c3",), ("-c=3",), ("-c", "3"), ("--count=3",), ("--count", "3")):
        assert settings(*arguments).value(COUNT) == 3


def test_short_flags_may_share_an_argument() -> None:
    found = settings("-lqc3", "-ql")
    assert (found.texts(LIST), found.texts(QUIET), found.texts(COUNT)) == (["true"] * 2, ["true"] * 2, ["3"])


@pytest.mark.parametrize("arguments", [["-lz"], ["-l=yes"], ["--list="], ["--list=q"], ["-lqz", "-h"]])
def test_switch_takes_no_value_however_it_is_joined(arguments: list[str]) -> None:
    with pytest.raises(UsageError, match=r"^--(list|quiet) takes no value$"):
        settings(*arguments)


def test_negative_number_and_dash_are_values_and_another_flag_is_none() -> None:
    assert settings("-c", "-5", "--label", "-.5", "--label", "-").texts(LABEL) == ["-.5", "-"]
    for flag in ("-q", "--quiet", "--nonsense", "--"):
        with pytest.raises(UsageError, match=r"^--count needs a value \(N\)$"):
            settings("-c", flag, "3")


@pytest.mark.parametrize("after", ["-q", "--nonsense", "eth0"])
def test_nothing_is_an_option_after_two_dashes(after: str) -> None:
    assert settings("-l", "--").texts(LIST) == ["true"]
    with pytest.raises(UsageError, match=f"'?{after}'? \\("):
        settings("--", after)


def test_value_keeps_its_equals_signs_and_commas() -> None:
    assert settings("--label=a=b=c,d").texts(LABEL) == ["a=b=c,d"]


@pytest.mark.parametrize(
    "arguments", [["-h"], ["-h", "--nonsense"], ["--nonsense", "-h"], ["-t", "soon", "-h"], ["-h", "-i"]]
)
def test_help_is_shown_whatever_else_is_wrong(arguments: list[str]) -> None:
    with pytest.raises(Answered, match=r"^usage: "):
        parse(arguments, {}, "1")


def test_variable_of_true_and_false_takes_nothing_else() -> None:
    with pytest.raises(UsageError) as caught:
        parsed("", VICTORIAMETRICS_ENABLED="on")
    assert str(caught.value) == "VICTORIAMETRICS_ENABLED: 'on' is not a boolean (use true or false)"
