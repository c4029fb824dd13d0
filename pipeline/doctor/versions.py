"""What is installed, against what is locked."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from pipeline.code_version import ROOT, code_version
from pipeline.doctor.finding import Finding, ok, problem, warning
from pipeline.settings import Settings

AREA = "versions"
LOCK = "requirements.lock"
SHOWN = 6


def look(settings: Settings) -> Iterator[Finding]:
    """Python, Tidemark and the packages."""
    wanted = str(metadata("tidemark")["Requires-Python"] or "")
    ours = platform.python_version()
    if SpecifierSet(wanted).contains(ours, prereleases=True):
        yield ok(AREA, f"Tidemark {code_version()} on Python {ours}")
    else:
        yield problem(AREA, f"Python {ours} runs, Tidemark needs {wanted}: install it anew with that")
    lock = ROOT / LOCK
    if lock.is_file():
        yield _packages(lock)
    else:
        yield ok(AREA, f"no {LOCK} lies beside the code: packages are not compared")


def _packages(lock: Path) -> Finding:
    missing, other = {}, []
    pins = pins_of(lock.read_text(encoding="utf-8"))
    for name, wanted in pins.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            missing[name] = f"{name} {wanted}"
            continue
        # A build of torch for one kind of machine is 2.14.1+cpu: the same version.
        if found.partition("+")[0] != wanted.partition("+")[0]:
            other.append(f"{name} {found} (locked: {wanted})")
    again = f"install them from {lock.name} (`make setup`)"
    needed = {Requirement(line).name for line in requires("tidemark") or () if "extra ==" not in line}
    if named := [text for name, text in missing.items() if name in needed]:
        return problem(AREA, f"{len(named)} packages are not installed, {_some(named)}: {again}")
    if other:
        return warning(AREA, f"{len(other)} packages have another version, {_some(other)}: {again}")
    if missing:  # others' dependencies, such as CUDA's libraries where the image leaves them out
        return ok(AREA, f"{len(pins) - len(missing)} packages are those of {lock.name}; {len(missing)} are left out")
    return ok(AREA, f"all {len(pins)} packages are those of {lock.name}")


def pins_of(text: str) -> dict[str, str]:
    """Package → version of a lock file's lines that are meant for this machine."""
    found = {}
    for line in text.splitlines():
        try:
            requirement = Requirement(line.partition("#")[0].strip())
        except InvalidRequirement:
            continue
        pin = next((each.version for each in requirement.specifier if each.operator == "=="), None)
        if pin is not None and (requirement.marker is None or requirement.marker.evaluate()):
            found[requirement.name] = pin
    return found


def _some(items: list[str]) -> str:
    return ", ".join(items[:SHOWN]) + (f" and {len(items) - SHOWN} more" if len(items) > SHOWN else "")
