"""The description of one option."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Takes(Enum):
    """How many values an option takes."""

    NOTHING = "nothing"
    """a switch"""
    ONE = "one"
    LIST = "list"
    """separated by commas; a repeated option adds to the list"""
    EACH = "each"
    """one each time it is given; the value may contain commas"""


class Source(Enum):
    """Where shell completion finds values that depend on the host."""

    NOWHERE = "nowhere"
    INTERFACES = "interfaces"
    """/sys/class/net"""
    DEVICES = "devices"
    """/sys/class/infiniband"""
    DIRECTORIES = "directories"
    THRESHOLDS = "thresholds"
    """xtrace.model.thresholds.THRESHOLDS, imported only when needed"""


class Option(Generic[T]):
    """One row of the table. `T` is the type of its value."""

    def __init__(
        self,
        flags: tuple[str, ...],
        metavar: str,
        help: str,  # noqa: A002 - the field's name
        group: str,
        parse: Callable[[str, str], T],
        default: T,
        default_text: str = "",
        details: str = "",
        takes: Takes = Takes.ONE,
        variables: tuple[str, ...] = (),
        modes: tuple[str, ...] = (),
        values: tuple[str, ...] = (),
        source: Source = Source.NOWHERE,
        is_main: bool = False,
    ) -> None:
        self.flags = flags
        """the short one first, the long one last"""
        self.metavar = metavar
        """placeholder for one value; empty if it takes none"""
        self.help = help
        """one line"""
        self.group = group
        self.parse = parse
        """takes the text and the name to use in errors, returns the value; raises UsageError"""
        self.default = default
        self.default_text = default_text
        """the default as shown in help and documents; empty: off"""
        self.details = details
        """sentences added to the help in documents"""
        self.takes = takes
        self.variables = variables
        """environment variables read if the option is not given"""
        self.modes = modes
        """the modes it applies to; empty: all"""
        self.values = values
        """for shell completion: the words it accepts"""
        self.source = source
        self.is_main = is_main
        """part of the short help"""

    @property
    def name(self) -> str:
        """The long flag, which errors use."""
        return self.flags[-1]

    @property
    def usage(self) -> str:
        """What follows the flags: `IF[,...]`."""
        return f"{self.metavar}[,...]" if self.takes is Takes.LIST else self.metavar

    @property
    def synopsis(self) -> str:
        """`-i, --interface IF[,...]`"""
        return f"{', '.join(self.flags)} {self.usage}".rstrip()


class Variable(NamedTuple):
    """An environment variable without an option."""

    name: str
    help: str
    default_text: str = ""
