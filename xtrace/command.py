"""The command: from argv to an exit code."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

from xtrace.diagnostics import Diagnostics
from xtrace.errors import Stopped, VerifierError, XtraceError
from xtrace.sinks.stream import STDOUT, OutputClosed, OutputStream
from xtrace.stop import Stop

log = logging.getLogger("xtrace")

Main = Callable[[Sequence[str], Stop], int]
"""Takes the arguments after a subcommand's name and returns the exit code; raises XtraceError."""


def report_page(arguments: Sequence[str], stop: Stop) -> int:
    """Make one HTML page of a run's JSON Lines."""
    from xtrace.report.command import main

    return main(arguments, stop)


def name_the_hang(arguments: Sequence[str], stop: Stop) -> int:
    """Name the rank that keeps the others waiting, from the JSON Lines of all hosts."""
    from xtrace.hang.command import main

    return main(arguments, stop)


SUBCOMMANDS: Mapping[str, Main] = {"hang": name_the_hang, "report": report_page}
"""Words in first place, which read records instead of monitoring. Each has a function here that imports its module on
demand, and a rule in tests/unit/test_imports.py that keeps it from importing kernel/."""


def failed_thread(failure: threading.ExceptHookArgs) -> None:
    """Log the exception that ended a thread in one line; the other threads continue."""
    name = failure.thread.name if failure.thread else "?"
    log.error("xtrace-catch: internal error: thread %s ended: %r; --debug shows where", name, failure.exc_value)
    log.debug("", exc_info=failure.exc_value)


def main(arguments: Sequence[str] | None = None, stop: Stop | None = None) -> int:
    """Run the command and return its exit code. `stop`: the requests to stop, if already installed."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    diagnostics = Diagnostics()
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[diagnostics], force=True)
    threading.excepthook = failed_thread
    with closing(stop or Stop.installed()) as stop:
        try:
            return answer(given, stop)
        except OutputClosed:
            return 0
        except Stopped as stopped:
            log.info("xtrace-catch: %s", stopped)
            return 0
        except Exception as error:  # noqa: BLE001 - every error is one line
            diagnostics.be_patient()
            return report(error, debug)


def report(error: Exception, debug: bool) -> int:
    """Log the error that ended the run in one line, and return the exit code."""
    shown = error if debug else None
    if isinstance(error, XtraceError):
        log.error("xtrace-catch: %s", error, exc_info=shown)
        if isinstance(error, VerifierError):
            log.debug("%s", error.log)
        return error.exit_code
    if isinstance(error, OSError):
        # a missing file of /proc or /sys, as in a container that hides them
        log.error("xtrace-catch: %s", error, exc_info=shown)
    else:
        log.error("xtrace-catch: internal error: %r; --debug shows where", error, exc_info=shown)
    return 1


def answer(arguments: Sequence[str], stop: Stop) -> int:
    """Do what the command line requests and return the exit code."""
    if arguments and arguments[0] in SUBCOMMANDS:
        gc.enable()  # off since the command began
        return SUBCOMMANDS[arguments[0]](arguments[1:], stop)
    return monitor(arguments, stop)


def monitor(arguments: Sequence[str], stop: Stop) -> int:
    """List the interfaces or monitor them, and return the exit code."""
    from xtrace.config import parse  # with what it imports, nothing that a subcommand needs
    from xtrace.kernel.syscall import ffi, lib
    from xtrace.options.command_line import Answered

    version = ffi.string(lib.xt_version()).decode()
    try:
        config = parse(arguments, os.environ, version)
    except Answered as answered:
        text = str(answered)
    else:
        if config.quiet:
            logging.getLogger().setLevel(logging.ERROR)
        from xtrace import assembly  # a slow import that --help and --version do not need

        return assembly.run(config, version, stop)
    OutputStream(STDOUT, stop).write(text.encode())
    return 0
