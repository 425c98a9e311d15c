"""Variant, seed and environment from the names that other tools give to runs, files and folders."""

import re
from pathlib import Path

_EDGE = r"(?<![A-Za-z0-9]){}[ _=:-]?(\d+)(?![A-Za-z0-9]|\.\d)"
SEED_IN_NAME = re.compile(_EDGE.format("seed"), re.ASCII | re.IGNORECASE)
SEED_IN_PATH = re.compile(_EDGE.format("(?:seed|s)"), re.ASCII | re.IGNORECASE)
CLEANRL_NAME = re.compile(r"(?P<env>.+)__(?P<name>.+)__(?P<seed>\d+)__\d{9,}", re.ASCII)
SEPARATORS = " _-=.,:;/()[]"


def split_seed(name: str, pattern: re.Pattern[str]) -> tuple[str, int] | None:
    """A run's name without its seed, and the seed; None if it names none or several."""
    found = list(pattern.finditer(name))
    if len({match[1] for match in found}) != 1 or len(found[0][1]) > 18:
        return None
    left, right = name[: found[0].start()].rstrip(SEPARATORS), name[found[0].end() :].lstrip(SEPARATORS)
    return f"{left}_{right}" if left and right else left or right, int(found[0][1])


def split_name(run: str) -> tuple[str, int, str | None] | None:
    """Variant, seed and (in CleanRL's names) environment of a run's name; None if it has no seed."""
    if (match := CLEANRL_NAME.fullmatch(run)) and len(match["seed"]) <= 18:
        return match["name"], int(match["seed"]), match["env"]
    split = split_seed(run, SEED_IN_NAME)
    return (*split, None) if split else None


def seed_in_path(source: Path) -> tuple[int, str] | None:
    """The seed in the name of the file, otherwise in the name of its folder, and which of the two."""
    for name, kind in ((source.stem, "file"), (source.resolve().parent.name, "folder")):
        if found := split_seed(name, SEED_IN_PATH):
            return found[1], f"from the {kind}'s name"
    return None
