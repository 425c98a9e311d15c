"""Where gymnax 0.0.9 differs from the package, difference by difference."""

from collections.abc import Callable

import pytest
import torch

from scorer_core.envs import asterix, breakout, space_invaders
from scorer_core.envs.compiled import CompiledEnvironments
from scorer_core.envs.rules import DOWN, FIRE, LEFT, NO_OP, RIGHT, UP
from tests.scorer_core.envs.players import PLAYERS

N = 4000
SIMILAR = 5 / N**0.5  # five standard deviations of a frequency, and more


def made(game: str, protocol: str, num_envs: int = N) -> CompiledEnvironments:
    environments = CompiledEnvironments(game, protocol, torch.tensor([9]), num_envs, action_set="full")
    environments.reset()
    return environments


def arrange(environments: CompiledEnvironments, change: Callable[[torch.Tensor], None]) -> None:
    """Change the games' states, [N, STATE_SIZE], in place."""
    state = environments.state()
    change(state["states"][0])
    environments.restore(state)


def states_after(environments: CompiledEnvironments, action: int) -> torch.Tensor:
    environments.step(torch.full((1, N), action))
    return environments.state()["states"][0]


@pytest.mark.parametrize(("protocol", "repeated"), [("gymnax", 0.0), ("minatar", 0.1)])
def test_actions_stick_in_the_package_only(protocol: str, repeated: float) -> None:
    environments = made("breakout", protocol)
    paddle = states_after(environments, LEFT)[:, breakout.PADDLE_X]
    stayed = (paddle == 4).double().mean().item()
    assert stayed == pytest.approx(repeated, abs=0 if repeated == 0 else SIMILAR)


def harmless(game: str) -> Callable[[torch.Tensor], None]:
    """Holds back what could end an episode before its time."""

    def change(states: torch.Tensor) -> None:
        if game == "asterix":
            states[:, asterix.SPAWN_TIMER] = 5
        elif game == "breakout":
            states[:, breakout.BALL_Y] = 5
        else:
            states[:, space_invaders.MARCH_TIMER] = states[:, space_invaders.ALIEN_SHOT_TIMER] = 5

    return change


def ends_of_harmless_games(game: str, protocol: str, steps: int) -> list[int]:
    environments = made(game, protocol, num_envs=3)
    ends = []
    for step in range(1, steps + 1):
        if game != "freeway":
            arrange(environments, harmless(game))
        terminated = environments.step(torch.full((1, 3), NO_OP)).terminated
        assert terminated.all() == terminated.any()
        ends += [step] if terminated.any() else []
    return ends


@pytest.mark.parametrize("game", ["asterix", "breakout", "space_invaders"])
def test_an_episode_ends_after_1000_steps_without_a_bootstrap(game: str) -> None:
    assert not CompiledEnvironments.truncates
    assert ends_of_harmless_games(game, "gymnax", 2500) == [1000, 2000]
    assert ends_of_harmless_games(game, "minatar", 2500) == []


def test_freeway_ends_one_step_earlier_than_the_packages() -> None:
    assert ends_of_harmless_games("freeway", "gymnax", 5010) == [2500, 5000]
    assert ends_of_harmless_games("freeway", "minatar", 5010) == [2501, 5002]


@pytest.mark.parametrize(("protocol", "first"), [("gymnax", 28), ("minatar", 24)])
def test_the_first_wave_is_28_aliens_and_later_ones_24(protocol: str, first: int) -> None:
    environments = CompiledEnvironments("space_invaders", protocol, torch.tensor([9]), N)
    aliens = environments.reset()[0, :, :, :, space_invaders.ALIEN].sum(dim=(1, 2))
    assert set(aliens.tolist()) == {first}

    def one_is_left_and_about_to_be_shot(states: torch.Tensor) -> None:
        states[:, space_invaders.ALIENS : space_invaders.ALIENS + 10] = 0
        states[:, space_invaders.ALIENS + 2] = 1 << 4
        states[:, space_invaders.OWN_BULLET_X], states[:, space_invaders.OWN_BULLET_Y] = 4, 3
        states[:, space_invaders.LEFT_ALIVE] = 1

    arrange(environments, one_is_left_and_about_to_be_shot)
    step = environments.step(torch.full((1, N), NO_OP))
    assert set(step.reward[0].tolist()) == {1.0}
    assert set(step.observation[0, :, :, :, space_invaders.ALIEN].sum(dim=(1, 2)).tolist()) == {24}


def bullet_above_the_cannon(states: torch.Tensor) -> None:
    states[:, space_invaders.ALIEN_BULLET_X], states[:, space_invaders.ALIEN_BULLET_Y] = 5, 8


def bullet_left_of_the_cannon(states: torch.Tensor) -> None:
    states[:, space_invaders.ALIEN_BULLET_X], states[:, space_invaders.ALIEN_BULLET_Y] = 4, 8


