"""The results of a search: scorer search show."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from cli.console import DEFAULT_OUTPUTS, FAILED, err, out, print_json, table
from cli.help import App
from cli.options import AsJson, Outputs, SearchArgument
from cli.sweep_argument import existing_folder, named_search
from scorer_core.support.commands import command_on, shown_path
from scorer_core.support.text import count

if TYPE_CHECKING:
    from analysis.search_summary import SearchSummary

app = App()


@app.command(epilog="Example: scorer search show ratio_search --against ratio")
def show(
    search: SearchArgument = None,
    outputs: Outputs = DEFAULT_OUTPUTS,
    against: Annotated[
        str | None, typer.Option(metavar="SWEEP", help="Compare the slices with this trained sweep.")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, metavar="N", help="List this many trials, best first.")] = 10,
    figures: Annotated[bool, typer.Option(help="Do not draw figures into report/.")] = True,
    as_json: AsJson = False,
) -> None:
    """Show the best trials, importances, slices and confirmation; draw figures.

    Exit code 1 if all trials failed.
    """
    from analysis.search_summary import summarize_search  # a second of imports
    from sweeps.studies import find_study

    trained = existing_folder(against, outputs, "this sweep has not been trained") if against else None
    summary = summarize_search(find_study(*named_search(search, outputs)), trained)
    if as_json:
        print_json(_as_json(summary))
    else:
        _print(summary, rows, against)
    if figures and not as_json:
        from analysis.search_report import write_report

        written = write_report(summary)
        drawn = sum(path.suffix == ".pdf" for path in written)
        out.print(f"Report: {shown_path(written[0].parent)} ({count(drawn, 'figure')}, trials.csv)")
    if summary.study.all_failed():
        raise typer.Exit(FAILED)


def _print(summary: "SearchSummary", rows: int, sweep: str | None) -> None:
    from analysis.search_report import objective_text
    from analysis.text import format_estimate
    from sweeps.studies import failures_in_words

    search = summary.search
    out.print(Text.assemble((search.name, "bold"), f": {search.question}"))
    states = [f"{summary.count(state)} {state}" for state in ("complete", "pruned", "fail", "running")]
    out.print(
        f"{len(summary.rows)} of {count(search.trials_at_most, 'trial')} ({', '.join(states)}), "
        f"{summary.steps_trained:,} environment steps trained by complete and pruned trials, "
        f"{summary.steps_saved:,} steps saved by pruning"
    )
    for note in summary.notes:
        out.print(Text.assemble(("note:", "yellow"), f" {note}"))
    labels = [objective_text(summary, index) for index in range(len(search.objective))]
    if len(search.objective) > 1:
        out.print(f"{count(len(summary.best), 'trial')} on the Pareto front:")
    drawn = table("trial", *search.space, *labels, "note")
    for row in summary.best[:rows]:
        point = [_setting(row.point.get(name)) for name in search.space]
        drawn.add_row(str(row.number), *point, *map(format_estimate, row.estimates), row.note)
    out.print(drawn)
    for line in failures_in_words(summary.study):
        err.print(line)
    for name, places in summary.slices.items():
        drawn = table(name, "trials", labels[0], title=f"mean of trials by {name}", title_justify="left")
        for place in places:
            span = _setting(place.at) if place.low == place.high else f"{_setting(place.low)} to {_setting(place.high)}"
            drawn.add_row(span, str(place.trials), format_estimate(place.estimate))
        out.print(drawn)
    for name, places in summary.against.items():
        drawn = table(name, labels[0], title=f"sweep {sweep} by {name}", title_justify="left")
        for place in places:
            drawn.add_row(_setting(place.at), format_estimate(place.estimate))
        out.print(drawn)
    if summary.importance:
        drawn = table(
            "field", "importance", title="importance of each field among good trials (PED-ANOVA)", title_justify="left"
        )
        for name, importance in summary.importance.items():
            drawn.add_row(name, format_estimate(importance))
        out.print(drawn)
    if summary.confirmed:
        out.print(_confirmed(summary, labels[0]))
    elif summary.best:
        out.print(
            "The best of many noisy trials is biased upwards. Evaluate it on new seeds: "
            f"{command_on('search confirm', summary.study.folder, '--top', 3, '--seeds', 30)}"
        )


def _confirmed(summary: "SearchSummary", label: str) -> Table:
    import numpy as np

    from analysis.search_summary import interval
    from analysis.text import format_estimate

    drawn = table("variant", "in the search", "on new seeds", "runs", "difference", title=label, title_justify="left")
    for row in summary.confirmed:
        searched = interval(summary.search, row.searched[0]) if row.searched.size else None
        finished = np.isfinite(row.confirmed[0])
        confirmed = interval(summary.search, row.confirmed[0]) if finished.any() else None
        change = f"{float(confirmed.value - searched.value):+.4g}" if searched and confirmed else ""
        where = " ".join(f"{name}={_setting(value)}" for name, value in row.point.items())
        drawn.add_row(
            f"{row.name} {where}".strip(), format_estimate(searched) if searched else "not tried",
            format_estimate(confirmed) if confirmed else "missing", f"{finished.sum()} of {finished.size}", change,
        )  # fmt: skip
    return drawn


def _setting(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _as_json(summary: "SearchSummary") -> dict[str, Any]:
    def numbers(estimate: Any) -> list[float]:
        return [float(number) for number in estimate]

    def place(p: Any) -> dict[str, Any]:
        return {"at": p.at, "low": p.low, "high": p.high, "trials": p.trials, "value": numbers(p.estimate)}

    return {
        "search": summary.search.name,
        "storage": summary.study.storage_location,
        "notes": summary.notes,
        "objectives": [objective.name for objective in summary.search.objective],
        "steps_trained": summary.steps_trained,
        "steps_saved": summary.steps_saved,
        "best": [row.number for row in summary.best],
        "trials": [
            {
                "number": r.number, "state": r.state, "point": r.point, "values": list(map(numbers, r.estimates)),
                "note": r.note,
            }
            for r in summary.rows
        ],
        "slices": {name: list(map(place, places)) for name, places in summary.slices.items()},
        "against": {name: list(map(place, places)) for name, places in summary.against.items()},
        "importance": {name: numbers(importance) for name, importance in summary.importance.items()},
        "confirmed": [
            {
                "name": c.name, "point": c.point, "searched": c.searched.tolist(), "confirmed": c.confirmed.tolist(),
            }
            for c in summary.confirmed
        ],
    }  # fmt: skip
