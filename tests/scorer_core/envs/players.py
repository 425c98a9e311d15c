"""Scripted players, good enough to see what only good players see. They look at the state; `luck` is a uniform."""

import numpy as np
from numba import njit

from scorer_core.envs import asterix, breakout, freeway, seaquest, space_invaders
from scorer_core.envs.rules import DOWN, FIRE, LEFT, NO_OP, RIGHT, UP


@njit
def towards(here, there, less, more):
    if there < here:
        return less
    return more if there > here else NO_OP


@njit
def play_breakout(state, luck):
    """Keeps ahead of the ball; where it comes down, meets it on either side."""
    target = state[breakout.BALL_X]
    if state[breakout.BALL_Y] < 8 or luck < 0.5:
        target += state[breakout.MOVE_X]
    return towards(state[breakout.PADDLE_X], min(9, max(0, target)), LEFT, RIGHT)


@njit
def moved(x, y, action, top):
    if action == LEFT:
        return max(0, x - 1), y
    if action == RIGHT:
        return min(9, x + 1), y
    if action == UP:
        return x, max(top, y - 1)
    if action == DOWN:
        return x, min(8, y + 1)
    return x, y


@njit
def play_asterix(state, luck):
    """Steps where no enemy is or comes next, as near to gold as may be."""
    best, best_action = -1e9, NO_OP
    for action in range(5):
        x, y = moved(state[asterix.PLAYER_X], state[asterix.PLAYER_Y], action, 1)
        score = luck * 0.01 * action - 0.01 * abs(x - 5)
        for row in range(asterix.ROWS):
            kind, at = state[asterix.KIND + row], state[asterix.X + row]
            ahead = (x - at) * state[asterix.HEADING + row]
            if kind == asterix.GOLD:
                score += 1.0 / (1 + abs(x - at) + abs(y - row - 1))
            elif kind == asterix.ENEMY and row == y - 1 and 0 <= ahead <= 2:
                score -= 30 - 10 * ahead
        if score > best:
            best, best_action = score, action
    return best_action


@njit
def play_freeway(state, luck):
    """Waits for a car about to arrive in the row above, else walks."""
    y = state[freeway.CHICKEN_Y]
    if luck < 0.02:
        return DOWN
    if y >= 2:
        gap = (freeway.CHICKEN_X - state[freeway.X + y - 2]) * state[freeway.HEADING + y - 2]
        if gap == 1 and state[freeway.TIMER + y - 2] == 0:
            return NO_OP
    return UP


@njit
def danger(state, first, count, x, y):
    """Of those of a list that come towards a cell."""
    worst = 0.0
    for i in range(count):
        other = first + seaquest.SLOT_SIZE * i
        cell = state[other + seaquest.AT] // seaquest.CHANNELS
        ahead = (x - cell % 10) * np.sign(state[other + seaquest.STRIDE])
        if is_threat(state, first, other) and cell // 10 == y and 0 <= ahead <= 3:
            worst = max(worst, 40.0 - 10 * ahead)
    return worst


@njit
def is_threat(state, first, other):
    return first == seaquest.BULLET_LIST or state[other + seaquest.KIND] != seaquest.DIVER


@njit
def enemy_in_sight(state, boat_x, boat_y):
    for i in range(state[seaquest.SWIMMERS]):
        other = seaquest.SWIMMER_LIST + seaquest.SLOT_SIZE * i
        cell = state[other + seaquest.BODY] // seaquest.CHANNELS
        ahead = (cell % 10 - boat_x) * state[seaquest.FACING]
        if is_threat(state, seaquest.SWIMMER_LIST, other) and cell // 10 == boat_y and ahead > 0:
            return True
    return False


@njit
def divers_nearness(state, x, y):
    nearness = 0.0
    for i in range(state[seaquest.SWIMMERS]):
        other = seaquest.SWIMMER_LIST + seaquest.SLOT_SIZE * i
        if state[other + seaquest.KIND] == seaquest.DIVER:
            cell = state[other + seaquest.BODY] // seaquest.CHANNELS
            nearness += 4.0 / (1 + abs(x - cell % 10) + abs(y - cell // 10))
    return nearness


@njit
def play_seaquest(state, luck):
    """Fetches six divers, comes up, then bobs for free; shoots what it faces, keeps clear of what comes."""
    aboard = state[seaquest.DIVERS_ABOARD]
    boat = state[seaquest.BOAT] // seaquest.CHANNELS
    boat_x, deep = boat % 10, boat // 10
    bobs = aboard < 0 and state[seaquest.ENEMY_INTERVAL] > 1
    wants_up = bobs or aboard == 6 or (aboard != 0 and state[seaquest.OXYGEN] < 60)
    best, best_action = -1e9, NO_OP
    for action in range(6):
        x, y = moved(boat_x, deep, action, 0)
        score = 0.3 * luck * (action == NO_OP) - 0.05 * abs(x - 5)
        if y == 0 and deep > 0 and not wants_up:
            score -= 60
        if wants_up:
            score -= 3 * y if deep > 0 else -3 * y
        elif deep == 0:
            score += 3 * y
        if 0 <= aboard < 6:
            score += divers_nearness(state, x, y)
        if action == FIRE and enemy_in_sight(state, boat_x, deep):
            score += 1
        score -= danger(state, seaquest.SWIMMER_LIST, state[seaquest.SWIMMERS], x, y)
        score -= danger(state, seaquest.BULLET_LIST, state[seaquest.BULLETS], x, y)
        if score > best:
            best, best_action = score, action
    return best_action


@njit
def under_fire(state, x):
    return state[space_invaders.ALIEN_BULLET_X] == x and 5 <= state[space_invaders.ALIEN_BULLET_Y] < 9


@njit
def play_space_invaders(state, luck):
    """Leaves a column with a bullet low in it; shoots where an alien will be, else walks to the nearest."""
    x = state[space_invaders.CANNON_X]
    if under_fire(state, x):
        return RIGHT if x == 0 or (x < 9 and luck < 0.5 and not under_fire(state, x + 1)) else LEFT
    columns = 0
    for y in range(10):
        row = state[space_invaders.ALIENS + y]
        flight = 9 - y
        if row and state[space_invaders.MARCH_TIMER] < flight:
            row = row << 1 if state[space_invaders.HEADING] > 0 else row >> 1
        columns |= row
    if state[space_invaders.RELOAD] == 0 and (columns >> x) & 1:
        return FIRE
    for away in range(10):
        if x - away >= 0 and (columns >> (x - away)) & 1:
            return LEFT if away and not under_fire(state, x - 1) else NO_OP
        if x + away <= 9 and (columns >> (x + away)) & 1:
            return RIGHT if away and not under_fire(state, x + 1) else NO_OP
    return NO_OP


PLAYERS = {
    "asterix": play_asterix,
    "breakout": play_breakout,
    "freeway": play_freeway,
    "seaquest": play_seaquest,
    "space_invaders": play_space_invaders,
}


def scripted_actions(game: str, states: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One action, of the full set, for each environment; one in fifty is at random."""
    player = PLAYERS[game]
    luck = random.random(len(states))
    actions = np.array([player(state, u) for state, u in zip(states, luck, strict=True)])
    return np.where(random.random(len(states)) < 0.02, random.integers(0, 6, len(states)), actions)
