"""How often each verdict on a run is wrong, on simulated runs of known type: `python -m tools.verdict_rates`.

It writes the tables in docs/verdicts.md.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import scipy.signal

from scorer_core.config import RunConfig
from scorer_core.verdicts import PROBE, verdicts
from tools.page import DOCS, replace_generated

PAGE = DOCS / "verdicts.md"
PART = "rates"  # of the page
ROWS = (10, 100, 1000)
RUNS = 1000  # simulated of each type, for each number of rows

Columns = dict[str, np.ndarray]
Settings = dict[str, object]


@dataclass(frozen=True)
class Kind:
    """A type of run: what it changes of a healthy run's columns, and of the settings."""

    verdict: str
    faulty: bool  # does it deserve the verdict?
    name: str
    columns: Callable[[np.random.Generator, np.ndarray], Columns]  # of the time of each row, from 0 to 1
    settings: Mapping[str, object] = field(default_factory=dict)


def correlated(rng: np.random.Generator, rows: int, phi: float) -> np.ndarray:
    """A stationary AR(1) series of variance 1."""
    shocks = np.sqrt(1 - phi**2) * rng.normal(size=rows)
    shocks[0] /= np.sqrt(1 - phi**2)
    return np.asarray(scipy.signal.lfilter([1.0], [1.0, -phi], shocks))


def returns(values: np.ndarray) -> Columns:
    return {"return": values}


def msbe(t: np.ndarray, logarithm: np.ndarray) -> Columns:
    return {"msbe": 0.2 * np.exp(logarithm - t)}


def wave(rng: np.random.Generator, t: np.ndarray) -> np.ndarray:
    """Of amplitude 1; a period takes between 2 % and 20 % of training."""
    return np.sin(2 * np.pi * (t / rng.uniform(0.02, 0.2) + rng.random()))


def srank_of(rng: np.random.Generator, size: int, share: float, noise: float) -> float:
    """The srank of features [PROBE, size] that use this share of the directions the probe can show.

    The singular values of the others are `noise` of the largest.
    """
    most = min(size, PROBE)
    used = max(1, round(share * most))
    sigma = np.concatenate([np.exp(-rng.exponential(1.0, used)), np.full(most - used, noise)])
    sigma = np.sort(sigma)[::-1]
    return float((np.cumsum(sigma) / sigma.sum() < 0.99).sum() + 1)


def sranks(size: int, low: float, high: float, noise: float) -> Callable[[np.random.Generator, np.ndarray], Columns]:
    """Of a run that uses a share of the directions between `low` and `high`."""

    def columns(rng: np.random.Generator, t: np.ndarray) -> Columns:
        share = rng.uniform(low, high)
        read = np.array([srank_of(rng, size, share, noise) for _ in range(10)])
        return {"srank": np.resize(read, len(t))}

    return columns


def values(t: np.ndarray, of_return: np.ndarray, q_max: np.ndarray, steps_per_episode: float) -> Columns:
    return {"return": of_return, "q_max": q_max, "episodes": t * 10**7 / steps_per_episode}


def growing(rng: np.random.Generator, t: np.ndarray) -> np.ndarray:
    """From 1 to between 1e4 and 1e8, exponentially."""
    return np.exp(t * np.log(10) * rng.uniform(4, 8))


EARLY: Settings = {"total_steps": 10**8, "epsilon_steps": 50_000}  # with up to 1000 rows the first comes after this
LONG: Settings = {"total_steps": 10**7}

