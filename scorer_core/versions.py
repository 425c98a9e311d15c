"""Versions that can change the numbers of a run: how they differ between attempts and between packs. No torch."""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from scorer_core.provenance import read_provenance
from scorer_core.records import PackFolder
from scorer_core.support.errors import RecordError

# The installed packages that compute: an upgrade of any other package changes no run.
PACKAGES = (
    "torch", "triton", "numpy", "numba", "llvmlite", "gymnasium", "minatar", "ale-py", "mujoco", "box2d", "scorer",
)  # fmt: skip
MACHINE = re.compile(r"x86_64|amd64|aarch64|arm64|ppc64le|riscv64")


def versions(provenance: Mapping[str, Any]) -> dict[str, str]:
    """The versions that an attempt ran with, by name, as far as its provenance.json has them."""
    packages = {name.lower().replace("_", "-"): version for name, version in provenance.get("packages", {}).items()}
    machine = MACHINE.search(provenance.get("platform", ""))
    found = {
        "python": provenance.get("python", ""),
        **{name: packages.get(name, "") for name in PACKAGES},
        "device": provenance.get("device", ""),
        "machine": machine.group() if machine else "",
    }
    return {name: version for name, version in found.items() if version}


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """`torch 2.12.0 -> 2.13.0, device cpu -> NVIDIA H100`; empty if all entries that both have are equal."""
    both = [name for name in before if name in after and before[name] != after[name]]
    return ", ".join(f"{name} {before[name]} -> {after[name]}" for name in both)


def commit_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """`commit 1a2b3c4d5e -> no commit`; empty if both attempts have the same."""
    one, other = ((provenance.get("git_commit") or "no commit")[:10] for provenance in (before, after))
    return "" if one == other else f"commit {one} -> {other}"


def upgrades(pack: PackFolder, commits: bool = True) -> list[str]:
    """One line per attempt that ran with other versions than the attempt before it."""
    read = []
    for attempt in pack.attempts():
        try:
            provenance = read_provenance(attempt)
        except RecordError:  # a report names this file
            continue
        if provenance:
            read.append((attempt.name, provenance))
    lines = []
    for (first, before), (second, after) in itertools.pairwise(read):
        commit = commit_change(before, after) if commits else ""
        text = ", ".join(filter(None, [changes(versions(before), versions(after)), commit]))
        if text:
            lines.append(f"pack {pack.pack_id}: {text} between attempts {first} and {second}")
    return lines


def mixed(found: Iterable[Mapping[str, str]]) -> str:
    """`torch 2.12.0 (2 packs), 2.13.0 (1 pack)`, of the versions of each pack; empty if all are the same."""
    counts: dict[str, Counter[str]] = {}
    for pack in found:
        for name, version in pack.items():
            counts.setdefault(name, Counter())[version] += 1
    several = {name: versions for name, versions in counts.items() if len(versions) > 1}
    return "; ".join(
        f"{name} " + ", ".join(f"{version} ({number} pack{'s'[: number != 1]})" for version, number in versions.items())
        for name, versions in several.items()
    )


def last_versions(pack: PackFolder) -> dict[str, str]:
    """The versions that the last attempt of a pack ran with; empty if they are not known."""
    try:
        return versions(pack.provenance())
    except RecordError:
        return {}
