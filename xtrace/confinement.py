"""What a run keeps of its privileges once everything is attached: what draining and attaching again need."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from xtrace.config import Config
from xtrace.errors import KernelError
from xtrace.kernel import confinement, paths, privileges, runtime_names
from xtrace.model.confinement import Confinement
from xtrace.options.accounts import Account

log = logging.getLogger(__name__)

LOOKS_INTO_PROCESSES = "mode nccl and --tcp look into other processes, which Landlock forbids"

ALL = os.R_OK | os.W_OK | os.X_OK
CODE = (Path("/usr"), Path("/lib"), Path("/lib64"))
"""Libraries and Python modules that are loaded when they are first needed; world-readable anyway."""
NAMES = (
    Path("/etc"),
    Path("/run/systemd/resolve"),
    Path("/run/resolvconf"),
    Path("/run/NetworkManager"),
)
"""What resolving a server's name reads, and its certificates. Directories: their files are replaced while we run."""
MOST_LINKS = 40
"""On the way to a file, as in path_resolution(7)."""


def change_user(user: Account) -> None:
    """Become the user of --user; the capabilities stay until confine()."""
    privileges.require(privileges.USER_NEEDS, "--user")
    confinement.become(*user)


def confine(config: Config, read_again: Collection[Path]) -> Confinement:
    """Give up what the run needs no more, in all threads, and return what is enforced. Failing is told, not fatal.

    `read_again`: files that may be replaced, and are read again then.
    """
    time.tzset()  # reads the time zone's file while it can be read
    try:
        why_not = LOOKS_INTO_PROCESSES if looks_into_processes(config) else confinement.why_no_landlock()
        rules = None if why_not else confinement.landlock(readable(config, read_again), writable(config))
        confinement.confine(kept_capabilities(config, read_again), rules)
    except KernelError as error:
        log.warning("privileges are kept: %s", error)
        return Confinement(str(error))
    return Confinement(why_not)


def looks_into_processes(config: Config) -> bool:
    """Whether it reads memory maps, or namespaces, of other processes."""
    return "nccl" in config.modes or config.tcp is not None


def kept_capabilities(config: Config, read_again: Collection[Path] = ()) -> set[str]:
    """Return what the modes need from now on. It is kept where it is held."""
    kept = set[str]()
    if "xdp" in config.modes:
        kept |= {*privileges.XDP_NEEDS}
    if "nccl" in config.modes:
        kept |= {*privileges.NCCL_NEEDS, "CAP_CHECKPOINT_RESTORE", "CAP_SYS_ADMIN"}  # /proc/PID/map_files
    if config.promiscuous:
        kept |= {*privileges.PROMISCUOUS_NEEDS}
    if config.owners:
        kept |= {"CAP_DAC_READ_SEARCH"}  # open_by_handle_at(), for the paths of control groups
    if config.tcp is not None:
        kept |= {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE"}  # setns() to the namespaces behind veths
    if not privileges.effective().issuperset(kept & {*privileges.BPF_NEEDS}):
        kept |= {"CAP_SYS_ADMIN"}  # which stands for them
    if any(is_closed(path, os.R_OK) for path in (*secret_files(config), *read_again)):
        kept |= {"CAP_DAC_READ_SEARCH"}
    if any(is_closed(path, ALL) for path in writable(config)) or holds_closed_files(config):
        kept |= {"CAP_DAC_OVERRIDE"}
    read = [path for path in (*code(), paths.procfs(), paths.sysfs()) if _is_directory(path)]
    if any(is_closed(path, os.R_OK | os.X_OK) for path in read):
        kept |= {"CAP_DAC_READ_SEARCH"}  # modules that are loaded late, from somebody's home
    return kept


def _is_directory(path: Path) -> bool:
    """As Path.is_dir(), which before Python 3.14 raises PermissionError below a closed directory."""
    return os.path.isdir(path)  # noqa: PTH112


def code() -> Iterator[Path]:
    """Yield where Python finds modules."""
    for place in (sys.prefix, sys.base_prefix, *sys.path, *sys.modules["xtrace"].__path__):
        if place:
            yield Path(place)


def is_closed(path: Path, rights: int) -> bool:
    """Whether it takes a capability to reach it with these rights: in somebody's home that is closed to others, say.

    The modes tell, not access(): that one counts what root can do by the capabilities which it is about to give up.
    """
    return any(
        _lacks(place, rights) or any(_lacks(above, os.X_OK) for above in place.parents)
        for place in (path.absolute(), path.resolve())
    )


def holds_closed_files(config: Config) -> bool:
    """Whether the spool has directories or files of runs as another user, which only a capability opens to this one."""
    if config.spool is None:
        return False
    spool = Path(config.spool[0])
    return any(
        _lacks(path, ALL if _is_directory(path) else os.R_OK) for form in ("*", "*/*") for path in spool.glob(form)
    )


def _lacks(path: Path, rights: int) -> bool:
    """Whether the mode of what is there does not give this user all the rights."""
    try:
        found = path.stat()
    except OSError:
        return False
    if found.st_uid == os.geteuid():
        given = found.st_mode >> 6
    elif found.st_gid in (os.getegid(), *os.getgroups()):
        given = found.st_mode >> 3
    else:
        given = found.st_mode
    return given & rights != rights


def readable(config: Config, read_again: Collection[Path] = ()) -> Iterator[Path]:
    """Yield the directories beneath which files may be read, and files in the root directory."""
    yield from (Path("/proc"), Path("/sys"), paths.procfs(), paths.sysfs(), *CODE)
    yield from code()
    if config.target is not None or config.ipfix is not None:
        yield from NAMES
    if config.owners:
        yield from runtime_names.directories()
    yield from directories((*secret_files(config), *read_again))


def writable(config: Config) -> Iterator[Path]:
    """Yield the directories beneath which files may be written and removed: the spool, and a unix socket's."""
    if config.spool is not None:
        yield Path(config.spool[0])
    if isinstance(config.listen, str):
        yield Path(config.listen).absolute().parent


def secret_files(config: Config) -> Iterator[Path]:
    """Yield the files that are read for each request: secrets, and the authorities for proxies."""
    if config.target is None:
        return
    secrets = (config.target.password_file, config.target.bearer_token_file)
    certificates = (os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
    yield from (Path(name) for name in (*secrets, *certificates) if name)


def directories(files: Iterable[Path]) -> Iterator[Path]:
    """Yield where they are, where links lead, and where links are that may come to lead to another place beside it.

    Of a file in the root directory only itself: beneath that is everything.
    """
    for file in files:
        for path in (file.absolute(), file.resolve()):
            yield path if _is_directory(path) or path.parent == Path("/") else path.parent
        yield from rotated(file.absolute())


def rotated(path: Path) -> Iterator[Path]:
    """Yield the directories in which a link, anywhere on the way to the file, leads to something beneath the same.

    There a link is replaced by one to a new directory: Kubernetes' `..data`, or `current`. Not the root directory.
    """
    for _ in range(MOST_LINKS):
        link = next((place for place in (*reversed(path.parents), path) if os.path.islink(place)), None)  # noqa: PTH114
        if link is None:
            return
        above = link.parent
        leads_to = Path(os.path.normpath(above / link.readlink()))
        if above != Path("/") and leads_to.is_relative_to(above):
            yield above
        path = leads_to / path.relative_to(link)
