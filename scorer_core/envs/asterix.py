"""Asterix. The player walks in four directions; gold and enemies cross the screen, at most one in each of eight rows.

Touching gold gives 1, touching an enemy ends the episode. A trail cell behind each shows where it is heading. Every
so often something spawns in a free row, and everything moves one cell; both come faster as the episode gets older.

Under `asterix_wasteful_spawn` (gymnax) one row, drawn again each time, is never free to spawn in, and where no other
row is free, a row other than that one is emptied.
"""

import numpy as np

from scorer_core.envs.rules import (
    DOWN,
    LEFT,
    NO_OP,
    OWN_DRAWS,
    OWN_STATE,
    RIGHT,
    UP,
    Rules,
    cell,
    chance,
    clamp,
    pick,
    scalar,
)

ACTIONS = (NO_OP, LEFT, UP, RIGHT, DOWN)

PLAYER, ENEMY, TRAIL, GOLD = range(4)
CHANNELS = 4

PLAYER_X, PLAYER_Y, SPAWN_TIMER, SPAWN_INTERVAL, MOVE_TIMER, MOVE_INTERVAL, RAMP_TIMER, RAMPS = range(
    OWN_STATE, OWN_STATE + 8
)
ROWS = 8
KIND = OWN_STATE + 8  # of each row: NOTHING, ENEMY or GOLD
X = KIND + ROWS  # of each row
HEADING = X + ROWS  # of each row: 1 rightwards, -1 leftwards
STATE_SIZE = HEADING + ROWS
NOTHING = 0

FROM_LEFT, IS_GOLD, WHICH_ROW, UNUSED_ROW = range(OWN_DRAWS, OWN_DRAWS + 4)
DRAWS = OWN_DRAWS + 4

FIRST_SPAWN_INTERVAL = 10
FIRST_MOVE_INTERVAL = 5
RAMP_INTERVAL = 100


@scalar
def reset(state: np.ndarray, picture: np.ndarray, key: np.uint64, first_draw: int, rules: Rules) -> None:
    state[PLAYER_X] = state[PLAYER_Y] = 5
    state[SPAWN_TIMER] = state[SPAWN_INTERVAL] = FIRST_SPAWN_INTERVAL
    state[MOVE_TIMER] = state[MOVE_INTERVAL] = FIRST_MOVE_INTERVAL
    state[RAMP_TIMER] = RAMP_INTERVAL
    state[RAMPS] = 0
    for row in range(ROWS):
        state[KIND + row] = NOTHING
    picture[:] = 0
    picture[cell(5, 5, PLAYER, CHANNELS)] = 1


@scalar
def step(
    state: np.ndarray, picture: np.ndarray, action: int, key: np.uint64, first_draw: int, rules: Rules
) -> tuple[int, bool]:
    if state[SPAWN_TIMER] == 0:
        _spawn(state, picture, key, first_draw, rules)
        state[SPAWN_TIMER] = state[SPAWN_INTERVAL]
    _walk(state, picture, action)
    reward, caught = _touch(state, picture)
    if state[MOVE_TIMER] == 0:
        state[MOVE_TIMER] = state[MOVE_INTERVAL]
        _move_all(state, picture)
        more, caught_now = _touch(state, picture)
        reward += more
        caught = caught or caught_now
    state[SPAWN_TIMER] -= 1
    state[MOVE_TIMER] -= 1
    _ramp(state)
    return reward, caught


@scalar
def _walk(state: np.ndarray, picture: np.ndarray, action: int) -> None:
    """Nothing spawns in the top and bottom rows."""
    picture[cell(state[PLAYER_X], state[PLAYER_Y], PLAYER, CHANNELS)] = 0
    state[PLAYER_X] = clamp(state[PLAYER_X] + int(action == RIGHT) - int(action == LEFT), 0, 9)
    state[PLAYER_Y] = clamp(state[PLAYER_Y] + int(action == DOWN) - int(action == UP), 1, 8)
    picture[cell(state[PLAYER_X], state[PLAYER_Y], PLAYER, CHANNELS)] = 1


@scalar
def _touch(state: np.ndarray, picture: np.ndarray) -> tuple[int, bool]:
    """Only what is in the player's row can touch the player."""
    row = state[PLAYER_Y] - 1
    if state[X + row] != state[PLAYER_X] or state[KIND + row] == NOTHING:  # in this order: a tenth less time
        return 0, False
    if state[KIND + row] == ENEMY:
        return 0, True
    _remove(state, picture, row)
    return 1, False


@scalar
def _move_all(state: np.ndarray, picture: np.ndarray) -> None:
    for row in range(ROWS):
        if state[KIND + row] == NOTHING:
            continue
        x = state[X + row] + state[HEADING + row]
        if x < 0 or x > 9:
            _remove(state, picture, row)
        else:
            _draw(state, picture, row, 0)
            state[X + row] = x
            _draw(state, picture, row, 1)


@scalar
def _ramp(state: np.ndarray) -> None:
    """At each ramp things spawn sooner, and at each second one they move faster."""
    if state[SPAWN_INTERVAL] == 1:  # the move interval got there one ramp earlier
        return
    if state[RAMP_TIMER] >= 0:
        state[RAMP_TIMER] -= 1
        return
    if state[RAMPS] % 2:
        state[MOVE_INTERVAL] -= 1
    state[SPAWN_INTERVAL] -= 1
    state[RAMPS] += 1
    state[RAMP_TIMER] = RAMP_INTERVAL


@scalar
def _spawn(state: np.ndarray, picture: np.ndarray, key: np.uint64, first_draw: int, rules: Rules) -> None:
    unused = pick(key, first_draw + UNUSED_ROW, ROWS) if rules.asterix_wasteful_spawn else -1
    free = 0
    for row in range(ROWS):
        free += _is_free(state, row, unused)
    if free == 0:
        if rules.asterix_wasteful_spawn:
            _remove(state, picture, (unused + 1 + pick(key, first_draw + WHICH_ROW, ROWS - 1)) % ROWS)
        return
    skip = pick(key, first_draw + WHICH_ROW, free)
    row, passed = 0, 0
    for candidate in range(ROWS):
        is_free = _is_free(state, candidate, unused)
        row += candidate * (is_free & int(passed == skip))
        passed += is_free
    from_left = chance(key, first_draw + FROM_LEFT, 1 / 2)
    state[KIND + row] = GOLD if chance(key, first_draw + IS_GOLD, 1 / 3) else ENEMY
    state[X + row] = 0 if from_left else 9
    state[HEADING + row] = 1 if from_left else -1
    _draw(state, picture, row, 1)


@scalar
def _is_free(state: np.ndarray, row: int, unused: int) -> int:
    return int(state[KIND + row] == NOTHING) & int(row != unused)


@scalar
def _remove(state: np.ndarray, picture: np.ndarray, row: int) -> None:
    _draw(state, picture, row, 0)
    state[KIND + row] = NOTHING


@scalar
def _draw(state: np.ndarray, picture: np.ndarray, row: int, lit: int) -> None:
    x = state[X + row]
    picture[cell(x, row + 1, state[KIND + row], CHANNELS)] = lit
    behind = x - state[HEADING + row]
    if 0 <= behind <= 9:
        picture[cell(behind, row + 1, TRAIL, CHANNELS)] = lit
