"""How the tests find out whose a program is that stays loaded, on a machine with any processes."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.conftest import ancestors

NAMED = "open('/proc/self/comm', 'wb').write(b'\\xff\\nPPid:\\t1'); print(flush=True); open(0).read()"


def test_parents_of_a_process_are_found_whatever_its_name() -> None:
    with subprocess.Popen([sys.executable, "-c", NAMED], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        found = list(ancestors(process.pid))
        process.communicate()
    assert found[:2] == [process.pid, os.getpid()]
