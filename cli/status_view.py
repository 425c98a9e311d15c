"""What the verbs on jobs print: a submission, the standing of a sweep, and the same for a script to read."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Column
from rich.text import Text

from cli.console import table
from scorer_core import versions
from scorer_core.record_forms import now
from scorer_core.support.commands import command_on, logs_command, retrain, run_command, shown_path
from scorer_core.support.errors import RecordError
from scorer_core.support.secrets import mask
from scorer_core.support.text import count, duration, folded
from slurm.backend import backend_of
from slurm.profile import Profile
from slurm.status import STATES, PackStatus, RunStatus, SweepStatus, age
from slurm.submissions.submission import ENVIRONMENT, HEARTBEAT_SECONDS, Submission, submit_command
from slurm.submit import Selection
from sweeps import price
from sweeps.layout import makespan
from sweeps.plan import Plan, PlannedPack

COLOURS = {"done": "green", "running": "cyan", "failed": "red", "lost": "red", "damaged": "red", "diverged": "yellow"}
SHOWN_PACKS = 8  # of each kind of trouble
FILES_OF_A_PACK = 5  # pack.json, lock, state.json, done.json, and the report of its last checkpoint
FILES_OF_AN_ATTEMPT = 3


def status_table(board: SweepStatus) -> RenderableType:
    """The board as a table, a row for each variant and task of its cells."""
    cells = board.cells
    used = [state for state in STATES if any(cell.state == state for cell in cells)]
    columns = [Column("variant"), Column("task")]
    columns += [Column(state, justify="right", style=COLOURS.get(state, "")) for state in used]
    speeds = any(cell.pack and cell.pack.speed for cell in cells)
    columns += [Column(title, justify="right") for title in ("steps/s", "to go")] if speeds else []
    judged = bool(_verdicts(cells))
    if judged:
        columns.append(Column("verdicts", style="yellow"))
    drawn = table(*columns)
    rows: dict[tuple[str, str], list[RunStatus]] = {}
    for cell in cells:
        rows.setdefault((cell.run.variant, cell.run.task), []).append(cell)
    for (variant, task), group in rows.items():
        counts = Counter(cell.state for cell in group)
        numbers = (str(counts[state] or "") for state in used)
        more = (*(_pace(group) if speeds else ()), *([_verdicts(group)] if judged else ()))
        drawn.add_row(variant, task, *numbers, *more)
    if len(rows) > 1:
        drawn.add_section()
        counts = Counter(cell.state for cell in cells)
        drawn.add_row("all", "", *(str(counts[state]) for state in used), *(_pace(cells) if speeds else ()))
    head = Text.assemble((board.folder.name, "bold"), f": {board.question}")
    return Group(head, drawn)


def status_notes(board: SweepStatus) -> list[Text]:
    """What needs attention, a line each."""
    return [*_remarks(board, board.cells), *_advice(board, board.cells)]


def _pace(cells: Sequence[RunStatus]) -> tuple[str, str]:
    """Steps a second of the lanes of `cells`, and the time until the slowest of their packs is done."""
    lanes = Counter(cell.pack.folder.pack_id for cell in cells if cell.pack and cell.pack.speed)
    packs = {cell.pack.folder.pack_id: cell.pack for cell in cells if cell.pack and cell.pack.speed}
    if not packs:
        return "", ""
    speed = sum(pack.speed * lanes[name] / len(pack.run_ids) for name, pack in packs.items())
    return f"{speed:,.0f}", duration(max(pack.steps_to_go / pack.speed for pack in packs.values()))


def _verdicts(cells: Sequence[RunStatus]) -> str:
    """How many of the finished runs of `cells` earned each verdict."""
    done = [cell.pack.done[cell.run.run_id] for cell in cells if cell.pack and _is_done(cell)]
    earned = Counter(verdict for entry in done for verdict in entry.get("verdicts", []))
    return ", ".join(f"{verdict} {many} of {len(done)}" for verdict, many in earned.items())


def _is_done(cell: RunStatus) -> bool:
    return cell.pack is not None and not cell.pack.damage and cell.run.run_id in cell.pack.done


def _remarks(board: SweepStatus, cells: Sequence[RunStatus]) -> list[Text]:
    packs = {cell.pack.folder.pack_id: cell.pack for cell in cells if cell.pack}.values()
    lines = []
    if board.scheduler_error:
        lines.append(
            _marked("Slurm does not answer", "yellow", f" ({board.scheduler_error}): this is what the files say.")
        )
    lines += damage(board)
    reasons = Counter(pack.note for pack in packs if pack.state == "pending")
    if reasons:
        told = ", ".join(f"{why} ({count(many, 'pack')})" for why, many in reasons.most_common())
        lines.append(Text(f"pending: {told}"))
    if any(pack.queued and pack.queued.held for pack in packs):
        lines.append(Text(f"Held until somebody releases it: {command_on('resume', board.folder)}"))
    for state in ("failed", "lost", "cancelled", "unknown"):
        troubled = [pack for pack in packs if pack.state == state]
        lines += [_marked(state, COLOURS.get(state, "yellow"), f" {_line(pack)}") for pack in troubled[:SHOWN_PACKS]]
        if len(troubled) > SHOWN_PACKS:
            lines.append(Text(f"  and {count(len(troubled) - SHOWN_PACKS, 'more pack')} {state}"))
    stopping = [pack for pack in packs if pack.stopping]
    lines += [_marked("running", COLOURS["running"], f" {_line(pack)}") for pack in stopping[:SHOWN_PACKS]]
    if len(stopping) > SHOWN_PACKS:
        lines.append(Text(f"  and {count(len(stopping) - SHOWN_PACKS, 'more pack')} stopping"))
    odd = [pack for pack in packs if pack.state == "running" and "," in pack.note and not pack.stopping]
    lines += [_marked("silent", "yellow", f" {_line(pack)}") for pack in odd[:SHOWN_PACKS]]
    lines += versions_differ(board)
    halved = [pack for pack in packs if pack.halved_from]
    if halved:
        lines.append(Text(f"With half the lanes, having run out of memory with all: {count(len(halved), 'pack')}."))
    return lines


def versions_differ(board: SweepStatus) -> list[Text]:
    """A line on each pack that was resumed with other versions, and one if packs ran with different versions."""
    folders = [pack.folder for pack in board.packs.values()]
    lines = [line for folder in folders if len(folder.attempts()) > 1 for line in versions.upgrades(folder)]
    if len(lines) > SHOWN_PACKS:
        lines[SHOWN_PACKS:] = [f"  and {count(len(lines) - SHOWN_PACKS, 'more change')} of versions"]
    if told := versions.mixed(versions.last_versions(folder) for folder in folders):
        lines.append(f"Packs ran with different versions: {told}.")
    return [Text(line) for line in lines]


def damage(board: SweepStatus) -> list[Text]:
    """A line on each record that cannot be read and each damaged pack, and how to train these again."""
    lines = [_marked("problem:", "red", f" {problem}") for problem in board.problems]
    damaged = [pack for pack in board.packs.values() if pack.damage]  # no cell has one whose runs are not known
    lines += [_marked("damaged", "red", f" {_line(pack)}") for pack in damaged[:SHOWN_PACKS]]
    if len(damaged) > SHOWN_PACKS:
        lines.append(Text(f"  and {count(len(damaged) - SHOWN_PACKS, 'more pack')} damaged"))
    if any(pack.state == "damaged" for pack in damaged):
        lines.append(Text(retrain(board.folder)))
    return lines


def _line(pack: PackStatus) -> str:
    return f"pack {pack.folder.pack_id} ({count(len(pack.run_ids), 'run')}): {pack.damage or pack.note}"


def _marked(mark: str, style: str, rest: str) -> Text:
    return Text.assemble((mark, style), rest)


def _advice(board: SweepStatus, cells: Sequence[RunStatus]) -> list[Text]:
    """What the report has, and what to do about the rest."""
    folder, states = board.folder, {cell.state for cell in cells}
    lines = []
    if states & {"failed", "cancelled"}:
        first = next(cell.pack for cell in cells if cell.pack and cell.state in ("failed", "cancelled"))
        again = command_on("retry", folder) if board.submissions else run_command(folder)
        lines.append(f"Why: {logs_command(first.folder.path)}. Again: {again}")
    if "lost" in states:
        again = command_on("resume", folder) if board.submissions else run_command(folder)
        lines += board.advice or [f"Checkpoints are kept. To continue: {again}"]
    elif any(cell.state == "missing" and cell.pack and cell.pack.submission for cell in cells):
        lines.append(f"To submit what Slurm did not accept: {command_on('resume', folder)}")
    if board.submissions and any(
        cell.state == "missing" and not (cell.pack and cell.pack.submission) for cell in cells
    ):
        lines.append(f"To submit what is missing: {submit_command(folder, board.submissions)}")
    report, page = board.report, shown_path(folder / "report")
    if board.report_jobs:
        lines.append("The report is drawn when these jobs have ended.")
    elif report:
        without = f", without {count(len(report.runs), 'run')}" if report.runs else ", with every run"
        made = ("was drawn", "") if report.report else ("could not be drawn", "red")
        when = f" {duration(age(report.time))} ago{without}: {page}"
        return [*map(Text, lines), Text.assemble("The report ", made, when)]
    elif _is_drawn(board):
        lines.append(f"The report has all that is done: {page}")
    elif states & {"done", "diverged"} and not states & {"running", "pending", "unknown"}:
        if any(map(_has_return, board.packs.values())):
            lines.append(f"There is no report of all this yet: {command_on('report', folder)}")
        else:
            lines.append("No finished run has a return, so a report is not possible: no episode ended.")
    return list(map(Text, lines))


def _has_return(pack: PackStatus) -> bool:
    """Did a finished run of `pack` log a return? A report of none is refused."""
    if not pack.done or pack.damage:
        return False
    try:
        returns = pack.folder.rows(["return"], list(pack.done)).column("return").to_pylist()
    except RecordError:
        return False
    return any(value is not None and math.isfinite(value) for value in returns)


def _is_drawn(board: SweepStatus) -> bool:
    """Is there a page that is younger than all that is done?"""
    page = board.folder / "report" / "report.html"
    done = [pack.folder.path / "done.json" for pack in board.packs.values() if pack.done]
    return page.exists() and bool(done) and max(map(_written, done)) <= _written(page)


def _written(path: Path) -> float:
    return path.stat().st_mtime


def as_json(board: SweepStatus) -> dict[str, Any]:
    """The board for a script; a run's pack says how far it is."""
    packs = {cell.pack.folder.pack_id: cell.pack for cell in board.cells if cell.pack}
    return {
        "sweep": board.folder.name,
        "folder": str(board.folder),
        "time": now(),
        "scheduler": board.scheduler_error or "answered",
        "counts": dict(Counter(cell.state for cell in board.cells)),
        "runs": {
            cell.run.run_id: {
                "variant": cell.run.variant,
                "task": cell.run.task,
                "seed": cell.run.seed,
                "state": cell.state,
                "pack": cell.pack.folder.pack_id if cell.pack else None,
                "verdicts": cell.pack.done.get(cell.run.run_id, {}).get("verdicts", []) if cell.pack else [],
            }
            for cell in board.cells
        },
        "packs": {
            name: {
                "state": pack.state,
                "note": pack.note,
                "runs": len(pack.run_ids),
                "submission": pack.submission,
                "halved_from": pack.halved_from,
                **{key: pack.heartbeat.get(key) for key in ("attempt", "step", "total_steps", "time")},
                "steps_per_second": pack.speed,
            }
            for name, pack in packs.items()
        },
        "report_pending": bool(board.report_jobs),
        "problems": [*board.problems, *(pack.damage for pack in board.packs.values() if pack.damage)],
    }


