"""What to do after each error, and how often and how long: as client/failure_rules and client/retry_budget do."""

from __future__ import annotations

import enum
import random
import time

import grpc

from weightstream.errors import WeightStreamError
from weightstream.limits import FIRST_BACKOFF_SECONDS, MOST_ATTEMPTS, MOST_BACKOFF_SECONDS


class CallKind(enum.Enum):
    """What a call is about, as far as a failure's remedy depends on it; READ changes nothing on the server."""

    BEGIN = enum.auto()
    PUSH = enum.auto()
    COMMIT = enum.auto()
    READ = enum.auto()


class Remedy(enum.Enum):
    """The next step after a failure."""

    GIVE_UP = enum.auto()
    RETRY = enum.auto()
    BEGIN_AGAIN = enum.auto()
    ASK_WHETHER_COMMITTED = enum.auto()
    START_OVER = enum.auto()
    """Abort the update, and begin again."""


_LOST_ON_THE_WAY = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}
_RULES = {
    # Damaged on the way: the range stays missing, and a resend heals it.
    (grpc.StatusCode.DATA_LOSS, CallKind.PUSH): Remedy.RETRY,
    (grpc.StatusCode.DATA_LOSS, CallKind.READ): Remedy.RETRY,
    # What began the update was damaged on the way.
    (grpc.StatusCode.DATA_LOSS, CallKind.COMMIT): Remedy.START_OVER,
    # An update that the server does not know: it was restarted.
    (grpc.StatusCode.NOT_FOUND, CallKind.PUSH): Remedy.BEGIN_AGAIN,
    (grpc.StatusCode.NOT_FOUND, CallKind.COMMIT): Remedy.ASK_WHETHER_COMMITTED,
    (grpc.StatusCode.ALREADY_EXISTS, CallKind.COMMIT): Remedy.ASK_WHETHER_COMMITTED,
    # A commit before every byte has landed.
    (grpc.StatusCode.FAILED_PRECONDITION, CallKind.COMMIT): Remedy.BEGIN_AGAIN,
}


def remedy_for(kind: CallKind, error: WeightStreamError) -> Remedy:
    """What to do after an error of a call that was not cancelled by us."""
    # A stream that the other side, or something in between, cut off: the code is that of the reset's number.
    if "RST_STREAM" in error.message or error.message.startswith("Stream removed"):
        return Remedy.RETRY
    if error.code in _LOST_ON_THE_WAY:
        return Remedy.RETRY
    return _RULES.get((error.code, kind), Remedy.GIVE_UP)


class RetryBudget:
    """Two things use it up: an outage of `outage_limit` seconds, and `MOST_ATTEMPTS` attempts in a row that brought
    nothing new. Waits between attempts double, each shortened by a random part of up to a half."""

    def __init__(self, outage_limit: float) -> None:
        self._outage_limit = outage_limit
        self._outage_began: float | None = None
        self._unanswered = 0
        self._fruitless = 0

    def answered(self) -> None:
        """An outage is over."""
        self._unanswered = 0
        self._outage_began = None

    def progressed(self) -> None:
        """New bytes landed: everything starts from the beginning."""
        self.answered()
        self._fruitless = 0

    def last_alive(self, at: float) -> None:
        """An outage began then, if none was known."""
        if self._outage_began is None:
            self._outage_began = at

    def outage_left(self) -> float:
        """Seconds that the current outage may still last; the whole limit where there is none."""
        if self._outage_began is None:
            return self._outage_limit
        return max(0.0, self._outage_limit - (time.monotonic() - self._outage_began))

    def no_answer(self, began: float, cause: WeightStreamError) -> float:
        """Seconds to wait before the next attempt; raises the cause once the limit has passed."""
        self.last_alive(began)
        left = self.outage_left()
        if left <= 0:
            raise cause.within(f"no answer for {self._outage_limit:g} seconds")
        self._unanswered += 1
        return min(self._backoff(), left)

    def fruitless(self, cause: WeightStreamError) -> float:
        """The same after an attempt that was answered and brought nothing new."""
        self._fruitless += 1
        if self._fruitless >= MOST_ATTEMPTS:
            raise cause.within(f"gave up after {self._fruitless} attempts without a new byte landed")
        return self._backoff()

    @staticmethod
    def short_wait() -> float:
        """For an attempt that is not known to be fruitless."""
        return FIRST_BACKOFF_SECONDS * random.uniform(0.5, 1)

    def _backoff(self) -> float:
        doublings = max(0, min(self._fruitless + self._unanswered - 1, 20))
        whole = min(MOST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * float(1 << doublings))
        return whole * random.uniform(0.5, 1)
