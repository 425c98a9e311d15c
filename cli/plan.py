"""`scorer plan`, and what a plan looks like on the screen."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text

from cli import completion
from cli.console import DEFAULT_OUTPUTS, SplitTable, out, print_json
from cli.device import Means, means_for
from cli.help import App
from cli.options import AsJson, Device, Everything, Lanes, Outputs, Overrides, Processes, SweepArgument
from cli.summary import more, shown_of
from cli.sweep_argument import SHOWN_CHANGES, definition
from scorer_core.plugins import check_unchanged
from scorer_core.provenance import git_error
from scorer_core.support.commands import shown_path
from scorer_core.support.errors import RecordError
from scorer_core.support.text import count, duration, folded
from slurm.backend import backend_of
from slurm.places import HERE, in_words, known_speeds
from slurm.profile import Profile, load_profile
from slurm.submit import number_of_jobs
from sweeps import folders, price
from sweeps.definition import Sweep
from sweeps.expansion import Variant
from sweeps.layout import makespan
from sweeps.left_out import left_out, on_disk
from sweeps.plan import Plan, PlannedPack, make_plan
from sweeps.speeds import basis
from sweeps.timescale import timescales

app = App()


@app.command(epilog="Example: scorer plan quickstart -s seeds=5 -s variants.scorer.ratio=10 --profile mycluster")
def plan(
    sweep: SweepArgument,
    overrides: Overrides = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    lanes: Lanes = None,
    processes: Processes = None,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            autocompletion=completion.profile,
            help="Estimate the time under this profile (default: this machine).",
        ),
    ] = None,
    device: Device = "auto",
    everything: Everything = False,
    as_json: AsJson = False,
) -> None:
    """Show the runs of a sweep, how many are left and the estimated time.

    Also shows which two-timescale conditions hold. Writes nothing.
    """
    source = folders.source(sweep, outputs, overrides or ())
    loaded, outputs = definition(sweep, outputs, overrides or ())
    where = load_profile(profile) if profile else HERE
    if device != "auto":
        where = where.model_copy(update={"device": device})
    means = means_for(where, loaded)
    planned = plan_for(loaded, outputs, where, means, lanes, processes=processes)
    try:
        check_unchanged(loaded.sources_now)
        changed = ""
    except RecordError as error:
        changed = str(error)
    planned = replace(planned, problems=(*planned.problems, *filter(None, [means.problem, changed])))
    changes = folders.changes(sweep, planned.folder, overrides or ())
    if as_json:
        return print_json(plan_json(planned, source, where, changes))
    print_plan(planned, source, changes, everything)
    if backend_of(where).on_this_machine:
        print_estimate(planned, means)
    else:
        out.print("\n".join(cluster_estimate(planned.packs, where, processes)))
    return print_timescales(planned, everything)


def plan_for(
    sweep: Sweep,
    outputs: Path,
    profile: Profile,
    means: Means,
    lanes: int | None,
    only: Collection[str] | None = None,
    processes: int | None = None,
) -> Plan:
    """The plan of `sweep` under `profile`, by the speeds known of its machine or partition.

    Only a local profile is planned by the cores of this machine.

    Raises:
        RecordError: if the folder of the packs cannot be read.
    """
    lanes, processes = backend_of(profile).layout(profile, lanes, processes)
    return make_plan(
        sweep, outputs, lanes, means.compile, processes, only, means.device, known_speeds(outputs, profile)
    )


def print_problems(problems: Iterable[str]) -> None:
    """Print a line for each record that is wrong."""
    for problem in problems:
        out.print(Text.assemble(("problem:", "red"), f" {problem}"))


def print_plan(planned: Plan, source: str, changes: Sequence[str] = (), everything: bool = False) -> None:
    """Print the finished runs per variant and task, notes, and the packs to train.

    `source` names the definition, and `changes` the keys in which it differs from the one used before. Without
    `everything`, a long table is summarised.
    """
    sweep = planned.sweep
    out.print(Text.assemble((sweep.name, "bold"), f": {sweep.question}"))
    if sweep.paper:
        out.print(f"The paper: {sweep.paper}")
    _print_runs(planned, everything)
    damaged = f", {len(planned.damaged)} damaged" if planned.damaged else ""
    sizes = (len(sweep.grid_variants), "variant"), (len(sweep.tasks), "task"), (len(sweep.seeds), "seed")
    grid = " x ".join(count(number, noun) for number, noun in sizes)
    runs = f"{count(len(sweep.runs), 'grid cell')}, {count(len(planned.run_ids), 'distinct run')}"
    out.print(f"{grid} = {runs}, {planned.missing:,} to train{damaged}.")
    print_problems(planned.problems)
    print_notes(planned, source, changes)
    if reason := git_error():
        out.print(f"note: no git commit is recorded with the runs: {reason}")
    if planned.packs:
        started = sum(pack.started for pack in planned.packs)
        steps = sum(pack.env_steps for pack in planned.packs)
        sizes = Counter(len(pack.configs) for pack in planned.packs)
        lanes = ", ".join(f"{many} x {count(size, 'lane')}" for size, many in sizes.items())
        out.print(
            f"{count(len(planned.packs), 'pack')}: {lanes} ({started} already started); {steps:,} environment steps."
        )


def _print_runs(planned: Plan, everything: bool) -> None:
    """Print a table of the finished runs per variant and task; of many variants, some of its rows."""
    sweep = planned.sweep
    states: dict[Variant, dict[str, Counter[str]]] = {}
    for variant, task, runs in sweep.runs_by_cell():
        states.setdefault(variant, {})[task] = Counter(planned.done.get(run.run_id, "missing") for run in runs)
    unfinished = [variant for variant, tasks in states.items() if any(states["missing"] for states in tasks.values())]
    shown = shown_of(list(states), unfinished, everything)
    baselines = set(sweep.baseline_points)
    rows = []
    for variant in shown:
        name = variant.name + (" (baseline)" if variant in baselines else "")
        rows.append((name, *(_progress(states[variant].get(task, Counter())) for task in sweep.tasks)))
    out.print(SplitTable(("variant", *sweep.tasks), rows))
    if len(shown) < len(states):
        others = sum((sum(states[v].values(), Counter()) for v in states.keys() - set(shown)), Counter[str]())
        out.print(more(len(states) - len(shown), "variant", f", {_progress(others)}", "scorer plan"))


def _progress(states: Counter[str]) -> str:
    """How many runs of a cell are done; `states` has the number in each state."""
    done = f"{states.total() - states['missing']:,}/{states.total():,} done"
    return done + (f", {states['diverged']:,} diverged" if states["diverged"] else "")


def print_notes(planned: Plan, source: str, changes: Sequence[str] = ()) -> None:
    """Print how the definition has changed, and which runs on disk are not in it."""
    if changes:
        kept = shown_path(planned.folder / "sweep.yaml")
        differing = folded(changes, SHOWN_CHANGES)
        out.print(f"note: {source} differs from {kept}, the definition used before, in: {differing}")
    for line in _left_out(planned, source):
        out.print(f"note: {line}")


def _left_out(planned: Plan, source: str) -> list[str]:
    return left_out(planned.folder, on_disk(planned.folder), planned.run_ids, lambda: planned.sweep, source)


def print_estimate(planned: Plan, means: Means) -> None:
    """Print how long the packs take on this machine, on which device, and the reasons."""
    if planned.packs:
        processes = count(planned.layout.processes, "process")
        out.print(f"About {duration(planned.seconds)} with {processes}. {planned.layout.why}")
        out.print(f"Estimated from {basis((pack.estimate for pack in planned.packs), in_words(HERE))}.")
        out.print("\n".join(means.lines()))


def print_timescales(planned: Plan, everything: bool) -> None:
    """Print which conditions hold for each schedule, and why; without `everything`, only for some of many schedules."""
    symbols = " (a: leader learning rate, b: follower learning rate, k: updates)"
    out.print(Text.assemble(("\nTwo-timescale conditions", "bold"), symbols))
    schedules = timescales(planned.sweep)
    shown = shown_of(schedules, everything=everything)
    for found in shown:
        out.print(f"{folded(found.variants)}: {found.schedule}")
        conditions = Table.grid(Column(), Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2))
        for condition in found.conditions:
            holds = Text("holds", "green") if condition.holds else Text("fails", "red")
            conditions.add_row("", holds, f"{condition.name}: {condition.why}")
        if found.conditions:
            out.print(conditions)
    if len(shown) < len(schedules):
        out.print(more(len(schedules) - len(shown), "schedule", "", "scorer plan"))


def plan_json(planned: Plan, source: str, where: Profile, changes: Sequence[str] = ()) -> dict[str, Any]:
    """The plan for scripts; `seconds` is the estimated time if the packs share this machine."""
    return {
        "sweep": planned.sweep.name,
        "folder": str(planned.folder),
        "paper": planned.sweep.paper,
        "env_steps": sum(pack.env_steps for pack in planned.packs),
        "seconds": round(planned.seconds),
        "estimated_from": basis((pack.estimate for pack in planned.packs), in_words(where)),
        "timescales": [asdict(found) for found in timescales(planned.sweep)],
        "processes": planned.layout.processes,
        "device": planned.layout.device,
        "why": planned.layout.why,
        "done": planned.done,
        "damaged": sorted(planned.damaged),
        "problems": list(planned.problems),
        "changes": list(changes),
        "left_out": _left_out(planned, source),
        "git_error": git_error(),
        "runs": [
            {"run_id": r.run_id, "variant": r.variant.name, "task": r.config.task, "seed": r.config.seed}
            for r in planned.sweep.runs
        ],
        "packs": [
            {"pack_id": p.folder.pack_id, "started": p.started, "run_ids": [c.run_id for c in p.configs]}
            for p in planned.packs
        ],
    }


def cluster_estimate(packs: Sequence[PlannedPack], profile: Profile, at_once: int | None = None) -> list[str]:
    """The estimated time of `packs` as jobs under a Slurm `profile`, and what it is estimated from."""
    if not packs:
        return []
    seconds = [pack.seconds for pack in packs]
    attempts = -(-max(seconds) // (60 * profile.time))
    longest = f"longest pack about {duration(max(seconds))}"
    if attempts > 1:
        longest += f" ({attempts:.0f} attempts of {duration(60 * profile.time)})"
    at_once = min(at_once or (profile.throttle or len(packs)) * profile.packs_per_job, len(packs))
    jobs = f" in {count(number_of_jobs(len(packs), profile), 'job')}" if profile.packs_per_job > 1 else ""
    on_gpu = profile.job_device.startswith("cuda")
    known = any(pack.estimate.packs for pack in packs) or price.device_like(profile.job_device) == "cuda"
    unit = "GPU" if on_gpu and known else "core"
    lines = [
        f"Estimated on {profile.name}: {longest}; {duration(sum(seconds))} of one {unit} in total; "
        f"about {duration(makespan(seconds, at_once))} with {count(at_once, 'pack')} at once{jobs}.",
        f"Estimated from {basis((pack.estimate for pack in packs), in_words(profile))}.",
    ]
    if on_gpu and not known:
        lines.append("The speeds were measured on a CPU: no GPU has been measured yet.")
    return lines
