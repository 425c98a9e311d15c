"""Verbs that hand runs to a scheduler, or say what that would cost: plan, submit, retry, resume."""

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from scorer_core.commands import command, command_on, shown_path
from slurm import scheduler, screen
from slurm import submit as submitting
from slurm.asking import answered, submitted
from slurm.board import board
from slurm.filters import Filter, Seeds, States, Tasks, Variants, make_filter
from slurm.profile import Profile, load_profile
from slurm.scheduler import SchedulerError
from slurm.submission import alone, new
from sweeps import definition, folders
from sweeps.definition import Sweep
from sweeps.plan import Plan, make_plan
from sweeps.terminal import (
    DEFAULT_OUTPUTS,
    FAILED,
    USAGE,
    AsJson,
    Lanes,
    Outputs,
    Overrides,
    Processes,
    SweepArgument,
    count,
    out,
    print_json,
    stop,
)
from sweeps.verbs import plan_json, print_plan, print_price, print_problems, print_timescales

app = typer.Typer()
LANES_OF_A_JOB = 30
HERE = Profile(name="local", scheduler="local")

ProfileOption = Annotated[
    str, typer.Option("--profile", envvar="SCORER_PROFILE", metavar="NAME|PATH", help="Where to run; `local` is here.")
]
SameProfile = Annotated[
    str | None, typer.Option("--profile", metavar="NAME|PATH", help="Instead of that of the last submission.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show packs and script; write and submit nothing.")]
LanesOption = Annotated[int | None, typer.Option(min=1, help="Runs trained together, at most; else the profile's.")]


