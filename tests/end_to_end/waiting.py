"""Waiting for a condition, always with a deadline, and never by guessing how long something takes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# How often a condition is looked at. Conditions here are about other processes, which cannot wake us.
POLL_SECONDS = 0.01


class DeadlineError(AssertionError):
    """The condition did not come true in time."""


def wait_until(condition: Callable[[], T], what: str, seconds: float = 30, poll: float = POLL_SECONDS) -> T:
    """The first true value of `condition`; DeadlineError, naming `what`, if there is none within `seconds`."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise DeadlineError(f"{what}: not within {seconds} seconds")
        pause.wait(poll)


def let_pass(seconds: float) -> None:
    """Lets a span of time pass that is itself what a test is about (a moment drawn from a seed), not a guess."""
    threading.Event().wait(seconds)


def is_closed(plain: socket.socket) -> bool:
    """Whether the other side has closed it; what it said before is thrown away."""
    plain.settimeout(0)
    try:
        while plain.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