def submit_summary(planned: Plan, chosen: Selection) -> list[str]:
    """One line on each group of packs, and what becomes of it."""
    runs = {pack.folder.pack_id: len(pack.configs) for pack in planned.packs}
    lines = [
        f"To submit: {count(len(chosen.packs), 'pack')}, {count(sum(runs[name] for name in chosen.packs), 'run')}."
    ]
    if chosen.already_queued:
        lines.append(f"Running or waiting already: {count(chosen.already_queued, 'pack')}.")
    if chosen.over_limit:
        lines.append(
            f"{count(chosen.over_limit, 'pack')} beyond what may be queued at a time ({chosen.limit}): submit again "
            "when there is room."
        )
    for state, many in chosen.skipped.items():
        again = (
            f"; to submit them too: {command_on('retry', planned.folder, '--state', state)}"
            if state != "unknown"
            else " until Slurm answers"
        )
        lines.append(f"{state.capitalize()}, and left alone{again}: {count(many, 'pack')}.")
    return lines


def cost(packs: Sequence[PlannedPack], profile: Profile, at_a_time: int | None = None) -> list[str]:
    """What `packs` take as jobs of a Slurm `profile`, by measured speeds; nodes may be faster or slower."""
    if not packs:
        return []
    device = "cuda" if profile.gpus or profile.device.startswith("cuda") else "cpu"
    known = device if device in price.measured() else "cpu"
    seconds = [pack.seconds_on(known) for pack in packs]
    attempts = -(-max(seconds) // (60 * profile.time))
    longest = f"the longest about {duration(max(seconds))}"
    if attempts > 1:
        longest += f", {attempts:.0f} attempts of {duration(60 * profile.time)}"
    at_a_time = min(at_a_time or profile.throttle or len(packs), len(packs))
    unit = "GPU" if known == "cuda" else "core"
    lines = [
        f"As jobs of {profile.name}: {longest}; {duration(sum(seconds))} of one {unit} in all; "
        f"about {duration(makespan(seconds, at_a_time))} with {count(at_a_time, 'job')} at a time."
    ]
    if known != device:
        lines.append("That is by speeds measured on a CPU: no GPU has been measured yet.")
    return lines


def outdated_code(packs: int) -> str:
    """The line on packs that are resumed with the current code, because their own is of an older version."""
    return (
        f"{count(packs, 'pack')} continue{'s' if packs == 1 else ''} with the current code: this version of scorer "
        "cannot start the older version that was submitted."
    )


def dry_run_text(planned: Plan, submission: Submission) -> list[str]:
    """What `--dry-run` shows: the packs, the script of the first array, and what it all costs in files and calls."""
    packs = {pack.folder.pack_id: pack for pack in planned.packs}
    variants = {run.run_id: run.variant.name for run in planned.sweep.runs}
    lines = [""]
    for request in submission.arrays:
        lines.append(
            f"array {request.name}: {count(request.count, 'pack')}, {request.throttle or request.count} at a time"
        )
        for name in submission.packs[request.first : request.first + request.count][:SHOWN_PACKS]:
            configs = packs[name].configs
            seeds = sorted({config.seed for config in configs})
            lines.append(
                f"  {name}  {folded(config.task for config in configs)}: "
                f"{folded(variants.get(config.run_id, 'a run of an earlier definition') for config in configs)}; "
                f"{'seed' if len(seeds) == 1 else 'seeds'} {folded(seeds)}; "
                f"{count(len(configs), 'lane')}, {configs[0].total_steps:,} steps"
            )
        if request.count > SHOWN_PACKS:
            lines.append(f"  and {request.count - SHOWN_PACKS} more")
    profile = submission.profile
    if script := backend_of(profile).script(submission):
        lines += ["", mask(script.rstrip()), ""]
        if profile.environment:
            lines += [f"{ENVIRONMENT}, which only you can read, sets {', '.join(profile.environment)}.", ""]
    commits = [max(1, round(packs[name].seconds / profile.commit_seconds)) for name in submission.packs]
    files = sum(FILES_OF_A_PACK + FILES_OF_AN_ATTEMPT + count for count in commits)
    arrays = len(submission.arrays)
    lines.append(
        f"Files: about {files:,} when done, with a commit a pack every {profile.commit_seconds:g} s at the estimated\n"
        f"speed, and for the submission {5 + arrays} and one copy of the code."
    )
    if backend_of(profile).has_job_ids:
        lines.append(
            f"Slurm: {arrays + 1} calls of sbatch and about 10 questions (squeue, scontrol, sacctmgr) to submit,\n"
            f"one squeue a status. A heartbeat is a file, every {HEARTBEAT_SECONDS:g} s, and asks Slurm nothing."
        )
    return lines
