"""Space Invaders. A cannon on the bottom row shoots upwards at a block of aliens, which march sideways and shoot back.

Each alien shot gives 1. At the edge the block turns and comes down one row; the fewer aliens are left, the faster
they march, and a block shot down is followed by a faster one. The alien nearest to the cannon's column shoots. An
alien or a bullet on the cannon, or a block that comes down from the bottom row, ends the episode.

Aliens and bullets are kept as ten rows of bits, bit x for column x. The protocols differ in the width of the first
block, and under `invaders_dodge_late` (gymnax) a bullet hits where the cannon was before this step's move.
"""

import numpy as np

from scorer_core.envs.rules import FIRE, LEFT, NO_OP, OWN_DRAWS, OWN_STATE, RIGHT, Rules, cell, clamp, scalar

ACTIONS = (NO_OP, LEFT, RIGHT, FIRE)

CANNON, ALIEN, ALIEN_LEFTWARDS, ALIEN_RIGHTWARDS, OWN_BULLET, ALIEN_BULLET = range(6)
CHANNELS = 6

CANNON_X, HEADING, LEFT_ALIVE, MARCH_INTERVAL, MARCH_TIMER, ALIEN_SHOT_TIMER, RELOAD = range(OWN_STATE, OWN_STATE + 7)
ROWS = 10
ALIENS = OWN_STATE + 7  # rows
OWN_BULLETS = ALIENS + ROWS  # rows
ALIEN_BULLETS = OWN_BULLETS + ROWS  # rows
STATE_SIZE = ALIEN_BULLETS + ROWS

DRAWS = OWN_DRAWS  # nothing is left to chance

BOTTOM = 9
RIGHT_EDGE = 1 << 9
LEFT_EDGE = 1
WAVE_ROWS, WAVE_LEFT, WAVE_RIGHT = 4, 2, 8
FIRST_MARCH_INTERVAL, LAST_MARCH_INTERVAL = 12, 6
ALIEN_SHOT_INTERVAL = 10
RELOAD_TIME = 5


@scalar
def reset(state: np.ndarray, picture: np.ndarray, key: np.uint64, first_draw: int, rules: Rules) -> None:
    state[CANNON_X] = 5
    state[HEADING] = -1
    state[MARCH_INTERVAL] = state[MARCH_TIMER] = FIRST_MARCH_INTERVAL
    state[ALIEN_SHOT_TIMER] = ALIEN_SHOT_INTERVAL
    state[RELOAD] = 0
    for y in range(ROWS):
        state[ALIENS + y] = state[OWN_BULLETS + y] = state[ALIEN_BULLETS + y] = 0
    _send_wave(state, rules.invaders_first_wave_end)
    _draw(state, picture)


@scalar
def step(
    state: np.ndarray, picture: np.ndarray, action: int, key: np.uint64, first_draw: int, rules: Rules
) -> tuple[int, bool]:
    old_x = state[CANNON_X]
    _act(state, action)
    _fly(state)
    hit = _is_at(state, ALIEN_BULLETS, old_x if rules.invaders_dodge_late else state[CANNON_X])
    hit = hit or _is_at(state, ALIENS, state[CANNON_X])
    if state[MARCH_TIMER] == 0:
        landed = _march(state)
        hit = hit or landed or _is_at(state, ALIENS, state[CANNON_X])
    if state[ALIEN_SHOT_TIMER] == 0:
        state[ALIEN_SHOT_TIMER] = ALIEN_SHOT_INTERVAL
        _shoot_back(state)
    killed = _kill(state)
    state[RELOAD] -= int(state[RELOAD] > 0)
    state[MARCH_TIMER] -= 1
    state[ALIEN_SHOT_TIMER] -= 1
    if state[LEFT_ALIVE] == 0:
        state[MARCH_INTERVAL] = clamp(state[MARCH_INTERVAL] - 1, LAST_MARCH_INTERVAL, FIRST_MARCH_INTERVAL)
        _send_wave(state, WAVE_RIGHT)
    _draw(state, picture)
    return killed, hit


