"""Seaquest. A submarine collects divers and shoots fish and enemy submarines while its oxygen runs out.

An enemy shot gives 1. At the surface a diver is handed over and the oxygen is filled up; coming up with six divers
also gives up to 10 for the oxygen left, and coming up with none ends the episode, as do touching an enemy or its
bullet and running out of oxygen. After each surfacing enemies come faster. (Handing over six divers leaves the count
at -1, so that from then on the boat may surface for free until it has picked up as many again: the original's way.)

Fish, enemy boats and divers are the swimmers: one list, oldest first, since the order decides which of two a bullet
takes. In most steps none of them acts. The list is processed only if one is due to move or to shoot, or can come
aboard; between these steps, collisions with the boat and its bullets are read from the picture.

The lists cannot overflow. At most one enemy spawns per step; each is gone within 30 steps and shoots at most once in
the 10 steps of its bullet. There are at most two divers and two own bullets at a time. Own bullets are
never in one place: the second is fired five steps after the first, from at most four columns away.
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
    lesser,
    paint,
    pick,
    read_pixel,
    scalar,
)

ACTIONS = ALL_ACTIONS

FRONT, BACK, OWN_BULLET, TRAIL, ENEMY_BULLET, ENEMY_FISH, ENEMY_BOAT, OXYGEN_GAUGE, DIVER_GAUGE, DIVER = range(10)
CHANNELS = 10
COLUMN, ROW = CHANNELS, 10 * CHANNELS  # how far the next cell is in the flat picture

(
    BOAT,  # its cell, and
    FACING,  # how far the next one is, as of whatever moves
    OXYGEN,
    DIVERS_ABOARD,
    AT_SURFACE,
    RELOAD,
    ENEMY_TIMER,
    ENEMY_INTERVAL,
    MOVE_INTERVAL,
    DIVER_TIMER,
    SURFACINGS,
    RESTED,  # steps since the swimmers were last processed
    DUE,  # so many steps after that the first of them moves or shoots
    SWIMMERS,  # how many there are, as the next
    BULLETS,
) = range(OWN_STATE, OWN_STATE + 15)
# Of whatever moves: its cell, as the index of that cell's first channel; how far the next cell is; how many cells
# there are to the edge. A swimmer is kept where it is drawn, at its cell and channel.
AT, STRIDE, TO_GO = range(3)
BULLET_SIZE = 3
BODY = AT
TAIL, KIND, WAIT, SHOT_WAIT = range(3, 7)  # waits are in steps since the swimmers were last processed
SWIMMER_SIZE = 7
OWN_BULLETS = 2
OWN_BULLET_LIST = OWN_STATE + 15
# The n-th swimmer and the n-th enemy bullet lie side by side: few are about, and these are then close together.
SLOTS, SLOT_SIZE = 40, SWIMMER_SIZE + BULLET_SIZE
SWIMMER_LIST = OWN_BULLET_LIST + BULLET_SIZE * OWN_BULLETS
BULLET_LIST = SWIMMER_LIST + SWIMMER_SIZE
STATE_SIZE = SWIMMER_LIST + SLOT_SIZE * SLOTS

ENEMY_FROM_LEFT, ENEMY_IS_BOAT, ENEMY_ROW, DIVER_FROM_LEFT, DIVER_ROW = range(OWN_DRAWS, OWN_DRAWS + 5)
DRAWS = OWN_DRAWS + 5

FULL_OXYGEN = 200
FULL_CREW = 6
LEAST_DIVERS = -30_000  # 16 bits hold it; to tell it from the original's, an episode would have to get back from there
DEEPEST = 8
GAUGE_ROW = 9
NOWHERE = GAUGE_ROW * ROW  # a cell in which nothing can be seen of what moves
RELOAD_TIME = 5
ENEMY_RELOAD_TIME = 10
FIRST_ENEMY_INTERVAL = 20
FIRST_MOVE_INTERVAL, LAST_MOVE_INTERVAL = 5, 2
DIVER_INTERVAL = 30
DIVER_MOVE_INTERVAL = 5
NEVER = 20_000  # steps


@scalar
def _gauge(oxygen: int) -> int:
    """How many of its ten cells are lit."""
    return 10 * oxygen // FULL_OXYGEN


# Looked up, since to work it out takes longer: where an action takes the boat from a cell, at the sum of the two; and
# the first cell of the gauge that is no longer lit with so much oxygen less one, or, where all are, one that never is.
GOES_TO = np.array(
    [
        ROW * clamp(y + (action == DOWN) - (action == UP), 0, DEEPEST)
        + COLUMN * clamp(x + (action == RIGHT) - (action == LEFT), 0, 9)
        for y in range(DEEPEST + 1)
        for x in range(10)
        for action in range(COLUMN)
    ],
    dtype=np.int16,
)
UNLIT = np.array(
    [NOWHERE + COLUMN * _gauge(max(oxygen, 0)) + OXYGEN_GAUGE for oxygen in range(-1, FULL_OXYGEN)] + [NOWHERE],
    dtype=np.int16,
)


@scalar
def reset(state: np.ndarray, picture: np.ndarray, key: np.uint64, first_draw: int, rules: Rules) -> None:
    picture[:] = 0
    state[BOAT], state[FACING] = 5 * COLUMN, -COLUMN
    _draw_boat(picture, 5 * COLUMN, -COLUMN, 1)
    state[OXYGEN] = FULL_OXYGEN
    _fill_gauge(picture)
    state[DIVERS_ABOARD] = state[RELOAD] = state[SURFACINGS] = 0
    state[AT_SURFACE] = 1
    state[ENEMY_TIMER] = state[ENEMY_INTERVAL] = FIRST_ENEMY_INTERVAL
    state[MOVE_INTERVAL] = FIRST_MOVE_INTERVAL
    state[DIVER_TIMER] = DIVER_INTERVAL
    state[RESTED], state[DUE] = 0, NEVER
    state[SWIMMERS] = state[BULLETS] = 0
    for i in range(OWN_BULLETS):
        _stop(state, OWN_BULLET_LIST + BULLET_SIZE * i)


@scalar
def step(
    state: np.ndarray, picture: np.ndarray, action: int, key: np.uint64, first_draw: int, rules: Rules
) -> tuple[int, bool]:
    if state[ENEMY_TIMER] == 0:
        _spawn_enemy(state, picture, key, first_draw)
        state[ENEMY_TIMER] = state[ENEMY_INTERVAL]
    if state[DIVER_TIMER] == 0:
        _spawn_diver(state, picture, key, first_draw)
        state[DIVER_TIMER] = DIVER_INTERVAL
    _act(state, picture, action)
    boat = state[BOAT]
    killed, hit = _move_own_bullets(state, picture), 0
    if state[RESTED] == state[DUE] or (read_pixel(picture, boat + DIVER) and state[DIVERS_ABOARD] < FULL_CREW):
        hit = _threats(picture, boat)
        killed += _move_swimmers(state, picture, boat)
    hit |= _threats(picture, boat)
    if state[BULLETS] > 0:
        _move_bullets(state, picture)
        hit |= _threats(picture, boat)
    state[RESTED] += 1
    state[ENEMY_TIMER] -= 1
    state[DIVER_TIMER] -= 1
    state[RELOAD] -= int(state[RELOAD] > 0)
    bonus, drowned = _breathe(state, picture)
    return killed + bonus, (hit | drowned) != 0


@scalar
def _act(state: np.ndarray, picture: np.ndarray, action: int) -> None:
    here, facing = state[BOAT], state[FACING]
    if (action ^ FIRE) | state[RELOAD] == 0:  # one branch, not two
        bullet = OWN_BULLET_LIST + BULLET_SIZE * int(state[OWN_BULLET_LIST + STRIDE] != 0)
        x = here % ROW // COLUMN
        state[bullet + AT], state[bullet + STRIDE] = here, facing
        state[bullet + TO_GO] = 9 - x if facing > 0 else x
        state[RELOAD] = RELOAD_TIME
    _draw_boat(picture, here, facing, 0)
    here = int(GOES_TO[np.uint64(here + action)])
    turn = int(action == RIGHT) - int(action == LEFT)
    facing = facing if turn == 0 else COLUMN * turn
    _draw_boat(picture, here, facing, 1)
    state[BOAT], state[FACING] = here, facing


@scalar
def _draw_boat(picture: np.ndarray, here: int, facing: int, lit: int) -> None:
    paint(picture, here + FRONT, lit)
    paint(picture, here - facing + BACK, lit)


@scalar
def _threats(picture: np.ndarray, at: int) -> int:
    """Not 0 if the picture has a fish, an enemy boat or its bullet there."""
    return (
        read_pixel(picture, at + ENEMY_FISH)
        | read_pixel(picture, at + ENEMY_BOAT)
        | read_pixel(picture, at + ENEMY_BULLET)
    )


@scalar
def _spawn_enemy(state: np.ndarray, picture: np.ndarray, key: np.uint64, first_draw: int) -> None:
    """Nothing spawns in a row in which something comes the other way."""
    from_left = chance(key, first_draw + ENEMY_FROM_LEFT, 1 / 2)
    y = 1 + pick(key, first_draw + ENEMY_ROW, DEEPEST)
    stride = COLUMN if from_left else -COLUMN
    for i in range(state[SWIMMERS]):
        other = SWIMMER_LIST + SLOT_SIZE * i
        in_row = y * ROW <= state[other + BODY] < (y + 1) * ROW
        if in_row and state[other + STRIDE] != stride and state[other + KIND] != DIVER:
            return
    is_boat = chance(key, first_draw + ENEMY_IS_BOAT, 1 / 3)
    _add(state, picture, ENEMY_BOAT if is_boat else ENEMY_FISH, y, stride, state[MOVE_INTERVAL])


@scalar
def _spawn_diver(state: np.ndarray, picture: np.ndarray, key: np.uint64, first_draw: int) -> None:
    from_left = chance(key, first_draw + DIVER_FROM_LEFT, 1 / 2)
    y = 1 + pick(key, first_draw + DIVER_ROW, DEEPEST)
    _add(state, picture, DIVER, y, COLUMN if from_left else -COLUMN, DIVER_MOVE_INTERVAL)


@scalar
def _add(state: np.ndarray, picture: np.ndarray, kind: int, y: int, stride: int, wait: int) -> None:
    swimmer = SWIMMER_LIST + SLOT_SIZE * state[SWIMMERS]
    body, due = y * ROW + (0 if stride > 0 else 9 * COLUMN) + kind, state[RESTED] + wait
    state[swimmer + BODY], state[swimmer + TAIL] = body, NOWHERE + TRAIL
    state[swimmer + STRIDE], state[swimmer + TO_GO], state[swimmer + KIND] = stride, 9, kind
    state[swimmer + WAIT] = due
    state[swimmer + SHOT_WAIT] = state[RESTED] + ENEMY_RELOAD_TIME if kind == ENEMY_BOAT else NEVER
    state[SWIMMERS] += 1
    state[DUE] = lesser(state[DUE], due)
    paint(picture, body, 1)


@scalar
def _move_own_bullets(state: np.ndarray, picture: np.ndarray) -> int:
    """Returns how many enemies they hit. The first is always tested, flying or not: a branch would be slower."""
    first, second = OWN_BULLET_LIST, OWN_BULLET_LIST + BULLET_SIZE
    paint(picture, state[first + AT] + OWN_BULLET, 0)
    if state[second + STRIDE] == 0:
        return _move_own_bullet(state, picture, first)
    paint(picture, state[second + AT] + OWN_BULLET, 0)
    return _move_own_bullet(state, picture, first) + _move_own_bullet(state, picture, second)


@scalar
def _move_own_bullet(state: np.ndarray, picture: np.ndarray, bullet: int) -> int:
    flies = int(state[bullet + STRIDE] != 0)
    at, to_go = state[bullet + AT] + state[bullet + STRIDE], state[bullet + TO_GO] - flies
    if to_go < 0:
        _stop(state, bullet)
        return 0
    if _enemies(picture, at):
        # Of all swimmers there, the oldest fish, otherwise the oldest boat.
        body, i = at + (ENEMY_FISH if read_pixel(picture, at + ENEMY_FISH) else ENEMY_BOAT), 0
        while state[SWIMMER_LIST + SLOT_SIZE * i + BODY] != body:
            i += 1
        _take(state, picture, i)
        _stop(state, bullet)
        return 1
    state[bullet + AT], state[bullet + TO_GO] = at, to_go
    paint(picture, at + OWN_BULLET, flies)
    return 0


@scalar
def _enemies(picture: np.ndarray, at: int) -> int:
    """Not 0 if the picture has a fish or an enemy boat there."""
    return read_pixel(picture, at + ENEMY_FISH) | read_pixel(picture, at + ENEMY_BOAT)


@scalar
def _stop(state: np.ndarray, bullet: int) -> None:
    state[bullet + AT], state[bullet + STRIDE], state[bullet + TO_GO] = NOWHERE, 0, 0


@scalar
def _take(state: np.ndarray, picture: np.ndarray, i: int) -> None:
    """Remove an enemy that met a bullet."""
    _erase(state, picture, SWIMMER_LIST + SLOT_SIZE * i)
    _remove(state, i)
    _draw_swimmers(state, picture)


@scalar
def _move_swimmers(state: np.ndarray, picture: np.ndarray, boat: int) -> int:
    """Move and shoot with all swimmers that are due, and take divers aboard; returns the number of enemies hit.

    A diver comes aboard where the boat meets it, before or after its move. Nothing branches on who is due.
    """
    rested, move_interval = state[RESTED], state[MOVE_INTERVAL]
    for i in range(state[SWIMMERS] - 1, -1, -1):
        swimmer = SWIMMER_LIST + SLOT_SIZE * i
        _erase(state, picture, swimmer)
        body, tail, kind = state[swimmer + BODY], state[swimmer + TAIL], state[swimmer + KIND]
        aboard = body == boat + DIVER and _boards(state, picture)
        wait, shot_wait = state[swimmer + WAIT] - rested, state[swimmer + SHOT_WAIT] - rested
        moves = int(wait == 0)
        state[swimmer + TAIL] = tail + (body - kind + TRAIL - tail) * moves
        body += state[swimmer + STRIDE] * moves
        to_go = state[swimmer + TO_GO] - moves
        state[swimmer + BODY], state[swimmer + TO_GO] = body, to_go
        interval = DIVER_MOVE_INTERVAL if kind == DIVER else move_interval
        state[swimmer + WAIT], state[swimmer + SHOT_WAIT] = wait + (1 + interval) * moves, shot_wait
        if shot_wait == 0:
            state[swimmer + SHOT_WAIT] = 1 + ENEMY_RELOAD_TIME
            if to_go >= 0:
                _shoot(state, swimmer)
        if aboard or to_go < 0 or (body == boat + DIVER and _boards(state, picture)):
            _remove(state, i)
    state[RESTED] = 0
    _draw_swimmers(state, picture)
    return _meet_own_bullets(state, picture)


@scalar
def _boards(state: np.ndarray, picture: np.ndarray) -> bool:
    """Take a diver aboard if the boat is not full."""
    if state[DIVERS_ABOARD] >= FULL_CREW:
        return False
    state[DIVERS_ABOARD] += 1
    _draw_crew(state, picture)
    return True


@scalar
def _shoot(state: np.ndarray, boat: int) -> None:
    bullet = BULLET_LIST + SLOT_SIZE * state[BULLETS]
    state[bullet + AT] = state[boat + BODY] - ENEMY_BOAT
    state[bullet + STRIDE], state[bullet + TO_GO] = state[boat + STRIDE], state[boat + TO_GO]
    state[BULLETS] += 1


@scalar
def _meet_own_bullets(state: np.ndarray, picture: np.ndarray) -> int:
    """Each hits one of the swimmers that moved into it: the newest boat, otherwise the newest fish."""
    killed = 0
    for k in range(OWN_BULLETS):
        bullet = OWN_BULLET_LIST + BULLET_SIZE * k
        at = state[bullet + AT]
        if _enemies(picture, at):
            body, i = at + (ENEMY_BOAT if read_pixel(picture, at + ENEMY_BOAT) else ENEMY_FISH), state[SWIMMERS] - 1
            while state[SWIMMER_LIST + SLOT_SIZE * i + BODY] != body:
                i -= 1
            _take(state, picture, i)
            paint(picture, at + OWN_BULLET, 0)
            _stop(state, bullet)
            killed += 1
    return killed


@scalar
def _move_bullets(state: np.ndarray, picture: np.ndarray) -> None:
    i = 0
    while i < state[BULLETS]:
        bullet = BULLET_LIST + SLOT_SIZE * i
        paint(picture, state[bullet + AT] + ENEMY_BULLET, 0)
        if state[bullet + TO_GO] > 0:
            state[bullet + AT] += state[bullet + STRIDE]
            state[bullet + TO_GO] -= 1
            i += 1
        else:  # the last takes its place
            state[BULLETS] -= 1
            for part in range(BULLET_SIZE):
                state[bullet + part] = state[BULLET_LIST + SLOT_SIZE * state[BULLETS] + part]
    for i in range(state[BULLETS]):
        paint(picture, state[BULLET_LIST + SLOT_SIZE * i + AT] + ENEMY_BULLET, 1)


@scalar
def _breathe(state: np.ndarray, picture: np.ndarray) -> tuple[int, bool]:
    """Use or fill up oxygen; returns the reward for surfacing and whether the episode ends."""
    drowned = state[OXYGEN] <= 0
    deep = int(state[BOAT] >= ROW)
    oxygen = state[OXYGEN] - deep
    state[OXYGEN] = oxygen
    paint(picture, UNLIT[np.uint64(oxygen + 1)], 0)
    if deep | state[AT_SURFACE]:
        state[AT_SURFACE] = 1 - deep
        return 0, drowned
    if state[DIVERS_ABOARD] == 0:
        return 0, True
    return _surface(state, picture), drowned


@scalar
def _surface(state: np.ndarray, picture: np.ndarray) -> int:
    bonus = 0
    if state[DIVERS_ABOARD] == FULL_CREW:
        state[DIVERS_ABOARD] = 0
        bonus = _gauge(state[OXYGEN])
    state[DIVERS_ABOARD] = clamp(state[DIVERS_ABOARD] - 1, LEAST_DIVERS, FULL_CREW)
    _draw_crew(state, picture)
    state[AT_SURFACE] = 1
    state[OXYGEN] = FULL_OXYGEN
    _fill_gauge(picture)
    if state[ENEMY_INTERVAL] > 1:
        if state[MOVE_INTERVAL] > LAST_MOVE_INTERVAL and state[SURFACINGS] % 2:
            state[MOVE_INTERVAL] -= 1
        state[ENEMY_INTERVAL] -= 1
        state[SURFACINGS] += 1
    return bonus


@scalar
def _fill_gauge(picture: np.ndarray) -> None:
    for x in range(10):
        picture[cell(x, GAUGE_ROW, OXYGEN_GAUGE, CHANNELS)] = 1


@scalar
def _draw_crew(state: np.ndarray, picture: np.ndarray) -> None:
    for x in range(9 - FULL_CREW, 9):
        picture[cell(x, GAUGE_ROW, DIVER_GAUGE, CHANNELS)] = x >= 9 - state[DIVERS_ABOARD]


@scalar
def _remove(state: np.ndarray, i: int) -> None:
    """Of the swimmers, the others of which stay in their order."""
    state[SWIMMERS] -= 1
    for k in range(i, state[SWIMMERS]):
        swimmer = SWIMMER_LIST + SLOT_SIZE * k
        for part in range(SWIMMER_SIZE):
            state[swimmer + part] = state[swimmer + SLOT_SIZE + part]


@scalar
def _draw_swimmers(state: np.ndarray, picture: np.ndarray) -> None:
    """All of them, since to erase one of two in one place erases both; and see when the first is due."""
    due, i = NEVER, 0
    while i < state[SWIMMERS]:
        swimmer = SWIMMER_LIST + SLOT_SIZE * i
        paint(picture, state[swimmer + BODY], 1)
        paint(picture, state[swimmer + TAIL], state[swimmer + TAIL] != NOWHERE + TRAIL)
        due = lesser(due, lesser(state[swimmer + WAIT], state[swimmer + SHOT_WAIT]))
        i += 1
    state[DUE] = due


@scalar
def _erase(state: np.ndarray, picture: np.ndarray, swimmer: int) -> None:
    paint(picture, state[swimmer + BODY], 0)
    paint(picture, state[swimmer + TAIL], 0)
