"""What compiled environments promise a pack, whatever the game."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from scorer_core.envs import breakout
from scorer_core.envs.compiled import GAMES, CompiledEnvironments
from scorer_core.envs.interface import Step
from scorer_core.envs.rules import LEFT, PROTOCOLS, RIGHT
from scorer_core.noise import Stream, uniform

ROOT = Path(__file__).parents[3]
KERNELS = ("reset_one", "step_one")
GAMES_AND_PROTOCOLS = [(g, p) for g in GAMES for p in PROTOCOLS if (g, p) != ("seaquest", "gymnax")]
every_task = pytest.mark.parametrize(("game", "protocol"), GAMES_AND_PROTOCOLS)
every_game = pytest.mark.parametrize("game", GAMES)


def play(environments: CompiledEnvironments, actions: torch.Tensor) -> list[torch.Tensor]:
    """All that comes out of the steps, each as one [steps, P, N, ...] tensor."""
    steps: list[Step] = []
    for step_actions in actions:
        step = environments.step(step_actions)
        assert step.final_observation is None
        assert not step.truncated.any()
        copied = Step(step.observation.clone(), step.reward.clone(), step.terminated.clone(), step.truncated, None)
        steps.append(copied)
    parts = [(s.observation, s.reward, s.terminated) for s in steps]
    return [torch.stack(part) for part in zip(*parts, strict=True)]


def random_actions(environments: CompiledEnvironments, steps: int, lanes: int, num_envs: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, environments.num_actions, (steps, lanes, num_envs), generator=generator)


@every_task
def test_a_lane_plays_the_same_alone_and_at_any_place_of_a_pack_of_any_size(game: str, protocol: str) -> None:
    pack = CompiledEnvironments(game, protocol, torch.tensor([5, 6, 7, 8]), 6)
    first = pack.reset().clone()
    actions = random_actions(pack, 300, 4, 6)
    together = play(pack, actions)
    assert together[2].any() or game == "freeway"
    for places in ([2], [3, 2], [2, 1, 0]):
        other = CompiledEnvironments(game, protocol, torch.tensor([5, 6, 7, 8])[places], 6)
        torch.testing.assert_close(other.reset(), first[places], rtol=0, atol=0)
        for part, whole in zip(play(other, actions[:, places]), together, strict=True):
            torch.testing.assert_close(part, whole[:, places], rtol=0, atol=0)


@every_game
def test_an_environment_does_not_know_how_many_there_are(game: str) -> None:
    few = CompiledEnvironments(game, "minatar", torch.tensor([5]), 3)
    many = CompiledEnvironments(game, "minatar", torch.tensor([5]), 8)
    few.reset()
    many.reset()
    actions = random_actions(many, 200, 1, 8)
    for a, b in zip(play(few, actions[:, :, :3]), play(many, actions), strict=True):
        torch.testing.assert_close(a, b[:, :, :3], rtol=0, atol=0)


def test_lanes_of_other_seeds_play_other_games() -> None:
    pack = CompiledEnvironments("asterix", "minatar", torch.tensor([5, 6]), 6)
    pack.reset()
    actions = torch.zeros((100, 2, 6), dtype=torch.int64)
    observations = play(pack, actions)[0]
    assert not torch.equal(observations[:, 0], observations[:, 1])


@every_task
def test_restored_environments_go_on_bit_for_bit(game: str, protocol: str) -> None:
    environments = CompiledEnvironments(game, protocol, torch.tensor([1, 2]), 5)
    environments.reset()
    actions = random_actions(environments, 400, 2, 5)
    play(environments, actions[:150])
    saved = environments.state()
    expected = play(environments, actions[150:])
    fresh = CompiledEnvironments(game, protocol, torch.tensor([1, 2]), 5)
    for resumed in (environments, fresh):
        resumed.restore(saved)
        for part, whole in zip(play(resumed, actions[150:]), expected, strict=True):
            torch.testing.assert_close(part, whole, rtol=0, atol=0)


def test_an_action_sticks_when_its_chance_comes_and_what_sticks_is_saved() -> None:
    environments = CompiledEnvironments("breakout", "minatar", torch.tensor([1]), 1000)
    environments.reset()
    saved = [environments.state()]
    for chosen in (1, 2, 2):  # left, right, right
        environments.step(torch.full((1, 1000), chosen))
        saved.append(environments.state())
    stuck = [
        uniform(torch.tensor(1), step, Stream.ENVIRONMENT, (1000, breakout.DRAWS))[:, 0] < 0.1 for step in (1, 2, 3)
    ]
    expected = torch.zeros(1000, dtype=torch.int64)
    for now, sticks, meaning in zip(saved[1:], stuck, (LEFT, RIGHT, RIGHT), strict=True):
        expected = torch.where(sticks, expected, meaning)
        assert torch.equal(now["taken"][0], expected)
    assert stuck[0].sum() > 50
    fresh = CompiledEnvironments("breakout", "minatar", torch.tensor([1]), 1000)
    fresh.restore(saved[1])
    fresh.step(torch.full((1, 1000), 2))
    assert torch.equal(fresh.state()["taken"], saved[2]["taken"])


@every_game
def test_reset_starts_the_same_game_over(game: str) -> None:
    environments = CompiledEnvironments(game, "minatar", torch.tensor([1]), 5)
    actions = random_actions(environments, 100, 1, 5)
    first = [environments.reset().clone(), *play(environments, actions)]
    again = [environments.reset().clone(), *play(environments, actions)]
    for a, b in zip(first, again, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@every_game
def test_the_minimal_actions_are_the_packages(game: str) -> None:
    from minatar import Environment

    minimal = CompiledEnvironments(game, "minatar", torch.tensor([1]), 8)
    full = CompiledEnvironments(game, "minatar", torch.tensor([1]), 8, action_set="full")
    meanings = torch.tensor(Environment(game).minimal_action_set())
    assert minimal.num_actions == len(meanings)
    assert full.num_actions == 6
    torch.testing.assert_close(minimal.reset(), full.reset())
    actions = random_actions(minimal, 100, 1, 8)
    for a, b in zip(play(minimal, actions), play(full, meanings[actions]), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("pong", "minatar"), "unknown game 'pong'"),
        (("breakout", "atari"), "unknown protocol 'atari'"),
        (("seaquest", "gymnax"), "gymnax has no Seaquest"),
        (("breakout", "minatar", "some"), "unknown action set 'some'"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(arguments: tuple[str, ...], complaint: str) -> None:
    game, protocol, *action_set = arguments
    with pytest.raises(ValueError, match=complaint):
        CompiledEnvironments(game, protocol, torch.tensor([1]), 2, *action_set)


def test_cuda_kernels_play_the_same_games_in_the_simulator() -> None:
    """Without a GPU: the kernels' code and indexing, not what a GPU makes of them."""
    subprocess.run(
        [sys.executable, "-m", "tests.scorer_core.envs.simulate_cuda"],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        check=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("extra", ["cuda12", "cuda13"])
def test_with_either_extra_and_no_toolkit_the_kernels_are_linked_for_gpus_that_are_not_there(extra: str, tmp_path):
    """In a fresh environment: the compiler is the one that the extra has installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt"]
    subprocess.run([*pip, *project["optional-dependencies"][extra]], check=True)
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (packages / "zz-ours.pth").write_text(f"{Path(torch.__file__).parents[1]}\n{ROOT}\n")  # torch, and all but numba
    hidden = {"CUDA_HOME", "CUDA_PATH", "LD_LIBRARY_PATH", "CONDA_PREFIX", "PYTHONPATH"}
    done = subprocess.run(
        [python, "-m", "tests.scorer_core.envs.link_cubins"], cwd=tmp_path, capture_output=True, text=True,
        env={name: value for name, value in os.environ.items() if name not in hidden},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["target"] == "NVIDIA"
    for library in seen["libraries"].values():
        assert Path(library).is_relative_to(packages)
    gpus = ("7.5", "8.0", "9.0", "10.0")
    assert seen["bytes"].keys() == {f"{game} {what} {gpu}" for game in GAMES for what in KERNELS for gpu in gpus}


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


@needs_gpu
@every_task
def test_a_gpu_plays_the_cpus_games(game: str, protocol: str) -> None:
    seeds = torch.tensor([5, 6, 7])
    cpu = CompiledEnvironments(game, protocol, seeds, 50)
    gpu = CompiledEnvironments(game, protocol, seeds, 50, device="cuda")
    torch.testing.assert_close(gpu.reset().cpu(), cpu.reset())
    actions = random_actions(cpu, 1000, 3, 50)
    for a, b in zip(play(gpu, actions.cuda()), play(cpu, actions), strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=0, atol=0)


@needs_gpu
@every_game
def test_a_captured_graph_goes_on_with_the_game(game: str) -> None:
    eager = CompiledEnvironments(game, "minatar", torch.tensor([5]), 50, device="cuda")
    captured = CompiledEnvironments(game, "minatar", torch.tensor([5]), 50, device="cuda")
    actions = random_actions(eager, 200, 1, 50).cuda()
    eager.reset()
    captured.reset()
    current = actions[0].clone()
    captured.step(current)  # compiles the kernel
    captured.reset()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step = captured.step(current)
    for step_actions in actions:
        current.copy_(step_actions)
        graph.replay()
        expected = eager.step(step_actions)
        torch.testing.assert_close(step.observation, expected.observation, rtol=0, atol=0)
        torch.testing.assert_close(step.reward, expected.reward, rtol=0, atol=0)


FIRST_USE = """
import sys, time, torch
from scorer_core.envs.compiled import CompiledEnvironments
environments = CompiledEnvironments(sys.argv[1], "minatar", torch.tensor([1]), 4)
start = time.process_time()  # of this process alone, whatever else the machine does
environments.reset()
environments.step(torch.zeros((1, 4), dtype=torch.int64))
print(time.process_time() - start)
"""


def first_use_seconds(game: str, cache: str) -> float:
    command = [sys.executable, "-c", FIRST_USE, game]
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@every_game
def test_a_compiled_game_is_kept_for_the_next_process(game: str, tmp_path: object) -> None:
    compiling = first_use_seconds(game, str(tmp_path))
    loading = first_use_seconds(game, str(tmp_path))
    print(f"{game}: compiled in {compiling:.1f} s, loaded in {loading:.2f} s")
    assert loading < compiling / 2
    assert loading < compiling / 3
