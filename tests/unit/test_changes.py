"""The tool that changes the product on purpose: which changes it makes, which tests it runs, what it says."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.changes import __main__ as command
from tests.changes import build, c, c_tests, choice, equivalent, python, trees
from tests.changes.c_tests import Stage
from tests.changes.change import Change, choose, draw
from tests.changes.trees import Outcome, Tree

ROOT = Path(__file__).parents[2]


def made(source: str, kind: str) -> set[str]:
    """The changes of one kind, as the changed line."""
    text = source.encode()
    return {change.shown(text)[1] for change in python.changes_of("m.py", text) if change.kind == kind}


@pytest.mark.parametrize(
    "source, kind, changed",
    [
        ("a = b < c", "boundary", {"a = (b <= c)"}),
        ("a = b < c", "comparison", {"a = (b >= c)"}),
        ("a = b < c >= d", "boundary", {"a = (b <= c >= d)", "a = (b < c > d)"}),
        ("a = b is None", "comparison", {"a = (b is not None)"}),
        ("a = b in c", "comparison", {"a = (b not in c)"}),
        ("a = b and c and d", "and, or", {"a = (b or c or d)"}),
        ("a = not b", "removed not", {"a = (b)"}),
        ("a = b + c", "arithmetic", {"a = (b - c)"}),
        ("a = b // 8", "arithmetic", {"a = (b * 8)"}),
        (
            "a = b << 8 | c & d",
            "arithmetic",
            {"a = (b << 8 & (c & d))", "a = (b >> 8) | c & d", "a = b << 8 | (c | d)"},
        ),
        ("a = 'x' + b", "arithmetic", set()),
        ("a = 3", "constant", {"a = 4"}),
        ("a = 1.0", "constant", {"a = 1.05"}),
        ("a = 0.0", "constant", {"a = 0.05"}),
        ("a = True", "constant", {"a = False"}),
        ("a = None", "constant", set()),
        ("a = b['src_ip']", "name", {"a = b['src_ip_']"}),
        ("a = 'not a name, a text'", "name", set()),
        ("a = b.decode('utf-8')", "name", set()),
        ("a = max(b, c)", "min, max, any, all", {"a = min(b, c)"}),
        ("a = any(b)", "min, max, any, all", {"a = all(b)"}),
        ("a = f(b, c, d)", "swap", {"a = f(c, b, d)", "a = f(b, d, c)"}),
        ("a = f(x=b, y=c)", "swap", {"a = f(x=c, y=b)"}),
        ("a = min(b, c)", "swap", set()),
        ("a = {1: b, 2: c}", "swap", {"a = {1: c, 2: b}"}),
        ("a = (b, b)", "swap", set()),
        ("a = b in (c, d)", "swap", set()),
        ("a = b in (1, c)", "constant", {"a = b in (2, c)"}),
        ("try:\n    pass\nexcept A:\n    f(a)", "dropped call", {"pass"}),
        ("a = b.sent + b.received", "attribute", {"a = b.received + b.received", "a = b.sent + b.sent"}),
        ("a = b.sent + b.total()", "attribute", set()),
        ("def f():\n    a.b = 1", "dropped statement", {"pass"}),
        ("for a in b:\n    continue", "dropped statement", {"pass"}),
        ("def f():\n    raise ValueError", "dropped statement", {"pass"}),
        ("def f():\n    raise NotImplementedError", "dropped statement", set()),
        ("a += 1", "dropped statement", {"pass"}),
        ("f(a)", "dropped call", {"pass"}),
        ("log.debug('x')", "dropped call", set()),
        ("class A:\n    def f(self, a=True):\n        'It does.'", "constant", set()),
        ("class A:\n    def f(self, a=True):\n        return a", "constant", {"def f(self, a=False):"}),
        ("def f():\n    return a", "return nothing", {"return None"}),
        ("def f():\n    return False", "return nothing", set()),
        ("def f():\n    a.b()\n    c.d()", "return early", {"return"}),
        ("def f():\n    a.b()\n    return 1", "return early", set()),
        ("if a:\n    b = 1", "condition", {"if (not a):"}),
        ("a = [b for b in c if d]", "condition", {"a = [b for b in c if (not d)]"}),
        ("if a < b:\n    pass", "condition", set()),
    ],
)
def test_each_kind_of_change_is_found_and_made(source: str, kind: str, changed: set[str]) -> None:
    assert made(source, kind) == changed


@pytest.mark.parametrize(
    "source",
    [
        '"""A module with 3 words."""',
        'def f():\n    """Returns 3."""',
        "@cached(size=3)\nclass A:\n    pass",
        "a: dict[str, 3]",
        "def f(a: Literal[3]) -> Literal['x']:\n    pass",
        "assert a == 3",
        "a = f'{b + 3} x'",
        "if TYPE_CHECKING:\n    from a import b",
        "log.debug('at', 3)",
        "for a in zip(b, strict=True):\n    pass",
        "try:\n    a = b\nexcept (A, B):\n    pass",
        "Record = dict[str, Any]",
        "Batch = TypeVar('Batch')",
    ],
)
def test_what_nobody_means_to_test_is_left_alone(source: str) -> None:
    assert python.changes_of("m.py", source.encode()) == []


@pytest.mark.parametrize("path", ["xtrace/monitors/flows/coverage.py", "xtrace/messages.py"])
def test_every_change_of_a_real_module_is_another_program(path: str) -> None:
    source = (ROOT / path).read_bytes()
    changes = python.changes_of(path, source)
    assert len(changes) > 5
    for change in changes:
        changed = change.apply(source)
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source)), change.shown(source)


def test_change_is_made_in_its_place_behind_letters_of_several_bytes() -> None:
    source = "a = 'ä'\nb = ('é', 1)\n".encode()
    (change,) = (change for change in python.changes_of("m.py", source) if change.kind == "constant")
    assert change.apply(source).decode() == "a = 'ä'\nb = ('é', 2)\n"
    assert (change.line(source), change.shown(source)) == (2, ("b = ('é', 1)", "b = ('é', 2)"))


def test_scope_is_the_line_by_which_python_knows_the_function() -> None:
    source = "X = 1\n\n\nclass A:\n    @property\n    def f(self, a=2):\n        return 3\n"
    scopes = {c.text: c.scope for c in python.changes_of("m.py", source.encode()) if c.kind == "constant"}
    assert scopes == {b"2": 0, b"3": 0, b"4": 5}


def test_choice_is_the_same_for_a_seed_and_takes_every_kind_in_turn() -> None:
    changes = [Change("m.py", kind, at, at + 1, b"") for at in range(50) for kind in ("a", "b")]
    changes.append(Change("m.py", "rare", 7, 8, b""))
    chosen = choose(changes, 7, "1 m.py")
    assert chosen == choose(changes, 7, "1 m.py") != choose(changes, 7, "2 m.py")
    assert sorted(change.kind for change in chosen) == ["a", "a", "a", "b", "b", "b", "rare"]
    assert [change.start for change in chosen] == sorted(change.start for change in chosen)
    assert set(choose(changes, 1000, "")) == set(changes)


def test_sample_takes_changes_of_all_files_alike() -> None:
    changes = [Change(path, "", at, at + 1, b"") for path, size in (("a.c", 90), ("b.c", 10)) for at in range(size)]
    drawn = draw(changes, 50, "1")
    assert drawn == draw(changes, 50, "1") != draw(changes, 50, "2")
    assert len(set(drawn)) == 50 and 0 < sum(change.path == "b.c" for change in drawn) < 25
    assert set(draw(changes, 1000, "1")) == set(changes)


C_SOURCE = b"""\
#define ROOM 8 /* 9 */
// 10
static int f(int a, const char *b)
{
	if (!a && b[0] == 'x')
		return "11 < 12";
	note(a);
	PIN(a);
	a |= 0x10;
	return a < ROOM;
}
"""


def test_c_is_changed_in_its_code_alone() -> None:
    changed = {(change.kind, change.shown(C_SOURCE)[1]) for change in c.changes_of("f.c", C_SOURCE)}
    assert changed == {
        ("constant", "if (!a && b[1] == 'x')"),
        ("constant", "a |= 17;"),
        ("removed not", "if (a && b[0] == 'x')"),
        ("and, or", "if (!a || b[0] == 'x')"),
        ("comparison", "if (!a && b[0] != 'x')"),
        ("arithmetic", "a &= 0x10;"),
        ("boundary", "return a <= ROOM;"),
        ("dropped statement", ";"),
    }
    drops = [change for change in c.changes_of("f.c", C_SOURCE) if change.kind == "dropped statement"]
    assert {change.shown(C_SOURCE)[0] for change in drops} == {"note(a);", "a |= 0x10;"}


@pytest.mark.parametrize(
    "changed, parts",
    [
        ("csrc/render.c", {"_native.abi3.so"}),
        ("csrc/parse.h", {"xdp_monitor.o", "xdp_monitor_hash.o", "owner_probe.o", "tcp_packets.o"}),
        ("csrc/nccl_probe.c", {"nccl_probe.o"}),
        ("csrc/tcp.h", {"_native.abi3.so", "tcp_probe.o"}),
    ],
)
def test_what_a_c_file_is_part_of_is_compiled_and_nothing_else(changed: str, parts: set[str]) -> None:
    assert build.parts(ROOT, changed) == {f"xtrace/{part}" for part in parts}


@pytest.mark.parametrize(
    "changed, parts",
    [
        ("csrc/parse.h", ["xdp_monitor.o", "owner_probe.o", "tcp_packets.o"]),
        ("csrc/table_hash.h", ["xdp_monitor_hash.o"]),
        ("csrc/count.h", ["xdp_monitor.o", "xdp_monitor_hash.o"]),
        ("csrc/shim.c", ["_native.abi3.so"]),
    ],
)
def test_c_file_is_tested_in_every_part_in_which_it_does_something_else(changed: str, parts: list[str]) -> None:
    stages = c_tests.stages(changed, build.parts(ROOT, changed))
    assert [stage.part for stage in stages] == [f"xtrace/{part}" for part in parts]


@pytest.mark.parametrize("path", sorted((ROOT / "csrc").iterdir()), ids=lambda path: path.name)
def test_every_c_file_has_tests_that_exist(path: Path) -> None:
    changed = str(path.relative_to(ROOT))
    for stage in c_tests.stages(changed, build.parts(ROOT, changed)):
        named = [word for word in stage.tests if word.startswith("tests/")]
        assert named and all((ROOT / word).exists() for word in named)


def test_equivalent_changes_have_reasons() -> None:
    text = "# remark\n\na.py\n- x = 1\n+ x = 2\nNobody reads x,\nor y.\n"
    assert equivalent.parse(text) == {("a.py", "x = 1", "x = 2"): "Nobody reads x, or y."}
    with pytest.raises(ValueError, match=r"this is none: a\.py"):
        equivalent.parse("a.py\n- x = 1\n+ x = 2\n")
    assert equivalent.parse(equivalent.FILE.read_text())


def test_entry_whose_line_is_no_longer_there_is_stale(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = f(\n    1\n)\n")
    known = {("a.py", "x = f( 1 )", ""): "", ("a.py", "x = 2", ""): "", ("b.py", "x = 1", ""): ""}
    assert equivalent.stale(known, tmp_path) == [("a.py", "x = 2", ""), ("b.py", "x = 1", "")]


def recording(*tests: tuple[str, float, list[str]], importing: list[str] | None = None) -> choice.Recording:
    told: dict[str, Any] = {
        "tests": [{"id": name, "seconds": seconds, "calls": calls} for name, seconds, calls in tests],
        "importing": importing or [],
        "failed": [],
    }
    return choice.Recording(json.dumps(told), {"xtrace/a.py": {"xtrace/b.py", "tests/test_a.py"}})


NAMES = "tests/test_a.py::names"
RECORDED: tuple[tuple[str, float, list[str]], ...] = (
    ("slow", 2.0, ["xtrace/a.py:10"]),
    ("quick", 0.1, ["xtrace/a.py:10", "xtrace/a.py:20"]),
    ("other", 0.5, ["xtrace/a.py:20"]),
    ("user", 0.1, ["xtrace/b.py:1"]),
    ("stranger", 0.1, ["xtrace/c.py:1"]),
    (NAMES, 0.3, []),
    ("tests/test_b.py::names", 0.3, []),
)


@pytest.mark.parametrize(
    "scope, importing, tests",
    [
        (10, [], ["quick", "slow"]),
        (10, ["xtrace/a.py:10"], ["quick", "slow", "other", "user", NAMES]),
        (0, [], ["quick", "other", "slow", "user", NAMES]),
        (99, [], ["quick", "other", "slow", "user", NAMES]),
    ],
    ids=["function", "function that is called while modules are imported", "module", "function that no test calls"],
)
def test_tests_of_a_change_are_those_that_call_it_the_quickest_first(
    scope: int, importing: list[str], tests: list[str]
) -> None:
    found = recording(*RECORDED, importing=importing).tests_of(Change("xtrace/a.py", "", 0, 0, b"", scope))
    assert [test.id for test in found] == tests
    assert choice.limit_s(found) == choice.SLOWEST_START_S + 5 * sum(test.seconds for test in found)


def test_importers_are_known_by_every_form_of_import() -> None:
    importers = choice.importers_of(ROOT)
    assert "xtrace/model/flow.py" in importers["xtrace/kernel/abi.py"]
    assert "xtrace/monitors/flows/start.py" in importers["xtrace/kernel/features.py"]  # from xtrace.kernel import ...
    assert "xtrace/__main__.py" in importers["xtrace/command.py"]
    assert "tests/unit/model/test_nccl.py" in importers["xtrace/model/nccl_names.py"]
    assert (
        "tests/unit/sinks/metrics/test_documents.py" in importers["xtrace/sinks/metrics/own.py"]
    )  # by tests.push.shipped
    assert "tests/unit/sinks/metrics/test_flows.py" not in importers["xtrace/sinks/metrics/own.py"]


PRODUCT = b"""\
from functools import cache


