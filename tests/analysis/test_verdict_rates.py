import numpy as np
import pytest

from scorer_core.verdicts import MEANINGS
from tools.page import generated, marks
from tools.simulated_runs import KINDS, Kind
from tools.verdict_rates import PAGE, PART, ROWS, rate, write


def published() -> dict[tuple[str, bool, str], list[float]]:
    """(verdict, faulty, name) -> the rate of wrong verdicts in the docs, by number of rows."""
    found: dict[tuple[str, bool, str], list[float]] = {}
    verdict = ""
    for line in generated(PAGE, PART).splitlines():
        if line.startswith("### "):
            verdict = line.removeprefix("### ").lower()
        elif line.startswith(("| wrongly given: ", "| missed: ")):
            name, *rates = (cell.strip() for cell in line.strip("|").split("|"))
            title, _, kind = name.partition(": ")
            found[verdict, title == "missed", kind] = [float(cell.rstrip(" %")) / 100 for cell in rates]
    return found


def test_the_docs_hold_the_rates_of_every_kind_of_run():
    assert set(published()) == {(of.verdict, of.faulty, of.name) for of in KINDS}
    assert {of.verdict for of in KINDS} == set(MEANINGS)


@pytest.mark.parametrize("of", KINDS, ids=lambda of: f"{of.verdict}: {of.name}")
def test_a_small_simulation_agrees_with_the_docs(of: Kind):
    rates = published()[of.verdict, of.faulty, of.name]
    for rows, share in zip(ROWS[:2], rates, strict=False):
        assert rate(of, rows, 40) == pytest.approx(share, abs=4 * np.sqrt(max(share * (1 - share), 0.01) / 40))


def test_with_100_rows_verdicts_are_seldom_wrong():
    """But for runs that hardly differ from the other type, and for what an srank cannot show."""
    hard = ("learns with much noise", "learns slowly", "does not learn: AR(1) 0.9", "swings by a factor of 3", "0.0001")
    for (_, _, name), rates in published().items():
        assert rates[ROWS.index(100)] <= 0.05 or any(part in name for part in hard), name


def test_writing_replaces_the_tables(tmp_path):
    page = tmp_path / "page.md"
    begin, end = marks(PART)
    page.write_text(f"before\n{begin}stale\n{end}after\n")
    text = write(page, runs=1)
    assert page.read_text() == f"before\n{begin}{text}{end}after\n"
