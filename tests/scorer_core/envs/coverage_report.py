"""Branch coverage of the games, by the exactness test on their plain Python form.

Run as `python -m tests.scorer_core.envs.coverage_report`; exits with an error below 100 %.
"""

import os
import subprocess
import sys

import numpy as np
import torch

RANDOM = {"environments": 10, "steps": 1500}
SCRIPTED = {"environments": 4, "steps": 4000}


def play() -> None:
    """In the process that coverage watches."""
    from scorer_core.envs.compiled import GAMES, CompiledEnvironments
    from tests.scorer_core.envs.players import scripted_actions
    from tests.scorer_core.envs.test_exactness import compare

    np.seterr(over="ignore")  # the generator's integers wrap
    for game in GAMES:
        print(game, compare(game, **RANDOM, scripted=False), compare(game, **SCRIPTED, scripted=True), flush=True)
        if game == "seaquest":
            refuse(game)
            continue
        environments = CompiledEnvironments(game, "gymnax", torch.tensor([1]), 4, action_set="full")
        environments.reset()
        random = np.random.default_rng(1)
        for _ in range(2600):
            actions = scripted_actions(game, environments.state()["states"][0].numpy(), random)
            environments.step(torch.from_numpy(actions)[None])


def refuse(game: str) -> None:
    from scorer_core.envs.rules import rules_of

    for protocol in ("gymnax", "atari"):
        try:
            rules_of(game, protocol)
        except ValueError as refusal:
            print(refusal)


def main() -> int:
    coverage = [sys.executable, "-m", "coverage"]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    watched = [*coverage, "run", "--branch", "--include=scorer_core/envs/*", "-m", __spec__.name, "play"]
    subprocess.run(watched, env=environment, check=True)
    report = [*coverage, "report", "--show-missing", "--fail-under=100"]
    return subprocess.run(
        [*report, "--omit=scorer_core/envs/compiled.py,scorer_core/envs/__init__.py"], check=False
    ).returncode


if __name__ == "__main__":
    if sys.argv[1:] == ["play"]:
        play()
    else:
        sys.exit(main())
