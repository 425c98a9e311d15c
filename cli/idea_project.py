"""The files that `scorer new idea` writes."""

import keyword
import re
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from scorer_core.registry import FOLLOWER_OBJECTIVES

PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

# scorer itself is not a dependency: install it from its clone.
[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.11"

# A definition may use the name on the left for the function on the right.
[project.entry-points."scorer.plugins"]
{name} = "{name}.objective:{name}"

[tool.setuptools.packages.find]
where = ["src"]
"""

README = """\
# {name}: an idea for the follower's objective

    pip install -e {name}
    scorer run {name}/sweep.yaml

The idea is the function in `src/{name}/objective.py`. `sweep.yaml` compares it with the objectives of scorer. If you
edit the function, its runs are new runs, and `scorer plan {name}/sweep.yaml` shows which ones are stale.

`pytest {name}` runs the test.
"""

SWEEP = """\
# The idea against the built-in objectives of the follower. For a result, use more seeds, tasks and steps.
name: {name}
question: Does {name} score higher than the variance as the follower's objective?
tasks: [minatar/breakout]
total_steps: 100_000
seeds: 3
base:
  preset: paper_minatar
  num_envs: 32
  update_every: 32
  replay_size: 50_000
  learning_starts: 1_000
  epsilon_steps: 30_000
  target_every: 1_000
  leader_lr: 3e-4
  ratio: 5
baseline: variance
variants:
  variance: {{follower_objective: variance}}
  msbe: {{follower_objective: msbe}}
  norm: {{follower_objective: norm}}
  {name}: {{follower_objective: {name}}}
"""

OBJECTIVE = '''\
"""An objective for the follower. It computes for ONE run; scorer applies it to all runs of a pack."""

import torch

from scorer_core import objectives


def {name}(delta, z, weight):
    """The lower semivariance: only TD errors below their mean count.

    Args:
        delta: TD errors [B].
        z: features [B, D].
        weight: the weight of each TD error [B], or None if all are equal.

    Returns:
        The loss [], which the follower minimizes. It must not depend on values by `if` or `.item()`.
    """
    below = torch.relu(objectives.mean(delta, weight) - delta)
    return objectives.mean(below * below, weight)
'''

TEST = """\
import torch

from {name}.objective import {name}

DELTA, FEATURES = torch.tensor([-3.0, 1.0, 2.0]), torch.zeros(3, 2)


def test_only_errors_below_the_mean_count():
    assert {name}(DELTA, FEATURES, None) == 9 / 3


def test_a_weight_counts_as_several_equal_errors():
    weight = torch.tensor([1.0, 2.0, 1.0])
    repeated = torch.tensor([-3.0, 1.0, 1.0, 2.0])
    torch.testing.assert_close({name}(DELTA, FEATURES, weight), {name}(repeated, torch.zeros(4, 2), None))


def test_it_can_be_applied_to_many_runs_at_once():
    runs = torch.stack([DELTA, DELTA + 5])
    torch.testing.assert_close(
        torch.vmap({name}, in_dims=(0, 0, None))(runs, torch.zeros(2, 3, 2), None), torch.tensor([3.0, 3.0])
    )
"""


OF_SCORER = {"analysis", "cli", "objectives", "scorer", "scorer_core", "slurm", "sweeps", "tests"}
NO_TEXT = {"true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf", "infinity"}  # in YAML or Python


def files(name: str) -> dict[Path, str]:
    """The content of each file of the project `name`, by its path in the project."""
    contents = {
        "pyproject.toml": PYPROJECT,
        "README.md": README,
        "sweep.yaml": SWEEP,
        f"src/{name}/__init__.py": "",
        f"src/{name}/objective.py": OBJECTIVE,
        "tests/test_objective.py": TEST,
    }
    return {Path(path): content.format(name=name) for path, content in contents.items()}


def fault_of_name(name: str) -> str:
    """Why `name` cannot be that of a package, a function and an objective; "" if it can."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or keyword.iskeyword(name):
        return "is not a name for a Python package: use lower-case letters, digits and _, and begin with a letter"
    if name in OF_SCORER | NO_TEXT:
        return "means something else in a definition or in scorer; choose another name"
    if name in {*FOLLOWER_OBJECTIVES, "msbe"}:
        return "is an objective of scorer; choose another name"
    spec = PathFinder.find_spec(name)
    if name in sys.stdlib_module_names or name in sys.builtin_module_names or (spec is not None and spec.has_location):
        return "is a Python module that exists already; choose another name"
    return ""
