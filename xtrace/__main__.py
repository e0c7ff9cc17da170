"""The command's entry, also as `python -m xtrace`."""

import os
import sys


def main() -> int:
    """Run the command; a Ctrl-C before it could take over the signals ends quietly too."""
    try:
        _occupy_standard_descriptors()
        from xtrace.command import main as run

        return run()
    except KeyboardInterrupt:
        return 130


def _occupy_standard_descriptors() -> None:
    """Where 0, 1 or 2 is closed, open /dev/null there: else a map would get the number, and be written to."""
    opened = _open_something()
    while opened <= 2:
        opened = _open_something()
    os.close(opened)


def _open_something() -> int:
    """/dev/null, or where a container has none, what nothing can be written to: the root directory."""
    try:
        return os.open(os.devnull, os.O_RDWR)
    except FileNotFoundError:
        return os.open("/", os.O_RDONLY)


if __name__ == "__main__":
    sys.exit(main())
