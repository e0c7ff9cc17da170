"""What is known about one option."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    """one each time it is given, which may contain commas"""


class Source(Enum):
    """Where shell completion gets the values that are not known beforehand."""

    NOWHERE = "nowhere"
    INTERFACES = "interfaces"
    """/sys/class/net"""
    DEVICES = "devices"
    """/sys/class/infiniband"""
    DIRECTORIES = "directories"
    THRESHOLDS = "thresholds"
    """xtrace.model.rdma_health.LIMITS, which is imported only where it is needed"""


@dataclass(frozen=True, eq=False, repr=False)
class Option(Generic[T]):
    """One row of the table. `T` is the type of its value."""

    flags: tuple[str, ...]
    """the short one first, the long one last"""
    metavar: str
    """of one value; empty where it takes none"""
    help: str
    """one line"""
    group: str
    parse: Callable[[str, str], T]
    """text, and the name that an error gives it, to the value; raises UsageError"""
    default: T
    default_text: str = ""
    """what stands for the default in help and documents; empty: off"""
    details: str = ""
    """sentences that follow the help in documents"""
    takes: Takes = Takes.ONE
    variables: tuple[str, ...] = ()
    """environment variables that are read where the option is not given"""
    modes: tuple[str, ...] = ()
    """where it changes something; empty: everywhere"""
    values: tuple[str, ...] = ()
    """for shell completion: words that it takes"""
    source: Source = Source.NOWHERE
    is_main: bool = False
    """part of the short help"""

    @property
    def name(self) -> str:
        """As errors name it."""
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
    """An environment variable that no option stands for."""

    name: str
    help: str
    default_text: str = ""
