"""Entry point of the command and of `python -m xtrace`."""

import _signal  # type: ignore[import-not-found]  # built in: the module signal takes milliseconds to import
import gc
import os
import sys


def main() -> int:
    """Run the command and return its exit code; a Ctrl-C before it handles signals also ends quietly."""
    try:
        # until Stop handles them, signals wait: an import machinery that is interrupted may lose the request
        _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP))
        _occupy_standard_descriptors()
        gc.disable()  # what is imported and made before packets are counted stays, and is not searched for garbage
        from xtrace.stop import Stop

        stop = Stop.installed()  # a signal during the slow imports below is a request to stop, too
        from xtrace.command import main as run

        return run(stop=stop)
    except KeyboardInterrupt:
        return 130


def _occupy_standard_descriptors() -> None:
    """Open /dev/null on each of 0, 1 and 2 that is closed: a map that got the number would be written to."""
    opened = _open_something()
    while opened <= 2:
        opened = _open_something()
    os.close(opened)


def _open_something() -> int:
    """Open /dev/null, or the root directory, which cannot be written to, in a container without /dev/null."""
    try:
        return os.open(os.devnull, os.O_RDWR)
    except FileNotFoundError:
        return os.open("/", os.O_RDONLY)


if __name__ == "__main__":
    sys.exit(main())
