"""Space Invaders. A cannon on the bottom row shoots upwards at a block of aliens, which march sideways and shoot back.

Each alien shot gives 1. At the edge the block turns and comes down one row; the fewer aliens are left, the faster
they march, and a block shot down is followed by a faster one. The alien nearest to the cannon's column shoots. An
alien or a bullet on the cannon, or a block that comes down from the bottom row, ends the episode.

Aliens are kept as ten rows of bits, bit x for column x, bullets by their places: with five steps to reload and nine
rows to fly at most two of the cannon's are about, and one of the aliens', who shoot every tenth step. The protocols
differ in the width of the first block, and under `invaders_dodge_late` (gymnax) a bullet hits where the cannon was
before this step's move.
"""

import numpy as np

from scorer_core.envs.rules import (
    FIRE,
    LEFT,
    NO_OP,
    OWN_DRAWS,
    OWN_STATE,
    RIGHT,
    Rules,
    cell,
    clamp,
    paint,
    read_pixel,
    scalar,
)

ACTIONS = (NO_OP, LEFT, RIGHT, FIRE)

CANNON, ALIEN, ALIEN_LEFTWARDS, ALIEN_RIGHTWARDS, OWN_BULLET, ALIEN_BULLET = range(6)
CHANNELS = 6

(
    CANNON_X,
    HEADING,
    LEFT_ALIVE,
    MARCH_INTERVAL,
    MARCH_TIMER,
    ALIEN_SHOT_TIMER,
    RELOAD,
    ALIEN_BULLET_X,
    ALIEN_BULLET_Y,  # below the picture: there is none
) = range(OWN_STATE, OWN_STATE + 9)
OWN_BULLETS = 2
OWN_BULLET_X = OWN_STATE + 9  # of each
OWN_BULLET_Y = OWN_BULLET_X + OWN_BULLETS  # of each; above the picture: there is none
ROWS = 10
ALIENS = OWN_BULLET_Y + OWN_BULLETS  # rows
STATE_SIZE = ALIENS + ROWS

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
    state[ALIEN_BULLET_X], state[ALIEN_BULLET_Y] = 0, ROWS
    for bullet in range(OWN_BULLETS):
        state[OWN_BULLET_X + bullet], state[OWN_BULLET_Y + bullet] = 0, -1
    for y in range(ROWS):
        state[ALIENS + y] = 0
    picture[:] = 0
    picture[cell(state[CANNON_X], BOTTOM, CANNON, CHANNELS)] = 1
    _send_wave(state, picture, rules.invaders_first_wave_end)


@scalar
def step(
    state: np.ndarray, picture: np.ndarray, action: int, key: np.uint64, first_draw: int, rules: Rules
) -> tuple[int, bool]:
    old_x = state[CANNON_X]
    _draw_bullets(state, picture, 0)
    _act(state, picture, action)
    _fly(state)
    x = old_x if rules.invaders_dodge_late else state[CANNON_X]
    hit = (state[ALIEN_BULLET_X] == x and state[ALIEN_BULLET_Y] == BOTTOM) or _is_landed(state)
    if state[MARCH_TIMER] == 0:
        landed = _march(state)
        _draw_aliens(state, picture)
        hit = hit or landed or _is_landed(state)
    if state[ALIEN_SHOT_TIMER] == 0:
        state[ALIEN_SHOT_TIMER] = ALIEN_SHOT_INTERVAL
        _shoot_back(state)
    killed = _kill(state, picture)
    _draw_bullets(state, picture, 1)
    state[RELOAD] -= int(state[RELOAD] > 0)
    state[MARCH_TIMER] -= 1
    state[ALIEN_SHOT_TIMER] -= 1
    if state[LEFT_ALIVE] == 0:
        state[MARCH_INTERVAL] = clamp(state[MARCH_INTERVAL] - 1, LAST_MARCH_INTERVAL, FIRST_MARCH_INTERVAL)
        _send_wave(state, picture, WAVE_RIGHT)
    return killed, hit


