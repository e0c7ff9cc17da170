"""From the words after `/` to a Matcher: those of the filter options, with or without dashes, or their bare values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from xtrace.errors import UsageError
from xtrace.model.filters import TYPES, parse_networks, parse_ports, parse_types
from xtrace.sinks.live.matching import Matcher

EXAMPLES = "tcp,roce  10.0.0.0/8  443,8000-8100  exclude-net fd00::/8  exclude-dns  eth*"

Words = Iterator[str]


def matcher(text: str) -> Matcher:
    """Return the Matcher of `tcp port 443 eth*`. Raises UsageError.

    What is no type, network or port is a name of an interface, a device or a process, with `*` and `?`.
    """
    words = iter(text.replace("=", " ").split())
    chosen = Matcher(text.strip())
    for word in words:
        name = word.lstrip("-").lower()
        if name in _OPTIONS:
            chosen = _OPTIONS[name](chosen, words)
        elif word.startswith("-"):
            raise UsageError(f"{word} does not filter here (for example: {EXAMPLES})")
        else:
            chosen = _OPTIONS[_option_of(word)](chosen, iter([word]))
    return chosen


def _option_of(word: str) -> str:
    """Return the option whose bare value a word is."""
    if all(item.lower() in TYPES for item in word.split(",")):
        return "filter"
    if ":" in word or (word[0].isdigit() and "." in word):
        return "net"
    return "port" if word[0].isdigit() else "interface"


def _value(words: Words, name: str) -> str:
    value = next(words, None)
    if value is None:
        raise UsageError(f"{name} needs a value (for example: {EXAMPLES})")
    return value


def _types(chosen: Matcher, words: Words) -> Matcher:
    return _with(chosen, types=chosen.filters.types | parse_types(_value(words, "filter"), "filter"))


def _networks(chosen: Matcher, words: Words) -> Matcher:
    return _with(chosen, networks=chosen.filters.networks + parse_networks(_value(words, "net"), "net"))


def _no_networks(chosen: Matcher, words: Words) -> Matcher:
    given = parse_networks(_value(words, "exclude-net"), "exclude-net")
    return _with(chosen, excluded_networks=chosen.filters.excluded_networks + given)


def _ports(chosen: Matcher, words: Words) -> Matcher:
    return _with(chosen, ports=chosen.filters.ports | parse_ports(_value(words, "port"), "port"))


def _no_dns(chosen: Matcher, words: Words) -> Matcher:
    return _with(chosen, exclude_dns=True)


def _names(chosen: Matcher, words: Words) -> Matcher:
    return replace(chosen, names=(*chosen.names, *_value(words, "interface").split(",")))


def _with(chosen: Matcher, **changes: object) -> Matcher:
    filters = chosen.filters._replace(**changes)  # type: ignore[arg-type]  # each is its field's
    return replace(chosen, filters=filters)


_OPTIONS: dict[str, Callable[[Matcher, Words], Matcher]] = {
    "f": _types,
    "filter": _types,
    "net": _networks,
    "exclude-net": _no_networks,
    "port": _ports,
    "exclude-dns": _no_dns,
    "i": _names,
    "interface": _names,
    "d": _names,
    "device": _names,
}