@scalar
def _act(state: np.ndarray, action: int) -> None:
    if action == FIRE and state[RELOAD] == 0:
        state[OWN_BULLETS + BOTTOM] |= 1 << state[CANNON_X]
        state[RELOAD] = RELOAD_TIME
    elif action == LEFT:
        state[CANNON_X] = clamp(state[CANNON_X] - 1, 0, 9)
    elif action == RIGHT:
        state[CANNON_X] = clamp(state[CANNON_X] + 1, 0, 9)


@scalar
def _fly(state: np.ndarray) -> None:
    for y in range(BOTTOM):
        state[OWN_BULLETS + y] = state[OWN_BULLETS + y + 1]
        state[ALIEN_BULLETS + BOTTOM - y] = state[ALIEN_BULLETS + BOTTOM - y - 1]
    state[OWN_BULLETS + BOTTOM] = 0
    state[ALIEN_BULLETS] = 0


@scalar
def _is_at(state: np.ndarray, rows: int, x: int) -> bool:
    """Whether something of `rows` is in the cannon's row at column x."""
    return (state[rows + BOTTOM] >> x) & 1 == 1


@scalar
def _march(state: np.ndarray) -> bool:
    """Move the block one cell; whether it came down from the bottom row (and so in again at the top)."""
    state[MARCH_TIMER] = clamp(state[LEFT_ALIVE], 0, state[MARCH_INTERVAL])
    edge = LEFT_EDGE if state[HEADING] < 0 else RIGHT_EDGE
    if _columns(state) & edge == 0:
        for y in range(ROWS):
            row = state[ALIENS + y]
            state[ALIENS + y] = row >> 1 if state[HEADING] < 0 else row << 1
        return False
    state[HEADING] = -state[HEADING]
    bottom = state[ALIENS + BOTTOM]
    for y in range(BOTTOM, 0, -1):
        state[ALIENS + y] = state[ALIENS + y - 1]
    state[ALIENS] = bottom
    return bottom != 0


@scalar
def _columns(state: np.ndarray) -> int:
    """The columns with aliens in them, as bits."""
    columns = 0
    for y in range(ROWS):
        columns |= state[ALIENS + y]
    return columns


@scalar
def _shoot_back(state: np.ndarray) -> None:
    """From the lowest alien in the column nearest to the cannon, the left one of two equally near."""
    columns = _columns(state)
    x, distance = state[CANNON_X], 0
    while x < 0 or x > 9 or (columns >> x) & 1 == 0:
        distance += 1
        x += -distance if distance % 2 else distance
    y = BOTTOM
    while (state[ALIENS + y] >> x) & 1 == 0:
        y -= 1
    state[ALIEN_BULLETS + y] |= 1 << x


@scalar
def _kill(state: np.ndarray) -> int:
    killed = 0
    for y in range(ROWS):
        hits = state[ALIENS + y] & state[OWN_BULLETS + y]
        state[ALIENS + y] ^= hits
        state[OWN_BULLETS + y] ^= hits
        while hits:
            hits &= hits - 1
            killed += 1
    state[LEFT_ALIVE] -= killed
    return killed


@scalar
def _send_wave(state: np.ndarray, end: int) -> None:
    for y in range(WAVE_ROWS):
        state[ALIENS + y] = (1 << end) - (1 << WAVE_LEFT)
    state[LEFT_ALIVE] = WAVE_ROWS * (end - WAVE_LEFT)


@scalar
def _draw(state: np.ndarray, picture: np.ndarray) -> None:
    leftwards = int(state[HEADING] < 0)
    for y in range(ROWS):
        aliens, own, theirs = state[ALIENS + y], state[OWN_BULLETS + y], state[ALIEN_BULLETS + y]
        for x in range(10):
            alien = (aliens >> x) & 1
            picture[cell(x, y, CANNON, CHANNELS)] = 0
            picture[cell(x, y, ALIEN, CHANNELS)] = alien
            picture[cell(x, y, ALIEN_LEFTWARDS, CHANNELS)] = alien & leftwards
            picture[cell(x, y, ALIEN_RIGHTWARDS, CHANNELS)] = alien & (1 - leftwards)
            picture[cell(x, y, OWN_BULLET, CHANNELS)] = (own >> x) & 1
            picture[cell(x, y, ALIEN_BULLET, CHANNELS)] = (theirs >> x) & 1
    picture[cell(state[CANNON_X], BOTTOM, CANNON, CHANNELS)] = 1
