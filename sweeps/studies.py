"""Finding the study that a user means, and its failures as text."""

from pathlib import Path

from scorer_core.support.commands import command_on
from scorer_core.support.text import count, folded
from sweeps.errors import DefinitionError
from sweeps.search import load
from sweeps.study import Study


def study_in(folder: Path) -> Study:
    """The study of the search that was started in `folder`.

    Raises:
        DefinitionError: if none was.
        StorageError: if its storage cannot be used.
    """
    if not (folder / "search.yaml").exists():
        raise DefinitionError(_nothing_started(folder))
    return Study(load(str(folder / "search.yaml")), folder)


def find_study(outputs: Path, name: str | None) -> Study:
    """The study of the search called `name`, or of the definition at that path; without a name, the most recent one.

    Raises:
        DefinitionError: if there is none.
        StorageError: if its storage cannot be used.
    """
    if name is not None:
        return study_in(outputs / (load(name).name if Path(name).suffix in (".yaml", ".yml") else name))
    started = sorted(outputs.glob("*/search.yaml"), key=lambda path: path.stat().st_mtime)
    if not started:
        raise DefinitionError(_nothing_started(outputs))
    return study_in(started[-1].parent)


def _nothing_started(folder: Path) -> str:
    return f"{folder}: no search has been started here. Start one with: scorer search NAME"


def failures_in_words(study: Study, at_most: int = 3) -> list[str]:
    """One line per reason why trials failed, at most `at_most`, and one on how to see the others."""
    lines = []
    for why, numbers in study.failures().items():
        noun = "trial" if len(numbers) == 1 else "trials"
        lines.append(f"{noun} {folded(numbers, 10)} failed: {why}")
    if len(lines) > at_most:
        rest = count(len(lines) - at_most, "more reason")
        lines = [*lines[:at_most], f"{rest}: {command_on('search show', study.folder, '--json')}"]
    return lines
