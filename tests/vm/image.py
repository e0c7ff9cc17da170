"""What a guest boots: a kernel, and archives that together are its root file system.

user      Debian 12 programs                      made once
python    the Python packages that tests need     made once for each set of requirements
kernel    image and modules of one suite          made once for each suite
source    the tree under test                     made for each run
shim      its shim and mode nccl's stand-ins,     made for each run
          for another architecture
"""

from __future__ import annotations

import fcntl
import hashlib
import lzma
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tests.vm import shim
from tests.vm.architecture import Architecture, architecture_of
from tests.vm.debian import Suite, need, pack, unpack

TOOLS = {"apt-get": "apt", "clang": "clang", "cpio": "cpio", "depmod": "kmod", "dpkg-deb": "dpkg", "modprobe": "kmod"}
"""What making an image takes, and the packages that have it."""

HERE = Path(__file__).parent

USER_SUITE = "bookworm"
PYTHON = "3.11"
"""What USER_SUITE has."""

PACKAGES = (
    "bash", "bpftool", "coreutils", "dash", "ethtool", "grep", "iperf3", "iproute2", "iptables", "iputils-ping", "jq",
    "kmod", "libcap2-bin", "mount", "procps", "python3", "sed", "usr-is-merged", "util-linux",
)  # fmt: skip

MODULES = (
    "8021q", "act_bpf", "act_gact", "act_mirred", "aes_generic", "aesni_intel", "ah4", "ah6", "authenc", "bonding",
    "bridge", "cbc", "cls_bpf", "cls_matchall", "cls_u32", "crypto_null", "ctr", "deflate", "drbg", "dummy", "echainiv",
    "esp4", "esp4_offload", "esp6", "geneve", "hmac", "ifb", "ip6_gre", "ip6_tunnel", "ip_gre", "ip_vti", "ipcomp",
    "ipip", "jitterentropy_rng", "macvlan", "mpls_gso", "mpls_iptunnel", "mpls_router", "nf_conntrack_netlink",
    "nft_chain_nat", "nft_compat", "sch_fq_codel", "sch_ingress", "sch_netem", "sch_tbf", "sctp", "seqiv",
    "sha256_generic", "sit", "tcp_diag", "team", "tun", "veth", "vrf", "vxlan", "xfrm4_tunnel", "xfrm_interface",
    "xfrm_ipcomp", "xfrm_user", "xt_MASQUERADE", "xt_nat", "xt_tcpudp",
)  # fmt: skip
"""What tests may make the kernel ask modprobe for. One that a kernel does not have is left out."""

PYTHON_PACKAGES = ("jsonschema", "pytest")
"""What the tests need beside the requirements of the package."""

FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
}

NOT_SOURCE = (".git", ".*cache*", ".packages", ".static", ".venv", "__pycache__", "build", "dist")


@dataclass(frozen=True)
class Kernel:
    """What the cache has of one suite's kernel."""

    image: Path
    modules: Path
    architecture: Architecture


