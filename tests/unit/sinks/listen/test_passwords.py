"""Basic authentication: who gets a page, and how often a password is checked."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from http import HTTPStatus

import pytest

from xtrace.kernel.syscall import lib
from xtrace.sinks.listen import passwords as module
from xtrace.sinks.listen.http import Request, Response
from xtrace.sinks.listen.passwords import Passwords


class Lib:
    """Counts checks; the password of everybody is `right`."""

    def __init__(self) -> None:
        self.checks: list[tuple[bytes, bytes]] = []

    def xt_password_matches(self, password: bytes, hashed: bytes) -> int:
        self.checks.append((password, hashed))
        return int(password == b"right")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Lib:
    made = Lib()
    monkeypatch.setattr(module, "lib", made)
    return made


def basic(name: str, password: str) -> Mapping[str, str]:
    return {"authorization": "Basic " + b64encode(f"{name}:{password}".encode()).decode()}


def page(_: Request) -> Response:
    return Response.text(HTTPStatus.OK, "page")


def ask(gate: Passwords, headers: Mapping[str, str]) -> HTTPStatus:
    return gate.answer(Request("GET", "/", {}, headers)).status


def test_right_password_is_checked_once(checked: Lib) -> None:
    gate = Passwords(lambda: {"alice": "h"}, page)
    assert [ask(gate, basic("alice", "right")) for _ in range(3)] == [HTTPStatus.OK] * 3
    assert checked.checks == [(b"right", b"h")]


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic !", "Basic YQ==", "Bearer YTpi", "Basic " + b64encode(b"a:\0").decode(), "Basic /w=="],
)
def test_without_a_password_one_is_demanded_and_nothing_checked(header: str, checked: Lib) -> None:
    response = Passwords(lambda: {"alice": "h"}, page).answer(Request("GET", "/", {}, {"authorization": header}))
    assert response.status is HTTPStatus.UNAUTHORIZED
    assert response.headers["WWW-Authenticate"].startswith("Basic realm=")
    assert checked.checks == []


def test_wrong_password_makes_others_wait_but_not_who_is_known(checked: Lib) -> None:
    clock = Clock()
    gate = Passwords(lambda: {"alice": "h", "bob": "i"}, page, clock)
    assert ask(gate, basic("alice", "right")) is HTTPStatus.OK
    assert ask(gate, basic("alice", "wrong")) is HTTPStatus.UNAUTHORIZED
    assert ask(gate, basic("bob", "right")) is HTTPStatus.TOO_MANY_REQUESTS
    assert ask(gate, basic("alice", "right")) is HTTPStatus.OK
    clock.now += module.PAUSE_S
    assert ask(gate, basic("bob", "right")) is HTTPStatus.OK
    assert len(checked.checks) == 3


def test_unknown_user_is_refused_after_the_same_work(checked: Lib) -> None:
    assert ask(Passwords(lambda: {"alice": "h"}, page), basic("eve", "right")) is HTTPStatus.UNAUTHORIZED
    assert checked.checks == [(b"right", b"h")]


def test_users_are_those_of_now(checked: Lib) -> None:
    users = {"alice": "h"}
    gate = Passwords(lambda: dict(users), page)
    assert ask(gate, basic("alice", "right")) is HTTPStatus.OK
    del users["alice"]
    users["bob"] = "i"
    assert ask(gate, basic("alice", "right")) is HTTPStatus.UNAUTHORIZED, "remembered"
    gate._checks_at = 0.0
    assert ask(gate, basic("bob", "right")) is HTTPStatus.OK
    assert [hashed for _, hashed in checked.checks] == [b"h", b"i", b"i"]


def test_without_users_nobody_needs_a_password(checked: Lib) -> None:
    assert ask(Passwords(dict, page), {}) is HTTPStatus.OK
    assert checked.checks == []


def test_what_is_remembered_is_bounded(checked: Lib) -> None:
    gate = Passwords(lambda: {f"u{number}": "h" for number in range(70)}, page)
    for number in range(70):
        assert ask(gate, basic(f"u{number}", "right")) is HTTPStatus.OK
    ask(gate, basic("u69", "right"))
    assert len(checked.checks) == 70
    ask(gate, basic("u0", "right"))
    assert len(checked.checks) == 71


def test_as_many_as_may_be_are_all_remembered(checked: Lib) -> None:
    gate = Passwords(lambda: {f"u{number}": "h" for number in range(module.MOST_KNOWN)}, page)
    for _ in range(2):
        for number in range(module.MOST_KNOWN):
            assert ask(gate, basic(f"u{number}", "right")) is HTTPStatus.OK
    assert len(checked.checks) == module.MOST_KNOWN


def test_bcrypt_is_libcrypts() -> None:
    # https://www.openwall.com/crypt/: a test vector of crypt_blowfish
    hashed = b"$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
    assert lib.xt_password_matches(b"U*U", hashed) == 1
    assert lib.xt_password_matches(b"U*V", hashed) == 0
    assert lib.xt_password_matches(b"U*U", b"$9$unknown") == -1
