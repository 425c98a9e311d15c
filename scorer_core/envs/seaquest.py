"""Seaquest. A submarine collects divers and shoots fish and enemy submarines while its oxygen runs out.

An enemy shot gives 1. At the surface a diver is handed over and the oxygen is filled up; coming up with six divers
also gives up to 10 for the oxygen left, and coming up with none ends the episode, as do touching an enemy or its
bullet and running out of oxygen. After each surfacing enemies come faster. (Handing over six divers leaves the count
at -1, so that from then on the boat may surface for free until it has picked up as many again: the original's way.)

Everything that swims is kept in short lists, oldest first: the order decides which of two enemies a bullet takes.
A list cannot outgrow its room. Enemies spawn at most one a step, and by then each is gone within 30 steps, and shoots
at most once in the 10 that its bullet lasts; at most two divers and two own bullets are about at once.
"""

import numpy as np

from scorer_core.envs.rules import (
    ALL_ACTIONS,
    DOWN,
    FIRE,
    LEFT,
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

ACTIONS = ALL_ACTIONS

FRONT, BACK, OWN_BULLET, TRAIL, ENEMY_BULLET, ENEMY_FISH, ENEMY_BOAT, OXYGEN_GAUGE, DIVER_GAUGE, DIVER = range(10)
CHANNELS = 10

(
    BOAT_X,
    BOAT_Y,
    FACING,
    OXYGEN,
    DIVERS_ABOARD,
    AT_SURFACE,
    RELOAD,
    ENEMY_TIMER,
    ENEMY_INTERVAL,
    MOVE_INTERVAL,
    DIVER_TIMER,
    SURFACINGS,
    OWN_BULLETS,  # how many there are, as the next four
    BULLETS,
    DIVERS,
    FISH,
    BOATS,
) = range(OWN_STATE, OWN_STATE + 17)
SHOTS_ROOM, BULLETS_ROOM, DIVERS_ROOM, ENEMIES_ROOM = 2, 40, 2, 32
SIZE = 5  # numbers to a swimmer
X, Y, HEADING, WAIT, SHOT_WAIT = range(SIZE)  # steps to wait before it moves, and before a boat shoots
OWN_BULLET_LIST = OWN_STATE + 17
DIVER_LIST = OWN_BULLET_LIST + SIZE * SHOTS_ROOM
FISH_LIST = DIVER_LIST + SIZE * DIVERS_ROOM
BOAT_LIST = FISH_LIST + SIZE * ENEMIES_ROOM
BULLET_LIST = BOAT_LIST + SIZE * ENEMIES_ROOM
STATE_SIZE = BULLET_LIST + SIZE * BULLETS_ROOM

ENEMY_FROM_LEFT, ENEMY_IS_BOAT, ENEMY_ROW, DIVER_FROM_LEFT, DIVER_ROW = range(OWN_DRAWS, OWN_DRAWS + 5)
DRAWS = OWN_DRAWS + 5

FULL_OXYGEN = 200
FULL_CREW = 6
LEAST_DIVERS = -30_000  # 16 bits hold it; to tell it from the original's, an episode would have to get back from there
DEEPEST = 8
GAUGE_ROW = 9
RELOAD_TIME = 5
ENEMY_RELOAD_TIME = 10
FIRST_ENEMY_INTERVAL = 20
FIRST_MOVE_INTERVAL, LAST_MOVE_INTERVAL = 5, 2
DIVER_INTERVAL = 30
DIVER_MOVE_INTERVAL = 5


@scalar
def reset(state: np.ndarray, picture: np.ndarray, key: np.uint64, first_draw: int, rules: Rules) -> None:
    state[BOAT_X], state[BOAT_Y], state[FACING] = 5, 0, -1
    state[OXYGEN] = FULL_OXYGEN
    state[DIVERS_ABOARD] = state[RELOAD] = state[SURFACINGS] = 0
    state[AT_SURFACE] = 1
    state[ENEMY_TIMER] = state[ENEMY_INTERVAL] = FIRST_ENEMY_INTERVAL
    state[MOVE_INTERVAL] = FIRST_MOVE_INTERVAL
    state[DIVER_TIMER] = DIVER_INTERVAL
    state[OWN_BULLETS] = state[BULLETS] = state[DIVERS] = state[FISH] = state[BOATS] = 0
    _draw(state, picture)


@scalar
def step(
    state: np.ndarray, picture: np.ndarray, action: int, key: np.uint64, first_draw: int, rules: Rules
) -> tuple[int, bool]:
    if state[ENEMY_TIMER] == 0:
        _spawn_enemy(state, key, first_draw)
        state[ENEMY_TIMER] = state[ENEMY_INTERVAL]
    if state[DIVER_TIMER] == 0:
        _spawn_diver(state, key, first_draw)
        state[DIVER_TIMER] = DIVER_INTERVAL
    _act(state, action)
    reward = _move_own_bullets(state)
    _move_divers(state)
    killed, hit = _move_enemies(state, BOATS, BOAT_LIST, True)
    shot = _move_bullets(state)
    more_killed, more_hit = _move_enemies(state, FISH, FISH_LIST, False)
    reward += killed + more_killed
    state[ENEMY_TIMER] -= 1
    state[DIVER_TIMER] -= 1
    state[RELOAD] -= int(state[RELOAD] > 0)
    bonus, drowned = _breathe(state)
    _draw(state, picture)
    return reward + bonus, hit or shot or more_hit or drowned


@scalar
def _act(state: np.ndarray, action: int) -> None:
    if action == FIRE and state[RELOAD] == 0:
        _add(state, OWN_BULLETS, OWN_BULLET_LIST, state[BOAT_X], state[BOAT_Y], state[FACING], 0)
        state[RELOAD] = RELOAD_TIME
    sideways = int(action == RIGHT) - int(action == LEFT)
    state[BOAT_X] = clamp(state[BOAT_X] + sideways, 0, 9)
    state[BOAT_Y] = clamp(state[BOAT_Y] + int(action == DOWN) - int(action == UP), 0, DEEPEST)
    if sideways != 0:
        state[FACING] = sideways


@scalar
def _spawn_enemy(state: np.ndarray, key: np.uint64, first_draw: int) -> None:
    """Nothing spawns in a row in which something comes the other way."""
    from_left = chance(key, first_draw + ENEMY_FROM_LEFT, 1 / 2)
    y = 1 + pick(key, first_draw + ENEMY_ROW, DEEPEST)
    heading = 1 if from_left else -1
    if _comes(state, FISH, FISH_LIST, y, -heading) or _comes(state, BOATS, BOAT_LIST, y, -heading):
        return
    x = 0 if from_left else 9
    if chance(key, first_draw + ENEMY_IS_BOAT, 1 / 3):
        boat = _add(state, BOATS, BOAT_LIST, x, y, heading, state[MOVE_INTERVAL])
        state[boat + SHOT_WAIT] = ENEMY_RELOAD_TIME
    else:
        _add(state, FISH, FISH_LIST, x, y, heading, state[MOVE_INTERVAL])


@scalar
def _spawn_diver(state: np.ndarray, key: np.uint64, first_draw: int) -> None:
    from_left = chance(key, first_draw + DIVER_FROM_LEFT, 1 / 2)
    y = 1 + pick(key, first_draw + DIVER_ROW, DEEPEST)
    _add(state, DIVERS, DIVER_LIST, 0 if from_left else 9, y, 1 if from_left else -1, DIVER_MOVE_INTERVAL)


@scalar
def _move_own_bullets(state: np.ndarray) -> int:
    """Returns how many enemies they hit; fish are looked at before boats."""
    killed = 0
    for i in range(state[OWN_BULLETS] - 1, -1, -1):
        bullet = OWN_BULLET_LIST + SIZE * i
        state[bullet + X] += state[bullet + HEADING]
        gone = _is_out(state, bullet)
        if not gone and (_take_at(state, FISH, FISH_LIST, bullet) or _take_at(state, BOATS, BOAT_LIST, bullet)):
            gone = True
            killed += 1
        if gone:
            _remove(state, OWN_BULLETS, OWN_BULLET_LIST, i)
    return killed


@scalar
def _move_divers(state: np.ndarray) -> None:
    """A diver comes aboard where the boat meets it, before or after its move, while there is room."""
    for i in range(state[DIVERS] - 1, -1, -1):
        diver = DIVER_LIST + SIZE * i
        room = state[DIVERS_ABOARD] < FULL_CREW
        aboard = room and _meets_boat(state, diver)
        gone = False
        if not aboard and _moves_now(state, diver, DIVER_MOVE_INTERVAL):
            gone = _is_out(state, diver)
            aboard = room and _meets_boat(state, diver)
        if aboard:
            state[DIVERS_ABOARD] += 1
        if aboard or gone:
            _remove(state, DIVERS, DIVER_LIST, i)


@scalar
def _move_enemies(state: np.ndarray, count: int, first: int, armed: bool) -> tuple[int, bool]:
    """Returns how many swam into the boat's bullets and whether one touched the boat. The gone still shoot."""
    killed, hit = 0, False
    for i in range(state[count] - 1, -1, -1):
        enemy = first + SIZE * i
        hit = hit or _meets_boat(state, enemy)
        gone = False
        if _moves_now(state, enemy, state[MOVE_INTERVAL]):
            if _is_out(state, enemy):
                gone = True
            elif _meets_boat(state, enemy):
                hit = True
            elif _take_at(state, OWN_BULLETS, OWN_BULLET_LIST, enemy):
                gone = True
                killed += 1
        if armed:
            _shoot(state, enemy)
        if gone:
            _remove(state, count, first, i)
    return killed, hit


@scalar
def _shoot(state: np.ndarray, boat: int) -> None:
    if state[boat + SHOT_WAIT] > 0:
        state[boat + SHOT_WAIT] -= 1
        return
    state[boat + SHOT_WAIT] = ENEMY_RELOAD_TIME
    _add(state, BULLETS, BULLET_LIST, state[boat + X], state[boat + Y], state[boat + HEADING], 0)


@scalar
def _move_bullets(state: np.ndarray) -> bool:
    """Whether one hits the boat, before or after its move."""
    hit = False
    for i in range(state[BULLETS] - 1, -1, -1):
        bullet = BULLET_LIST + SIZE * i
        hit = hit or _meets_boat(state, bullet)
        state[bullet + X] += state[bullet + HEADING]
        hit = hit or _meets_boat(state, bullet)
        if _is_out(state, bullet):
            _remove(state, BULLETS, BULLET_LIST, i)
    return hit


@scalar
def _breathe(state: np.ndarray) -> tuple[int, bool]:
    """Use or fill up oxygen; returns the reward for surfacing and whether the episode ends."""
    drowned = state[OXYGEN] <= 0
    if state[BOAT_Y] > 0:
        state[OXYGEN] -= 1
        state[AT_SURFACE] = 0
    elif not state[AT_SURFACE]:
        if state[DIVERS_ABOARD] == 0:
            return 0, True
        return _surface(state), drowned
    return 0, drowned


@scalar
def _surface(state: np.ndarray) -> int:
    bonus = 0
    if state[DIVERS_ABOARD] == FULL_CREW:
        state[DIVERS_ABOARD] = 0
        bonus = _gauge(state[OXYGEN])
    state[DIVERS_ABOARD] = clamp(state[DIVERS_ABOARD] - 1, LEAST_DIVERS, FULL_CREW)
    state[AT_SURFACE] = 1
    state[OXYGEN] = FULL_OXYGEN
    if state[ENEMY_INTERVAL] > 1:
        if state[MOVE_INTERVAL] > LAST_MOVE_INTERVAL and state[SURFACINGS] % 2:
            state[MOVE_INTERVAL] -= 1
        state[ENEMY_INTERVAL] -= 1
        state[SURFACINGS] += 1
    return bonus


@scalar
def _gauge(oxygen: int) -> int:
    return clamp(oxygen, 0, FULL_OXYGEN) * 10 // FULL_OXYGEN


@scalar
def _add(state: np.ndarray, count: int, first: int, x: int, y: int, heading: int, wait: int) -> int:
    swimmer = first + SIZE * state[count]
    state[swimmer + X], state[swimmer + Y], state[swimmer + HEADING], state[swimmer + WAIT] = x, y, heading, wait
    state[count] += 1
    return swimmer


@scalar
def _remove(state: np.ndarray, count: int, first: int, i: int) -> None:
    state[count] -= 1
    for k in range(first + SIZE * i, first + SIZE * state[count]):
        state[k] = state[k + SIZE]


@scalar
def _take_at(state: np.ndarray, count: int, first: int, swimmer: int) -> bool:
    """Remove the first of a list that is where `swimmer` is, and say whether there was one."""
    for i in range(state[count]):
        other = first + SIZE * i
        if state[other + X] == state[swimmer + X] and state[other + Y] == state[swimmer + Y]:
            _remove(state, count, first, i)
            return True
    return False


@scalar
def _comes(state: np.ndarray, count: int, first: int, y: int, heading: int) -> bool:
    for i in range(state[count]):
        enemy = first + SIZE * i
        if state[enemy + Y] == y and state[enemy + HEADING] == heading:
            return True
    return False


@scalar
def _moves_now(state: np.ndarray, swimmer: int, interval: int) -> bool:
    """Wait one more step, or move."""
    if state[swimmer + WAIT] > 0:
        state[swimmer + WAIT] -= 1
        return False
    state[swimmer + WAIT] = interval
    state[swimmer + X] += state[swimmer + HEADING]
    return True


@scalar
def _is_out(state: np.ndarray, swimmer: int) -> bool:
    return state[swimmer + X] < 0 or state[swimmer + X] > 9


@scalar
def _meets_boat(state: np.ndarray, swimmer: int) -> bool:
    return state[swimmer + X] == state[BOAT_X] and state[swimmer + Y] == state[BOAT_Y]


@scalar
def _draw(state: np.ndarray, picture: np.ndarray) -> None:
    """Clearing the picture costs no more, measured, than erasing what was in it."""
    picture[:] = 0
    picture[cell(state[BOAT_X], state[BOAT_Y], FRONT, CHANNELS)] = 1
    picture[cell(state[BOAT_X] - state[FACING], state[BOAT_Y], BACK, CHANNELS)] = 1
    oxygen = _gauge(state[OXYGEN])
    for x in range(10):
        picture[cell(x, GAUGE_ROW, OXYGEN_GAUGE, CHANNELS)] = x < oxygen
    for x in range(9 - FULL_CREW, 9):
        picture[cell(x, GAUGE_ROW, DIVER_GAUGE, CHANNELS)] = x >= 9 - state[DIVERS_ABOARD]
    _draw_list(state, picture, OWN_BULLETS, OWN_BULLET_LIST, OWN_BULLET, False)
    _draw_list(state, picture, BULLETS, BULLET_LIST, ENEMY_BULLET, False)
    _draw_list(state, picture, FISH, FISH_LIST, ENEMY_FISH, True)
    _draw_list(state, picture, BOATS, BOAT_LIST, ENEMY_BOAT, True)
    _draw_list(state, picture, DIVERS, DIVER_LIST, DIVER, True)


@scalar
def _draw_list(state: np.ndarray, picture: np.ndarray, count: int, first: int, channel: int, trailing: bool) -> None:
    for i in range(state[count]):
        swimmer = first + SIZE * i
        x, y = state[swimmer + X], state[swimmer + Y]
        picture[cell(x, y, channel, CHANNELS)] = 1
        behind = x - state[swimmer + HEADING]
        if trailing and 0 <= behind <= 9:
            picture[cell(behind, y, TRAIL, CHANNELS)] = 1