def double(n):
    return 2 * n


def spin(n):
    while n > 1:
        n -= 1


def unused():
    return 5


@cache
def cached():
    return 7
"""
TESTS = """\
from xtrace.thing import cached, double, spin

def test_cached():
    cached()

def test_cached_again():
    cached.cache_info()
    assert cached() == 7

def test_double():
    assert double(4) == 8

def test_spin():
    spin(3)

def test_that_fails():
    assert double(1) == 3
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A copy of a small product with its tests."""
    root = tmp_path_factory.mktemp("product") / "root"
    shutil.copytree(ROOT / "tests" / "changes", root / "tests" / "changes", ignore=shutil.ignore_patterns("*.pyc"))
    (root / "xtrace").mkdir()
    (root / "xtrace" / "thing.py").write_bytes(PRODUCT)
    (root / "xtrace" / "_native.so").write_bytes(b"built")
    (root / "tests" / "test_thing.py").write_text(TESTS)
    (root / "ignored").write_text("")
    (root / ".gitignore").write_text("*.so\nignored\n")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trees, "ROOT", root)
        yield Tree.make(root.parent / "copy")


def test_copy_has_what_is_new_and_what_was_built_and_nothing_else(tree: Tree) -> None:
    copied = {str(path.relative_to(tree.directory)) for path in tree.directory.rglob("*") if path.is_file()}
    assert {"xtrace/thing.py", "xtrace/_native.so", "tests/test_thing.py"} <= copied
    assert not {"ignored", ".git/config"} & copied


@pytest.fixture(scope="module")
def outcome(tree: Tree) -> Callable[..., Outcome]:
    """Changes the product's text, and runs the tests that the recording gives."""
    recorded = choice.Recording(tree.record(["tests"]), choice.importers_of(tree.directory))
    assert recorded.failed == ["tests/test_thing.py::test_that_fails"]

    def run(old: str, new: bytes, scope: bytes, limit_s: float = 60) -> Outcome:
        at = PRODUCT.index(old.encode())
        line = PRODUCT.count(b"\n", 0, PRODUCT.index(scope)) + 1
        change = Change("xtrace/thing.py", "", at, at + len(old), new, line)
        chosen = [test.id for test in recorded.tests_of(change)]
        return tree.outcome(change, ["tests/test_thing.py"], chosen, limit_s)

    return run