@app.command(epilog="Example: scorer plan quickstart -s seeds=5 -s variants.scorer.ratio=10 --profile mycluster")
def plan(
    sweep: SweepArgument,
    overrides: Overrides = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    lanes: Lanes = None,
    processes: Processes = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|PATH", help="The price there; else on this machine.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a sweep expands to, what is missing, what that costs, and which two-timescale conditions hold.

    Writes nothing.
    """
    loaded, outputs = folders.load(sweep, outputs, overrides or ())
    where = load_profile(profile) if profile else HERE
    planned = _plan(loaded, outputs, where, lanes, processes=processes)
    if as_json:
        return print_json(plan_json(planned))
    print_plan(planned)
    if where.scheduler == "local":
        print_price(planned)
    else:
        out.print("\n".join(screen.cost(planned.packs, where, processes)))
    return print_timescales(planned)


@app.command(epilog="Example: scorer submit ratio --profile mycluster --dry-run")
def submit(
    sweep: SweepArgument,
    profile: ProfileOption,
    overrides: Overrides = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    lanes: LanesOption = None,
    variants: Variants = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    dry_run: DryRun = False,
) -> None:
    """Give what is missing to a cluster, or to this machine, and return; what is done, running or queued stays so."""
    where = load_profile(profile)
    wanted = make_filter(variants, tasks, seeds)
    loaded, outputs = folders.load(sweep, outputs, overrides or ())
    only = None if wanted.empty else {run.run_id for run in loaded.runs if wanted.takes_run(run)}
    _submit(loaded, outputs, where, only, submitting.BY_DEFAULT, lanes, dry_run)


@app.command(epilog="Example: scorer retry ratio --failed --task breakout")
def retry(
    sweep: SweepArgument,
    profile: SameProfile = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    failed: Annotated[bool, typer.Option("--failed", help="The same as --state failed.")] = False,
    variants: Variants = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    states: States = None,
    dry_run: DryRun = False,
) -> None:
    """Submit again what failed, was cancelled or was lost, with the code as it is now and a new budget of attempts."""
    chosen = (states or []) + (["failed"] if failed else [])
    _again(
        sweep, outputs, profile, make_filter(variants, tasks, seeds, chosen), ("failed", "cancelled", "lost"), dry_run
    )


@app.command(epilog="Example: scorer resume ratio")
def resume(
    sweep: SweepArgument,
    profile: SameProfile = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    dry_run: DryRun = False,
) -> None:
    """Go on with whatever is neither done nor failed, as it was submitted; release what Slurm holds."""
    _again(sweep, outputs, profile, Filter(), ("missing", "lost", "cancelled"), dry_run, same_code=True)


def _submit(
    loaded: Sweep,
    outputs: Path,
    profile: Profile,
    only: Collection[str] | None,
    states: Collection[str],
    lanes: int | None = None,
    dry_run: bool = False,
    same_code: bool = False,
) -> None:
    """Plan, choose, submit and say so; one line where nothing can be done."""
    folder = outputs / loaded.name
    limits = None
    if profile.scheduler == "slurm" and dry_run:
        try:
            limits = scheduler.limits(profile.account)
        except SchedulerError as error:
            out.print(f"Without the cluster's limits: {error}")
    elif profile.scheduler == "slurm":
        limits = answered(lambda: scheduler.limits(profile.account))
    with nullcontext() if dry_run else _usable(folder):
        planned = _plan(loaded, outputs, profile, lanes, only)
        if profile.scheduler == "local":
            profile = profile.model_copy(update={"processes": planned.layout.processes})
        found = board(folder.resolve(), accounting=False)
        if found.silence and not dry_run:
            stop(f"Slurm does not answer, nothing was submitted: {found.silence}", FAILED)
        adopted = 0 if dry_run else submitting.adopt(found)
        if adopted:
            told = "Found in Slurm, of a submission that was cut off before it could note them"
            out.print(f"{told}: {count(adopted, 'array')}.")
        space = answered(lambda: submitting.room(profile, limits)) if limits else None
        chosen = submitting.select(planned, found, states, space)
        print_problems(planned.problems)
        out.print("\n".join(screen.selection(planned, chosen)))
        if chosen.packs and profile.scheduler == "slurm":
            going = [pack for pack in planned.packs if pack.folder.pack_id in chosen.packs]
            out.print("\n".join(screen.cost(going, profile)))
        if dry_run:
            arrays = submitting.sizes(len(chosen.packs), profile, limits)
            would = new(folder.resolve(), profile, folder.resolve() / "code" / "SNAPSHOT", arrays, packs=chosen.packs)
            text = "\n".join(screen.rehearsal(planned, would))
            return out.print(text)
        if not chosen.packs:
            return None
        parts = submitting.by_code(chosen, found) if same_code else [(None, chosen)]
        for code, part in parts:
            try:
                sent = submitting.send(planned, found, part, profile, limits, code)
            except SchedulerError as error:
                stop(f"Nothing was submitted: {error}", FAILED)
            told = f"{count(sent.packs, 'pack')} submitted. To watch: {command_on('status', folder, '--watch')}"
            out.print(told)
            if sent.refused:
                stop(f"Slurm refused the rest: {sent.refused}; submit again for it", FAILED)
    return None


def _plan(
    loaded: Sweep,
    outputs: Path,
    profile: Profile,
    lanes: int | None,
    only: Collection[str] | None = None,
    processes: int | None = None,
) -> Plan:
    """Laid out for this machine only if it is to train here: it says nothing of a cluster's nodes."""
    lanes = lanes or profile.lanes
    if profile.scheduler == "local":
        return make_plan(loaded, outputs, lanes, processes=processes or profile.processes, only=only)
    return make_plan(loaded, outputs, lanes or LANES_OF_A_JOB, processes=profile.throttle or 1, only=only)


def _again(
    sweep: str,
    outputs: Path,
    profile: str | None,
    wanted: Filter,
    states: Collection[str],
    dry_run: bool,
    same_code: bool = False,
) -> None:
    """Submit runs in `states` that `wanted` takes, of a sweep as it stands frozen in its folder."""
    folder = submitted(sweep, outputs)
    found = board(folder, accounting=False)
    if found.silence:
        stop(f"Slurm does not answer, nothing was submitted: {found.silence}", FAILED)
    earlier = [submission for submission in found.submissions if submission.packs]
    if not profile and not earlier:
        first = command("submit", shown_path(folder), "--profile", "NAME")
        stop(f"{folder}: was never submitted; to submit it: {first}", FAILED)
    where = load_profile(profile) if profile else earlier[-1].profile
    held = [pack.queued for pack in found.packs.values() if pack.queued and pack.queued.held] if same_code else []
    if held:
        if not dry_run:
            answered(lambda: scheduler.release(held))
        out.print(f"{count(len(held), 'pack')} {'to be released' if dry_run else 'released'}, which Slurm held.")
    only = {cell.run.run_id for cell in found.cells if wanted.takes_cell(cell) and cell.state in states}
    if held and not only:
        return None
    if not only:
        for line in screen.damage(found):
            out.print(line)
        return out.print(f"None of these runs is {' or '.join(states)}.")
    loaded = definition.load_submitted(folder)
    return _submit(loaded, folder.parent, where, only, states, dry_run=dry_run, same_code=same_code)


def _usable(folder: Path) -> AbstractContextManager[None]:
    """The sweep to ourselves, or one line on why its folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return alone(folder)
    except OSError as error:
        stop(f"{folder}: cannot be written: {error.strerror}", USAGE)
