"""Our dataclasses behave like those of the standard library, as far as they go."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from xtrace import records

Make = Callable[..., Any]

BOTH = pytest.mark.parametrize("make", [dataclasses.dataclass, records.dataclass], ids=["stdlib", "ours"])
"""So that the tests say what is so for both."""


def field(make: Make, **how: Any) -> Any:
    return (records if make is records.dataclass else dataclasses).field(**how)


def point(make: Make, **how: Any) -> Any:
    class Point:
        kind: ClassVar[str] = "point"
        x: int
        y: int = 2
        tags: list[str] = field(make, default_factory=list)
        secret: str = field(make, default="s", repr=False)

        @property
        def sum(self) -> int:
            return self.x + self.y

    return make(**how)(Point)


@BOTH
@pytest.mark.parametrize("how", [{}, {"frozen": True}, {"slots": True}, {"frozen": True, "slots": True}])
def test_fields_are_given_by_place_or_name_or_by_default(make: Make, how: dict[str, bool]) -> None:
    cls = point(make, **how)
    for made in (cls(1), cls(x=1), cls(1, 2, [], secret="s")):
        assert (made.x, made.y, made.tags, made.secret, made.kind, made.sum) == (1, 2, [], "s", "point", 3)
    assert cls(1).tags is not cls(1).tags
    assert cls(1, tags=["a"]).tags == ["a"]
    assert hasattr(cls(1), "__dict__") is not how.get("slots", False)


@BOTH
@pytest.mark.parametrize("arguments, named", [((), {}), ((1, 2, [], "s", 5), {}), ((1,), {"x": 1}), ((1,), {"z": 1})])
def test_wrong_arguments_are_type_errors(make: Make, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    cls = point(make)
    for _ in range(2):  # the first call and later ones
        with pytest.raises(TypeError):
            cls(*arguments, **named)


@BOTH
def test_equal_is_what_has_equal_fields_and_the_same_class(make: Make) -> None:
    cls, other = point(make), point(make)
    assert cls(1) == cls(1, 2)
    assert cls(1) != cls(3)
    assert cls(1) != other(1)
    assert cls(1) != 1
    apart = point(make, eq=False)
    assert apart(1) != apart(1)
    assert isinstance(hash(apart(1)), int)


@BOTH
def test_hashable_is_what_cannot_change(make: Make) -> None:
    cls = point(make, frozen=True)
    assert hash(cls(1, tags=())) == hash(cls(1, 2, ()))
    with pytest.raises(TypeError):
        hash(point(make)(1))


@BOTH
@pytest.mark.parametrize("slots", [False, True])
def test_frozen_ones_do_not_change_and_others_do(make: Make, slots: bool) -> None:
    frozen = point(make, frozen=True, slots=slots)(1)
    with pytest.raises(AttributeError):
        frozen.x = 2
    with pytest.raises(AttributeError):
        del frozen.x
    assert frozen.x == 1
    free = point(make, slots=slots)(1)
    free.x = 2
    assert free.x == 2


@BOTH
def test_text_shows_all_but_secrets(make: Make) -> None:
    assert repr(point(make)(1)).endswith("Point(x=1, y=2, tags=[])")
    assert "x=1" not in repr(point(make, repr=False)(1))


@BOTH
def test_a_class_adds_its_fields_to_those_of_its_base(make: Make) -> None:
    base = point(make, frozen=True)

    class Space(base):  # type: ignore[misc,valid-type]
        z: int = 3
        y: int = 7

    space = make(frozen=True)(Space)
    assert repr(space(1, z=4)).endswith("Space(x=1, y=7, tags=[], z=4)")
    assert space(1) != base(1, 7)
    assert base(1).y == 2


@BOTH
def test_the_rest_is_computed_when_an_instance_is_made(make: Make) -> None:
    class Double:
        x: int
        twice: int = field(make, init=False)

        def __post_init__(self) -> None:
            self.twice = 2 * self.x

    double = make(Double)
    assert double(4).twice == 8
    assert dataclasses.replace(double(4), x=5).twice == 10
    with pytest.raises(TypeError):
        double(4, twice=8)


@pytest.mark.parametrize("replace", [dataclasses.replace, records.replace], ids=["stdlib", "ours"])
@pytest.mark.parametrize("slots", [False, True])
def test_a_copy_has_other_values_in_some_fields(replace: Callable[..., Any], slots: bool) -> None:
    made = point(records.dataclass, frozen=True, slots=slots)(1, secret="t")
    other = replace(made, y=5)
    assert (other.x, other.y, other.tags, other.secret) == (1, 5, [], "t")
    assert other.tags is made.tags
    with pytest.raises(TypeError):
        replace(made, z=1)


def test_the_standard_library_takes_ours_for_dataclasses() -> None:
    cls = point(records.dataclass)
    assert dataclasses.is_dataclass(cls)
    assert [each.name for each in dataclasses.fields(cls)] == ["x", "y", "tags", "secret"]
