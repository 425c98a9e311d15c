"""Verbs of searches that train: run, confirm."""

import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from cli.console import DEFAULT_OUTPUTS, FAILED, INTERRUPTED, err, exit_with_error, out
from cli.options import Outputs, Overrides, SearchArgument
from scorer_core.support.commands import command, command_on
from scorer_core.support.cores import usable_cores
from scorer_core.support.files import replace_file
from scorer_core.support.text import count
from slurm.backend import SchedulerError
from slurm.profile import Profile, load_profile
from sweeps import search as definitions
from sweeps.layout import LANES_OF_A_SEARCH
from sweeps.loading import dump

if TYPE_CHECKING:
    from sweeps.study import Study

app = typer.Typer()
JOBS = 4  # workers under a profile, where nothing else is said


@app.command(epilog="Example: scorer search ratio_search --trials 200 -s seeds=5")
def run(
    search: Annotated[str, typer.Argument(metavar="SEARCH", help="A shipped name, or the path of a YAML file.")],
    overrides: Overrides = None,
    trials: Annotated[int | None, typer.Option(min=1, help="In all; a search may be gone on with for more.")] = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    lanes: Annotated[int | None, typer.Option(min=1, help="Runs trained together, at most.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="That search at a time; else one a core, or 4 jobs.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|PATH", help="Where workers run as jobs; without one, here and now.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, or auto: a GPU if there is one.")] = "auto",
    commit_seconds: Annotated[float, typer.Option(min=0, help="Seconds between commits.")] = 60.0,
) -> None:
    """Search, going on where it was cut off. The storage is a file, or the database whose URL is in SCORER_STORAGE."""
    from cli.search_progress import SearchProgressBar
    from slurm.local.search_workers import LocalWorkers, train_here, trials_per_batch
    from sweeps.study import Study

    changes = [*(overrides or ()), *([f"trials={trials}"] if trials else [])]
    definition = definitions.load(search, changes)
    study = Study(definition, outputs / definition.name)
    out.print(Text.assemble((definition.name, "bold"), f": {definition.question}"))
    if not study.trials_left():
        out.print("Nothing is left to try; --trials asks for more.")
        return _end(study)
    given = [word for override in changes for word in ("-s", override)]
    where = load_profile(profile) if profile else None
    lanes = lanes or (where.lanes if where else None) or LANES_OF_A_SEARCH
    workers = workers or (JOBS if where else usable_cores())
    together = trials_per_batch(definition, study.trials_left(), workers, lanes)
    out.print(summary(definition, together))
    out.print(f"Storage: {study.storage_location}")
    if where:
        again = command("search", search, *given, "--profile", profile, outputs=outputs)
        return _send(study, where, again, workers, together, lanes)
    here = LocalWorkers(study.folder, together, lanes, device, commit_seconds)
    with SearchProgressBar(study, out) as bars:
        codes = train_here(study, here, workers, bars.show)
    unfinished = sum(not trial.state.is_finished() for trial in study.trials())
    for code in sorted({code for code in codes if code not in (0, INTERRUPTED)}):
        err.print(Text.assemble((f"a worker ended with {code}", "red"), f"; its log: {study.folder}/workers/*.log"))
    again = command("search", search, *given, outputs=outputs)
    if here.interrupts:
        exit_with_error(f"interrupted; all is committed. To go on: {again}", INTERRUPTED)
    _end(study)
    if unfinished or study.trials_left():
        exit_with_error(f"{count(study.trials_left(), 'trial')} left to finish. To go on: {again}", FAILED)
    if any(codes):
        raise typer.Exit(FAILED)
    return None


def _end(study: "Study") -> None:
    """Print how to see the study and why trials failed; end the program if every trial did."""
    from sweeps.studies import failures_in_words

    out.print(f"To see it: {command_on('search show', study.folder)}")
    for line in failures_in_words(study):
        err.print(line)
    if study.all_failed():
        exit_with_error(f"every trial of {study.search.name} failed. {study.how_to_retry(len(study.trials()))}", FAILED)


def _send(study: "Study", where: Profile, again: str, workers: int, together: int, lanes: int) -> None:
    """Hand workers to a scheduler, beside those that it has already, and return."""
    from slurm.local.search_workers import worker_command
    from slurm.submit import live_workers, submit_workers

    there = live_workers(study.folder)
    if there is None:
        exit_with_error(
            f"{where.name}: the scheduler does not answer, so it is not known how many workers there are", FAILED
        )
    if there < workers:
        command = worker_command(study.folder.resolve(), together, lanes, where.device, where.commit_seconds)
        try:
            submit_workers(where, command, workers - there, study.folder)
        except SchedulerError as error:
            exit_with_error(f"{where.name}: {error}", FAILED)
    begun = f", beside {there} that run or wait" if there else ""
    out.print(f"{count(max(0, workers - there), 'worker')} submitted to {where.name}{begun}.")
    out.print(f"To see how far they are: {command_on('search show', study.folder)}")
    out.print(f"To replace workers that were killed: {again}")


def summary(search: definitions.Search, together: int) -> str:
    """What a search comes to, at most."""
    runs = len(search.default)
    steps = search.trials_at_most * runs * search.total_steps
    pruned = "" if search.pruner == "none" else f", {search.pruner} at {', '.join(f'{r:g}' for r in search.rungs)}"
    return (
        f"{count(search.trials_at_most, 'trial')} x {count(len(search.tasks), 'task')} x "
        f"{count(len(search.seeds), 'seed')}, at most "
        f"{steps:,} environment steps; {count(together, 'trial')} trained together; {search.sampler}{pruned}"
    )


@app.command(epilog="Example: scorer search confirm ratio_search --top 3 --seeds 30")
def confirm(
    search: SearchArgument = None,
    top: Annotated[int, typer.Option(min=1, help="Trials to confirm, the best first.")] = 3,
    seeds: Annotated[int, typer.Option(min=2, help="Fresh seeds of each: none that the search has used.")] = 30,
    outputs: Outputs = DEFAULT_OUTPUTS,
    profile: Annotated[str | None, typer.Option(metavar="NAME|PATH", help="Submit it there; else train here.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the sweep and say how to run it.")] = False,
) -> None:
    """Train the winners and the default anew, as an ordinary sweep: the best of many noisy trials is biased."""
    from sweeps.confirm import confirmation
    from sweeps.studies import find_study

    study = find_study(outputs, search)
    sweep = confirmation(study, top, seeds)
    path = study.folder / "confirm.yaml"
    replace_file(path, dump(sweep).encode())
    words = ["submit" if profile else "run", str(path), "--outputs", str(outputs)]
    words += ["--profile", profile] if profile else []
    out.print(f"{path}: {count(len(sweep.grid_variants), 'variant')}, seeds {sweep.seeds[0]} to {sweep.seeds[-1]}")
    out.print(command(*words))
    if dry_run:
        return
    code = subprocess.call([sys.executable, "-m", "cli.main", *words])
    if code:
        raise typer.Exit(code)
    out.print(f"Search scores against confirmed ones: {command_on('search show', study.folder)}")
