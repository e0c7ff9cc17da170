"""Debian packages, fetched by apt with a state of its own: nothing is installed, and no root is needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tests.vm.architecture import ARM64_SUFFIX, Architecture

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

DOCUMENTS = ("usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man")
"""What no guest reads."""


class MissingTool(Exception):
    """One line: what the rig needs, and which package has it."""


def need(command: str, package: str) -> str:
    """The path of `command`."""
    path = shutil.which(command) or shutil.which(command, path="/usr/sbin:/sbin")
    if path is None:
        raise MissingTool(f"{command} is missing: install {package}")
    return path


def mirror() -> str:
    """XTRACE_VM_MIRROR, else the Debian mirror that this machine's own apt uses."""
    chosen = os.environ.get("XTRACE_VM_MIRROR")
    if chosen:
        return chosen
    apt_get = need("apt-get", "apt, or set XTRACE_VM_MIRROR")
    command = [apt_get, "indextargets", "--format", "$(LABEL) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"]
    for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
        label, component, address = line.rsplit(maxsplit=2)
        if (label, component) == ("Debian", "main"):
            return address
    raise MissingTool("apt knows no Debian mirror: set XTRACE_VM_MIRROR to one")


class Suite:
    """One suite of Debian's archive, for one architecture, its lists and packages in a directory of the cache."""

    def __init__(self, name: str, architecture: Architecture, directory: Path) -> None:
        self.name = name.removesuffix(ARM64_SUFFIX)
        self._architecture = architecture.name
        self._root = directory
        self._archives = directory / "var/cache/apt/archives"

    def update(self) -> None:
        """Fetch the list of packages."""
        if not KEYRING.exists():
            raise MissingTool(f"{KEYRING} is missing: install debian-archive-keyring")
        for part in ("etc/apt/apt.conf.d", "etc/apt/preferences.d", "var/lib/apt/lists/partial", "var/lib/dpkg"):
            (self._root / part).mkdir(parents=True, exist_ok=True)
        (self._archives / "partial").mkdir(parents=True, exist_ok=True)
        (self._root / "var/lib/dpkg/status").touch()
        source = f"deb [signed-by={KEYRING}] {mirror()} {self.name} main\n"
        (self._root / "etc/apt/sources.list").write_text(source)
        self._apt("apt-get", "update")

    def fetch_with_dependencies(self, packages: Sequence[str]) -> list[Path]:
        """The packages and all they depend on, as if nothing were installed."""
        self._apt("apt-get", "clean")
        self._apt("apt-get", "install", "--yes", "--download-only", "--no-install-recommends", *packages)
        return self._fetched()

    def fetch_kernel(self) -> list[Path]:
        """The suite's kernel: its image, and the modules where they are packages of their own."""
        tree = self._apt(
            "apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks",
            "--no-replaces", "--no-enhances", f"linux-image-{self._architecture}",
        )  # fmt: skip
        packages = re.findall(r"^linux-(?:base|binary|image|modules)-\d\S*", tree, re.MULTILINE)
        self._apt("apt-get", "clean")
        self._apt("apt-get", "download", *packages, directory=self._archives)
        return self._fetched()

    def _fetched(self) -> list[Path]:
        return sorted(self._archives.glob("*.deb"))

    def _apt(self, command: str, *arguments: str, directory: Path | None = None) -> str:
        options = {"Dir": str(self._root), "APT::Architecture": self._architecture, "APT::Sandbox::User": ""}
        flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        words = [need(command, "apt"), "-qq", *flags, *arguments]
        done = subprocess.run(words, capture_output=True, text=True, cwd=directory)
        if done.returncode:
            raise RuntimeError(f"{command} {arguments[0]} ({self.name}): {done.stderr.strip()}")
        return done.stdout


def unpack(packages: Sequence[Path], target: Path, leave_out: Sequence[str] = DOCUMENTS) -> None:
    """Unpack packages into a root whose /bin, /sbin and /lib are links into /usr."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (target / "usr" / name).mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            (target / name).symlink_to(f"usr/{name}")
    excluded = [f"--exclude=./{path}/*" for path in leave_out]
    for package in packages:
        with subprocess.Popen(
            [need("dpkg-deb", "dpkg"), "--fsys-tarfile", str(package)], stdout=subprocess.PIPE
        ) as archive:
            extract = ["tar", "--extract", "--keep-directory-symlink", "--no-same-owner", *excluded, "-C", str(target)]
            subprocess.run(extract, stdin=archive.stdout, check=True)
        if archive.returncode:
            raise RuntimeError(f"{package.name}: dpkg-deb cannot read it")


def pack(directory: Path, archive: Path) -> None:
    """Write `directory` as a cpio archive that a kernel takes as its first root; several may follow each other."""
    with archive.open("wb") as out:
        command = [need("cpio", "cpio"), "--create", "--null", "--format=newc", "--owner=0:0", "--quiet"]
        names = b"".join(os.fsencode(path) + b"\0" for path in _below(directory))
        subprocess.run(command, input=names, stdout=out, cwd=directory, check=True)


def _below(directory: Path) -> Iterator[Path]:
    """Everything below, relative, directories before what they hold."""
    for path in sorted(directory.rglob("*")):
        yield path.relative_to(directory)
