"""Which processes are searched, in what order, and what is left out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xtrace.kernel import proc
from xtrace.kernel.cgroup_paths import NOWHERE
from xtrace.kernel.proc import MappedFile
from xtrace.model.nccl import Skipped
from xtrace.monitors.nccl import finder as finder_module
from xtrace.monitors.nccl import libraries
from xtrace.monitors.nccl.finder import MOST_FILES, MOST_LIBRARIES, MOST_SAVED_NS, SEARCH_SHARE, Finder
from xtrace.monitors.nccl.libraries import OVERSIZED, Identity, Library

MS = 1_000_000


class Machine:
    """Processes with these files mapped; looking at a file takes a millisecond."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0
        self.mapped: dict[int, list[str]] = {}
        self.pages: dict[int, int] = {}
        self.uids: dict[int, int] = {}
        self.started: dict[int, int] = {}
        self.searched: list[str] = []
        self.oversized: set[str] = set()
        monkeypatch.setattr(proc, "pids", lambda: list(self.mapped))
        monkeypatch.setattr(proc, "mapped_size", lambda pid: self.pages.get(pid, 1))
        monkeypatch.setattr(proc, "real_uid", lambda pid: self.uids.get(pid, 0))
        monkeypatch.setattr(proc, "start_time", lambda pid: self.started.get(pid, 1) if pid in self.mapped else None)
        monkeypatch.setattr(proc, "executed_files", self._executed_files)
        monkeypatch.setattr(proc, "command", str)
        monkeypatch.setattr(proc, "place", lambda pid: NOWHERE)
        monkeypatch.setattr(libraries.SearchedFiles, "library", lambda files, pid, file: self._library(pid, file))

    def _executed_files(self, pid: int) -> Iterator[list[MappedFile]]:
        for number, path in enumerate(self.mapped[pid]):
            if path == "refused":
                raise PermissionError
            if path == "endless":
                raise proc.TooManyMappings("more than 32 MB of mappings")
            yield [MappedFile("00:01", hash(path), path, f"{number}-{number + 1}")]

    def _library(self, pid: int, file: MappedFile) -> Library:
        self.now += MS
        self.searched.append(file.path)
        has_functions = "nccl" in file.path
        problem = OVERSIZED if file.path in self.oversized else ""
        return Library(
            Identity(1, file.inode, 1, 1, 1), file.path, pid, file, {0: 64} if has_functions else {}, problem
        )

    def search(self, finder: Finder) -> None:
        finder.sweep()
        while finder.step():
            pass


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def finder(machine: Machine) -> Finder:
    return Finder(lambda: machine.now)


def test_a_file_that_is_mapped_in_pieces_is_searched_once(machine: Machine, finder: Finder) -> None:
    machine.mapped[7] = ["/libnccl.so.2", "/other.so", "/libnccl.so.2"]
    machine.search(finder)
    assert machine.searched == ["/libnccl.so.2", "/other.so"]
    assert [library.path for library in finder.users[7].libraries.values()] == ["/libnccl.so.2"]


def test_a_process_is_searched_when_its_address_space_changes(machine: Machine, finder: Finder) -> None:
    machine.mapped[7] = ["/other.so"]
    machine.search(finder)
    machine.mapped[7].append("/libnccl.so.2")
    machine.search(finder)
    assert finder.users == {}
    machine.pages[7] = 2
    machine.search(finder)
    assert list(finder.users) == [7]
    machine.mapped[7].clear()
    machine.pages[7] = 1
    machine.search(finder)
    assert finder.users == {}
    assert list(finder.gone) == [7]


def test_a_process_that_got_the_number_of_another_one_is_another_user(machine: Machine, finder: Finder) -> None:
    machine.mapped[7] = ["/libnccl.so.2"]
    machine.search(finder)
    machine.started[7] = 2
    machine.search(finder)
    assert finder.gone[7].start_time == 1
    assert finder.users[7].start_time == 2


def test_files_named_like_nccl_are_searched_first_and_others_as_many_as_may_be(
    machine: Machine, finder: Finder
) -> None:
    machine.mapped[7] = [*(f"/{number}.so" for number in range(MOST_FILES + 1)), "/libnccl.so.2"]
    machine.search(finder)
    assert machine.searched[0] == "/libnccl.so.2"
    assert len(machine.searched) == MOST_FILES
    assert finder.users[7].is_cut
    assert finder.skipped() == Skipped(cut_processes=1)
    del machine.mapped[7]
    machine.search(finder)
    assert finder.skipped() == Skipped()


