"""Verbs on what to run: sweeps, show; and what a plan looks like."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import typer
from rich.table import Column, Table
from rich.text import Text

from cli.console import DEFAULT_OUTPUTS, Fitted, out, print_json, table
from cli.options import AsJson, Outputs
from scorer_core import verdicts
from scorer_core.provenance import git_error
from scorer_core.support.errors import RecordError
from scorer_core.support.text import count, duration, folded
from sweeps import loading, search
from sweeps.left_out import left_out, on_disk
from sweeps.plan import Plan, find_run
from sweeps.timescale import timescales

app = typer.Typer()
T = TypeVar("T")


@app.command(epilog="Example: scorer sweeps")
def sweeps(as_json: AsJson = False) -> None:
    """List the shipped sweeps and searches, the question each asks, and what the paper found."""
    loaded = [loading.load(name) for name in loading.shipped()]
    searches = [search.load(name) for name in loading.shipped_searches()]
    if as_json:
        shown = [{"name": s.name, "question": s.question, "paper": s.paper, "runs": len(s.runs)} for s in loaded]
        found = [{"name": s.name, "question": s.question, "trials": s.trials} for s in searches]
        return print_json(shown + found)
    listed = table("sweep", "question", "what the paper found", "runs", show_lines=True)
    for sweep in loaded:
        listed.add_row(sweep.name, sweep.question, sweep.paper or "–", str(len(sweep.runs)))
    for s in searches:
        listed.add_row(
            s.name, s.question, "–", f"a search: {count(s.trials, 'trial')} of {count(len(s.default), 'run')}"
        )
    return out.print(listed)


@app.command(epilog="Example: scorer show 3f2a  (any beginning of a run id that is unique)")
def show(
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID")],
    outputs: Outputs = DEFAULT_OUTPUTS,
    as_json: AsJson = False,
) -> None:
    """Show one run: verdicts, configuration, provenance, state, last metrics."""
    folder, config = find_run(outputs, run_id)
    problems: list[str] = []

    def read(record: Callable[[], T], otherwise: T) -> T:
        try:
            return record()
        except RecordError as error:
            problems.append(str(error))
            return otherwise

    done = read(lambda: folder.done().get(config.run_id, {}), {})
    row = read(lambda: folder.last_row(config.run_id), {})
    judged: list[str] = done.get("verdicts", [])
    if row and "verdicts" not in done:
        judged = verdicts.of_pack(folder)[config.run_id]
    shown = {
        "run_id": config.run_id,
        "state": {key: value for key, value in done.items() if key != "verdicts"} or read(folder.state, {}),
        "verdicts": judged,
        "pack": str(folder.path),
        "configuration": config.model_dump(mode="json") | {"ratio": config.ratio},
        "provenance": read(folder.provenance, {}),
        "last_metrics": row,
        "problems": list(dict.fromkeys(problems)),
    }
    if as_json:
        return print_json(shown)
    provenance = {key: value for key, value in shown["provenance"].items() if key not in ("packages", "git_diff")}
    provenance["git_diff"] = count(len((shown["provenance"].get("git_diff") or "").splitlines()), "line")
    out.print(Text.assemble((config.run_id, "bold"), f"  {config.task}, {config.coupling}, seed {config.seed}"))
    out.print(f"pack {folder.path}")
    print_problems(shown["problems"])
    for verdict in shown["verdicts"]:
        meaning = verdicts.MEANINGS.get(verdict, "unknown to this version")
        out.print(Text.assemble((f"{verdict}:", "yellow"), f" {meaning}."))
    for title in ("state", "configuration", "provenance", "last_metrics"):
        values = table("", "", title=title.replace("_", " "), title_justify="left", show_header=False, box=None)
        for key, value in (provenance if title == "provenance" else shown[title]).items():
            values.add_row(key, f"{value:.6g}" if isinstance(value, float) else str(value))
        out.print(values)
    return None


def print_problems(problems: Iterable[str]) -> None:
    """A line on each record that is wrong."""
    for problem in problems:
        out.print(Text.assemble(("problem:", "red"), f" {problem}"))


def print_plan(planned: Plan, source: str) -> None:
    """The grid with what is done of it, then the packs that are missing; its definition is written in `source`."""
    sweep = planned.sweep
    out.print(Text.assemble((sweep.name, "bold"), f": {sweep.question}"))
    if sweep.paper:
        out.print(f"The paper: {sweep.paper}")
    rows = []
    for variant in sweep.grid_variants:
        cells = []
        for task in sweep.tasks:
            ids = [run.run_id for run in sweep.runs if run.variant == variant and run.config.task == task]
            done = sum(run_id in planned.done for run_id in ids)
            diverged = sum(planned.done.get(run_id) == "diverged" for run_id in ids)
            cells.append(f"{done}/{len(ids)} done" + (f", {diverged} diverged" if diverged else ""))
        rows.append((variant.name + (" (baseline)" if variant in sweep.baseline_points else ""), *cells))
    out.print(Fitted(("variant", *sweep.tasks), rows))
    damaged = f", {len(planned.damaged)} damaged" if planned.damaged else ""
    sizes = (len(sweep.grid_variants), "variant"), (len(sweep.tasks), "task"), (len(sweep.seeds), "seed")
    grid = " x ".join(count(number, noun) for number, noun in sizes)
    runs = f"{count(len(sweep.runs), 'cell')}, {count(len(planned.run_ids), 'distinct run')}"
    out.print(f"{grid} = {runs}, {planned.missing} missing{damaged}.")
    print_problems(planned.problems)
    print_left_out(planned, source)
    if reason := git_error():
        out.print(f"note: the runs record no git commit: {reason}")
    if planned.packs:
        begun = sum(pack.started for pack in planned.packs)
        steps = sum(pack.env_steps for pack in planned.packs)
        sizes = Counter(len(pack.configs) for pack in planned.packs)
        lanes = ", ".join(f"{size} ({many}x)" if many > 1 else str(size) for size, many in sizes.items())
        out.print(
            f"{count(len(planned.packs), 'pack')} of {lanes} lanes ({begun} begun before), {steps:,} environment steps."
        )


def print_left_out(planned: Plan, source: str) -> None:
    """Lines on runs on disk that are not of the definition, which is written in `source`."""
    for line in _left_out(planned, source):
        out.print(f"note: {line}")


def _left_out(planned: Plan, source: str) -> list[str]:
    return left_out(planned.folder, on_disk(planned.folder), planned.run_ids, lambda: planned.sweep, source)


def print_price(planned: Plan) -> None:
    """How long the packs that are missing take on this machine, and why in this layout."""
    if planned.packs:
        told = f"About {duration(planned.seconds)} with {count(planned.layout.processes, 'process')}."
        out.print(f"{told} {planned.layout.why}")


def print_timescales(planned: Plan) -> None:
    """For each schedule of the sweep, the conditions that hold, those that do not, and why."""
    out.print(
        Text.assemble(("\nTwo-timescale conditions", "bold"), " (a: the leader's rate, b: the follower's, k: rounds)")
    )
    for found in timescales(planned.sweep):
        out.print(f"{folded(found.variants)}: {found.schedule}")
        conditions = Table.grid(Column(), Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2))
        for condition in found.conditions:
            holds = Text("holds", "green") if condition.holds else Text("fails", "red")
            conditions.add_row("", holds, f"{condition.name}: {condition.why}")
        if found.conditions:
            out.print(conditions)


def plan_json(planned: Plan, source: str) -> dict[str, Any]:
    """The same for a script."""
    return {
        "sweep": planned.sweep.name,
        "folder": str(planned.folder),
        "paper": planned.sweep.paper,
        "env_steps": sum(pack.env_steps for pack in planned.packs),
        "seconds": round(planned.seconds),
        "timescales": [asdict(found) for found in timescales(planned.sweep)],
        "processes": planned.layout.processes,
        "why": planned.layout.why,
        "done": planned.done,
        "damaged": sorted(planned.damaged),
        "problems": list(planned.problems),
        "left_out": _left_out(planned, source),
        "git_error": git_error(),
        "runs": [
            {"run_id": r.run_id, "variant": r.variant.name, "task": r.config.task, "seed": r.config.seed}
            for r in planned.sweep.runs
        ],
        "packs": [
            {"pack_id": p.folder.pack_id, "begun": p.started, "run_ids": [c.run_id for c in p.configs]}
            for p in planned.packs
        ],
    }
