"""The metrics of six short DQN runs, as they were when CPU code came from `native` (data/golden_dqn.json).

`python -m tests.scorer_core.test_golden` records them: only after a change that is meant to change every result.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from scorer_core.config import RunConfig
from scorer_core.metrics import METRICS
from scorer_core.pack import Pack

FILE = Path(__file__).parent.parent / "data" / "golden_dqn.json"
SMALL: dict[str, Any] = {
    "task": "minatar/breakout", "num_envs": 8, "update_every": 8, "total_steps": 1_600, "learning_starts": 100,
    "batch_size": 16, "replay_size": 1_000, "log_points": 10, "phi_widths": (32, 24), "theta_widths": (16,),
    "target_every": 400, "epsilon_steps": 800, "leader_lr": 1e-3, "follower_lr": 2e-3,
}  # fmt: skip
RUNS: dict[str, list[dict[str, Any]]] = {
    "scorer": [{"seed": 0}, {"seed": 1, "gamma": 0.9, "follower_weight": 0.5}],
    "inverted dueling": [{"coupling": "inverted", "algorithm": "dueling_dqn", "task": "gymnax/asterix"}],
    "synchronous double": [
        {"coupling": "synchronous", "algorithm": "ddqn", "double_features": "online", "activation": "tanh"}
    ],
    "monolithic CartPole": [
        {"coupling": "monolithic", "task": "CartPole-v1", "normalise_input": False, "normalise_features": False}
    ],
    "two rates, dueling double": [
        {
            "coupling": "monolithic_two_rates", "algorithm": "dueling_ddqn", "dueling_head": "shared",
            "schedule": "polynomial", "decay_rounds": 50.0,
        }
    ],
    "scorer with everything else": [
        {
            "network": "cnn", "order": "leader_first", "batches": "shared", "follower_steps": 2, "lr_end": 0.1,
            "leader_penalty": "srank", "leader_penalty_weight": 0.1, "follower_objective": "norm",
            "follower_weight": 0.5,
        }
    ],
}  # fmt: skip


def logged(name: str) -> dict[str, list[list[str]]]:
    """The values [rows][lanes] of each metric, in hexadecimal, so that equal values are equal bit for bit."""
    pack = Pack([RunConfig(**SMALL | settings) for settings in RUNS[name]], torch.device("cpu"))
    rows = []
    while not pack.finished:
        pack.step()
        if pack.log_is_due:
            rows.append(pack.log(steps_per_second=0.0))
    return {metric: [[value.hex() for value in row[metric].to_pylist()] for row in rows] for metric in METRICS}


def processor() -> str:
    """What decides the last bits of a matrix product."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}"


@pytest.mark.parametrize("name", RUNS)
def test_the_results_of_dqn_are_those_of_the_version_before_bit_for_bit(name):
    golden = json.loads(FILE.read_text())
    now, before = logged(name), golden["runs"][name]
    if processor() == golden["processor"]:
        assert now == before
        return
    # Another processor rounds matrix products differently. Until actions differ, the values are close.
    for metric in ("td_error", "msbe", "be_variance", "leader_loss", "follower_loss", "leader_grad_norm"):
        first, expected = ([float.fromhex(value) for value in values[metric][0]] for values in (now, before))
        assert first == pytest.approx(expected, rel=1e-3, abs=1e-5, nan_ok=True), metric


if __name__ == "__main__":
    torch.set_num_threads(1)  # as in a test
    FILE.write_text(json.dumps({"processor": processor(), "runs": {name: logged(name) for name in RUNS}}) + "\n")
