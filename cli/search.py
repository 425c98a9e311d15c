"""`scorer search` (run) and `scorer search confirm`; `scorer search show` is in search_results.py."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from cli import completion, search_results
from cli.console import DEFAULT_OUTPUTS, FAILED, INTERRUPTED, err, exit_with_error, out
from cli.device import device_for, device_line
from cli.help import App, Group
from cli.options import SEARCH_FORMS, CommitSeconds, Device, Outputs, Overrides, SearchArgument
from cli.sweep_argument import named_search, search_folder
from scorer_core.support.commands import command, command_on
from scorer_core.support.cores import usable_cores
from scorer_core.support.files import replace_file
from scorer_core.support.text import count
from slurm.backend import SchedulerError
from slurm.places import HERE
from slurm.profile import Profile, load_profile
from sweeps import search as definitions
from sweeps.layout import LANES_OF_A_SEARCH
from sweeps.loading import dump, shipped_searches

if TYPE_CHECKING:
    from sweeps.study import Study

JOBS = 4  # workers under a profile without --workers


class SearchGroup(Group):
    """The commands of `scorer search`. `scorer search NAME` is short for `scorer search run NAME`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = ["run", *args]
        return super().resolve_command(ctx, args)


app = App(
    cls=SearchGroup,
    no_args_is_help=True,
    help="Search for the best ratio, or other settings, with Optuna.\n\n"
    "`scorer search NAME` is short for `scorer search run NAME`.",
    epilog="Example: scorer search ratio_search --trials 200",
)
app.add_typer(search_results.app)


@app.command(epilog="Example: scorer search ratio_search --trials 200 -s seeds=5")
def run(
    search: Annotated[str, typer.Argument(metavar="SEARCH", help=SEARCH_FORMS)],
    overrides: Overrides = None,
    trials: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Total number of trials; raise it to extend a search.")
    ] = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    lanes: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help=f"Maximum runs per pack (default: the profile's, or {LANES_OF_A_SEARCH})."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Parallel workers (default: one per core; 4 jobs with --profile)."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            autocompletion=completion.profile,
            help="Submit workers as jobs under this profile (default: search here).",
        ),
    ] = None,
    device: Device = "auto",
    commit_seconds: CommitSeconds = 60.0,
) -> None:
    """Run a search, or continue it.

    Trials are stored in a file, or in the database whose URL is in SCORER_STORAGE.
    """
    from cli.search_progress import SearchProgressBar
    from slurm.local.search_workers import LocalWorkers, train_here, trials_per_batch
    from sweeps.study import Study

    changes = [*(overrides or ()), *([f"trials={trials}"] if trials else [])]
    existing = None if is_definition(search) else search_folder(search, outputs)
    definition = definitions.load(str(existing / "search.yaml") if existing else search, changes)
    where = load_profile(profile) if profile else None
    device, why = device_for(where or HERE.model_copy(update={"device": device}), definition.tasks)
    study = Study(definition, existing or outputs / definition.name)
    out.print(Text.assemble((definition.name, "bold"), f": {definition.question}"))
    if not study.trials_left():
        out.print("All trials are finished; raise --trials to run more.")
        return _end(study)
    given = [word for override in changes for word in ("-s", override)]
    lanes = lanes or (where.lanes if where else None) or LANES_OF_A_SEARCH
    workers = workers or (JOBS if where else usable_cores())
    per_batch = trials_per_batch(definition, study.trials_left(), workers, lanes)
    out.print(summary(definition, per_batch))
    out.print(f"Storage: {study.storage_location}")
    if where:
        again = command("search", search, *given, "--profile", profile, outputs=outputs)
        return _send(study, where, again, workers, per_batch, lanes)
    out.print(device_line(device, why))
    here = LocalWorkers(study.folder, per_batch, lanes, device, commit_seconds)
    with SearchProgressBar(study, out) as bars:
        codes = train_here(study, here, workers, bars.show)
    unfinished = sum(not trial.state.is_finished() for trial in study.trials())
    for code in sorted({code for code in codes if code not in (0, INTERRUPTED)}):
        err.print(
            Text.assemble((f"a worker ended with exit code {code}", "red"), f"; see {study.folder}/workers/*.log")
        )
    again = command("search", search, *given, outputs=outputs)
    if here.interrupts:
        exit_with_error(f"Interrupted; checkpoints are saved. Continue with: {again}", INTERRUPTED)
    _end(study)
    if unfinished or study.trials_left():
        exit_with_error(f"{count(study.trials_left(), 'trial')} not finished. Continue with: {again}", FAILED)
    if any(codes):
        raise typer.Exit(FAILED)
    return None


