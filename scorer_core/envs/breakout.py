"""Breakout. A ball travels along diagonals; a paddle on the bottom row sends it back up against three rows of bricks.

A brick gives 1. Walls and bricks reflect the ball; a brick struck right after another stays whole, so the ball passes
through. The paddle under the ball's old column mirrors it, under its new column sends it back where it came from; a
ball that finds neither is lost, and the episode ends. The ball reaching the bottom row with no brick left brings three
new rows. The picture is the brick map: bricks are kept nowhere else.
"""

import numpy as np

from scorer_core.envs.rules import LEFT, NO_OP, OWN_DRAWS, OWN_STATE, RIGHT, Rules, cell, clamp, pick, scalar

ACTIONS = (NO_OP, LEFT, RIGHT)

PADDLE, BALL, TRAIL, BRICK = range(4)
CHANNELS = 4

PADDLE_X, BALL_X, BALL_Y, MOVE_X, MOVE_Y, TRAIL_X, TRAIL_Y, BRICKS_LEFT, STRIKING = range(OWN_STATE, OWN_STATE + 9)
STATE_SIZE = OWN_STATE + 9

SIDE = OWN_DRAWS
DRAWS = OWN_DRAWS + 1

TOP_BRICK_ROW, BRICK_ROWS_END = 1, 4
ALL_BRICKS = 30


@scalar
def reset(state: np.ndarray, picture: np.ndarray, key: np.uint64, first_draw: int, rules: Rules) -> None:
    from_right = pick(key, first_draw + SIDE, 2)
    state[PADDLE_X] = 4
    state[BALL_X] = state[TRAIL_X] = 9 * from_right
    state[BALL_Y] = state[TRAIL_Y] = 3
    state[MOVE_X] = 1 - 2 * from_right
    state[MOVE_Y] = 1
    state[STRIKING] = 0
    picture[:] = 0
    _lay_bricks(state, picture)
    _draw_movers(state, picture, 1)


@scalar
def step(
    state: np.ndarray,
    picture: np.ndarray,
    action: int,
    key: np.uint64,
    first_draw: int,
    rules: Rules,
) -> tuple[int, bool]:
    _draw_movers(state, picture, 0)
    state[PADDLE_X] = clamp(state[PADDLE_X] + int(action == RIGHT) - int(action == LEFT), 0, 9)
    reward, lost = _move_ball(state, picture)
    _draw_movers(state, picture, 1)
    return reward, lost


@scalar
def _move_ball(state: np.ndarray, picture: np.ndarray) -> tuple[int, bool]:
    old_x, old_y = state[BALL_X], state[BALL_Y]
    x, y = old_x + state[MOVE_X], old_y + state[MOVE_Y]
    reward, lost, striking = 0, False, False
    if x < 0 or x > 9:
        x = old_x
        state[MOVE_X] = -state[MOVE_X]
    if y < 0:
        y = 0
        state[MOVE_Y] = 1
    elif picture[cell(x, y, BRICK, CHANNELS)]:
        striking = True
        if not state[STRIKING]:
            reward = 1
            picture[cell(x, y, BRICK, CHANNELS)] = 0
            state[BRICKS_LEFT] -= 1
            y = old_y
            state[MOVE_Y] = -state[MOVE_Y]
    elif y == 9:
        if state[BRICKS_LEFT] == 0:
            _lay_bricks(state, picture)
        if state[PADDLE_X] == old_x:
            y = old_y
            state[MOVE_Y] = -1
        elif state[PADDLE_X] == x:
            y = old_y
            state[MOVE_X] = -state[MOVE_X]
            state[MOVE_Y] = -1
        else:
            lost = True
    state[STRIKING] = striking
    state[TRAIL_X], state[TRAIL_Y] = old_x, old_y
    state[BALL_X], state[BALL_Y] = x, y
    return reward, lost


@scalar
def _lay_bricks(state: np.ndarray, picture: np.ndarray) -> None:
    for y in range(TOP_BRICK_ROW, BRICK_ROWS_END):
        for x in range(10):
            picture[cell(x, y, BRICK, CHANNELS)] = 1
    state[BRICKS_LEFT] = ALL_BRICKS


@scalar
def _draw_movers(state: np.ndarray, picture: np.ndarray, lit: int) -> None:
    picture[cell(state[PADDLE_X], 9, PADDLE, CHANNELS)] = lit
    picture[cell(state[BALL_X], state[BALL_Y], BALL, CHANNELS)] = lit
    picture[cell(state[TRAIL_X], state[TRAIL_Y], TRAIL, CHANNELS)] = lit
