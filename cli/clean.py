"""`scorer clean`: delete files of a sweep."""

from cli.console import DEFAULT_OUTPUTS, confirm, out
from cli.filters import describe_packs, make_filter, matching_packs
from cli.help import App
from cli.options import Outputs, Seeds, States, SweepArgument, Tasks, Variants, Yes
from cli.sweep_argument import submitted_folder
from scorer_core.support.text import count
from slurm.status import read_status
from slurm.submissions import cleaning
from slurm.submissions.submission import sweep_lock

app = App()
NOT_IN_QUEUE = ("done", "diverged", "failed", "lost", "damaged", "cancelled", "missing")


@app.command(epilog="Example: scorer clean ratio\n\nExample: scorer clean ratio --state failed")
def clean(
    sweep: SweepArgument,
    outputs: Outputs = DEFAULT_OUTPUTS,
    variants: Variants = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    states: States = None,
    yes: Yes = False,
) -> None:
    """Delete old logs of finished packs, unused code snapshots, compiled code and temporary files.

    With a filter: delete all records, results included, of the packs that hold a selected run. This also deletes the
    other runs of these packs. Packs that are running or pending are kept.
    """
    folder = submitted_folder(sweep, outputs)
    wanted = make_filter(variants, tasks, seeds, states)
    with sweep_lock(folder):
        status = read_status(folder, accounting=False)
        wanted = wanted.among(cell.run for cell in status.cells)
        if wanted.empty:
            paths = cleaning.leftovers(status)
            what = "old logs, unused code snapshots, compiled code and temporary files"
        else:
            packs = matching_packs(status, wanted, NOT_IN_QUEUE)
            unknown = {name: pack for name, pack in status.packs.items() if pack.damage and not pack.run_ids}
            packs |= {name: pack for name, pack in unknown.items() if wanted.matches_state(pack.state)}
            paths = [pack.folder.path for pack in packs.values()]
            what = f"all records of {describe_packs(status, packs, wanted)}"
        if not paths:
            return out.print("Nothing to delete.")
        files, size = cleaning.weigh(paths)
        confirm(f"Delete {what}: {count(files, 'file')}, {size / 1e6:,.1f} MB?", yes)
        cleaning.remove(paths)
    return out.print(f"{count(files, 'file')} deleted.")
