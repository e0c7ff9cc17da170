"""`xtrace-catch hang`: what it reads, prints and refuses. It must load nothing of kernel/."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.unit.model.test_nccl_verdicts import NOW, OTHERS, SEND, behind, joining, rank
from xtrace.errors import UsageError, XtraceError
from xtrace.hang.command import answer, parse_limits
from xtrace.hang.reader import Hosts
from xtrace.hang.records import rank_of
from xtrace.model.nccl_ranks import Job, PeerCount, Rank
from xtrace.model.nccl_verdicts import Limits
from xtrace.sinks.jsonl.nccl_ranks import rank_records
from xtrace.sinks.render import timestamp

ROOT = Path(__file__).parents[3]
SECOND = 1_000_000_000


def tick(ranks: tuple[Rank, ...], host: str, at_ns: int = NOW, **more: str) -> bytes:
    """The records of one interval of a host."""
    common = {"ts": timestamp(at_ns), "interval_s": 1.0, "host": host, **more}
    records = rank_records([replace(one, at_ns=at_ns) for one in ranks], common)
    return b"".join(orjson.dumps(record) + b"\n" for record in (*records, {"type": "nccl", **common}))


RANKS = (*OTHERS, behind(2))


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """The files of four hosts."""
    for one in RANKS:
        (tmp_path / f"{one.host}.jsonl").write_bytes(tick((one,), one.host))
    return sorted(map(str, tmp_path.glob("*.jsonl")))


def verdicts(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer(["-o", "json", "--threshold", "hang=10s", *arguments]).splitlines()]


@pytest.mark.parametrize(
    "one",
    [
        rank(0),
        behind(2, ended=True, exit="killed by signal 9", job=Job("ray:7", 2, 4, 0, "0,1"), pod="u", container="c" * 64),
        rank(1, open=SEND, peers=(PeerCount(3, 2, 0, NOW, None),), address=None, is_joined=False, rank=None),
    ],
)
def test_a_record_has_all_that_is_known_of_a_rank(one: Rank) -> None:
    common = {"ts": timestamp(one.at_ns), "interval_s": 1.0, "host": one.host}
    (record,) = rank_records([one], common)
    assert rank_of(orjson.loads(orjson.dumps(record))) == one


@pytest.mark.parametrize(("ago_ns", "open_s"), [(1_500_000_000, 1.5), (0, 0.0), (-40_000_000, 0.0)])
def test_a_record_says_for_how_long_a_call_has_been_open(ago_ns: int, open_s: float) -> None:
    """A call that began after its host was read is as old as nothing."""
    one = replace(rank(1), open=SEND._replace(since_ns=NOW - ago_ns))
    (record,) = rank_records([one], {"ts": timestamp(NOW), "interval_s": 1.0, "host": "n1"})
    assert record["open"]["open_s"] == open_s


def test_files_of_all_hosts_name_the_rank(files: list[str]) -> None:
    (verdict,) = verdicts(*files)
    assert (verdict["verdict"], verdict["rank"], verdict["rank_host"], verdict["pid"]) == ("missing", 2, "n2", 102)
    assert verdicts(str(Path(files[0]).parent)) == [verdict]


def test_text_has_what_is_wrong_and_what_is_not_known(files: list[str]) -> None:
    lines = answer(["--threshold", "hang=10s", *files]).decode().splitlines()
    assert lines[:2] == ["job no job known", "  communicator c: 4 of 4 ranks on 4 hosts, at call 11 to 12"]
    assert lines[2].startswith("    MISSING rank 2 (n2 pid 102): it has not made call 12, ")
    assert lines[3:] == ["Calls are those that the host enqueued; what the GPUs have completed of them is not known."]
    quiet = answer(files).decode().splitlines()
    assert quiet[1:] == ["  communicator c: 4 of 4 ranks on 4 hosts, at call 11 to 12: nothing is wrong"]


def test_a_file_that_is_being_written_counts_up_to_its_last_whole_interval(files: list[str]) -> None:
    before = verdicts(*files)
    later = tick((rank(2, begun=12, ago_s=0),), "n2", NOW + SECOND)
    with Path(files[2]).open("ab") as file:
        file.write(later[: later.index(b'"type":"nccl"')])
    assert verdicts(*files) == before
    with Path(files[2]).open("ab") as file:
        file.write(later[later.index(b'"type":"nccl"') :])
    assert [verdict["verdict"] for verdict in verdicts(*files)] != ["missing"]


def test_a_host_whose_records_end_early_is_left_out_and_said(
    files: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    Path(files[2]).write_bytes(tick((behind(2),), "n2", NOW - 60 * SECOND))
    (verdict,) = verdicts(*files)
    assert verdict["verdict"] == "all_stopped"
    assert verdict["evidence"].endswith("of rank 2 there are no records that go so far")
    assert "hang: n2: its records end at " in caplog.text


@pytest.mark.parametrize("why", ["early", "cut", "version", "none"])
def test_a_rank_whose_records_are_left_out_is_not_missing(why: str, files: list[str]) -> None:
    """All wait in their first call; the records of one of their hosts are not those of the same moment."""
    first = {one.rank: replace(joining(one.rank or 0), host=one.host) for one in RANKS}
    for name, (number, one) in zip(files, sorted(first.items()), strict=True):
        Path(name).write_bytes(tick((one,), f"n{number}"))
    assert [verdict["verdict"] for verdict in verdicts(*files)] == ["all_stopped"]
    last = Path(files[2])
    whole = last.read_bytes()
    if why == "early":
        last.write_bytes(tick((first[2],), "n2", NOW - 60 * SECOND))
    elif why == "cut":
        last.write_bytes(gzip.compress(whole)[:-20])
    else:
        last.write_bytes(whole.replace(b'"begun":', b'"made":') if why == "version" else b"")
    (verdict,) = verdicts(*files)
    assert (verdict["verdict"], verdict["rank"]) == ("all_stopped", None)
    assert "there are no records that go so far" in verdict["evidence"]


def under_one_name(files: list[str], *addresses: str | None) -> None:
    """All hosts are called `localhost`."""
    for name, one, address in zip(files, sorted(RANKS, key=lambda one: one.host), addresses, strict=True):
        more = {"host_ip": address} if address else {}
        Path(name).write_bytes(tick((replace(one, host="localhost"),), "localhost", NOW, **more))


def test_hosts_of_one_name_are_told_apart_by_their_addresses(
    files: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    under_one_name(files, "10.0.0.1", "10.0.0.2", "10.0.0.3", None)
    (verdict,) = verdicts(*files)
    assert (verdict["verdict"], verdict["rank"], verdict["rank_host"]) == ("missing", 2, "localhost (10.0.0.3)")
    assert verdict["host"].split(",")[-1] == "localhost (no address)"
    assert caplog.text == ""


def test_hosts_of_one_name_and_address_are_named_and_nobody_is_called_missing(
    files: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    for number, name in enumerate(files):
        one = replace(joining(number), host="localhost")
        if number != 2:
            Path(name).write_bytes(tick((one,), "localhost", NOW - number * 300_000_000))
    Path(files[2]).unlink()
    given = [name for name in files if Path(name).exists()]
    assert [verdict["verdict"] for verdict in verdicts(*given)] == ["all_stopped"]
    assert f"hang: localhost: {' and '.join(given)} have records of the same time" in caplog.text


def test_rotated_log_of_one_host_is_not_of_two_hosts(files: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """Ends are cut to ms and lengths rounded: the later file may seem to begin before the earlier one ends."""
    earlier = Path(files[0]).parent / "n0.jsonl.1"
    earlier.write_bytes(tick((RANKS[0],), "n0", NOW - SECOND + 1_000_000))
    assert [verdict["verdict"] for verdict in verdicts(*files, str(earlier))] == ["missing"]
    assert caplog.text == ""
    earlier.write_bytes(tick((RANKS[0],), "n0", NOW - SECOND + 3_000_000))
    verdicts(*files, str(earlier))
    assert "have records of the same time" in caplog.text


@pytest.mark.parametrize("wrong", [{"host": 5}, {"host": "q", "interval_s": 1e308}])
def test_record_that_is_none_is_left_out(
    files: list[str], wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    record = {"type": "nccl", "ts": timestamp(NOW), "interval_s": 1.0, **wrong}
    (Path(files[0]).parent / "wrong.jsonl").write_bytes(orjson.dumps(record) + b"\n")
    answer([str(Path(files[0]).parent)])
    assert "left out, no records of this version: 1 lines" in caplog.text


def test_a_host_with_a_new_address_and_copies_of_a_file_are_one_host(
    files: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    earlier = Path(files[0]).parent / "earlier"
    gone = replace(behind(2, ended=True, exit="killed by signal 9"), host="n2")
    earlier.write_bytes(tick((gone,), "n2", NOW - 5 * SECOND, host_ip="10.0.0.9"))
    Path(files[2]).write_bytes(tick((), "n2", host_ip="10.0.0.3"))
    (verdict,) = verdicts(*files, str(earlier), files[2], files[0])
    assert (verdict["verdict"], verdict["rank"], verdict["rank_host"]) == ("gone", 2, "n2")
    assert caplog.text == ""


def test_lines_of_others_are_skipped_and_counted() -> None:
    hosts = Hosts()
    hosts.read([b'{"type":"flow"}\n', b"nonsense\n", b'{"type":"nccl_rank",\n'], "a")
    assert (hosts.views, hosts.unread, hosts.empty, hosts.is_whole) == ({}, 1, [], True)
    hosts.read([b'{"type":"nccl_rank"}\n'], "a")
    assert (hosts.views, hosts.unread, hosts.empty, hosts.is_whole) == ({}, 2, [], False)


def test_files_without_records_are_named(files: list[str], caplog: pytest.LogCaptureFixture) -> None:
    before = verdicts(*files)
    assert caplog.text == ""
    none, others = Path(files[0]).parent / "none", Path(files[0]).parent / "others"
    none.touch()
    others.write_bytes(b'{"type":"flow"}\n')
    assert verdicts(*files, str(none), str(others)) == before
    assert [f"hang: {name}: no records of mode nccl" in caplog.text for name in (none, others)] == [True, True]


def test_a_run_that_was_killed_and_started_anew_costs_no_more_than_a_line(files: list[str]) -> None:
    """Its last line, without an end, is followed by the first of the next run."""
    before = verdicts(*files)
    whole = Path(files[2]).read_bytes()
    Path(files[2]).write_bytes(tick((rank(2),), "n2", NOW - SECOND)[:-200] + b'{"type":"start"}\n' + whole)
    assert verdicts(*files) == before


def test_files_that_begin_at_different_times_are_compared_at_their_end(files: list[str]) -> None:
    before = verdicts(*files)
    earlier = b"".join(tick((rank(1, begun=7),), "n1", NOW - ago * SECOND) for ago in range(900, 0, -1))
    Path(files[1]).write_bytes(earlier + Path(files[1]).read_bytes())
    assert verdicts(*files) == before


def test_records_of_another_version_are_left_out_and_said(files: list[str], caplog: pytest.LogCaptureFixture) -> None:
    path = Path(files[2])
    path.write_bytes(path.read_bytes().replace(b'"begun":', b'"made":'))
    (verdict,) = verdicts(*files)
    assert "of rank 2 there are no records" in verdict["evidence"]
    assert "hang: left out, no records of this version: 1 lines" in caplog.text


def test_files_may_be_compressed_and_cut_off(files: list[str], caplog: pytest.LogCaptureFixture) -> None:
    before = verdicts(*files)
    for name in files:
        Path(name).write_bytes(gzip.compress(Path(name).read_bytes()))
    assert verdicts(*files) == before
    Path(files[2]).write_bytes(Path(files[2]).read_bytes()[:-9])
    assert verdicts(*files) == before
    assert f"hang: {files[2]}: the compressed file is cut off" in caplog.text
    Path(files[2]).rename(f"{files[2]}.gz")
    assert verdicts(str(Path(files[2]).parent)) == before


def test_a_process_that_ended_is_remembered(files: list[str]) -> None:
    gone = behind(2, ended=True, exit="exit status 1")
    Path(files[2]).write_bytes(tick((gone,), "n2", NOW - SECOND) + tick((), "n2"))
    assert [(verdict["verdict"], verdict["rank"]) for verdict in verdicts(*files)] == [("gone", 2)]


def test_a_process_of_an_earlier_job_of_that_name_is_not_gone(files: list[str]) -> None:
    before = verdicts(*files)
    gone = behind(2, ended=True, pid=50)
    Path(files[2]).write_bytes(tick((gone,), "n2", NOW - SECOND) + Path(files[2]).read_bytes())
    assert verdicts(*files) == before


def test_two_communicators_at_one_address_are_two(files: list[str]) -> None:
    """One was aborted and another one made within an interval."""
    left = behind(2, left="CommAbort")
    Path(files[2]).write_bytes(tick((left, rank(2, communicator="d")), "n2"))
    assert ("missing", 2) in [(verdict["verdict"], verdict["rank"]) for verdict in verdicts(*files)]


@pytest.mark.parametrize(
    "arguments, why",
    [
        ([], "hang: the following arguments are required: FILE (usage: "),
        (["--threshold", "soon=1s", "x"], "hang: --threshold: unknown threshold 'soon' (available: hang, late)"),
        (["--threshold", "hang=soon", "x"], "hang: --threshold: hang=soon: 'soon' is not a duration"),
        (["-o", "xml", "x"], "hang: argument -o/--format: invalid choice: 'xml'"),
    ],
)
def test_wrong_usage_is_refused_in_one_line(arguments: list[str], why: str) -> None:
    with pytest.raises(UsageError) as raised:
        answer(arguments)
    assert str(raised.value).startswith(why)
    assert "\n" not in str(raised.value)


def test_a_missing_file_and_an_empty_directory_are_errors(tmp_path: Path) -> None:
    with pytest.raises(XtraceError, match=r"hang: .*/none: No such file or directory"):
        answer([str(tmp_path / "none")])
    with pytest.raises(UsageError, match=r"no file there ends in \.jsonl"):
        answer([str(tmp_path)])


def test_thresholds_can_be_switched_off() -> None:
    assert parse_limits(["hang=off,late=1s"]) == Limits(None, SECOND)


def test_nothing_of_the_kernel_is_loaded(files: list[str]) -> None:
    script = (
        "import sys; from xtrace.__main__ import main; code = main();"
        "assert not [name for name in sys.modules if name.startswith(('xtrace.kernel', 'xtrace._native', '_cffi'))];"
        "sys.exit(code)"
    )
    command = [sys.executable, "-c", script, "hang", "--threshold", "hang=10s", "-"]
    content = b"".join(Path(file).read_bytes() for file in files)
    ended = subprocess.run(command, input=content, capture_output=True, cwd=ROOT)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"MISSING rank 2" in ended.stdout
