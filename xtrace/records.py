"""Dataclasses that are made fast: of their methods only `__init__` is compiled, and only when it is first called.

The module `dataclasses` compiles all of them when a class is made, which took a third of the CPU time up to the first
packet counted. Type checkers, `dataclasses.replace()` and `dataclasses.fields()` know these as dataclasses. There is
only what is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace

    __all__ = ["dataclass", "field", "replace"]
else:
    NOTHING = object()

    class field:  # noqa: N801 - as in dataclasses
        """What a field has besides its name: a default or what makes one, or it is no argument or not shown."""

        def __init__(
            self,
            default: Any = NOTHING,
            default_factory: Callable[[], Any] | None = None,
            init: bool = True,
            repr: bool = True,  # noqa: A002
        ) -> None:
            self.default = default
            self.default_factory = default_factory
            self.init = init
            self.repr = repr

        @property
        def is_needed(self) -> bool:
            """Whether it must be given."""
            return self.init and self.default is NOTHING and self.default_factory is None

    class _AsDataclass:
        """The attribute that makes a class a dataclass to the module of that name."""

        def __get__(self, _: Any, cls: type) -> Mapping[str, Any]:
            import dataclasses

            told = [(name, object, dataclasses.field(init=each.init)) for name, each in cls.__record_fields__.items()]
            return dataclasses.make_dataclass(cls.__name__, told).__dataclass_fields__

    def dataclass(
        cls: type | None = None,
        *,
        frozen: bool = False,
        eq: bool = True,
        repr: bool = True,  # noqa: A002
        slots: bool = False,
    ) -> Any:
        """Make the annotations of a class the fields of its instances."""
        if cls is None:
            return lambda decorated: dataclass(decorated, frozen=frozen, eq=eq, repr=repr, slots=slots)
        own = dict(_own_fields(cls))
        if slots:
            left = {name: value for name, value in vars(cls).items() if name not in {*own, "__dict__", "__weakref__"}}
            cls = type(cls)(cls.__name__, cls.__bases__, {**left, "__slots__": tuple(own)})
        fields = {**getattr(cls, "__record_fields__", {}), **own}
        cls.__record_fields__ = fields
        cls.__dataclass_fields__ = _AsDataclass()
        cls.__init__ = _init(cls, frozen)
        if repr:
            cls.__repr__ = _repr
        if eq:
            _compare(cls, tuple(fields), frozen)
        if frozen:
            cls.__setattr__ = cls.__delattr__ = _refuse
        return cls

    def _own_fields(cls: type) -> Iterator[tuple[str, field]]:
        """Yield the fields that a class adds; what is left of their defaults is as in dataclasses."""
        for name, annotation in cls.__annotations__.items():
            if "ClassVar" in str(annotation):
                continue
            default = vars(cls).get(name, NOTHING)
            if isinstance(default, field):
                if default.default is NOTHING:
                    delattr(cls, name)
                else:
                    setattr(cls, name, default.default)
            yield name, default if isinstance(default, field) else field(default)

    def _init(cls: type, frozen: bool) -> Callable[..., None]:
        """Return an `__init__` that replaces itself by a compiled one when the first instance is made."""

        def __init__(self: Any, *given: Any, **named: Any) -> None:  # noqa: N807
            cls.__init__ = _compiled_init(cls, frozen)
            cls.__init__(self, *given, **named)

        return __init__

    def _compiled_init(cls: type, frozen: bool) -> Callable[..., None]:
        scope: dict[str, Any] = {"_nothing": NOTHING, "_store": object.__setattr__}
        arguments, lines = ["self"], []
        for name, each in cls.__record_fields__.items():
            if not each.init:
                continue
            scope[f"default_{name}"], scope[f"make_{name}"] = each.default, each.default_factory
            arguments.append(name if each.is_needed else f"{name}=default_{name}")
            if each.default_factory:
                lines.append(f"if {name} is _nothing: {name} = make_{name}()")
            lines.append(f"_store(self, {name!r}, {name})" if frozen else f"self.{name} = {name}")
        if hasattr(cls, "__post_init__"):
            lines.append("self.__post_init__()")
        body = "\n ".join(lines or ["pass"])
        exec(f"def __init__({', '.join(arguments)}):\n {body}", scope)  # noqa: S102 - of names in our own classes
        made: Callable[..., None] = scope["__init__"]
        made.__qualname__ = f"{cls.__qualname__}.__init__"
        return made

    def _repr(self: Any) -> str:
        shown = (name for name, each in self.__record_fields__.items() if each.repr)
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def _compare(cls: type, names: tuple[str, ...], frozen: bool) -> None:
        """Give the class == by its fields, and hash() if they cannot change."""
        values = attrgetter(*names) if names else lambda _: ()

        def __eq__(self: Any, other: object) -> Any:  # noqa: N807
            return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

        cls.__eq__ = __eq__
        cls.__hash__ = (lambda self: hash(values(self))) if frozen else None

    def _refuse(self: Any, name: str, *_: Any) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def replace(self: Any, **changes: Any) -> Any:
        """Return a record with other values in some fields."""
        kept = {name: getattr(self, name) for name, each in self.__record_fields__.items() if each.init}
        return type(self)(**{**kept, **changes})
