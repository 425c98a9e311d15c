"""What `scorer status` prints: a table, notes on what needs attention, and JSON."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Column
from rich.text import Text

from cli.console import table
from cli.summary import more, shown_of
from scorer_core import versions
from scorer_core.record_forms import now
from scorer_core.support.commands import command_on, logs_command, retrain, run_command, shown_path
from scorer_core.support.errors import RecordError
from scorer_core.support.text import count, duration
from slurm.status import STATES, PackStatus, RunStatus, SweepStatus, age
from slurm.submissions.submission import submit_command

COLOURS = {"done": "green", "running": "cyan", "failed": "red", "lost": "red", "damaged": "red", "diverged": "yellow"}
SHOWN_PACKS = 8  # of each state


def status_table(status: SweepStatus, everything: bool = False) -> RenderableType:
    """The number of runs in each state, one row per variant and task of the runs in `status.cells`.

    Without `everything`, a table of many variants is summarised.
    """
    cells = status.cells
    totals = Counter(cell.state for cell in cells)
    used = [state for state in STATES if totals[state]]
    columns = [Column("variant"), Column("task")]
    columns += [Column(state, justify="right", style=COLOURS.get(state, "")) for state in used]
    speeds = any(cell.pack and cell.pack.speed for cell in cells)
    columns += [Column(title, justify="right") for title in ("steps/s", "to go")] if speeds else []
    judged = bool(_verdicts(cells))
    if judged:
        columns.append(Column("verdicts", style="yellow"))
    drawn = table(*columns)
    variants: dict[str, dict[str, list[RunStatus]]] = {}
    for cell in cells:
        variants.setdefault(cell.run.variant, {}).setdefault(cell.run.task, []).append(cell)
    shown = shown_of(list(variants), _unfinished(cells), everything)
    for variant in shown:
        for task, group in variants[variant].items():
            counts = Counter(cell.state for cell in group)
            numbers = (str(counts[state] or "") for state in used)
            others = (*(_pace(group) if speeds else ()), *([_verdicts(group)] if judged else ()))
            drawn.add_row(variant, task, *numbers, *others)
    if sum(map(len, variants.values())) > 1:
        drawn.add_section()
        drawn.add_row("all", "", *(str(totals[state]) for state in used), *(_pace(cells) if speeds else ()))
    head = Text.assemble((status.folder.name, "bold"), f": {status.question}")
    if len(shown) == len(variants):
        return Group(head, drawn)
    hidden = variants.keys() - set(shown)
    counts = Counter(cell.state for cell in cells if cell.run.variant in hidden)
    what = ", ".join(f"{counts[state]:,} {state}" for state in STATES if counts[state])
    return Group(head, drawn, Text(more(len(hidden), "variant", f": {what}", "scorer status")))


def _unfinished(cells: Sequence[RunStatus]) -> list[str]:
    """The variants with unfinished runs; first those with a run that has started, or that needs attention."""
    waiting = [cell.run.variant for cell in cells if cell.state in ("pending", "missing")]
    others = [cell.run.variant for cell in cells if cell.state not in ("done", "diverged", "pending", "missing")]
    return list(dict.fromkeys([*others, *waiting]))


def status_notes(status: SweepStatus) -> list[Text]:
    """One line for each thing that needs attention, then what to do next."""
    return [*_attention(status, status.cells), *_next_steps(status, status.cells)]


def _pace(cells: Sequence[RunStatus]) -> tuple[str, str]:
    """Environment steps per second of the lanes of `cells`, and the time until the slowest of their packs is done."""
    packs = Counter(cell.pack for cell in cells if cell.pack and cell.pack.speed)
    if not packs:
        return "", ""
    speed = sum(pack.speed * lanes / len(pack.run_ids) for pack, lanes in packs.items())
    return f"{speed:,.0f}", duration(max(pack.steps_to_go / pack.speed for pack in packs))


def _verdicts(cells: Sequence[RunStatus]) -> str:
    """How many of the finished runs of `cells` have each verdict."""
    done = [cell.pack.done[cell.run.run_id] for cell in cells if cell.pack and _is_done(cell)]
    counts = Counter(verdict for entry in done for verdict in entry.get("verdicts", []))
    return ", ".join(f"{verdict} {many} of {len(done)}" for verdict, many in counts.items())


def _is_done(cell: RunStatus) -> bool:
    return cell.pack is not None and not cell.pack.damage and cell.run.run_id in cell.pack.done


def _attention(status: SweepStatus, cells: Sequence[RunStatus]) -> list[Text]:
    packs = dict.fromkeys(cell.pack for cell in cells if cell.pack)
    lines = []
    if status.scheduler_error:
        lines.append(
            _marked("Slurm did not respond", "yellow", f" ({status.scheduler_error}). States come from files only.")
        )
    lines += damage(status)
    reasons = Counter(pack.note for pack in packs if pack.state == "pending")
    if reasons:
        shown = ", ".join(f"{why} ({count(many, 'pack')})" for why, many in reasons.most_common())
        lines.append(Text(f"pending: {shown}"))
    if any(pack.queued and pack.queued.held for pack in packs):
        lines.append(Text(f"Slurm holds some jobs. Release them with: {command_on('resume', status.folder)}"))
    for state in ("failed", "lost", "cancelled", "unknown"):
        troubled = [pack for pack in packs if pack.state == state]
        lines += [_marked(state, COLOURS.get(state, "yellow"), f" {_line(pack)}") for pack in troubled[:SHOWN_PACKS]]
        if len(troubled) > SHOWN_PACKS:
            lines.append(Text(f"  and {count(len(troubled) - SHOWN_PACKS, 'more pack')} {state}"))
    stopping = [pack for pack in packs if pack.stopping]
    lines += [_marked("running", COLOURS["running"], f" {_line(pack)}") for pack in stopping[:SHOWN_PACKS]]
    if len(stopping) > SHOWN_PACKS:
        lines.append(Text(f"  and {count(len(stopping) - SHOWN_PACKS, 'more pack')} stopping"))
    silent = [pack for pack in packs if pack.state == "running" and "," in pack.note and not pack.stopping]
    lines += [_marked("silent", "yellow", f" {_line(pack)}") for pack in silent[:SHOWN_PACKS]]
    lines += versions_differ(status)
    halved = [pack for pack in packs if pack.halved_from]
    if halved:
        lines.append(Text(f"Split in half after running out of memory: {count(len(halved), 'pack')}."))
    return lines


def versions_differ(status: SweepStatus) -> list[Text]:
    """A line for each pack that was resumed with other versions, and one if packs ran with different versions."""
    folders = [pack.folder for pack in status.packs.values()]
    lines = [line for folder in folders if len(folder.attempts()) > 1 for line in versions.upgrades(folder)]
    if len(lines) > SHOWN_PACKS:
        lines[SHOWN_PACKS:] = [f"  and {count(len(lines) - SHOWN_PACKS, 'more change')} of versions"]
    if mixed := versions.mixed(versions.last_versions(folder) for folder in folders):
        lines.append(f"Packs ran with different versions: {mixed}.")
    return [Text(line) for line in lines]


def damage(status: SweepStatus) -> list[Text]:
    """A line for each record that cannot be read and each damaged pack, and how to retrain them."""
    lines = [_marked("problem:", "red", f" {problem}") for problem in status.problems]
    damaged = [
        pack for pack in status.packs.values() if pack.damage
    ]  # also packs whose runs are unknown, which no cell has
    lines += [_marked("damaged", "red", f" {_line(pack)}") for pack in damaged[:SHOWN_PACKS]]
    if len(damaged) > SHOWN_PACKS:
        lines.append(Text(f"  and {count(len(damaged) - SHOWN_PACKS, 'more pack')} damaged"))
    if any(pack.state == "damaged" for pack in damaged):
        lines.append(Text(retrain(status.folder)))
    return lines


def _line(pack: PackStatus) -> str:
    return f"pack {pack.folder.pack_id} ({count(len(pack.run_ids), 'run')}): {pack.damage or pack.note}"


def _marked(mark: str, style: str, rest: str) -> Text:
    return Text.assemble((mark, style), rest)


def _next_steps(status: SweepStatus, cells: Sequence[RunStatus]) -> list[Text]:
    """Which commands continue the unfinished runs, and whether the report is up to date."""
    folder, states = status.folder, {cell.state for cell in cells}
    lines = []
    if states & {"failed", "cancelled"}:
        first = next(cell.pack for cell in cells if cell.pack and cell.state in ("failed", "cancelled"))
        resubmit = f"Resubmit: {command_on('retry', folder)}"
        again = resubmit if status.submissions else f"Train again: {run_command(folder)}"
        lines.append(f"See why: {logs_command(first.folder.path)}. {again}")
    if "lost" in states:
        again = command_on("resume", folder) if status.submissions else run_command(folder)
        lines += status.advice or [f"Checkpoints are kept. Continue with: {again}"]
    elif any(cell.state == "missing" and cell.pack and cell.pack.submission for cell in cells):
        lines.append(f"Slurm rejected some packs. Submit them with: {command_on('resume', folder)}")
    never = sum(cell.state == "missing" and not (cell.pack and cell.pack.submission) for cell in cells)
    if status.submissions and never:
        runs = f"{count(never, 'run')} {'was' if never == 1 else 'were'} never submitted."
        lines.append(f"{runs} Submit with: {submit_command(folder, status.submissions)}")
    report, page = status.report, shown_path(folder / "report")
    if status.report_jobs:
        lines.append("scorer draws the report after these jobs.")
    elif report and report.report:
        runs = f"without {count(len(report.runs), 'unfinished run')}" if report.runs else "with all runs"
        lines.append(f"The report was drawn {duration(age(report.time))} ago, {runs}: {page}")
    elif report:
        failed = f": the report job ended with an error {duration(age(report.time))} ago. "
        again = f"To see the error: {command_on('report', folder)}"
        return [*map(Text, lines), _marked("There is no new report", "red", failed + again)]
    elif _is_drawn(status):
        lines.append(f"The report is up to date: {page}")
    elif states & {"done", "diverged"} and not states & {"running", "pending", "unknown"}:
        if any(map(_has_return, status.packs.values())):
            lines.append(f"The report does not have all finished runs. Draw it with: {command_on('report', folder)}")
        else:
            lines.append("A report is not possible: no episode ended, so no finished run has a return.")
    return list(map(Text, lines))


def _has_return(pack: PackStatus) -> bool:
    """Whether a finished run of `pack` logged a return; without any, there is no report."""
    if not pack.done or pack.damage:
        return False
    try:
        returns = pack.folder.rows(["return"], list(pack.done)).column("return").to_pylist()
    except RecordError:
        return False
    return any(value is not None and math.isfinite(value) for value in returns)


def _is_drawn(status: SweepStatus) -> bool:
    """Whether the report is newer than every finished pack."""
    page = status.folder / "report" / "report.html"
    done = [pack.folder.path / "done.json" for pack in status.packs.values() if pack.done]
    return page.exists() and bool(done) and max(map(_written, done)) <= _written(page)


def _written(path: Path) -> float:
    return path.stat().st_mtime


def status_json(status: SweepStatus) -> dict[str, Any]:
    """The status for scripts; the progress of a run is that of its pack."""
    packs = {pack.folder.pack_id: pack for pack in dict.fromkeys(cell.pack for cell in status.cells if cell.pack)}
    return {
        "sweep": status.folder.name,
        "folder": str(status.folder),
        "time": now(),
        "scheduler": status.scheduler_error or "answered",
        "counts": dict(Counter(cell.state for cell in status.cells)),
        "runs": {
            cell.run.run_id: {
                "variant": cell.run.variant,
                "task": cell.run.task,
                "seed": cell.run.seed,
                "state": cell.state,
                "pack": cell.pack.folder.pack_id if cell.pack else None,
                "verdicts": cell.pack.done.get(cell.run.run_id, {}).get("verdicts", []) if cell.pack else [],
            }
            for cell in status.cells
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
        "report_pending": bool(status.report_jobs),
        "problems": [*status.problems, *(pack.damage for pack in status.packs.values() if pack.damage)],
    }