@pytest.mark.parametrize(("protocol", "dodging", "walking_in"), [("gymnax", True, False), ("minatar", False, True)])
def test_a_bullet_hits_where_the_cannon_was_before_its_move(protocol: str, dodging: bool, walking_in: bool) -> None:
    for arrangement, dies in ((bullet_above_the_cannon, dodging), (bullet_left_of_the_cannon, walking_in)):
        environments = made("space_invaders", protocol)
        arrange(environments, arrangement)
        died = environments.step(torch.full((1, N), LEFT)).terminated[0].double().mean().item()
        assert died == pytest.approx(float(dies), abs=0.1 + SIMILAR)  # the package's actions stick


def rows_of_enemies_but(free_row: int | None) -> Callable[[torch.Tensor], None]:
    def change(states: torch.Tensor) -> None:
        states[:, asterix.KIND : asterix.KIND + asterix.ROWS] = asterix.ENEMY
        states[:, asterix.X : asterix.X + asterix.ROWS] = 1
        states[:, asterix.HEADING : asterix.HEADING + asterix.ROWS] = 1
        states[:, asterix.SPAWN_TIMER] = 0
        if free_row is not None:
            states[:, asterix.KIND + free_row] = asterix.NOTHING

    return change


def filled_rows(states: torch.Tensor) -> torch.Tensor:
    return states[:, asterix.KIND : asterix.KIND + asterix.ROWS] != asterix.NOTHING


def test_asterix_without_a_free_row_empties_one_at_random() -> None:
    environments = made("asterix", "gymnax")
    arrange(environments, rows_of_enemies_but(None))
    filled = filled_rows(states_after(environments, NO_OP))
    assert set(filled.sum(dim=1).tolist()) == {7}
    emptied = (~filled).double().mean(dim=0)
    torch.testing.assert_close(emptied, torch.full((8,), 1 / 8, dtype=torch.float64), rtol=0, atol=SIMILAR)


def test_asterix_overlooks_the_one_free_row_in_one_case_of_eight() -> None:
    environments = made("asterix", "gymnax")
    arrange(environments, rows_of_enemies_but(3))
    filled = filled_rows(states_after(environments, NO_OP))
    overlooked = ~filled[:, 3]
    assert overlooked.double().mean().item() == pytest.approx(1 / 8, abs=SIMILAR)
    assert set(filled.sum(dim=1)[overlooked].tolist()) == {6}  # and has emptied another one
    assert set(filled.sum(dim=1)[~overlooked].tolist()) == {8}


@pytest.mark.parametrize(("free_row", "filled"), [(None, 8), (3, 8)])
def test_the_packages_asterix_spawns_where_it_can_and_empties_nothing(free_row: int | None, filled: int) -> None:
    environments = made("asterix", "minatar")
    arrange(environments, rows_of_enemies_but(free_row))
    assert set(filled_rows(states_after(environments, NO_OP)).sum(dim=1).tolist()) == {filled}


def test_asterix_spawns_in_each_free_row_alike() -> None:
    for protocol in ("gymnax", "minatar"):
        environments = made("asterix", protocol)

        def spawn_now(states: torch.Tensor) -> None:
            states[:, asterix.SPAWN_TIMER] = 0

        arrange(environments, spawn_now)
        filled = filled_rows(states_after(environments, NO_OP))
        assert set(filled.sum(dim=1).tolist()) == {1}
        expected = torch.full((8,), 1 / 8, dtype=torch.float64)
        torch.testing.assert_close(filled.double().mean(dim=0), expected, rtol=0, atol=SIMILAR)


def test_difficulty_ramps() -> None:
    environments = made("asterix", "gymnax", num_envs=8)
    least = 10
    for _ in range(2000):
        states = environments.state()["states"][0]
        least = min(least, int(states[:, asterix.SPAWN_INTERVAL].min()))
        environments.step(torch.tensor([[PLAYERS["asterix"](state, 0.3) for state in states.numpy()]]))
    assert least == 1


@pytest.mark.parametrize(
    ("game", "meanings", "numbers"),
    [
        ("asterix", (NO_OP, LEFT, UP, RIGHT, DOWN), 400),
        ("breakout", (NO_OP, LEFT, RIGHT), 400),
        ("freeway", (NO_OP, UP, DOWN), 700),
        ("space_invaders", (NO_OP, LEFT, RIGHT, FIRE), 600),
    ],
)
def test_actions_are_minimal_and_observations_as_large(game: str, meanings: tuple[int, ...], numbers: int) -> None:
    environments = CompiledEnvironments(game, "gymnax", torch.tensor([9]), 8)
    assert environments.num_actions == len(meanings)
    assert environments.reset()[0, 0].numel() == numbers
    full = made(game, "gymnax", num_envs=8)
    for action in list(range(len(meanings))) * 20:
        ours = environments.step(torch.full((1, 8), action)).observation
        theirs = full.step(torch.full((1, 8), meanings[action])).observation
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_there_is_no_seaquest() -> None:
    with pytest.raises(ValueError, match="gymnax has no Seaquest"):
        made("seaquest", "gymnax")
