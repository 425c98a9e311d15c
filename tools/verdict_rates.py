"""Measure how often each verdict on a run is wrong, on simulated runs of known type (simulated_runs.py).

`python -m tools.verdict_rates` writes the tables in docs/verdicts.md.
"""

import argparse
from pathlib import Path

import numpy as np

from scorer_core.config import RunConfig
from scorer_core.verdicts import verdicts
from tools.page import DOCS, replace_generated
from tools.simulated_runs import KINDS, Columns, Kind

PAGE = DOCS / "verdicts.md"
PART = "rates"  # of the page
ROWS = (10, 100, 1000)
RUNS = 1000  # simulated runs of each type and number of rows


def simulate(rng: np.random.Generator, of: Kind, rows: int) -> bool:
    """Whether one simulated run of this type gets its verdict."""
    config = RunConfig(**({"task": "minatar/breakout", "total_steps": 100_000, "num_envs": 10} | dict(of.settings)))  # pyright: ignore[reportArgumentType]
    t = np.arange(1, rows + 1) / rows
    healthy: Columns = {
        "step": (t * config.total_steps).astype(np.int64),
        "episodes": np.maximum(1000 * t, config.num_envs),
        "return": 10 * t,
        "msbe": 0.2 * np.exp(-t),
        "srank": np.full(rows, 110.0),
        "dormant": np.full(rows, 0.02),
        "q_max": 5 * t,
        "diverged": np.zeros(rows, bool),
    }
    return of.verdict in verdicts(healthy | of.columns(rng, t), config)


def rate(of: Kind, rows: int, runs: int) -> float:
    """The fraction of wrong verdicts: given to a healthy run, or not given to a faulty one."""
    rng = np.random.default_rng([KINDS.index(of), rows])
    given = np.mean([simulate(rng, of, rows) for _ in range(runs)])
    return float(1 - given if of.faulty else given)


def tables(runs: int = RUNS) -> str:
    """The Markdown tables of all rates."""
    lines = []
    for verdict in dict.fromkeys(of.verdict for of in KINDS):
        lines += [f"### {verdict.capitalize()}\n", f"| run | {' | '.join(f'{rows} rows' for rows in ROWS)} |"]
        lines += ["| --- |" + " ---: |" * len(ROWS)]
        for faulty, title in ((False, "wrongly given"), (True, "missed")):
            for of in KINDS:
                if (of.verdict, of.faulty) == (verdict, faulty):
                    rates = " | ".join(f"{100 * rate(of, rows, runs):.1f} %" for rows in ROWS)
                    lines.append(f"| {title}: {of.name} | {rates} |")
        lines.append("")
    return "\n".join([*lines, f"{runs:,} simulated runs per rate.\n"])


def write(page: Path = PAGE, runs: int = RUNS) -> str:
    """Simulate and replace the tables in `page`; returns the tables."""
    text = tables(runs)
    replace_generated(page, PART, text)
    return text


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(write())
