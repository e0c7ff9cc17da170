"""What a run keeps of its privileges, by what it does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xtrace import confinement
from xtrace.config import Config, parse
from xtrace.confinement import (
    change_user,
    is_closed,
    kept_capabilities,
    looks_into_processes,
    readable,
    rotated,
    writable,
)
from xtrace.errors import PrivilegeError
from xtrace.kernel import confinement as confining
from xtrace.kernel import privileges

XDP = {"CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"}
NCCL = {"CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE"}


def config(arguments: str, **environment: str) -> Config:
    return parse(arguments.split(), {"XTRACE_HOST": "n1", **environment}, "1")


@pytest.fixture(autouse=True)
def everything_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "effective", lambda: frozenset(privileges.CAPABILITIES))


@pytest.fixture(autouse=True)
def code_is_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This tree may be in a closed home, and so may its Python."""
    (tmp_path / "code").mkdir(mode=0o755)
    monkeypatch.setattr(confinement, "code", lambda: [tmp_path / "code"])
    closed = confinement._lacks
    above = {*tmp_path.parents, *tmp_path.resolve().parents, tmp_path}
    monkeypatch.setattr(confinement, "_lacks", lambda path, wanted: path not in above and closed(path, wanted))


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        ("", XDP),
        ("--promiscuous", XDP | {"CAP_NET_RAW"}),
        ("-m rdma", set()),
        ("-m nccl", NCCL),
        ("-m xdp,nccl", XDP | NCCL),
        ("--tcp", XDP | {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE"}),
        ("--owners", XDP | {"CAP_DAC_READ_SEARCH"}),
    ],
)
def test_only_what_the_modes_need_is_kept(arguments: str, kept: set[str]) -> None:
    assert kept_capabilities(config(arguments)) == kept


def test_sys_admin_is_kept_where_it_stands_for_the_newer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "effective", lambda: frozenset({"CAP_SYS_ADMIN", "CAP_NET_ADMIN"}))
    assert kept_capabilities(config("")) == XDP | {"CAP_SYS_ADMIN"}


def test_files_of_other_users_stay_within_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    spooled = config(f"-o none --push http://localhost:1 --spool {spool}")
    assert kept_capabilities(spooled) == XDP
    (tmp_path / "token").write_text("secret")
    token = config("--push http://localhost:1", VICTORIAMETRICS_BEARER_TOKEN_FILE=str(tmp_path / "token"))
    assert kept_capabilities(token) == XDP
    become_another(monkeypatch)
    directories: tuple[tuple[int, set[str]], ...] = (
        (0o777, set()), (0o775, {"CAP_DAC_OVERRIDE"}), (0o700, {"CAP_DAC_OVERRIDE"}),
    )  # fmt: skip
    for mode, kept in directories:
        spool.chmod(mode)
        assert kept_capabilities(spooled) == XDP | kept
    files: tuple[tuple[int, set[str]], ...] = ((0o644, set()), (0o640, {"CAP_DAC_READ_SEARCH"}))
    for mode, kept in files:
        (tmp_path / "token").chmod(mode)
        assert kept_capabilities(token) == XDP | kept


def test_what_other_users_left_in_the_spool_stays_within_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    (spool / "server").mkdir(parents=True)
    (spool / "server/1.batch").write_bytes(b"")
    spooled = config(f"-o none --push http://localhost:1 --spool {spool}")
    modes: tuple[tuple[int, int, set[str]], ...] = (
        (0o700, 0o600, {"CAP_DAC_OVERRIDE"}), (0o777, 0o600, {"CAP_DAC_OVERRIDE"}),
        (0o700, 0o644, {"CAP_DAC_OVERRIDE"}), (0o777, 0o644, set()),
    )  # fmt: skip
    (spool / "server/1.batch").chmod(0o600)
    assert kept_capabilities(spooled) == XDP, "its own"
    become_another(monkeypatch)
    spool.chmod(0o777)
    for directory, file, kept in modes:
        (spool / "server").chmod(directory)
        (spool / "server/1.batch").chmod(file)
        assert kept_capabilities(spooled) == XDP | kept, (directory, file)


@pytest.mark.parametrize(
    ("mode", "is_kept"), [(0o755, False), (0o711, True), (0o750, True), (0o700, True), (0o754, True), (0o705, False)]
)
def test_modules_in_a_closed_home_stay_within_reach(
    mode: int, is_kept: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "code").chmod(mode)
    assert kept_capabilities(config("")) == XDP
    become_another(monkeypatch)
    assert kept_capabilities(config("")) == XDP | ({"CAP_DAC_READ_SEARCH"} if is_kept else set())


def test_what_is_below_a_closed_directory_is_closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "spool").mkdir(parents=True)
    (tmp_path / "link").symlink_to(home / "spool")
    (home / "file").write_text("")
    group = os.getegid()
    become_another(monkeypatch)
    home.chmod(0o711)
    assert not is_closed(home / "spool", os.R_OK | os.X_OK)
    assert not is_closed(home / "file", os.R_OK)
    assert not is_closed(home / "is not there", os.R_OK)
    home.chmod(0o700)
    assert is_closed(home / "spool", os.R_OK | os.X_OK)
    assert is_closed(tmp_path / "link", os.R_OK)
    monkeypatch.setattr(os, "getgroups", lambda: [group + 2, group])
    assert is_closed(home / "spool", os.R_OK)
    home.chmod(0o710)
    assert not is_closed(home / "spool", os.R_OK)
    assert not is_closed(home / "file", os.R_OK)