@pytest.mark.parametrize(
    "paths, why",
    [
        (["/libnccl.so.2", "endless"], "more than 32 MB of mappings"),
        (["/libnccl.so.2", "/huge"], f"/huge: {OVERSIZED}"),
        ([f"/libnccl.so.{i}" for i in range(MOST_LIBRARIES + 1)], "more than 16 files with NCCL's functions"),
    ],
)
def test_what_is_too_much_is_reported_and_the_rest_found(
    machine: Machine, finder: Finder, paths: list[str], why: str
) -> None:
    machine.mapped[7], machine.oversized = paths, {"/huge"}
    machine.search(finder)
    assert finder.cut == {7: why}
    assert 1 <= len(finder.users[7].libraries) <= MOST_LIBRARIES
    assert finder.users[7].is_cut


def test_a_process_that_may_not_be_searched_is_tried_again(machine: Machine, finder: Finder) -> None:
    machine.mapped[7] = ["refused"]
    machine.search(finder)
    assert finder.refused == {7}
    machine.mapped[7] = ["/libnccl.so.2"]
    machine.search(finder)
    assert list(finder.users) == [7]


def test_searching_takes_its_part_of_the_time_and_no_more(machine: Machine, finder: Finder) -> None:
    for pid in range(1, 10):
        machine.mapped[pid] = [f"/{pid}/{number}.so" for number in range(MOST_FILES)]
    machine.search(finder)
    assert len(machine.searched) == MOST_SAVED_NS // MS
    assert finder.skipped().waiting_processes > 0
    for _ in range(3):
        before = len(machine.searched)
        finder.grant(1000 * MS)
        machine.search(finder)
        assert len(machine.searched) - before == 1000 // SEARCH_SHARE


def test_another_users_processes_do_not_wait_for_those_of_one_who_has_many(machine: Machine, finder: Finder) -> None:
    for pid in range(1, 100):
        machine.mapped[pid] = [f"/{pid}/{number}.so" for number in range(100)]
        machine.uids[pid] = 1000
    machine.search(finder)
    machine.mapped[500] = ["/libnccl.so.2"]
    finder.grant(50 * MS)
    machine.search(finder)
    assert list(finder.users) == [500]


def test_a_sweep_that_takes_long_goes_on_in_the_next_round(
    machine: Machine, finder: Finder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finder_module, "SWEEP_NS", 3 * MS)

    def slow(pid: int) -> int:
        machine.now += MS
        return 1

    monkeypatch.setattr(proc, "mapped_size", slow)
    for pid in range(1, 8):
        machine.mapped[pid] = ["/libnccl.so.2"]
    found = []
    for _ in range(3):
        machine.search(finder)
        found.append(len(finder.users))
    assert found == [3, 6, 7]


def test_process_that_ended_is_no_user_any_more(machine: Machine, finder: Finder) -> None:
    machine.mapped = {7: ["/libnccl.so.2"], 8: ["/libnccl.so.2"]}
    machine.search(finder)
    del machine.mapped[7]
    machine.search(finder)
    assert (list(finder.users), list(finder.gone)) == ([8], [7])


def test_zombie_is_no_user_any_more(machine: Machine, finder: Finder) -> None:
    machine.mapped[7] = ["/libnccl.so.2"]
    machine.search(finder)
    machine.pages[7] = 0
    machine.search(finder)
    assert (list(finder.users), list(finder.gone)) == ([], [7])


def test_process_that_changed_while_it_was_searched_is_searched_again(
    machine: Machine, finder: Finder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number went to another process: what was found may belong to either."""
    machine.mapped[7] = ["/libnccl.so.2", "/other.so"]
    finder.sweep()
    finder.step()
    machine.started[7] = 2
    while finder.step():
        pass
    assert finder.users == {}
    machine.searched.clear()
    machine.search(finder)
    assert machine.searched == ["/libnccl.so.2", "/other.so"]
    assert finder.users[7].start_time == 2


def test_as_many_libraries_as_may_be_are_all_there_are(machine: Machine, finder: Finder) -> None:
    machine.mapped[7] = [f"/libnccl.so.{number}" for number in range(MOST_LIBRARIES)]
    machine.search(finder)
    assert finder.cut == {}
    assert len(finder.users[7].libraries) == MOST_LIBRARIES
    assert not finder.users[7].is_cut


def test_process_that_maps_less_by_now_is_searched_as_a_whole(machine: Machine, finder: Finder) -> None:
    machine.mapped[7] = ["/libnccl.so.2", "endless"]
    machine.search(finder)
    assert finder.cut
    machine.mapped[7].pop()
    machine.pages[7] = 2
    machine.search(finder)
    assert finder.cut == {}
    assert not finder.users[7].is_cut
