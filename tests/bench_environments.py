"""Environment steps a second, observation included, against the minatar package, on one core side by side.

Run as `python -m tests.bench_environments [--json PATH]`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from minatar import Environment

from scorer_core.envs.compiled import GAMES, CompiledEnvironments

NUM_ENVS = 4096
# A round of either side lasts a tenth of a second, or one pays for finding the other's data in the caches: 7 % of 20 ms
# of Seaquest, whose environments take most memory.
OUR_STEPS = 1000  # of all environments, a round
THEIR_STEPS = 20_000  # a round
DISTINCT_ACTIONS = 200  # steps' worth
ROUNDS = 7

COMPILE = """
import sys, time, torch
from scorer_core.envs.compiled import CompiledEnvironments
environments = CompiledEnvironments(sys.argv[1], "minatar", torch.tensor([1]), 4)
start = time.process_time()
environments.reset()
environments.step(torch.zeros((1, 4), dtype=torch.int64))
print(time.process_time() - start)
"""


def compile_seconds(game: str) -> float:
    """First use by a process that finds nothing compiled."""
    with tempfile.TemporaryDirectory() as empty:
        command = [sys.executable, "-c", COMPILE, game]
        environment = {**os.environ, "NUMBA_CACHE_DIR": empty}
        return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def our_round(game: str) -> Callable[[], None]:
    environments = CompiledEnvironments(game, "minatar", torch.tensor([1]), NUM_ENVS)
    environments.reset()
    actions = torch.randint(0, environments.num_actions, (DISTINCT_ACTIONS, 1, NUM_ENVS)).unbind()
    actions *= OUR_STEPS // DISTINCT_ACTIONS

    def play() -> None:
        for step_actions in actions:
            environments.step(step_actions)

    play()  # after which the environments are at all ages
    return play


def their_round(game: str) -> Callable[[], None]:
    environment = Environment(game)
    environment.seed(1)
    environment.reset()
    actions = np.random.default_rng(1).choice(environment.minimal_action_set(), THEIR_STEPS).tolist()

    def play() -> None:
        for action in actions:
            _, over = environment.act(action)
            environment.state()
            if over:
                environment.reset()

    return play


def bench_environments(games: tuple[str, ...] = tuple(GAMES)) -> dict[str, dict[str, float]]:
    """Medians over rounds that take turns, so that both sides meet the same machine; the ratio is a round's, too."""
    torch.set_num_threads(1)
    results = {}
    for game in games:
        ours, theirs = our_round(game), their_round(game)
        rounds = [(OUR_STEPS * NUM_ENVS / seconds(ours), THEIR_STEPS / seconds(theirs)) for _ in range(ROUNDS)]
        results[game] = {
            "package_steps_per_second": statistics.median(their for _, their in rounds),
            "steps_per_second": statistics.median(our for our, _ in rounds),
            "ratio": statistics.median(our / their for our, their in rounds),
            "compile_seconds": compile_seconds(game),
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    path = parser.parse_args().json
    results = bench_environments()
    print(f"{'game':<16}{'package steps/s':>17}{'steps/s':>14}{'ratio':>8}{'compile s':>11}")
    for game, r in results.items():
        print(
            f"{game:<16}{r['package_steps_per_second']:>17,.0f}{r['steps_per_second']:>14,.0f}"
            f"{r['ratio']:>8.0f}{r['compile_seconds']:>11.1f}"
        )
    if path:
        path.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
