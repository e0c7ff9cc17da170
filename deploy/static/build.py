"""Builds dist/xtrace-catch: CPython, the modules, OpenSSL, libc and the BPF objects in one static executable.

Run by build.sh in a virtual environment of the distribution's Python. Downloads and compiled third-party code stay in
the work directory; everything from this tree is built again. Arguments: that directory, and what follows the names of
the results ("", or "-arm64").
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path

import bundle
import sbom

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

import build_ffi  # noqa: E402

HOST = sysconfig.get_config_var("MULTIARCH")
TARGET = os.environ.get("STATIC_TARGET") or HOST
"""The machine that the executable is for, as Debian names its directories: aarch64-linux-gnu."""
CROSS = "" if TARGET == HOST else f"{TARGET}-"
ARCHITECTURES = {"x86_64-linux-gnu": "amd64", "aarch64-linux-gnu": "arm64"}
RUST_TARGET = TARGET.replace("-linux-", "-unknown-linux-")
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
CPYTHON_EXTENSIONS = {
    # shared libraries in Debian's Python, compiled here from its source
    "_contextvars": ["_contextvarsmodule.c"],
    "_csv": ["_csv.c"],
    "_hashlib": ["_hashopenssl.c"],
    "_json": ["_json.c"],
    "_queue": ["_queuemodule.c"],
    "_ssl": ["_ssl.c"],
    "_typing": ["_typingmodule.c"],
    "mmap": ["mmapmodule.c"],
    "resource": ["resource.c"],
    "termios": ["termios.c"],
}
LIBRARIES = ("ssl", "crypto", "crypt", "ffi", "z", "zstd", "m")  # zstd: OpenSSL of Debian 13
COMPILE = (f"{CROSS}gcc", "-c", "-O2", "-fno-strict-aliasing", "-ffunction-sections", "-fdata-sections")
LIBC = (f"-B/usr/lib/{TARGET}", f"-L/usr/lib/{TARGET}") if CROSS else ()
"""The target's own: a cross compiler's is a copy that does not get its security updates."""
LINK = (f"{CROSS}gcc", "-static", "-no-pie", "-s", *LIBC, "-Wl,--gc-sections", "-Wl,--build-id=none")


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> None:
    """Run a step; if it fails, print its output and command and end the build."""
    variables = [f"{name}={value}" for name, value in environment.items()]
    done = subprocess.run(
        ["/usr/bin/env", *variables, *map(str, command)], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output = done.stdout.decode()
    if done.returncode:
        sys.exit(f"{output}\nstatic build: {' '.join(map(str, command))}: failed")


def libpython(name: str) -> Path:
    """Return the path of a file for those who link Python into a program."""
    return Path(sysconfig.get_config_var("LIBPL").replace(HOST, TARGET), name)


def python_source(work: Path) -> Path:
    """Fetch CPython's source as patched by Debian, in libpython's version."""
    query = ("/usr/bin/dpkg-query", "-W", "-f", "${Version}", f"lib{PYTHON}-dev:{ARCHITECTURES[TARGET]}")
    version = subprocess.check_output(query, text=True)
    place = work / f"{PYTHON}-{version}"
    if not place.exists():
        run(HERE / "apt-source.sh", PYTHON, version, work / "apt", place)
    return place


def downloads(work: Path) -> Path:
    """Fetch the packages in linked.txt, verified by hash; those with C or Rust code as source."""
    place = work / "downloads"
    stamp = place / "linked.txt"
    wanted = (HERE / "linked.txt").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(place, ignore_errors=True)
        options = ("--quiet", "--no-deps", "--require-hashes", "--no-binary", "cffi,orjson")
        run(sys.executable, "-m", "pip", "download", *options, "-r", HERE / "linked.txt", "-d", place)
        for archive in place.glob("*.tar.gz"):
            run("tar", "-xf", archive, "-C", place)
        for wheel in place.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(place / "site")
        stamp.write_text(wanted)
    return place


def the_one(directory: Path, pattern: str) -> Path:
    """Return the only match."""
    (found,) = directory.glob(pattern)
    return found


def our_package(work: Path) -> Path:
    """Build the package as its wheel installs it: modules and BPF objects."""
    place = work / "package"
    for stale in (place, ROOT / "build"):  # setuptools would find deleted modules there
        shutil.rmtree(stale, ignore_errors=True)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", place, ROOT)
    shutil.rmtree(ROOT / "build")
    zipfile.ZipFile(the_one(place, "*.whl")).extractall(place)
    return place


def imported_at_start(package: Path) -> dict[str, int]:
    """Return the modules that every run imports, in order: adjacent in the executable, they use fewer pages."""
    imports = "import xtrace.command, xtrace.config"
    script = f"import sys; sys.path.insert(0, {str(package)!r}); {imports}; print(*sys.modules)"
    imported = subprocess.check_output([sys.executable, "-B", "-c", script], text=True)
    return {name: position for position, name in enumerate(imported.split())}


def compile_c(sources: Iterable[Path], objects: Path, *options: str) -> list[Path]:
    """Compile C files; return the object files."""
    made = []
    for source in sources:
        target = objects / f"{source.stem}.o"
        maps = f"-ffile-prefix-map={source.parent}=."
        run(*COMPILE, maps, *options, f"-I{sysconfig.get_path('include')}", source, "-o", target)
        made.append(target)
    return made


def cpython_extensions(names: Iterable[str], source: Path, objects: Path) -> list[Path]:
    """Compile standard library modules missing from Debian's libpython, and code that a built-in one needs."""
    unknown = sorted(set(names) - set(CPYTHON_EXTENSIONS))
    if unknown:
        sys.exit(f"static build: no source known for {', '.join(unknown)}; exclude them in bundle.py or add them here")
    modules = source / "Modules"
    files = [modules / file for name in sorted(names) for file in CPYTHON_EXTENSIONS[name]]
    sha2 = modules / "_hacl/Hacl_Hash_SHA2.c"  # since Python 3.12; not in Debian's libpython.a
    files += [sha2] if sha2.exists() else []
    internal = f"-I{sysconfig.get_path('include')}/internal"
    hacl = f"-I{modules / '_hacl/include'}"
    return compile_c(files, objects, "-DPy_BUILD_CORE_BUILTIN", "-D_DEFAULT_SOURCE", internal, hacl)


