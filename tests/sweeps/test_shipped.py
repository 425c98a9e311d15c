"""Every shipped sweep expands, states its cost, and trains two packs of a shrunken version."""

import re

import pytest
import torch

from scorer_core.records import PackFolder
from scorer_core.train import train
from sweeps.loading import SHIPPED, load, shipped
from sweeps.plan import make_plan

SHRINK = [
    "total_steps=240", "seeds=2", "base.num_envs=8", "base.update_every=8", "base.replay_size=320", "base.batch_size=8",
    "base.learning_starts=64", "base.phi_widths=[12]", "base.theta_widths=[8]", "base.log_points=4",
]  # fmt: skip
ASKED_FOR = {
    "leader_regularisation", "objective", "order_and_batches", "paper_minatar", "quickstart", "ratio", "roles",
    "timescale",
}  # fmt: skip


def test_the_sweeps_that_were_asked_for_are_shipped():
    assert set(shipped()) >= ASKED_FOR


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_sweep_says_what_the_paper_found_and_its_cost_as_planned(name, tmp_path):
    sweep = load(name)
    plan = make_plan(sweep, tmp_path, processes=1)
    assert sweep.paper
    price = re.search(r"# Cost: ([\d,]+) runs, ([\d,]+) environment steps, about ([\d.,]+) h on one core",
                      (SHIPPED / f"{name}.yaml").read_text())  # fmt: skip
    assert price, f"{name}.yaml states no cost"
    runs, steps, hours = (float(number.replace(",", "")) for number in price.groups())
    assert runs == len(plan.run_ids)
    assert steps == sum(pack.env_steps for pack in plan.packs)
    assert 1 / 4 < plan.seconds / 3600 / hours < 4


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("name", shipped())
def test_a_shipped_sweep_trains_when_shrunken(name, tmp_path):
    plan = make_plan(load(name, SHRINK), tmp_path)
    plan.write()
    shapes = {pack.configs[0].shape_id: pack for pack in plan.packs}
    for pack in [*shapes.values()][:: max(1, len(shapes) - 1)][:2]:
        folder = PackFolder(pack.folder.path)
        assert train(folder, torch.device("cpu"), 60.0, lambda: False)
        assert {entry["status"] for entry in folder.done().values()} == {"done"}
    assert make_plan(load(name, SHRINK), tmp_path).missing < plan.missing


def test_ratio_moves_one_rate_at_a_time():
    by_name = {run.variant.name: run.config for run in load("ratio").runs}
    for ratio in (0.2, 0.5, 1, 2, 5, 10, 20, 50):
        leader, follower = by_name[f"leader-fixed ratio={ratio:g}"], by_name[f"follower-fixed ratio={ratio:g}"]
        assert (leader.leader_lr, leader.ratio) == (1e-4, ratio)
        assert (follower.follower_lr, follower.ratio) == (5e-4, ratio)


def test_paper_minatar_has_the_paper_s_numbers_for_every_cell():
    sweep = load("paper_minatar")
    table = sweep.reported["Table 1"]
    assert set(table) == {variant.name for variant in sweep.grid_variants}
    assert all(set(tasks) == set(sweep.tasks) for tasks in table.values())
    assert table["scorer algorithm=ddqn"]["gymnax/breakout"] == (64.44, 2.48)
    assert {(run.config.total_steps, len(sweep.seeds)) for run in sweep.runs} == {(10**8, 30)}