KINDS = [
    Kind(
        "stalled",
        False,
        "learns: from 0 to 10, noise 0.5",
        lambda rng, t: returns(10 * (1 - np.exp(-4 * t)) + 0.5 * correlated(rng, len(t), 0.5)),
    ),
    Kind(
        "stalled",
        False,
        "learns with much noise: from 0 to 10, noise 2, AR(1) 0.7",
        lambda rng, t: returns(10 * (1 - np.exp(-4 * t)) + 2 * correlated(rng, len(t), 0.7)),
    ),
    Kind(
        "stalled",
        False,
        "learns slowly: steadily from 0 to 4, noise 1",
        lambda rng, t: returns(4 * t + correlated(rng, len(t), 0.5)),
    ),
    Kind(
        "stalled",
        False,
        "plateau: 10 from 30 % of training on, noise 1",
        lambda rng, t: returns(10 * np.minimum(t / 0.3, 1) + correlated(rng, len(t), 0.5)),
    ),
    Kind(
        "stalled",
        False,
        "learns suddenly, between 20 and 90 % of training",
        lambda rng, t: returns(10 * (t > rng.uniform(0.2, 0.9)) + 0.5 * correlated(rng, len(t), 0.5)),
    ),
    Kind(
        "stalled",
        False,
        "learns, negative returns: from -200 to -110, noise 5; no value in the first 10 %",
        lambda rng, t: returns(
            np.where(
                (t <= 0.1) & (len(t) > 10), np.nan, -200 + 90 * (1 - np.exp(-4 * t)) + 5 * correlated(rng, len(t), 0.5)
            )
        ),
    ),
    Kind(
        "stalled",
        False,
        "solved from the first row: always 500",
        lambda _, t: returns(np.full(len(t), 500.0)),
        {"task": "CartPole-v1"},
    ),
    Kind(
        "stalled",
        False,
        "solved from the first row: 490, noise 8, at most 500",
        lambda rng, t: returns(np.minimum(500, 490 + 8 * correlated(rng, len(t), 0.5))),
        {"task": "CartPole-v1"},
    ),
    Kind(
        "stalled",
        False,
        "good from the first row, which comes after exploration: 10, noise 1",
        lambda rng, t: returns(10 + correlated(rng, len(t), 0.5)),
        EARLY,
    ),
    Kind(
        "stalled",
        False,
        "the same on a task whose random policy is unknown: -110, noise 5",
        lambda rng, t: returns(-110 + 5 * correlated(rng, len(t), 0.5)),
        {"task": "MountainCar-v0", **EARLY},
    ),
    Kind(
        "stalled",
        False,
        "learns within the first 1 % of training, then 10, noise 1",
        lambda rng, t: returns(10 * np.minimum(t / 0.01, 1) + correlated(rng, len(t), 0.5)),
        {"total_steps": 10**8},
    ),
    Kind(
        "stalled", True, "does not learn: independent rows", lambda rng, t: returns(1 + 0.3 * rng.normal(size=len(t)))
    ),
    Kind("stalled", True, "does not learn: AR(1) 0.5", lambda rng, t: returns(1 + 0.3 * correlated(rng, len(t), 0.5))),
    Kind("stalled", True, "does not learn: AR(1) 0.9", lambda rng, t: returns(1 + 0.3 * correlated(rng, len(t), 0.9))),
    Kind(
        "stalled",
        True,
        "does not learn: correlation time 5 % of training",
        lambda rng, t: returns(1 + 0.3 * correlated(rng, len(t), float(np.exp(-20 / len(t))))),
    ),
    Kind(
        "stalled",
        True,
        "does not learn: always -200",
        lambda _, t: returns(np.full(len(t), -200.0)),
        {"task": "MountainCar-v0"},
    ),
    Kind(
        "stalled",
        True,
        "does not learn, first row after exploration: 0.38, as a random policy",
        lambda rng, t: returns(0.38 + 0.05 * correlated(rng, len(t), 0.5)),
        EARLY,
    ),
    Kind(
        "stalled",
        True,
        "unlearns: from 10 to 0, noise 1",
        lambda rng, t: returns(10 - 10 * t + correlated(rng, len(t), 0.5)),
    ),
    Kind("oscillating", False, "falls, noise of 30 %", lambda rng, t: msbe(t, 0.3 * rng.normal(size=len(t)))),
    Kind(
        "oscillating",
        False,
        "falls, noise of 30 %, AR(1) 0.9",
        lambda rng, t: msbe(t, 0.3 * correlated(rng, len(t), 0.9)),
    ),
    Kind(
        "oscillating",
        False,
        "rises tenfold with the returns, noise of 30 %",
        lambda rng, t: msbe(t, 2.3 * t + 0.3 * rng.normal(size=len(t))),
    ),
    Kind(
        "oscillating",
        False,
        "jumps once, threefold, noise of 30 %",
        lambda rng, t: msbe(t, 1.1 * (t > rng.uniform(0.5, 1)) + 0.3 * rng.normal(size=len(t))),
    ),
    Kind(
        "oscillating",
        False,
        "jumps once, tenfold, noise of 30 %",
        lambda rng, t: msbe(t, 2.3 * (t > rng.uniform(0.5, 1)) + 0.3 * rng.normal(size=len(t))),
    ),
    Kind(
        "oscillating",
        False,
        "spikes: tenfold in 2 % of the rows, noise of 30 %",
        lambda rng, t: msbe(t, 2.3 * (rng.random(len(t)) < 0.02) + 0.3 * rng.normal(size=len(t))),
    ),
    Kind(
        "oscillating",
        True,
        "swings by a factor of 3 up and down, noise of 30 %",
        lambda rng, t: msbe(t, np.log(3) * wave(rng, t) + 0.3 * rng.normal(size=len(t))),
    ),
    Kind(
        "oscillating",
        True,
        "swings by a factor of 4 up and down, noise of 30 %",
        lambda rng, t: msbe(t, np.log(4) * wave(rng, t) + 0.3 * rng.normal(size=len(t))),
    ),
    Kind(
        "oscillating",
        True,
        "jumps between two levels, a factor of 3 up and down",
        lambda rng, t: msbe(t, np.log(3) * np.sign(wave(rng, t)) + 0.3 * rng.normal(size=len(t))),
    ),
    *(
        Kind("collapsed", faulty, f"{name}, {size} features", sranks(size, *shares), {"phi_widths": (size,)})
        for size in (128, 512, 4096)
        for faulty, name, *shares in (
            (False, "uses 20 to 100 % of the directions", 0.2, 1.0, 1e-4),
            (True, "uses 1 to 5 % of the directions, the others have 1e-06 of the largest", 0.01, 0.05, 1e-6),
            (True, "uses 1 to 5 % of the directions, the others have 0.0001 of the largest", 0.01, 0.05, 1e-4),
        )
    ),
    Kind(
        "collapsed",
        False,
        "0 to 45 % of the units dormant",
        lambda rng, t: {"dormant": rng.uniform(0, 0.45) + 0.03 * rng.normal(size=len(t))},
    ),
    Kind(
        "collapsed",
        True,
        "55 to 100 % of the units dormant",
        lambda rng, t: {"dormant": rng.uniform(0.55, 1) + 0.03 * rng.normal(size=len(t))},
    ),
    Kind(
        "diverged",
        False,
        "returns of 10, values up to three times too high",
        lambda rng, t: values(t, 10 * t, 10 * t * rng.uniform(1, 3), 100),
        LONG,
    ),
    Kind(
        "diverged",
        False,
        "-1 per step, cut off at 200 steps, gamma 0.99",
        lambda rng, t: values(t, np.full(len(t), -200.0), -100 * rng.uniform(0.3, 2) * t, 200),
        LONG,
    ),
    Kind(
        "diverged",
        False,
        "-1 per step, cut off at 200 steps, gamma 0.9999",
        lambda rng, t: values(t, np.full(len(t), -200.0), -10_000 * rng.uniform(0.3, 1.5) * t, 200),
        {"gamma": 0.9999, **LONG},
    ),
    Kind(
        "diverged",
        False,
        "1 per step, cut off at 500 steps, gamma 0.9999",
        lambda rng, t: values(t, 500 * t, 10_000 * rng.uniform(0.3, 1.5) * t, 500),
        {"gamma": 0.9999, **LONG},
    ),
    Kind(
        "diverged",
        False,
        "no reward yet, values up to 5",
        lambda rng, t: values(t, np.zeros(len(t)), rng.uniform(0, 5) * t, 300),
        LONG,
    ),
    Kind(
        "diverged",
        False,
        "no episode has ended, 1 per step",
        lambda _, t: values(t, np.full(len(t), np.nan), 100 * t, np.inf),
        LONG,
    ),
    Kind(
        "diverged",
        True,
        "returns of 10, values grow to between 1e4 and 1e8",
        lambda rng, t: values(t, 10 * t, growing(rng, t), 100),
        LONG,
    ),
    Kind(
        "diverged",
        True,
        "-1 per step, cut off at 200 steps, values fall to between -1e4 and -1e8",
        lambda rng, t: values(t, np.full(len(t), -200.0), -growing(rng, t), 200),
        LONG,
    ),
    Kind(
        "diverged",
        True,
        "no reward yet, values grow to between 1e4 and 1e8",
        lambda rng, t: values(t, np.zeros(len(t)), growing(rng, t), 300),
        LONG,
    ),
    Kind(
        "diverged",
        True,
        "something is not finite in the last 5 % of the rows",
        lambda _, t: {"diverged": t > min(0.95, t[-2])},
        LONG,
    ),
]


def simulate(rng: np.random.Generator, of: Kind, rows: int) -> bool:
    """Does one simulated run of this type earn its verdict?"""
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
    """The share of wrong verdicts: given to a healthy type, or not given to a faulty one."""
    rng = np.random.default_rng([KINDS.index(of), rows])
    given = np.mean([simulate(rng, of, rows) for _ in range(runs)])
    return float(1 - given if of.faulty else given)


def tables(runs: int = RUNS) -> str:
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
    """Simulate, and replace the tables in `page`."""
    text = tables(runs)
    replace_generated(page, PART, text)
    return text


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(write())
