"""Whom --user names."""

from __future__ import annotations

from pathlib import Path

import pytest

from xtrace.errors import UsageError
from xtrace.options import accounts
from xtrace.options.accounts import Account, parse_account


@pytest.fixture(autouse=True)
def etc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(accounts, "PASSWD", tmp_path / "passwd")
    monkeypatch.setattr(accounts, "GROUP", tmp_path / "group")
    (tmp_path / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\n\n+::::::\nnet:x:71:72::/:/bin/false\ntoor:x:0:5::/:\nodd:x:seven:8::/:\n"
    )
    (tmp_path / "group").write_text("root:x:0:\nnet:x:72:net\nproxy:x:13:www,net\nadm:x:4:network,net\nwww:x:33:www\n")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "account"),
    [
        ("net", Account(71, 72, (4, 13))),
        ("71:5", Account(71, 5)),
        ("65534:65534", Account(65534, 65534)),
        ("4294967294:0", Account(4294967294, 0)),
    ],
)
def test_user_and_groups_are_found(text: str, account: Account) -> None:
    assert parse_account(text, "--user") == account


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nobody", "--user: no user 'nobody' in {etc}/passwd (give numbers, UID:GID)"),
        ("odd", "--user: no user 'odd' in {etc}/passwd (give numbers, UID:GID)"),
        ("", "--user: no user '' in {etc}/passwd (give numbers, UID:GID)"),
        ("71", "--user: no user '71' in {etc}/passwd (give numbers, UID:GID)"),
        ("root", "--user root is root, who gives up nothing (choose another user)"),
        ("toor", "--user toor is root, who gives up nothing (choose another user)"),
        ("0:71", "--user 0:71 is root, who gives up nothing (choose another user)"),
        ("71:4294967295", "--user 71:4294967295 is out of range (0 to 4294967294)"),
    ],
)
def test_what_names_nobody_is_refused(etc: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_account(text, "--user")
    assert str(refused.value) == said.format(etc=etc)


def test_numbers_need_no_files(etc: Path) -> None:
    (etc / "passwd").unlink()
    (etc / "group").unlink()
    assert parse_account("71:72", "--user") == Account(71, 72)
    with pytest.raises(UsageError, match="no user 'net'"):
        parse_account("net", "--user")