def cffi_extensions(cffi: Path, objects: Path) -> list[Path]:
    """Compile cffi's run-time part and our shim."""
    backend = ("-DFFI_BUILDING=1", "-DUSE__THREAD", "-DHAVE_SYNC_SYNCHRONIZE")
    made = compile_c([cffi / "src/c/_cffi_backend.c"], objects, *backend)
    generated = objects / "native.c"
    with redirect_stdout(io.StringIO()):
        build_ffi.ffibuilder.emit_c_code(str(generated))
    macros = [f"-D{name}={value}" for name, value in build_ffi.MACROS]
    includes = [f"-I{ROOT / directory}" for directory in build_ffi.INCLUDES]
    sources = [generated, *(ROOT / source for source in build_ffi.SOURCES)]
    return made + compile_c(sources, objects, *build_ffi.FLAGS, *macros, *includes)


def orjson_library(orjson: Path) -> Path:
    """Build the orjson library from the crates in its source package."""
    target = ("--target", RUST_TARGET) if CROSS else ()
    library = orjson / "target" / (RUST_TARGET if CROSS else "") / "release/liborjson.a"
    if not library.exists():
        options = ("--release", "--lib", "--offline", "--locked", "--crate-type", "staticlib", *target)
        variables = {"PYO3_PYTHON": sys.executable, "RUSTFLAGS": f"--remap-path-prefix={orjson}=orjson"}
        if CROSS:
            variables["PYO3_CROSS_PYTHON_VERSION"] = PYTHON.removeprefix("python")
        run("cargo", "rustc", *options, cwd=orjson, CARGO_HOME=str(orjson), **variables)
    return library


def link(objects: list[Path], orjson: Path, target: Path) -> set[Path]:
    """Link the executable; return the system files linked into it.

    The linker warns that getaddrinfo() and others need shared libraries; main.c takes care of that.
    """
    group = [str(libpython(f"lib{PYTHON}.a")), str(orjson), *(f"-l{name}" for name in LIBRARIES)]
    command = [
        *LINK,
        "-Wl,--trace",
        *map(str, objects),
        "-Wl,--start-group",
        *group,
        "-Wl,--end-group",
        "-o",
        str(target),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stderr}\nstatic build: linking failed")
    named = (Path(re.sub(r"[(].*", "", line)) for line in done.stdout.splitlines())
    return {path for path in named if path.is_relative_to("/usr") and path.is_file()}


def describe(linked: set[Path], downloaded: Path, orjson: Path, suffix: str) -> None:
    """Write SBOM and licenses. Rust's standard library is part of orjson's."""
    rust = Path(subprocess.check_output(["/usr/bin/rustc", "--print", "sysroot"], text=True).strip())
    parts = [
        *sbom.debian_parts([*linked, next(rust.glob(f"lib/rustlib/{RUST_TARGET}/lib/libstd-*.rlib"))]),
        *sbom.python_parts(downloaded, HERE / "linked.txt"),
        *sbom.crate_parts(orjson),
    ]
    target = ROOT / f"dist/xtrace-catch{suffix}.cdx.json"
    sbom.write(parts, build_ffi.version(), target, ROOT / f"dist/licenses{suffix}", ROOT / "LICENSE")


def main(work: Path, suffix: str) -> None:
    """Run all steps."""
    objects = work / "objects"
    shutil.rmtree(objects, ignore_errors=True)
    objects.mkdir()
    got = downloads(work)
    cffi, orjson = the_one(got, "cffi-*/"), the_one(got, "orjson-*/")
    package = our_package(work)
    roots = [
        ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((package / "xtrace").rglob("*.py"))
    ]
    standard = Path(sysconfig.get_path("stdlib"))
    places = (HERE / "stubs", package, got / "site", orjson / "pysrc", standard, standard / "lib-dynload")
    closure = bundle.Closure(places, "xtrace", roots)
    builtins = bundle.builtins_of(libpython("config.c"))
    extra = closure.extensions() - {*builtins, *bundle.BUILT_HERE}
    for name in sorted({*extra, *bundle.BUILT_HERE}):
        builtins[name] = f"PyInit_{name.rpartition('.')[2]}"
    modules = closure.python_modules()
    first = imported_at_start(package)
    modules.sort(key=lambda module: (first.get(module.name, len(first)), module.name))
    start = bundle.Module("__main__", bundle.compiled(HERE / "start.py", "start", False, 0), False)
    bundle.write(objects, [start, *modules], bundle.package_data(package, "xtrace"), builtins)

    made = cpython_extensions(extra, python_source(work), objects)
    made += cffi_extensions(cffi, objects)
    made += compile_c(
        [HERE / "main.c", objects / "bundle.c", objects / "bytes.S"], objects, f"-I{objects}", f"-Wa,-I{objects}"
    )
    target = ROOT / f"dist/xtrace-catch{suffix}"
    target.parent.mkdir(exist_ok=True)
    describe(link(made, orjson_library(orjson), target), got, orjson, suffix)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2])