def test_change_is_noticed_or_not_and_undone(tree: Tree, outcome: Callable[..., Outcome]) -> None:
    found = outcome("2 * n", b"2 + n", b"def double")
    assert (found.noticed, found.how) == (True, "FAILED tests/test_thing.py::test_double")
    assert (tree.directory / "xtrace/thing.py").read_bytes() == PRODUCT
    assert not outcome("2 * n", b"n * 2", b"def double").noticed
    assert not outcome("n -= 1", b"n -= 2", b"def spin").noticed
    assert outcome("return 5", b"return (", b"def unused").noticed, "it cannot be imported"
    assert not outcome("return 5", b"return 6", b"def unused").noticed


def test_test_that_finds_the_answer_in_a_cache_concerns_the_function(outcome: Callable[..., Outcome]) -> None:
    found = outcome("return 7", b"return 8", b"@cache")
    assert (found.noticed, found.how) == (True, "FAILED tests/test_thing.py::test_cached_again")


def test_change_that_never_ends_has_no_answer_within_the_limit(outcome: Callable[..., Outcome]) -> None:
    assert outcome("n -= 1", b"pass", b"def spin", limit_s=2) == Outcome(False, "no end within 2 s", hung=True)


@pytest.mark.parametrize(
    "answers, asked, noticed",
    [
        (["3 passed"], [["-x", "-q", "tests"]], False),
        (["FAILED t.py::a[1 b]", "FAILED t.py::a[1 b]"], [["-x", "-q", "tests"], ["-q", "t.py::a[1 b]"]], True),
        (
            ["ERROR t.py::a", "1 passed", "3 passed"],
            [["-x", "-q", "tests"], ["-q", "t.py::a"], ["-x", "-q", "tests"]],
            False,
        ),
        (
            ["ERROR t.py::a", "1 passed", "FAILED t.py::b"],
            [["-x", "-q", "tests"], ["-q", "t.py::a"], ["-x", "-q", "tests"]],
            True,
        ),
        (["Fatal Python error: Segmentation fault"], [["-x", "-q", "tests"]], True),
    ],
)
def test_failure_that_is_none_when_the_test_runs_by_itself_is_no_answer(
    answers: list[str], asked: list[list[str]], noticed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, runs, left = Tree(tmp_path), [], iter(answers)

    def run(_: str, arguments: list[str], limit_s: float) -> Outcome:
        runs.append(arguments)
        said = next(left)
        return Outcome("passed" not in said, said)

    (tmp_path / "a.c").write_text("1;")
    monkeypatch.setattr(made, "build", lambda parts: True)
    monkeypatch.setattr(made, "_pytest", run)
    change = Change("a.c", "constant", 0, 1, b"2")
    assert made.outcome_of_c(change, [Stage("one", ["tests"])], 60).noticed == noticed
    assert runs == asked


@pytest.fixture
def c_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Changes a C file of two parts; `build` and `tests` say whether the compiler and the tests of a part take it."""
    (tmp_path / "csrc").mkdir()
    (tmp_path / "csrc/a.c").write_text("1;")
    (tmp_path / "xtrace").mkdir()
    (tmp_path / "xtrace/a.o").write_text("built")

    def run(build: dict[str, bool], tests: dict[str, Outcome]) -> Outcome:
        made = Tree(tmp_path)

        def compile_one(parts: list[str]) -> bool:
            assert (tmp_path / "csrc/a.c").read_text() == "2;"
            (tmp_path / "xtrace/a.o").write_text("changed")
            return build[parts[0]]

        monkeypatch.setattr(made, "build", compile_one)
        monkeypatch.setattr(made, "_pytest", lambda _, arguments, limit_s: tests.get(arguments[-1], NOTICED))
        change = Change("csrc/a.c", "constant", 0, 1, b"2")
        found = made.outcome_of_c(change, [Stage("one", ["t1"]), Stage("two", ["t2"])], 60)
        assert (tmp_path / "csrc/a.c").read_text() == "1;"
        assert (tmp_path / "xtrace/a.o").read_text() == "built"
        return found

    return run


MISSED, HUNG, NOTICED = Outcome(False, "3 passed"), Outcome(False, "no end", hung=True), Outcome(True, "FAILED t")
REFUSED = Outcome(True, "the compiler refuses it", refused=True)


@pytest.mark.parametrize(
    "build, tests, outcome",
    [
        ({"one": False}, {}, REFUSED),
        ({"one": True}, {"t1": NOTICED}, NOTICED),
        ({"one": True, "two": False}, {"t1": MISSED}, REFUSED),
        ({"one": True, "two": True}, {"t1": MISSED, "t2": NOTICED}, NOTICED),
        ({"one": True, "two": True}, {"t1": MISSED, "t2": MISSED}, MISSED),
        ({"one": True, "two": True}, {"t1": HUNG, "t2": MISSED}, HUNG),
        ({"one": True, "two": True}, {"t1": HUNG, "t2": NOTICED}, NOTICED),
    ],
)
def test_change_to_c_is_tested_part_by_part_until_it_is_noticed(
    build: dict[str, bool], tests: dict[str, Outcome], outcome: Outcome, c_tree: Callable[..., Outcome]
) -> None:
    assert c_tree(build, tests) == outcome


def test_what_the_verifier_refuses_is_known_by_the_failure(tree: Tree, outcome: Callable[..., Outcome]) -> None:
    raising = b"type('VerifierError', (Exception,), {})"
    found = outcome("return 2 * n", b"raise " + raising, b"def double")
    assert (found.noticed, found.refused, found.how) == (True, True, "FAILED tests/test_thing.py::test_double")
    assert not outcome("2 * n", b"2 + n", b"def double").refused


def test_report_counts_and_shows_what_was_not_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    source = b"a = 1\nb = 2\nc = 3\nd = 4\ne = 5\n"
    changes = python.changes_of("m.py", source)
    refused, hung = Outcome(True, "no", refused=True), Outcome(False, "no end", hung=True)
    outcomes = [Outcome(True, "FAILED t"), Outcome(False, "3 passed"), None, refused, hung]
    count = command.report("m.py", list(zip(changes, outcomes, strict=True)), source)
    told = "1 of 2 noticed, 50 %, 1 without an answer in time, 1 refused, 1 equivalent"
    assert str(count) == told
    assert capsys.readouterr().out == (
        f"m.py: {told}\n"
        "    m.py:2 constant (3 passed)\n      - b = 2\n      + b = 3\n"
        "    m.py:5 constant (no end)\n      - e = 5\n      + e = 6\n"
    )


def test_modules_are_files_and_folders_of_the_tree() -> None:
    assert command.modules(["xtrace/messages.py", "csrc/flow.h", "xtrace/messages.py"]) == [
        *("xtrace/messages.py", "csrc/flow.h")
    ]
    assert "xtrace/monitors/rdma/ports.py" in command.modules(["xtrace/monitors/rdma"])
