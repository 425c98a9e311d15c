"""Call commands in this process, and judge what they print, return and write."""

import contextlib
import hashlib
import io
import json
import math
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer.main
import yaml

from cli import main
from sweeps import definition, loading, search
from tests.fuzz.inputs import GENERATORS, Input
from tests.fuzz.known import KNOWN
from tests.fuzz.outputs import copy_outputs

CODES = (0, 1, 2, 75)
CPU_SECONDS, SECONDS = 10.0, 120.0  # of one command: of the processor, and of the clock in case it waits
MOST_LINES = 12  # of a refusal
MEMORY = 8 << 30
READ_ONLY = ("status", "plan", "show", "logs", "export")
REBUILT = re.compile(r"/submissions/index\.json$|\.lock$|/lock$")  # an index and locks may be made by a reader


class TooSlowError(BaseException):
    pass


@dataclass
class Result:
    """What was found wrong with one input."""

    number: int
    input: Input
    faults: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)


def run_input(made: Path, seed: int, number: int, keep: Path | None = None) -> Result:
    """Run input `number` of `seed` on a copy of the outputs in `made`; a failing one is copied to `keep`."""
    rng = np.random.default_rng([seed, number])
    with tempfile.TemporaryDirectory(prefix="scorer-fuzz-") as place, contextlib.chdir(place):
        work = Path(place, "work")
        copy_outputs(made, work)
        os.chdir(work)
        names, weights = list(GENERATORS), np.array([weight for _, weight in GENERATORS.values()], float)
        kind = str(rng.choice(names, p=weights / weights.sum()))
        made_input = GENERATORS[kind][0](rng, work)
        made_input.kind = kind
        result = Result(number, made_input)
        before_all = _copy_for_failure(work, keep)
        for words in made_input.commands:
            for fault in check_command(work, words, made_input):
                told = f"{fault} <- {kind}: {made_input.what}: scorer {' '.join(words)[:300]}"
                known = [why for pattern, why in KNOWN.items() if re.search(pattern, told, re.DOTALL)]
                (result.known if known else result.faults).append(told)
        if result.faults and keep and before_all:
            target = keep / f"{seed}-{number}"
            shutil.rmtree(target, ignore_errors=True)
            shutil.move(before_all, target)
            (target / "faults.txt").write_text("\n\n".join(result.faults), errors="backslashreplace")
        elif before_all:
            shutil.rmtree(before_all, ignore_errors=True)
    return result


def _copy_for_failure(work: Path, keep: Path | None) -> Path | None:
    if not keep:
        return None
    before = work.parent / "before"
    shutil.copytree(work, before, symlinks=True)
    return before


def check_command(work: Path, words: list[str], given: Input) -> Iterator[str]:
    """What is wrong with one command: its code, its words and its files."""
    before = listing(work)
    code, out, err, fault = call(words)
    after = listing(work)
    if fault:
        yield fault
    if code not in CODES:
        yield f"exit code {code}"
    if "Traceback" in out + err:
        yield f"prints a traceback: {(out + err)[-500:]}"
    if code and not fault:
        lines = [line for line in err.splitlines() if line.strip()]
        if not lines or len(lines) > MOST_LINES:
            yield f"exit code {code} with {len(lines)} lines on stderr: {err[:300]!r}"
        elif max(map(len, lines)) > 2_000:
            yield f"a message of {max(map(len, lines)):,} characters: {err[:300]!r}"
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    if left := [path for path in changed if path.endswith(".tmp") and path in after]:
        yield f"leaves {left[0]}"
    for path in sorted(changed & after.keys()):
        if problem := unreadable(work / path):
            yield f"half-written: {path}: {problem}"
        elif "/imported/" in path and path.endswith(".parquet"):
            yield from nonsense_imported(work / path)
    noticed = {path for path in changed if path.startswith("outputs/") and not REBUILT.search(path)}
    if words[0] in READ_ONLY and noticed - {path for path in noticed if "/report/export" in path}:
        yield f"a command that only reads changed {min(noticed)}"
    if code == 2 and given.kind in ("definition", "override", "search") and noticed:
        yield f"a refused definition wrote {min(noticed)}"
    if fault:
        return
    if code == 0 and given.definition and words[0] == "plan":
        yield from nonsense(loading.load(*given.definition))
    if code == 0 and given.search:
        yield from nonsense(search.load(given.search).sweep({"base": {}}))


