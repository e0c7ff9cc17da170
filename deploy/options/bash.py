"""Completion for bash, without functions of the bash-completion package."""

from __future__ import annotations

from shlex import quote
from typing import Any

from deploy.options.words import SUBCOMMANDS, words_of
from xtrace.options.option import Option, Source, Takes
from xtrace.options.table import OPTIONS

TEMPLATE = """\
# bash completion for xtrace-catch. Generated from the table of options: make options

# Prints values for the option $1, one per line. Fails if it takes none.
_xtrace_catch_values() {
    local path
    case $1 in
@VALUES@
        *) return 1 ;;
    esac
}

# Completes a word of a subcommand: $1, one of the flags $2, or a file.
_xtrace_catch_file() {
    if [[ $1 == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$2" -- "$1")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$1")
        compopt -o filenames 2> /dev/null
    fi
}

_xtrace_catch() {
    local line=${COMP_LINE:0:COMP_POINT} flags list option value values chosen prefix candidate command
    flags='@FLAGS@'
    list=' @LISTS@ '
    COMPREPLY=()

    # readline splits words at = and : too; split only at blanks here
    value=${line##*[[:blank:]]}
    line=${line%"$value"}
    read -r _ command _ <<< "$line"
    case $command in
@SUBCOMMANDS@
        '') flags+=' @WORDS@' ;;
    esac
    option=${line%"${line##*[![:blank:]]}"}
    option=${option##*[[:blank:]]}
    if [[ $value == --*=* ]]; then
        option=${value%%=*}
        value=${value#*=}
    elif [[ $value == -* ]]; then
        option=
    fi
    if ! values=$(_xtrace_catch_values "$option"); then
        mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$value")
        return
    fi
    case $option in
        @DIRECTORIES@)
            mapfile -t values < <(compgen -d -- "$value")
            compopt -o filenames 2> /dev/null
            ;;
        *) mapfile -t values <<< "$values" ;;
    esac

    # keep the part of a list before the last comma
    chosen=
    if [[ $list == *" $option "* ]]; then
        chosen=${value%"${value##*,}"}
        compopt -o nospace 2> /dev/null
    fi
    # readline replaces only the text after the last word break character
    prefix=${value%"${value##*[$COMP_WORDBREAKS]}"}
    for candidate in "${values[@]}"; do
        if [[ -n $candidate && ,$chosen != *",$candidate,"* && $chosen$candidate == "$value"* ]]; then
            candidate=$chosen$candidate
            COMPREPLY+=("${candidate#"$prefix"}")
        fi
    done
}

complete -F _xtrace_catch xtrace-catch
"""

PRINT = "[[ ${path##*/} == *[!A-Za-z0-9_.@+-]* ]] || printf '%s\\n' \"${path##*/}\""
"""A name in which there is nothing that a shell acts on: it stands in the command line unquoted."""

SOURCES = {
    Source.INTERFACES: [
        "for path in /sys/class/net/*/ifindex; do",
        "    path=${path%/ifindex}",
        f"    {PRINT}",
        "done",
    ],
    Source.DEVICES: [
        'for path in "${XTRACE_SYSFS:-/sys}"/class/infiniband/*; do',
        f"    {PRINT}",
        "done",
    ],
}


def _values(option: Option[Any]) -> tuple[str, ...]:
    """Return the commands that print the values of an option."""
    words = words_of(option)
    fixed = (f"printf '%s\\n' {' '.join(map(quote, words))}",) if words else ()
    return *fixed, *SOURCES.get(option.source, ())


def _subcommand(name: str) -> str:
    return f"        {name}) _xtrace_catch_file \"$value\" '{' '.join(SUBCOMMANDS[name])}'; return ;;"


def script() -> str:
    """Return the whole file."""
    flags_of: dict[tuple[str, ...], list[str]] = {}
    for option in OPTIONS:
        if option.takes is not Takes.NOTHING:
            flags_of.setdefault(_values(option), []).extend(option.flags)
    cases = []
    for body, flags in flags_of.items():
        cases += [f"        {'|'.join(flags)})", *(f"            {line}" for line in body), "            ;;"]
    lists = [flag for option in OPTIONS if option.takes is Takes.LIST for flag in option.flags]
    directories = [flag for option in OPTIONS if option.source is Source.DIRECTORIES for flag in option.flags]
    return (
        TEMPLATE.replace("@VALUES@", "\n".join(cases))
        .replace("@FLAGS@", " ".join(flag for option in OPTIONS for flag in option.flags))
        .replace("@LISTS@", " ".join(lists))
        .replace("@DIRECTORIES@", "|".join(directories))
        .replace("@SUBCOMMANDS@", "\n".join(_subcommand(name) for name in SUBCOMMANDS))
        .replace("@WORDS@", " ".join(SUBCOMMANDS))
    )
