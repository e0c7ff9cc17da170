"""Completion for bash. It needs no functions of the bash-completion package."""

from __future__ import annotations

from shlex import quote
from typing import Any

from deploy.options.words import words_of
from xtrace.options.option import Option, Source, Takes
from xtrace.options.table import OPTIONS

TEMPLATE = """\
# bash completion for xtrace-catch. Generated from the table of options: make options

# Values for the option $1, one a line. Fails where it takes none.
_xtrace_catch_values() {
    local path
    case $1 in
@VALUES@
        *) return 1 ;;
    esac
}

_xtrace_catch() {
    local line=${COMP_LINE:0:COMP_POINT} flags list option value values chosen prefix candidate
    flags='@FLAGS@'
    list=' @LISTS@ '
    COMPREPLY=()

    # readline splits words at = and : too; what counts here is what blanks separate
    value=${line##*[[:blank:]]}
    line=${line%"$value"}
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

    # of a list what is before the last comma stays
    chosen=
    if [[ $list == *" $option "* ]]; then
        chosen=${value%"${value##*,}"}
        compopt -o nospace 2> /dev/null
    fi
    # readline replaces only what follows the last character at which it splits words
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

SOURCES = {
    Source.INTERFACES: [
        "for path in /sys/class/net/*/ifindex; do",
        "    path=${path%/ifindex}",
        "    printf '%s\\n' \"${path##*/}\"",
        "done",
    ],
    Source.DEVICES: [
        'for path in "${XTRACE_SYSFS:-/sys}"/class/infiniband/*; do',
        "    [[ -e $path ]] && printf '%s\\n' \"${path##*/}\"",
        "done",
        "true",
    ],
}


def _values(option: Option[Any]) -> tuple[str, ...]:
    """Commands that print the values of an option."""
    words = words_of(option)
    fixed = (f"printf '%s\\n' {' '.join(map(quote, words))}",) if words else ()
    return *fixed, *SOURCES.get(option.source, ())


def script() -> str:
    """The whole file."""
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
    )