@scalar
def _act(state: np.ndarray, picture: np.ndarray, action: int) -> None:
    x = state[CANNON_X]
    if (action ^ FIRE) | state[RELOAD] == 0:  # one branch, not two
        bullet = int(state[OWN_BULLET_Y] >= 0)
        state[OWN_BULLET_X + bullet], state[OWN_BULLET_Y + bullet] = x, BOTTOM
        state[RELOAD] = RELOAD_TIME
    picture[cell(x, BOTTOM, CANNON, CHANNELS)] = 0
    x = clamp(x + int(action == RIGHT) - int(action == LEFT), 0, 9)
    picture[cell(x, BOTTOM, CANNON, CHANNELS)] = 1
    state[CANNON_X] = x


@scalar
def _fly(state: np.ndarray) -> None:
    for bullet in range(OWN_BULLETS):
        state[OWN_BULLET_Y + bullet] -= int(state[OWN_BULLET_Y + bullet] >= 0)
    state[ALIEN_BULLET_Y] += int(state[ALIEN_BULLET_Y] < ROWS)


@scalar
def _is_landed(state: np.ndarray) -> bool:
    """Whether an alien is where the cannon is."""
    return (state[ALIENS + BOTTOM] >> state[CANNON_X]) & 1 == 1


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
    state[ALIEN_BULLET_X], state[ALIEN_BULLET_Y] = x, y


@scalar
def _kill(state: np.ndarray, picture: np.ndarray) -> int:
    killed = 0
    for bullet in range(OWN_BULLETS):
        x, y = state[OWN_BULLET_X + bullet], state[OWN_BULLET_Y + bullet]
        if y >= 0 and (state[ALIENS + y] >> x) & 1:
            state[ALIENS + y] ^= 1 << x
            _draw_alien(state, picture, x, y, 0)
            state[OWN_BULLET_Y + bullet] = -1
            killed += 1
    state[LEFT_ALIVE] -= killed
    return killed


@scalar
def _send_wave(state: np.ndarray, picture: np.ndarray, end: int) -> None:
    for y in range(WAVE_ROWS):
        state[ALIENS + y] = (1 << end) - (1 << WAVE_LEFT)
    state[LEFT_ALIVE] = WAVE_ROWS * (end - WAVE_LEFT)
    _draw_aliens(state, picture)


@scalar
def _draw_bullets(state: np.ndarray, picture: np.ndarray, lit: int) -> None:
    for bullet in range(OWN_BULLETS):
        _draw_bullet(picture, state[OWN_BULLET_X + bullet], state[OWN_BULLET_Y + bullet], OWN_BULLET, lit)
    _draw_bullet(picture, state[ALIEN_BULLET_X], state[ALIEN_BULLET_Y], ALIEN_BULLET, lit)


@scalar
def _draw_bullet(picture: np.ndarray, x: int, y: int, channel: int, lit: int) -> None:
    """One that is not in the picture leaves the cell at the edge as another has lit it."""
    flies = int(y >= 0) & int(y <= BOTTOM)
    at = cell(x, clamp(y, 0, BOTTOM), channel, CHANNELS)
    paint(picture, at, (read_pixel(picture, at) | flies) & lit)


@scalar
def _draw_aliens(state: np.ndarray, picture: np.ndarray) -> None:
    for y in range(ROWS):
        row = state[ALIENS + y]
        for x in range(10):
            _draw_alien(state, picture, x, y, (row >> x) & 1)


@scalar
def _draw_alien(state: np.ndarray, picture: np.ndarray, x: int, y: int, lit: int) -> None:
    leftwards = int(state[HEADING] < 0)
    picture[cell(x, y, ALIEN, CHANNELS)] = lit
    picture[cell(x, y, ALIEN_LEFTWARDS, CHANNELS)] = lit & leftwards
    picture[cell(x, y, ALIEN_RIGHTWARDS, CHANNELS)] = lit & (1 - leftwards)