def become_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this process is another user's, in another group."""
    user, group = os.geteuid() + 1, os.getegid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "getegid", lambda: group)
    monkeypatch.setattr(os, "getgroups", list)


def test_user_is_changed_only_with_the_capabilities_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[tuple[object, ...]] = []
    monkeypatch.setattr(confining, "become", lambda *account: became.append(account))
    user = config("--user 7:8").user
    assert user is not None
    change_user(user)
    assert became == [(7, 8, ())]
    monkeypatch.setattr(privileges, "effective", lambda: frozenset({"CAP_SETUID"}))
    with pytest.raises(PrivilegeError, match="--user needs CAP_SETGID"):
        change_user(user)
    assert len(became) == 1


def test_directories_of_secrets_and_spool_are_excepted(tmp_path: Path) -> None:
    for name in ("tokens", "real", "spool", "run"):
        (tmp_path / name).mkdir()
    (tmp_path / "real/token").write_text("secret")
    (tmp_path / "tokens/token").symlink_to(tmp_path / "real/token")
    listening = f"-o none --listen unix:{tmp_path}/run/socket"
    pushing = f"{listening} --push https://localhost:1 --spool {tmp_path}/spool"
    without, made = (
        config(given, VICTORIAMETRICS_BEARER_TOKEN_FILE=f"{tmp_path}/tokens/token") for given in (listening, pushing)
    )
    assert set(writable(without)) == {tmp_path / "run"}
    assert set(writable(made)) == {tmp_path / "run", tmp_path / "spool"}
    assert {tmp_path / "tokens", tmp_path / "real", Path("/etc")} <= set(readable(made))
    assert not {tmp_path / "tokens", tmp_path / "real", Path("/etc")} & set(readable(without))


@pytest.mark.parametrize(("arguments", "does"), [("", False), ("-m rdma", False), ("-m nccl", True), ("--tcp", True)])
def test_landlock_is_not_for_runs_that_look_into_processes(arguments: str, does: bool) -> None:
    assert looks_into_processes(config(arguments)) is does


@pytest.mark.parametrize("arguments", ["--push http://localhost:1", "--ipfix localhost:4739"])
def test_names_are_resolved_again_by_what_connects_again(arguments: str) -> None:
    assert Path("/etc") in set(readable(config(arguments)))
    assert Path("/etc") not in set(readable(config("")))


def link(at: Path, to: str | Path) -> Path:
    """A new link, in a new directory if need be."""
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(to)
    return at


def test_files_that_are_read_again_stay_within_reach_where_links_lead_now_and_will(tmp_path: Path) -> None:
    for directory in ("..2026", "releases/1", "archive/n1"):
        (tmp_path / directory).mkdir(parents=True)
    before = set(readable(config("")))
    mounted = link(tmp_path / "secret/cert.pem", "..data/cert.pem")
    link(tmp_path / "secret/..data", "..2026")
    lets_encrypt = link(tmp_path / "live/n1/cert.pem", "../../archive/n1/cert1.pem")
    link(tmp_path / "certs/current", tmp_path / "certs/1")
    far = link(tmp_path / "app/cert.pem", tmp_path / "certs/current/cert.pem")
    for file, places in (
        (mounted, {"secret", "secret/..2026"}),
        (lets_encrypt, {"live/n1", "archive/n1"}),
        (far, {"app", "certs", "certs/1"}),
        (tmp_path / "archive", {"archive"}),
        (tmp_path / "plain/missing.pem", {"plain"}),
    ):
        assert set(readable(config(""), [file])) - before == {tmp_path / place for place in places}, file


def test_the_root_directory_is_not_opened_by_a_link_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "islink", lambda path: path == Path("/lib"))
    monkeypatch.setattr(Path, "readlink", lambda path: Path("usr/lib"))
    assert list(rotated(Path("/lib/x/cert.pem"))) == []


def test_of_a_file_in_the_root_directory_only_itself_is_opened() -> None:
    found = set(readable(config("--push http://h"), [Path("/web.yml")]))
    assert Path("/web.yml") in found and Path("/") not in found


def test_links_in_a_ring_lead_nowhere(tmp_path: Path) -> None:
    link(tmp_path / "one", "other")
    link(tmp_path / "other", "one")
    assert set(rotated(tmp_path / "one" / "cert.pem")) == {tmp_path}


def test_a_certificates_key_that_is_closed_to_the_user_stays_within_reach(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = tmp_path / "key.pem"
    key.write_text("")
    key.chmod(0o600)
    assert kept_capabilities(config(""), [key]) == XDP
    become_another(monkeypatch)
    assert kept_capabilities(config(""), [key]) == XDP | {"CAP_DAC_READ_SEARCH"}