class Cache:
    """A directory of downloads and of what was made of them; whatever is there is not made again."""

    def __init__(self, directory: Path, *, refresh: bool = False) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = (directory / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"{directory} is in use by another run") from None
        if refresh:
            for made in directory.glob("*.cpio"):
                made.unlink()
            for made in directory.glob("sysroot-*"):
                shutil.rmtree(made)

    def user(self, architecture: Architecture, more: Sequence[str] = ()) -> Path:
        """The archive with Debian's programs, those of PACKAGES and `more`."""
        packages = (*PACKAGES, *more)
        archive = self.directory / f"user-{architecture.name}-{_digest(packages)}.cpio"
        if not archive.exists():
            with self._scratch() as root, _made_whole(archive) as unfinished:
                unpack(self._suite(USER_SUITE, architecture).fetch_with_dependencies(packages), root)
                for name, text in FILES.items():
                    (root / name).write_text(text)
                for name in ("dev", "proc", "root", "run", "sys", "tmp"):
                    (root / name).mkdir(exist_ok=True)
                pack(root, unfinished)
        return archive

    def python(self, architecture: Architecture) -> Path:
        """The archive with Python packages."""
        wanted = [*PYTHON_PACKAGES, *(r for r in metadata.requires("xtrace-catch") or () if "extra ==" not in r)]
        archive = self.directory / f"python-{architecture.name}-{_digest(wanted)}.cpio"
        if not archive.exists():
            with self._scratch() as root, _made_whole(archive) as unfinished:
                _install_wheels(wanted, architecture, root / "usr/lib/python3/dist-packages")
                pack(root, unfinished)
        return archive

    def shim(self, architecture: Architecture, source: Path, archive: Path) -> Path:
        """Write the archive with what takes the place of this machine's in the tree under test: shim and stand-ins."""
        sysroot = self.directory / f"sysroot-{architecture.name}-{_digest(shim.PACKAGES)}"
        if not sysroot.exists():
            with self._scratch() as scratch:
                unpack(self._suite(USER_SUITE, architecture).fetch_with_dependencies(shim.PACKAGES), scratch / "made")
                (scratch / "made").rename(sysroot)
        with self._scratch() as root:
            (root / "xtrace-catch/xtrace").mkdir(parents=True)
            shim.compile_shim(source, sysroot, architecture, root / "xtrace-catch/xtrace/_native.abi3.so")
            shim.compile_standins(sysroot, architecture, root / "xtrace-catch/build/tests/nccl")
            pack(root, archive)
        return archive

    def kernel(self, suite: str, more: Sequence[str] = ()) -> Kernel:
        """Image and modules of the suite's kernel, those of MODULES and `more`."""
        name = f"{suite}-{_digest((*MODULES, *more))}"
        architecture = architecture_of(suite)
        kernel = Kernel(self.directory / f"{name}.vmlinuz", self.directory / f"{name}.cpio", architecture)
        if not kernel.modules.exists():
            with self._scratch() as fetched, self._scratch() as root, _made_whole(kernel.modules) as unfinished:
                unpack(self._suite(suite, architecture).fetch_kernel(), fetched)
                (release,) = (path.name for path in (fetched / "usr/lib/modules").iterdir())
                images = (fetched / f"boot/vmlinuz-{release}", fetched / f"usr/lib/modules/{release}/vmlinuz")
                shutil.copy(next(path for path in images if path.exists()), kernel.image)
                _copy_modules(release, fetched, root, (*MODULES, *more))
                pack(root, unfinished)
        return kernel

    def _suite(self, name: str, architecture: Architecture) -> Suite:
        suite = Suite(name, architecture, self.directory / "apt" / architecture.name / name)
        suite.update()
        return suite

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self.directory) as name:
            yield Path(name)


@contextmanager
def _made_whole(target: Path) -> Iterator[Path]:
    """A path to write to, which becomes `target` only if nothing fails."""
    unfinished = target.with_suffix(".unfinished")
    yield unfinished
    unfinished.replace(target)


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]


def _install_wheels(wanted: Sequence[str], architecture: Architecture, target: Path) -> None:
    """Install for the guest's Python, whatever this one's version is."""
    platforms = [f"--platform=manylinux{tag}_{architecture.machine}" for tag in ("2014", "_2_17", "_2_28", "_2_34")]
    options = ["--quiet", "--disable-pip-version-check", "--only-binary=:all:", f"--python-version={PYTHON}"]
    command = [sys.executable, "-m", "pip", "install", *options, *platforms, f"--target={target}", *wanted]
    subprocess.run(command, check=True)


def _copy_modules(release: str, source: Path, target: Path, modules: Sequence[str]) -> None:
    """Copy `modules` and those they depend on, uncompressed, with the index that modprobe reads."""
    _depmod(release, source)
    show = [need("modprobe", "kmod"), "--dirname", str(source), "--set-version", release, "--show-depends"]
    for module in modules:
        shown = subprocess.run([*show, module], capture_output=True, text=True).stdout
        for path in (Path(line.split()[1]) for line in shown.splitlines() if line.startswith("insmod")):
            copy = target / "usr" / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".xz":
                copy.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
            else:
                shutil.copy(path, copy)
    for index in (source / "usr/lib/modules" / release).glob("modules.[bo]*"):
        shutil.copy(index, target / "usr/lib/modules" / release)
    _depmod(release, target)


def _depmod(release: str, root: Path) -> None:
    """depmod looks in lib/, which links to usr/lib/ as in the guest."""
    if not (root / "lib").exists():
        (root / "lib").symlink_to("usr/lib")
    subprocess.run([need("depmod", "kmod"), "--basedir", root, release], check=True)


def pack_source(source: Path, archive: Path, scratch: Path) -> None:
    """Write the archive with the tree under test, its BPF test programs compiled, and what starts the tests."""
    root = scratch / "source"
    tree = root / "xtrace-catch"
    shutil.copytree(source, tree, symlinks=True, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    objects = [sys.executable, "-B", "-m", "tests.support.build", str(tree / "build")]
    subprocess.run(objects, cwd=source, check=True)
    # this rig, also where the tree under test has another
    shutil.copytree(HERE, tree / "tests/vm", dirs_exist_ok=True, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    shutil.copy(HERE / "init", root)
    pack(root, archive)
