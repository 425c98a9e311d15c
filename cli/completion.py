"""What the shell offers after Tab: names of sweeps, variants, runs and profiles. An error offers nothing."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import typer

from cli.console import DEFAULT_OUTPUTS
from sweeps import folders, loading
from sweeps.grid import grid, grid_run

MOST = 200  # more cannot be read on a screen
COMPLETE = "_SCORER_COMPLETE"  # the shell sets it when it asks


def asked_words() -> list[str]:
    """The words on the command line that the shell asks about; empty in an ordinary call."""
    if COMPLETE not in os.environ:
        return []
    return (os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")).split()


def _offered(found: Callable[[typer.Context], Iterable[str]]) -> Callable[[typer.Context, str], list[str]]:
    """The names that begin as the word so far."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        names: dict[str, None] = {}
        logging.disable()
        with suppress(Exception):  # a traceback would be printed into the line that the user types
            for name in found(ctx):
                if name.startswith(incomplete):
                    names[name] = None
                if len(names) == MOST:
                    break
        return list(names)

    complete.__name__, complete.__doc__ = found.__name__, found.__doc__
    return complete


def _outputs(ctx: typer.Context) -> Path:
    return Path(ctx.params.get("outputs") or DEFAULT_OUTPUTS)


def _sweep_folders(ctx: typer.Context, file: str = "sweep.yaml") -> Iterator[Path]:
    newest = sorted(_outputs(ctx).glob(f"*/{file}"), key=lambda path: -path.stat().st_mtime)
    return (path.parent for path in newest if file != "sweep.yaml" or folders.is_sweep_folder(path.parent))


def _files(incomplete: str) -> list[str]:
    """The YAML files and folders that begin so."""
    above, _, begin = incomplete.rpartition("/")
    found = (path for path in Path(above or ("/" if incomplete[:1] == "/" else ".")).glob("*") if path.name[:1] != ".")
    wanted = sorted(path for path in found if path.name.startswith(begin))
    head = f"{above}/" if "/" in incomplete else ""
    return [f"{head}{path.name}/" for path in wanted if path.is_dir()] + [
        f"{head}{path.name}" for path in wanted if path.suffix in (".yaml", ".yml")
    ]


def sweep(ctx: typer.Context, incomplete: str) -> list[str]:
    """Existing sweeps, built-in ones, and YAML files."""
    return [*existing_sweep(ctx, incomplete), *_built_in(ctx, incomplete), *_files(incomplete)]


def search(ctx: typer.Context, incomplete: str) -> list[str]:
    """Existing searches, built-in ones, and YAML files."""
    return [*_searches(ctx, incomplete), *_files(incomplete)]


@_offered
def existing_sweep(ctx: typer.Context) -> Iterator[str]:
    """The sweeps in the folder of outputs, the newest first."""
    return (folder.name for folder in _sweep_folders(ctx))


@_offered
def _built_in(_: typer.Context) -> list[str]:
    return loading.shipped()


@_offered
def _searches(ctx: typer.Context) -> list[str]:
    return [*(folder.name for folder in _sweep_folders(ctx, "search.yaml")), *loading.shipped_searches()]


@_offered
def variant(ctx: typer.Context) -> Iterator[str]:
    """The variants of the sweep that the command names."""
    # typer does not read the words before an option that has no value so far.
    given = ctx.params.get("sweep") or next(word for word in asked_words()[2:] if not word.startswith("-"))
    outputs = _outputs(ctx)
    folder = folders.sweep_folder(given, outputs)
    runs = grid(folder).runs if folders.is_sweep_folder(folder) else map(grid_run, folders.load(given, outputs)[0].runs)
    for run in runs:
        yield run.base_name
        yield run.variant


@_offered
def run_id(ctx: typer.Context) -> Iterator[str]:
    """The runs of all sweeps in the folder of outputs, the newest sweep first."""
    return (run.run_id for folder in _sweep_folders(ctx) for run in grid(folder).runs)


@_offered
def profile(_: typer.Context) -> list[str]:
    """The names of the profiles."""
    from slurm.profile import profiles

    return profiles()
