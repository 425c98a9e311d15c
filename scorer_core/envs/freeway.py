"""Freeway. The chicken walks up and down one column, at most every third step; a car drives in each of eight rows.

Arriving at the top gives 1, draws new speeds for all cars, and puts the chicken back at the bottom; so does being
hit, without the reward. Cars come in again on the other side. The trail cell behind a car lies in the channel of its
speed. Nothing but the time limit ends the episode.
"""

import numpy as np

from scorer_core.envs.rules import DOWN, NO_OP, OWN_DRAWS, OWN_STATE, UP, Rules, cell, chance, clamp, pick, scalar

ACTIONS = (NO_OP, UP, DOWN)

CHICKEN, CAR, FASTEST_TRAIL = range(3)
SPEEDS = 5
CHANNELS = FASTEST_TRAIL + SPEEDS

CHICKEN_Y, REST = range(OWN_STATE, OWN_STATE + 2)
CARS = 8
X = OWN_STATE + 2  # of each car
TIMER = X + CARS  # of each car: steps to wait before it moves
INTERVAL = TIMER + CARS  # of each car
HEADING = INTERVAL + CARS  # of each car: 1 rightwards, -1 leftwards
MOVERS = HEADING + CARS  # the cars that move in this step
STATE_SIZE = MOVERS + CARS

RESET_INTERVALS = OWN_DRAWS  # for each car
RESET_HEADINGS = RESET_INTERVALS + CARS
NEW_INTERVALS = RESET_HEADINGS + CARS
NEW_HEADINGS = NEW_INTERVALS + CARS
DRAWS = NEW_HEADINGS + CARS

CHICKEN_X = 4
START_Y = 9
REST_AFTER_MOVE = 3
AROUND = np.array([9, *range(10), 0])  # where a car is that has driven to column -1, 0, .. or 10


@scalar
def reset(state: np.ndarray, picture: np.ndarray, key: np.uint64, first_draw: int, rules: Rules) -> None:
    state[CHICKEN_Y] = START_Y
    state[REST] = REST_AFTER_MOVE
    picture[:] = 0
    picture[cell(CHICKEN_X, START_Y, CHICKEN, CHANNELS)] = 1
    for car in range(CARS):
        state[X + car] = 0
        _set_off(state, car, key, first_draw + RESET_INTERVALS, first_draw + RESET_HEADINGS)
        _draw_car(state, picture, car, 1)


@scalar
def step(
    state: np.ndarray, picture: np.ndarray, action: int, key: np.uint64, first_draw: int, rules: Rules
) -> tuple[int, bool]:
    picture[cell(CHICKEN_X, state[CHICKEN_Y], CHICKEN, CHANNELS)] = 0
    _walk(state, action)
    arrived = state[CHICKEN_Y] == 0
    if arrived:
        state[CHICKEN_Y] = START_Y
        for car in range(CARS):
            _draw_car(state, picture, car, 0)
            _set_off(state, car, key, first_draw + NEW_INTERVALS, first_draw + NEW_HEADINGS)
            _draw_car(state, picture, car, 1)
    _send_home_if_hit(state)
    _drive(state, picture)
    _send_home_if_hit(state)
    picture[cell(CHICKEN_X, state[CHICKEN_Y], CHICKEN, CHANNELS)] = 1
    return int(arrived), False


@scalar
def _walk(state: np.ndarray, action: int) -> None:
    """Without a branch, because the processor cannot predict whether the chicken rests."""
    rest = state[REST]
    rests = int(rest > 0)
    way = (int(action == DOWN) - int(action == UP)) * (1 - rests)
    state[CHICKEN_Y] = clamp(state[CHICKEN_Y] + way, 0, START_Y)
    state[REST] = rest - rests + (REST_AFTER_MOVE - 1) * way * way


@scalar
def _send_home_if_hit(state: np.ndarray) -> None:
    """Car c drives in row c + 1; no car drives in the bottom row."""
    y = state[CHICKEN_Y]
    if (state[X + y - 1] ^ CHICKEN_X) | int(y == START_Y) == 0:  # one branch, not two
        state[CHICKEN_Y] = START_Y


@scalar
def _drive(state: np.ndarray, picture: np.ndarray) -> None:
    """First list the cars that move, without a branch, because the processor cannot predict which."""
    movers = 0
    for car in range(CARS):
        moves = int(state[TIMER + car] == 0)
        state[TIMER + car] += moves * (state[INTERVAL + car] + 1) - 1
        state[MOVERS + movers] = car
        movers += moves
    for i in range(movers):
        car = int(state[MOVERS + i])
        _draw_car(state, picture, car, 0)
        state[X + car] = _around(state[X + car] + state[HEADING + car])
        _draw_car(state, picture, car, 1)


@scalar
def _set_off(state: np.ndarray, car: int, key: np.uint64, intervals: int, headings: int) -> None:
    state[INTERVAL + car] = state[TIMER + car] = 1 + pick(key, intervals + car, SPEEDS)
    state[HEADING + car] = -1 if chance(key, headings + car, 1 / 2) else 1


@scalar
def _around(x: int) -> int:
    return AROUND[np.uint64(x + 1)]


@scalar
def _draw_car(state: np.ndarray, picture: np.ndarray, car: int, lit: int) -> None:
    x = state[X + car]
    picture[cell(x, car + 1, CAR, CHANNELS)] = lit
    picture[cell(_around(x - state[HEADING + car]), car + 1, FASTEST_TRAIL + state[INTERVAL + car] - 1, CHANNELS)] = lit
