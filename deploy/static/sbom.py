"""CycloneDX SBOM and licenses of everything linked into the executable.

Debian packages come from the archives that the linker read, Python packages from linked.txt, crates from cargo.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

LICENCE_FILES = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "*.dist-info/licenses/*")


@dataclass(frozen=True)
class Part:
    """A linked component: type and namespace of its package URL, and its license texts."""

    kind: str
    name: str
    version: str
    texts: tuple[Path, ...]
    licence: str = ""
    sha256: str = ""
    namespace: str = ""


def output_of(*command: str | Path, cwd: Path | None = None) -> str:
    """Return the output of a command."""
    return subprocess.check_output([*map(str, command)], text=True, cwd=cwd)


def debian_parts(files: Iterable[Path]) -> Iterator[Part]:
    """Yield the source packages of installed files, with the binary packages' copyright files."""
    real = sorted({str(path.resolve()) for path in files})
    owners = {line.partition(":")[0] for line in output_of("dpkg", "-S", *real).splitlines()}
    system = re.search(r"^ID=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    found: dict[str, Part] = {}
    for package in sorted(owners):
        query = output_of("dpkg-query", "-W", "-f", "${source:Package} ${source:Version}\n", package)
        name, version = query.splitlines()[0].split()
        texts = (Path("/usr/share/doc", package, "copyright"),)
        found.setdefault(name, Part("deb", name, version, texts, namespace=system.group(1) if system else "debian"))
    yield from found.values()


def python_parts(downloads: Path, linked: Path) -> Iterator[Part]:
    """Yield the packages in linked.txt."""
    for name, version, digest in re.findall(r"^(\w+)==(\S+) --hash=sha256:(\w+)", linked.read_text(), re.MULTILINE):
        source = downloads / f"{name}-{version}"
        place = source if source.is_dir() else downloads / "site"
        yield Part("pypi", name, version, licence_texts(place), sha256=digest)


def crate_parts(orjson: Path) -> Iterator[Part]:
    """Yield the crates in orjson, without those used only by its build."""
    edges = ("-e", "normal,no-proc-macro", "--prefix", "none")
    listed = output_of("cargo", "tree", "--offline", *edges, "-f", "{p}|{l}", cwd=orjson).replace(" (*)", "")
    for line in sorted(set(filter(None, listed.splitlines()))):
        package, _, licence = line.partition("|")
        name, version, *local = package.split()
        if not local:  # for orjson itself it is its path
            number = version.removeprefix("v")
            yield Part("cargo", name, number, licence_texts(orjson / "include/cargo" / f"{name}-{number}"), licence)


def licence_texts(directory: Path) -> tuple[Path, ...]:
    """Return the files that are licenses by name."""
    return tuple(sorted({path for pattern in LICENCE_FILES for path in directory.glob(pattern) if path.is_file()}))


def component(part: Part) -> Component:
    """Return a part as a CycloneDX component."""
    factory = LicenseFactory()
    licence = part.licence.replace("/", " OR ") if part.licence else f"see licenses/{part.name}"
    return Component(
        name=part.name,
        version=part.version,
        type=ComponentType.LIBRARY,
        purl=PackageURL(part.kind, part.namespace or None, part.name, part.version),
        bom_ref=f"{part.kind}/{part.name}@{part.version}",
        licenses=[factory.make_from_string(licence)],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=part.sha256)] if part.sha256 else [],
    )


def write(parts: list[Part], version: str, target: Path, licences: Path, own_licence: Path) -> None:
    """Write the SBOM and collect the license texts; reproducible for the same parts and SOURCE_DATE_EPOCH."""
    own = PackageURL("generic", None, "xtrace-catch", version)
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, own.to_string()))
    bom.metadata.timestamp = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), timezone.utc)
    licence = LicenseFactory().make_from_string("GPL-3.0-only")
    kind = ComponentType.APPLICATION
    root = Component(
        name="xtrace-catch", version=version, type=kind, purl=own, bom_ref="xtrace-catch", licenses=[licence]
    )
    bom.metadata.component = root
    components = [component(part) for part in parts]
    bom.components.update(components)
    bom.register_dependency(root, components)
    JsonV1Dot6(bom).output_to_file(str(target), allow_overwrite=True, indent=1)

    shutil.rmtree(licences, ignore_errors=True)
    for name, texts in [("xtrace-catch", (own_licence,)), *((part.name, part.texts) for part in parts)]:
        for text in texts:
            (licences / name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(text, licences / name / text.name)
