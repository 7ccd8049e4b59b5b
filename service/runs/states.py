"""The states of a run and every move between them. The only code that changes a state."""

from enum import StrEnum


class State(StrEnum):
    QUEUED = "queued"
    LAUNCHING = "launching"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Move(StrEnum):
    # a person's
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    # the reconciler's
    LAUNCH = "launch"
    START = "start"
    RETRY = "retry"
    SUCCEED = "succeed"
    FAIL = "fail"
    STOPPED = "stopped"


S, M = State, Move

MOVES: dict[State, dict[Move, State]] = {
    S.QUEUED: {M.LAUNCH: S.LAUNCHING, M.PAUSE: S.PAUSED, M.CANCEL: S.CANCELLED, M.FAIL: S.FAILED},
    S.LAUNCHING: {
        M.START: S.RUNNING,
        M.PAUSE: S.PAUSING,
        M.CANCEL: S.CANCELLING,
        M.RETRY: S.QUEUED,
        M.SUCCEED: S.SUCCEEDED,
        M.FAIL: S.FAILED,
    },
    S.RUNNING: {M.PAUSE: S.PAUSING, M.CANCEL: S.CANCELLING, M.RETRY: S.QUEUED, M.SUCCEED: S.SUCCEEDED, M.FAIL: S.FAILED},
    # a run that reaches its end before the stop signal reaches it has succeeded
    S.PAUSING: {M.STOPPED: S.PAUSED, M.CANCEL: S.CANCELLING, M.SUCCEED: S.SUCCEEDED},
    S.PAUSED: {M.RESUME: S.QUEUED, M.CANCEL: S.CANCELLED},
    S.CANCELLING: {M.STOPPED: S.CANCELLED},
    S.CANCELLED: {},
    S.SUCCEEDED: {},
    # what failed can be mended outside (a disk, a data folder): the last checkpoint is still there
    S.FAILED: {M.RESUME: S.QUEUED},
}

PERSONAL = (M.PAUSE, M.RESUME, M.CANCEL)
HOLDS_MACHINES = (S.LAUNCHING, S.RUNNING, S.PAUSING, S.CANCELLING)
ACTIVE = (S.QUEUED, *HOLDS_MACHINES)
"""What the reconciler looks at."""
OVER = (S.CANCELLED, S.SUCCEEDED, S.FAILED)


class NoSuchMove(Exception):
    """The state has no such move. `moves` are those of a person that it has."""

    def __init__(self, state: State, move: Move) -> None:
        self.state, self.move, self.moves = state, move, personal_moves(state)
        super().__init__(f"a run that is {state} cannot {move}")


def after(state: State, move: Move) -> State:
    """The state that `move` leads to. Raises NoSuchMove."""
    try:
        return MOVES[state][move]
    except KeyError:
        raise NoSuchMove(state, move) from None


def personal_moves(state: State) -> list[Move]:
    """What a person may ask of a run in `state`."""
    return [move for move in PERSONAL if move in MOVES[state]]