def is_definition(search: str) -> bool:
    """Whether `search` is a file or a built-in name. Otherwise it can only be an existing search."""
    return Path(search).is_file() or search in shipped_searches()


def _end(study: "Study") -> None:
    """Print how to see the results and why trials failed; end the program if every trial failed."""
    from sweeps.studies import failures_in_words

    out.print(f"See the results: {command_on('search show', study.folder)}")
    for line in failures_in_words(study):
        err.print(line)
    if study.all_failed():
        exit_with_error(f"every trial of {study.search.name} failed. {study.how_to_retry(len(study.trials()))}", FAILED)


def _send(study: "Study", where: Profile, again: str, workers: int, per_batch: int, lanes: int) -> None:
    """Submit as many workers as are missing under the profile `where`, and return."""
    from slurm.local.search_workers import worker_command
    from slurm.submit import live_workers, submit_workers

    there = live_workers(study.folder)
    if there is None:
        exit_with_error(
            f"{where.name}: the scheduler did not respond, so the number of workers is unknown. Nothing was submitted.",
            FAILED,
        )
    if there < workers:
        command = worker_command(study.folder.resolve(), per_batch, lanes, where.job_device, where.commit_seconds)
        try:
            submit_workers(where, command, workers - there, study.folder, study.search.sources)
        except SchedulerError as error:
            exit_with_error(f"{where.name}: {error}", FAILED)
    others = f" ({there} already running or pending)" if there else ""
    out.print(f"{count(max(0, workers - there), 'worker')} submitted to {where.name}{others}.")
    out.print(f"See the progress: {command_on('search show', study.folder)}")
    out.print(f"Replace killed workers with: {again}")


def summary(search: definitions.Search, per_batch: int) -> str:
    """The size of a search: trials, tasks, seeds, steps, and how it samples and prunes."""
    runs = len(search.default)
    steps = search.trials_at_most * runs * search.total_steps
    pruned = "" if search.pruner == "none" else f", {search.pruner} at {', '.join(f'{r:g}' for r in search.rungs)}"
    return (
        f"{count(search.trials_at_most, 'trial')} x {count(len(search.tasks), 'task')} x "
        f"{count(len(search.seeds), 'seed')}, at most "
        f"{steps:,} environment steps; {count(per_batch, 'trial')} per batch; {search.sampler}{pruned}"
    )


@app.command(epilog="Example: scorer search confirm ratio_search --top 3 --seeds 30")
def confirm(
    search: SearchArgument = None,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="Number of best trials to confirm.")] = 3,
    seeds: Annotated[
        int,
        typer.Option(min=2, metavar="N", help="Number of new seeds per trial; the search has used none of them."),
    ] = 30,
    outputs: Outputs = DEFAULT_OUTPUTS,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            autocompletion=completion.profile,
            help="Submit under this profile (default: train here).",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Write the sweep's definition and show the command that trains it; train and submit nothing.",
        ),
    ] = False,
) -> None:
    """Retrain the best trials and the default on new seeds, as a sweep.

    The scores of the best of many noisy trials are biased upwards.
    """
    from sweeps.confirm import confirmation
    from sweeps.studies import find_study

    study = find_study(*named_search(search, outputs))
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
    out.print(f"Compare the scores in the search and on new seeds: {command_on('search show', study.folder)}")
