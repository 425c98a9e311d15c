"""`scorer sweeps` (the built-in sweeps) and `scorer show` (one run)."""

from collections.abc import Callable
from typing import Annotated, TypeVar

import typer
from rich.text import Text

from cli import completion
from cli.console import DEFAULT_OUTPUTS, out, print_json, table
from cli.help import App
from cli.options import AsJson, Outputs
from cli.plan import print_problems
from scorer_core.support.errors import RecordError
from scorer_core.support.text import count
from sweeps import loading, search
from sweeps.plan import find_run

app = App()
T = TypeVar("T")


@app.command(epilog="Example: scorer sweeps")
def sweeps(as_json: AsJson = False) -> None:
    """List the built-in sweeps and searches, the question of each, and the result in the paper."""
    loaded = [loading.load(name) for name in loading.shipped()]
    searches = [search.load(name) for name in loading.shipped_searches()]
    if as_json:
        shown = [{"name": s.name, "question": s.question, "paper": s.paper, "runs": len(s.runs)} for s in loaded]
        found = [{"name": s.name, "question": s.question, "trials": s.trials} for s in searches]
        return print_json(shown + found)
    listed = table("sweep", "question", "result in the paper", "runs", show_lines=True)
    for sweep in loaded:
        listed.add_row(sweep.name, sweep.question, sweep.paper or "–", str(len(sweep.runs)))
    for s in searches:
        listed.add_row(s.name, s.question, "–", f"search: {count(s.trials, 'trial')} of {count(len(s.default), 'run')}")
    return out.print(listed)


@app.command(epilog="Example: scorer show 3f2a")
def show(
    run_id: Annotated[
        str,
        typer.Argument(
            metavar="RUN_ID", help="Id of a run, or any unique beginning of it.", autocompletion=completion.run_id
        ),
    ],
    outputs: Outputs = DEFAULT_OUTPUTS,
    as_json: AsJson = False,
) -> None:
    """Show one run: verdicts, state, configuration, provenance and last metrics."""
    from scorer_core import verdicts  # imports numpy

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
        "not_compiled": read(folder.eager_because, None),
        "configuration": config.model_dump(mode="json") | {"ratio": config.ratio},
        "provenance": read(folder.provenance, {}),
        "last_metrics": row,
        "problems": list(dict.fromkeys(problems)),
    }
    if as_json:
        return print_json(shown)
    provenance = {key: value for key, value in shown["provenance"].items() if key not in ("packages", "git_diff")}
    provenance["git_diff"] = count(len((shown["provenance"].get("git_diff") or "").splitlines()), "line")
    for top, code in provenance.pop("user_code", {}).items():
        provenance[f"git_commit of {top}"] = code["git_commit"] or code.get("git_error")
    out.print(Text.assemble((config.run_id, "bold"), f"  {config.task}, {config.coupling}, seed {config.seed}"))
    out.print(f"pack {folder.path}")
    if shown["not_compiled"]:
        out.print(f"not compiled, although it was planned: {shown['not_compiled']}")
    print_problems(shown["problems"])
    for verdict in shown["verdicts"]:
        meaning = verdicts.MEANINGS.get(verdict, "verdict of a newer version")
        out.print(Text.assemble((f"{verdict}:", "yellow"), f" {meaning}."))
    for title in ("state", "configuration", "provenance", "last_metrics"):
        values = table("", "", title=title.replace("_", " "), title_justify="left", show_header=False, box=None)
        for key, value in (provenance if title == "provenance" else shown[title]).items():
            values.add_row(key, f"{value:.6g}" if isinstance(value, float) else str(value))
        out.print(values)
    return None
