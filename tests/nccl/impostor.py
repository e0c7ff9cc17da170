"""impostor.py LIBRARY CRAFTED: a process that makes another file stand where it has mapped a library.

Run in a mount namespace of its own. The other file has the same path, inode number, size and time of modification.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

MOST_FILES = 10_000

library, content = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
status = library.stat()
with library.open("rb") as file:
    mapped = mmap.mmap(file.fileno(), 4096, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC)
subprocess.run(["mount", "-t", "tmpfs", "none", str(library.parent)], check=True)
for number in range(MOST_FILES):
    crafted = library.parent / str(number)
    crafted.touch()
    if crafted.stat().st_ino == status.st_ino:
        break
crafted.write_bytes(content)
os.utime(crafted, ns=(status.st_atime_ns, status.st_mtime_ns))
crafted.rename(library)
now = library.stat()
same = (now.st_ino, now.st_size, now.st_mtime_ns) == (status.st_ino, status.st_size, status.st_mtime_ns)
print("ready" if same else "not the same", flush=True)
sys.stdin.read()