@cache
def _command():
    return typer.main.get_command(main.make_app())


def call(words: list[str]) -> tuple[int, str, str, str]:
    """Exit code, stdout, stderr and what went wrong with `scorer WORDS`."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    code, fault, make_app, argv = 0, "", main.make_app, sys.argv
    command = _command()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings(), _time_limit():
            warnings.simplefilter("error")
            main.make_app, sys.argv = lambda *_: command, ["scorer", *words]  # type: ignore[assignment]
            main.main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except TooSlowError:
        fault = "too slow"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "site-packages" not in f.filename]
        fault = f"{type(error).__name__}: {str(error)[:300]} at {' '.join(ours[-6:])}"
    finally:
        main.make_app, sys.argv = make_app, argv
    texts = [stream.buffer.getvalue().decode(errors="replace") for stream in (out, err)]  # type: ignore[attr-defined]
    return code, texts[0], texts[1], fault


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooSlowError

    before = {number: signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def limit_memory() -> None:
    """An allocation beyond 8 GiB is an error of the command that asks for it."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def listing(work: Path) -> dict[str, str]:
    """Everything under `work` by its path: a hash of a file, the target of a link; no link is followed."""
    found = {}
    for folder, folders, files in os.walk(work):
        for name in folders + files:
            path = Path(folder, name)
            if path.is_symlink():
                found[str(path.relative_to(work))] = f"link to {os.readlink(path)}"  # noqa: PTH115
            elif name in files:
                found[str(path.relative_to(work))] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[str(path.relative_to(work))] = "folder"
    return found


def unreadable(path: Path) -> str:
    """Why a written file cannot be read as what its name says; "" if it can."""
    if path.is_dir() or path.is_symlink():
        return ""
    try:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".yaml":
            yaml.safe_load(path.read_text())
        elif path.suffix == ".parquet":
            pq.read_table(path)
        elif path.suffix in (".csv", ".html", ".md", ".tex"):
            path.read_text(encoding="utf-8")
    except (ValueError, OSError, yaml.YAMLError, pa.ArrowException) as error:
        return str(error)[:200]
    return ""


def nonsense_imported(path: Path) -> Iterator[str]:
    """What no imported run may have."""
    table = pq.read_table(path)
    if not table.num_rows or any(column.null_count for column in table.columns):
        yield "imported a file without rows, or with a cell without value"
    elif not np.isfinite(table["return"].to_numpy()).all():
        yield "imported a return that is not finite"
    elif min(table["step"].to_numpy()) < 0 or min(table["seed"].to_numpy()) < 0:
        yield "imported a negative step or seed"


def nonsense(sweep: definition.Sweep) -> Iterator[str]:
    """What no definition that is accepted may have."""
    if not sweep.runs:
        yield "accepted a sweep without runs"
    for config in [run.config for run in sweep.runs]:
        values = config.model_dump()
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        for name, value in numbers.items():
            if not math.isfinite(value) or value < 0:
                yield f"accepted {name}: {value}"
                return
            if isinstance(value, int) and value >= 2**63:
                yield f"accepted {name}: {str(value)[:40]}, more than 64 bits"
                return
        for name in ("leader_lr", "follower_lr", "max_grad_norm", "total_steps", "num_envs", "batch_size"):
            if not numbers[name] > 0:
                yield f"accepted {name}: {numbers[name]}"
        for name in ("gamma", "epsilon_start", "epsilon_end", "follower_weight"):
            if not 0 <= numbers[name] <= 1:
                yield f"accepted {name}: {numbers[name]}"
