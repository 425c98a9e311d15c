import csv
import io
import json
import shutil
import subprocess

import pytest
from rich.console import Console

from analysis.load import load_results
from analysis.report import make_report
from analysis.summary import Settings, summarize
from analysis.tables import Cell, Grid, escape_latex, latex, markdown, results_grid, tidy_csv
from cli.results_table import ResultsTable
from tests.analysis.synthetic import ODD_NAMES, make_sweep

GRID = Grid(("variant", "breakout"), ((Cell("lr_5%"), Cell("8.1 [7.9, 8.4]", best=True)), (Cell("a|b"), Cell("–"))))


def test_latex_is_booktabs_with_the_best_in_bold_and_nothing_unescaped():
    text = latex(GRID, "IQM & 95 % of runs", "main")
    assert r"lr\_5\% & \textbf{8.1} \\[-2pt]" in text
    assert r"& {\scriptsize [7.9, 8.4]} \\" in text
    assert r"\caption{IQM \& 95 \% of runs}" in text
    assert r"a\textbar{}b & -- \\" in text  # | is a long dash in LaTeX's default font
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1
    assert text.count("{") == text.count("}")


WIDE = Grid(
    ("variant", "asterix", "breakout", "freeway", "space invaders", "all tasks", "vs baseline", "P(better)"),
    tuple((Cell(name), *[Cell("1.234 [0.567, 8.901]")] * 7) for name in ("scorer algorithm=dueling_ddqn", "dqn")),
)

ODD = Grid(
    ("variant", r"$\frac$ & 5%"),
    tuple((Cell(name), Cell("8.1 [7.9, 8.4]")) for name in ODD_NAMES)
    + tuple((Cell(name), Cell("8.1")) for name in ODD_NAMES),
)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX on this machine")
@pytest.mark.parametrize("grid", [GRID, WIDE, ODD])
def test_latex_compiles_and_fits_a_column(grid, tmp_path):
    """Of 5.5 inches, as ICLR's and NeurIPS'."""
    (tmp_path / "page.tex").write_text(
        "\\documentclass{article}\\usepackage[textwidth=5.5in]{geometry}\\usepackage{booktabs,graphicx}"
        f"\\begin{{document}}\n{latex(grid, f'IQM of 95 % & {ODD_NAMES[0]}', 'main %#')}\\end{{document}}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout
    assert "Overfull" not in made.stdout


def lines_of(grid, width):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(ResultsTable(grid, "results"))
    return console.file.getvalue().splitlines()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(("width", "tables"), [(200, 1), (80, 3), (40, 7)])
def test_in_a_terminal_no_number_is_broken_and_columns_without_room_go_below(width, tables):
    lines = lines_of(WIDE, width)
    assert max(map(len, lines)) <= width
    assert sum(line.startswith("variant") for line in lines) == tables
    assert sum(line.count("[0.567, 8.901]") for line in lines) == 14
    assert sum(line.count("1.234") for line in lines) == 14


@pytest.mark.parametrize(
    ("raw", "safe"),
    [
        ("a_b", r"a\_b"),
        ("\\", r"\textbackslash{}"),
        ("{~}", r"\{\textasciitilde{}\}"),
        ("é 中", r"\'{e} \texttt{U+4E2D}"),
    ],
)
def test_escapes(raw, safe):
    assert escape_latex(raw) == safe


def test_a_variant_whose_name_has_brackets_keeps_it_whole():
    grid = Grid(("variant", "breakout"), ((Cell("net [64, 64]"), Cell("8.1 [7.9, 8.4]")),))
    assert r"net [64, 64] & 8.1 \\[-2pt]" in latex(grid, "", "main")
    assert any(line.startswith("net [64, 64]") for line in lines_of(grid, 80))


def test_markdown_keeps_its_columns():
    lines = markdown(GRID).splitlines()
    assert lines[2] == r"| lr\_5% | **8.1 [7.9, 8.4]** |"
    assert lines[3] == r"| a\|b | – |"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_sweep(tmp_path_factory.mktemp("outputs"), {"seeds": 4, "tasks": ["minatar/breakout"]})


def test_bold_only_where_intervals_separate(folder):
    settings = Settings(reps=500, curve_reps=50)
    summary = summarize(load_results(folder), settings)
    bold = {row[0].text: row[1].best for row in results_grid(summary).rows}
    assert bold == {"dqn": False, "scorer": True, "inverted": False}
    close = make_sweep(
        folder.parent / "close", curve=lambda run, steps: steps / 1e5 + run.config.seed + 0.01 * len(run.variant.name)
    )
    summary = summarize(load_results(close), settings)
    assert not any(cell.best for row in results_grid(summary).rows for cell in row)


def test_seeds_have_a_column_only_where_variants_differ_in_them(folder, tmp_path):
    settings = Settings(reps=500, curve_reps=50)
    assert "seeds" not in results_grid(summarize(load_results(folder), settings)).header
    fewer = make_sweep(
        tmp_path, {"seeds": 4, "tasks": ["minatar/breakout"]}, lanes=1,
        unfinished=lambda run: run.variant.name == "scorer" and run.config.seed == 0,
    )  # fmt: skip
    grid = results_grid(summarize(load_results(fewer), settings))
    assert grid.header[1] == "seeds"
    assert {row[0].text: row[1].text for row in grid.rows} == {"dqn": "4", "scorer": "3", "inverted": "4"}


def test_one_task_is_reported_in_returns(folder):
    summary = summarize(load_results(folder), Settings(reps=500, curve_reps=50))
    rows = list(csv.DictReader(tidy_csv(summary).splitlines()))
    assert "iqm_return" in {row["statistic"] for row in rows}
    assert not any("normalized" in row["statistic"] or "optimality" in row["statistic"] for row in rows)
    assert any(row["statistic"].startswith("steps_to_return_") for row in rows)


def test_provenance_is_inside_every_format(folder):
    report = make_report(folder, Settings(reps=200, curve_reps=50), figure="intervals")
    files = {path.suffix: path.read_bytes() for path in report.files}
    name = json.loads(files[".json"])["run_ids_hash"].encode()
    for suffix in (".pdf", ".svg", ".png"):
        assert name in files[suffix], suffix


def test_tasks_that_would_have_the_same_label_are_written_whole(tmp_path):
    folder = make_sweep(tmp_path, {"tasks": ["minatar/breakout", "gymnax/breakout", "minatar/space_invaders"]})
    header = results_grid(summarize(load_results(folder), Settings(reps=200, curve_reps=50))).header
    assert header[1:4] == ("minatar/breakout", "gymnax/breakout", "space invaders")
