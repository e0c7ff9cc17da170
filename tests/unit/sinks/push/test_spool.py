"""The spool: order, limits, damage, restarts; and a delivery that goes on where a killed one was."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast
from zlib import decompress

import pytest

from tests.unit.sinks.push.test_delivery import BUSY, GIVE_UP_S, NO, OK, TEXT, Server, batch, eventually
from xtrace.errors import UsageError
from xtrace.sinks.push import acknowledged
from xtrace.sinks.push import delivery as module
from xtrace.sinks.push.batch import Batch, Outcome
from xtrace.sinks.push.delivery import Delivery
from xtrace.sinks.push.queue import Queue
from xtrace.sinks.push.selfcheck import Probe
from xtrace.sinks.push.spool import SENT, UNSURE, WAITING, Spool, own_name

HOST = (("host", "n1"),)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.002)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr(module, "VISIBLE_AFTER_S", 0.01)
    monkeypatch.setattr(acknowledged, "SETTLES_S", 0.0)


def open_spool(directory: Path, limit: int = 1 << 20) -> Spool:
    return Spool(str(directory), limit, "http://m:8428/api", HOST, "import")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = open_spool(tmp_path)
    yield made
    made.close()


def probed(number: int) -> Batch:
    return Batch(f"b{number}".encode(), 3, Probe('up{host="ä"}', 1000 + number))


def files(directory: Path, end: str = "") -> list[str]:
    return sorted(path.name for path in directory.glob(f"*/0*{end}"))


def test_batches_come_back_in_order_with_all_they_are(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    names = [spool.put(probed(number), f"body{number}".encode()) for number in range(12)]
    spool.put(Batch(b"", 0), b"no probe")
    spool.close()
    spool = open_spool(tmp_path)
    *found, last = spool.load(WAITING)
    assert [batch.file for batch in found] == names
    assert [(batch.samples, batch.probe) for batch in found] == [(3, probed(number).probe) for number in range(12)]
    assert all(batch.is_packed and batch.size > 20 for batch in found)
    assert [spool.read(name) for name in names] == [f"body{number}".encode() for number in range(12)]
    assert last.probe is None and last.file is not None and spool.read(last.file) == b"no probe"
    spool.close()


def test_files_are_for_their_owner_only_and_numbers_go_on(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    first = spool.put(probed(1), b"x")
    (path,) = tmp_path.glob("*/0*")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    sent = spool.mark(first, SENT)
    assert (spool.load(WAITING), [batch.file for batch in spool.load(SENT)]) == ([], [sent])
    spool.close()
    spool = open_spool(tmp_path)
    assert spool.put(probed(2), b"x") > first
    spool.close()


@pytest.mark.parametrize("content", [b"", b"x" * 100, "cut", "flipped"])
def test_damaged_file_is_noticed(spool: Spool, tmp_path: Path, content: bytes | str) -> None:
    name = spool.put(probed(1), b"body")
    (path,) = tmp_path.glob("*/0*")
    whole = path.read_bytes()
    damaged = {"cut": whole[:-1], "flipped": whole[:-1] + b"?"}
    path.write_bytes(content if isinstance(content, bytes) else damaged[content])
    assert spool.read(name) is None
    if isinstance(content, bytes):
        assert spool.load(WAITING) == [] and spool.damaged == 1 and files(tmp_path) == []


def make_unreadable(path: Path) -> None:
    """For root, too: a link to itself. It can be removed."""
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)


def test_files_that_cannot_be_read_are_not_damaged_and_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(open_spool(tmp_path)) as spool:
        names = [spool.put(probed(number), b"body") for number in range(3)]
        own = tmp_path / own_name("http://m:8428/api", HOST, "import")
        for name in names[:2]:
            make_unreadable(own / name)
        with pytest.raises(OSError, match="Too many levels"):
            spool.read(names[0])
        with pytest.raises(FileNotFoundError):
            spool.read("0000000000000009.batch")
        assert [batch.file for batch in spool.load(WAITING)] == names[2:]
        assert (spool.damaged, files(tmp_path)) == (0, names)
    said = f"--spool {own / names[0]}: Too many levels of symbolic links; it stays there for a later run"
    assert [record.getMessage() for record in caplog.records] == [said], "once for both"


def test_name_of_a_file_that_cannot_be_renamed_stays(spool: Spool, tmp_path: Path) -> None:
    name = spool.put(probed(1), b"body")
    (path,) = tmp_path.glob("*/0*")
    path.with_suffix(SENT).mkdir()
    assert spool.mark(name, SENT) == name
    assert spool.read(name) == b"body"


def test_what_a_killed_run_was_writing_is_removed_and_other_servers_are_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(Spool(str(tmp_path), 1 << 20, "http://other:1/x", HOST, "import")) as other:
        other.put(probed(1), b"x")
    own = tmp_path / own_name("http://m:8428/api", HOST, "import")
    own.mkdir()
    (own / "0000000000000007.partial").write_bytes(b"")
    with closing(open_spool(tmp_path)):
        assert [path.name for path in own.iterdir()] == ["lock"]
    assert "has samples for other servers or labels, left alone: other-1-" in caplog.text
    assert len(files(tmp_path)) == 1


def test_second_run_in_the_same_directory_and_unusable_ones_are_refused(spool: Spool, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another run uses it"):
        open_spool(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"^--spool .*: Not a directory \("):
        open_spool(tmp_path / "file")


def test_names_are_readable_and_differ_by_server_labels_and_format() -> None:
    names = {
        own_name(server, labels, form)
        for server in ("http://m:8428/a", "http://m:8428/b")
        for labels in (HOST, ())
        for form in ("import", "remote-write")
    }
    assert len(names) == 8 and all(name.startswith("m-8428-") for name in names)


def submit(made: Delivery, *numbers: int) -> None:
    for number in numbers:
        made.submit(probed(number))


def test_undelivered_batches_are_delivered_by_the_next_run_before_its_own(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    made = Delivery(Server([BUSY]), TEXT, spool=spool)
    submit(made, 1, 2, 3)
    eventually(lambda: len(files(tmp_path, WAITING)) == 3)
    assert made.figures.spooled_bytes and made.figures.waiting_bytes == 0
    assert made.close(0.1) == (0, 0, 9), "nothing is lost"
    spool.close()

    server = Server([OK], stored=set())
    spool = open_spool(tmp_path)
    made = Delivery(server, TEXT, spool=spool)
    submit(made, 4)
    eventually(lambda: made.figures.requests == 4)
    assert server.bodies == ["b1", "b2", "b3", "b4"]
    assert (made.close(GIVE_UP_S), files(tmp_path, WAITING)) == ((0, 0, 0), [])
    spool.close()


def test_batch_that_was_stored_before_the_kill_is_not_sent_again(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for number in (1, 2):
        spool.put(probed(number), TEXT.compress(f"b{number}".encode()))
    spool.close()
    server = Server([OK], stored={1001})
    spool = open_spool(tmp_path)
    made = Delivery(server, TEXT, spool=spool)
    eventually(lambda: made.figures.requests == 2)
    assert server.bodies == ["b2"]
    made.close(GIVE_UP_S)
    spool.close()


def test_acknowledged_batches_that_the_server_lost_with_the_tool_are_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acknowledged, "VISIBLE_AFTER_S", 0.0)
    spool = open_spool(tmp_path)
    made = Delivery(Server([OK], stored=None), TEXT, spool=spool)
    submit(made, 1, 2)
    eventually(lambda: len(files(tmp_path, SENT)) == 2)
    made.close(GIVE_UP_S)
    spool.close()

    server = Server([OK], stored={1001, 1003})
    spool = open_spool(tmp_path)
    made = Delivery(server, TEXT, spool=spool)
    submit(made, 3)
    eventually(lambda: server.bodies == ["b3", "b2"])
    made.close(GIVE_UP_S)
    spool.close()


def test_oldest_files_are_dropped_and_counted_beyond_the_limit(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.limit = 4000
    made = Delivery(Server([Outcome(False, True, "busy", 100.0)]), TEXT, spool=spool)
    for _ in range(10):
        made.submit(Batch(os.urandom(900), 1, Probe("up", 1)))
    eventually(lambda: made._queue.memory_bytes == 0)
    eventually(lambda: len(files(tmp_path, WAITING)) == len(made._queue))
    assert made._queue.disk_bytes <= spool.limit
    batches, _ = made.figures.dropped["overflow"]
    assert batches == 10 - len(made._queue) > 3
    assert files(tmp_path)[-1].startswith("0000000000000010."), "the newest stay"
    made.close(0.1)
    spool.close()


def test_full_disk_keeps_samples_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = open_spool(tmp_path)
    server = Server([OK])
    server.held.clear()

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(spool, "put", full)
        made = Delivery(server, TEXT, spool=spool)
        submit(made, 1, 2)
        eventually(lambda: made._queue.oldest() is not None and not made._queue._raw)
        eventually(lambda: "No space left on device; samples are kept in memory only" in caplog.text)
        server.held.set()
        eventually(lambda: made.figures.requests == 2)
    assert server.bodies == ["b1", "b2"] and caplog.text.count("No space left") == 1
    made.close(GIVE_UP_S)
    spool.close()


def test_rejected_and_damaged_batches_are_removed_and_counted(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for number in (1, 2, 3):
        spool.put(probed(number), TEXT.compress(f"b{number}".encode()))
    path = sorted(tmp_path.glob("*/0*"))[1]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    server = Server([NO, OK], stored=set())
    made = Delivery(server, TEXT, spool=spool)
    eventually(lambda: made.figures.requests == 1)
    assert server.bodies == ["b1", "b3"]
    assert made.figures.dropped == {"overflow": (0, 0), "refused": (1, 3), "damaged": (1, 3)}
    made.close(GIVE_UP_S)
    assert files(tmp_path, WAITING) == []
    spool.close()


def test_samples_in_files_that_became_unreadable_are_kept_and_only_those_of_removed_files_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = open_spool(tmp_path)
    for number in (1, 2, 3, 4):
        spool.put(probed(number), TEXT.compress(f"b{number}".encode()))
    server = Server([OK], stored=set())
    server.held.clear()
    made = Delivery(server, TEXT, spool=spool)
    eventually(lambda: server.bodies == ["b1"])
    _, second, third, _ = sorted(tmp_path.glob("*/0*"))
    make_unreadable(second)
    third.unlink()
    server.held.set()
    eventually(lambda: made.figures.requests == 2)
    assert server.bodies == ["b1", "b4"]
    assert made.figures.dropped == {"overflow": (0, 0), "refused": (0, 0), "damaged": (1, 3)}
    assert made.close(GIVE_UP_S) == (0, 0, 3)
    assert files(tmp_path, WAITING) == [second.name]
    assert f"--spool {second}: Too many levels of symbolic links; it stays there" in caplog.text
    assert f"a file in the spool was removed by others: {third.name}" in caplog.text
    spool.close()


def test_files_hold_what_is_sent(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    made = Delivery(Server([BUSY]), TEXT, spool=spool)
    submit(made, 1)
    eventually(lambda: files(tmp_path, WAITING) != [])
    (batch,) = spool.load(WAITING)
    assert batch.file is not None
    assert decompress(spool.read(batch.file) or b"", 31) == b"b1"
    made.close(0.1)
    spool.close()


def test_what_the_server_lost_waits_again_if_the_end_comes_before_it_is_sent(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    made = Delivery(Server([OK, OK, Outcome(True, reconnected=True), BUSY], stored={1002}), TEXT, spool=spool)
    submit(made, 1, 2, 3)
    eventually(lambda: made.figures.requests == 3)
    assert made.close(0.1) == (0, 0, 6), "the second is to be looked for"
    assert (len(files(tmp_path, UNSURE)), len(files(tmp_path, SENT))) == (2, 1)
    spool.close()

    server = Server([OK], stored={1002})
    spool = open_spool(tmp_path)
    made = Delivery(server, TEXT, spool=spool)
    eventually(lambda: made.figures.requests == 2)
    assert server.bodies == ["b1"]
    made.close(0.1)  # it never shows what it was sent
    spool.close()


def test_batch_in_doubt_stays_for_a_later_run_if_the_end_comes_before_the_server_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VISIBLE_AFTER_S", 1e6)
    spool = open_spool(tmp_path)
    spool.put(probed(1), TEXT.compress(b"b1"))
    spool.close()
    server = Server([OK], stored=set())
    spool = open_spool(tmp_path)
    made = Delivery(server, TEXT, spool=spool)
    assert made.close(GIVE_UP_S) == (0, 0, 3)
    assert (server.bodies, server.queries) == ([], [])
    assert files(tmp_path) == ["0000000000000001.unsure"]
    spool.close()


def test_acknowledged_batch_that_is_not_visible_yet_stays_for_a_later_run(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    made = Delivery(Server([OK], stored=None), TEXT, spool=spool)
    submit(made, 1)
    eventually(lambda: len(files(tmp_path, SENT)) == 1)
    made.close(GIVE_UP_S)
    spool.close()
    server = Server([OK], stored=set())
    spool = open_spool(tmp_path)
    made = Delivery(server, TEXT, spool=spool)
    submit(made, 2)
    assert made.close(0.5) == (0, 0, 0)
    made._thread.join(GIVE_UP_S)
    assert server.bodies == ["b2"]
    assert files(tmp_path) == ["0000000000000001.sent", "0000000000000002.sent"]
    spool.close()


def test_batch_of_an_earlier_version_with_the_number_of_one_in_doubt_replaces_none(tmp_path: Path) -> None:
    """Such a version does not see files in doubt, so it may give their numbers again."""
    spool = open_spool(tmp_path)
    doubted = spool.mark(spool.put(probed(1), TEXT.compress(b"b1")), UNSURE)
    waiting = spool.put(probed(2), TEXT.compress(b"b2"))
    (own,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    (own / waiting).rename((own / doubted).with_suffix(WAITING))
    spool.close()
    server = Server([OK], stored=set())
    spool = open_spool(tmp_path)
    made = Delivery(server, TEXT, spool=spool)
    eventually(lambda: len(server.bodies) == 2)
    made.close(0.1)
    assert sorted(server.bodies) == ["b1", "b2"]
    spool.close()


def test_a_spool_that_cannot_be_written_is_told_once_and_again_when_it_can(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    outcomes = iter([28, 28, 28, None, None, 5])

    class Failing:
        directory = "/spool"

        def put(self, batch: Batch, packed: bytes) -> str:
            error = next(outcomes)
            if error is not None:
                raise OSError(error, f"error {error}")
            return "1.batch"

    queue = Queue.__new__(Queue)
    queue._spool, queue._has_failed = cast("Spool", Failing()), False
    assert [queue._write(batch("a"), b"") for _ in range(6)] == [None, None, None, "1.batch", "1.batch", None]
    assert caplog.messages == [
        "--spool /spool: error 28; samples are kept in memory only",
        "--spool /spool: writing again",
        "--spool /spool: error 5; samples are kept in memory only",
    ]
    queue._spool = None
    assert queue._write(batch("a"), b"") is None
