"""From argv to an exit code: which part answers, and what it has to import for that."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from xtrace import __main__, command
from xtrace.errors import UsageError, XtraceError
from xtrace.stop import Stop


def test_first_word_selects_a_subcommand_which_gets_the_rest(monkeypatch: pytest.MonkeyPatch, stop: Stop) -> None:
    def main(arguments: Sequence[str], passed: Stop) -> int:
        assert passed is stop
        return len(arguments)

    monkeypatch.setattr(command, "SUBCOMMANDS", {"count": main})
    assert command.answer(["count", "a", "--b"], stop) == 2
    with pytest.raises(UsageError, match="unexpected argument 'count'"):
        command.answer(["-t", "5s", "count"], stop)


@pytest.fixture
def collecting() -> Iterator[None]:
    """Garbage is collected as it was before the test, and the same signals wait."""
    mask, enabled = signal.pthread_sigmask(signal.SIG_BLOCK, ()), gc.isenabled()
    yield
    (gc.enable if enabled else gc.disable)()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@pytest.mark.usefixtures("collecting")
def test_garbage_is_not_collected_from_the_first_import_on(monkeypatch: pytest.MonkeyPatch, stop: Stop) -> None:
    monkeypatch.setattr(Stop, "installed", lambda: stop)
    monkeypatch.setattr(command, "main", lambda stop: gc.isenabled())
    gc.enable()
    assert __main__.main() is False


@pytest.mark.usefixtures("collecting")
def test_subcommand_collects_garbage_at_once(monkeypatch: pytest.MonkeyPatch, stop: Stop) -> None:
    monkeypatch.setattr(command, "SUBCOMMANDS", {"count": lambda *_: gc.isenabled()})
    gc.disable()
    assert command.answer(["count"], stop) is True


def test_command_imports_neither_options_nor_kernel_before_it_monitors() -> None:
    script = "import sys; import xtrace.command; print(*(name for name in sys.modules if name.startswith('xtrace.')))"
    imported = subprocess.check_output([sys.executable, "-c", script], text=True).split()
    assert "xtrace.command" in imported
    assert [name for name in imported if name.startswith(("xtrace.kernel", "xtrace.options", "xtrace._native"))] == []


@pytest.mark.parametrize(
    "error, code, said",
    [
        (UsageError("no such option"), 2, "xtrace-catch: no such option"),
        (XtraceError("it broke"), 1, "xtrace-catch: it broke"),
        (FileNotFoundError(2, "No such file or directory", "/proc/x"), 1, "/proc/x"),
        (KeyError("surprise"), 1, "xtrace-catch: internal error: KeyError('surprise'); --debug shows where"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_error_that_ends_a_run_is_one_line_and_an_exit_code(
    caplog: pytest.LogCaptureFixture, error: Exception, code: int, said: str
) -> None:
    assert command.report(error, debug=False) == code
    (record,) = caplog.records
    assert said in record.getMessage()
    assert record.exc_info is None
    command.report(error, debug=True)
    assert caplog.records[-1].exc_info is not None
