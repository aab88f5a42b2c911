"""How each kind of fault is made. Every function returns once its fault is over, or lasts until the push has ended."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.end_to_end.processes import Command
from tests.end_to_end.waiting import DeadlineError, let_pass, wait_until
from tests.faults.receiver import Receiver, jump_clock
from tests.faults.resends import Landed, Mark
from tests.faults.schedule import KIB, LONG_STOP, MOST_SMALL_BYTES, Fault, Kind, seconds_of
from tests.faults.stage import CLIENT_SECONDS, Stage
from tests.faults.witness import BrokenInvariant

# A push that stands still longer than this is not waited for by a fault.
_TRIGGER_SECONDS = 60.0
# A push or pull takes no longer; play.py waits for its end.
_MOST_SECONDS = 240.0
# The others must have everything this long after one has stopped: they share a line's end and two cores at most.
_OTHERS_SECONDS = 30.0
# Waits that are under way follow the wall clock, in Abseil and so in gRPC's timers: set back, they last as much longer,
# and a client that has lost its connections then gives up. docs/reliability.md says so.
_MOST_BACK_SECONDS = 5.0
_LANDED_POLL_SECONDS = 0.2
# While a server may be down or stopped it can't be asked what has landed.
_SPEECHLESS = {Kind.SERVER_KILL, Kind.SERVER_STOP, Kind.COMMIT_REPLY_AND_KILL, Kind.SERVER_DEATH}
# These end no connection.
_HARMLESS = {Kind.SERVER_CLOCK, Kind.CLIENT_CLOCK, Kind.DELAY, Kind.BANDWIDTH}
_OF_THE_CLIENT = {Kind.CLIENT_KILL, Kind.CLIENT_STOP, Kind.TWO_SENDERS}
_COMMIT_METHOD = "weightstream.v1.WeightStream/CommitUpdate"


@dataclass
class Attempt:
    """A push that is under way: the client's process, which a fault may kill and start again."""

    stage: Stage
    version: int
    faults: tuple[Fault, ...]
    start: Callable[[], Command]
    # Of the client's process now.
    command: Command = field(init=False)
    # What had landed on each server when the client was killed: none of it may be sent again.
    landed_at_kill: dict[int, int] = field(default_factory=dict)
    # What was seen to have landed on each server since the push began, in the middle of it.
    landed: dict[int, list[Landed]] = field(default_factory=dict)
    # Of each server's log, where the push began, and where the client's process did.
    first_positions: dict[int, int] = field(default_factory=dict)
    log_positions: dict[int, int] = field(default_factory=dict)
    killed_client: bool = False
    second_sender: Command | None = None
    passed_before: dict[int, int] = field(default_factory=dict)
    # Of each server, the moments at which nothing was under way to it: the first is before the push.
    marks: dict[int, list[Mark]] = field(default_factory=dict)
    # The client's process has been killed, and comes again.
    _between_clients: bool = False

    def begin(self) -> None:
        """Starts the client, for the first time or again."""
        for receiver in self.stage.receivers:
            self.log_positions[receiver.number] = receiver.log_position()
            if receiver.number not in self.first_positions:
                self.first_positions[receiver.number] = self.log_positions[receiver.number]
                self.mark(receiver)
            self.passed_before[receiver.number] = receiver.proxy.passed_bytes
        self.command = self.start()
        self._between_clients = False

    def kill_client(self) -> None:
        """begin() must follow."""
        self._between_clients = True
        self.command.kill()
        self.killed_client = True

    def running(self) -> bool:
        return self._between_clients or self.command.running()

    def mark(self, receiver: Receiver, rest_bytes: int | None = 0) -> None:
        """Nothing is under way to the server now; what a round that goes on may still send is given."""
        mark = Mark(receiver.log_position(), receiver.proxy.passed_bytes, rest_bytes)
        self.marks.setdefault(receiver.number, []).append(mark)

    def passed(self, receiver: Receiver) -> int:
        return receiver.proxy.passed_bytes - self.passed_before[receiver.number]

    def passed_in_all(self, receiver: Receiver) -> int:
        """Since the push began, by whichever process."""
        return receiver.proxy.passed_bytes - self.marks[receiver.number][0].passed_bytes

    def note_landed(self, receiver: Receiver, of: Fault) -> int | None:
        """Asks the server what has landed: whatever comes next, that is not sent to it again.

        What has not landed of it; None if there is nothing on its way, or the server cannot be asked.
        """
        on_top = {fault.kind for fault in self.faults if fault is not of and fault.server == receiver.number}
        if on_top & _SPEECHLESS:
            return None
        landed = receiver.landed(self.version)
        self.landed.setdefault(receiver.number, []).extend(landed)
        return sum(each.total_bytes - each.landed_bytes for each in landed) if landed else None

    def undisturbed(self, receiver: Receiver) -> bool:
        """Nothing was to break what a cut or a kill of the client had left of this push to the server."""
        broken = [f for f in self.faults if f.kind not in _HARMLESS]
        return len([f for f in broken if f.server == receiver.number or f.kind in _OF_THE_CLIENT]) <= 1

    def note_landed_at_rest(self, receiver: Receiver, of: Fault) -> None:
        """The same while nothing passes: all that the server has, unless it is slow to read what has arrived."""
        receiver.proxy.stop()
        try:
            self.note_landed(receiver, of)
        finally:
            receiver.proxy.go()

    def others(self, receiver: Receiver) -> list[Receiver]:
        """The servers that no fault of this push hits."""
        hit = {fault.server for fault in self.faults} | {receiver.number}
        return [other for other in self.stage.receivers if other.number not in hit]


def _hold(attempt: Attempt, receiver: Receiver, least_seconds: float) -> None:
    """Leaves it as it is for so long, and until those servers that nothing has happened to have everything."""
    let_pass(least_seconds)
    clients = {Kind.CLIENT_KILL, Kind.CLIENT_STOP, Kind.TWO_SENDERS, Kind.CORRUPTION}
    if clients & {fault.kind for fault in attempt.faults}:
        return
    others = attempt.others(receiver)
    try:
        wait_until(
            lambda: not attempt.running() or all(other.has_all_of(attempt.version) for other in others),
            f"the servers beside {receiver.number} have everything",
            _OTHERS_SECONDS,
            poll=0.1,
        )
    except DeadlineError as error:
        raise BrokenInvariant(f"invariant 6: {error}") from None


def cut(attempt: Attempt, receiver: Receiver, fault: Fault) -> bool:
    """In full flow; or, three times in four, held up just before, so that it is known what has landed."""
    held = fault.seed // 4 % 4 > 0
    connections = 0
    for _ in range(1 + fault.seed % 3):
        rest = None
        if held:
            receiver.proxy.stop()
            rest = attempt.note_landed(receiver, fault)
        connections += receiver.proxy.cut()
        if held:
            attempt.mark(receiver, rest)
        receiver.proxy.go()
        let_pass(0.2 * fault.strength)
    return connections > 0


def blackhole(attempt: Attempt, receiver: Receiver, fault: Fault) -> None:
    seconds = seconds_of(fault.strength, 0.2, 2.0)
    if attempt.stage.network.lines:
        line = attempt.stage.network.lines[receiver.number]
        line.set("loss=1")
        _hold(attempt, receiver, seconds)
        attempt.note_landed(receiver, fault)
        line.set("loss=0")
    else:
        receiver.proxy.stop()
        _hold(attempt, receiver, seconds)
        attempt.note_landed(receiver, fault)
        receiver.proxy.go()


def _of_size(attempt: Attempt, mbit: float) -> float:
    """Of a large model a rate at which it takes as long as the largest of the others."""
    return mbit * max(1.0, attempt.stage.schedule.model_bytes / MOST_SMALL_BYTES)


def line_conditions(attempt: Attempt, receiver: Receiver, fault: Fault) -> None:
    """Until the push has ended."""
    rng = random.Random(fault.seed)
    conditions = {
        Kind.DELAY: f"delay_ms={seconds_of(fault.strength, 1, 25):.1f}",
        Kind.REORDER: f"reorder={seconds_of(fault.strength, 0.05, 0.4):.2f} loss={rng.choice([0, 0.001, 0.01])}",
        Kind.BANDWIDTH: f"mbit={_of_size(attempt, seconds_of(fault.strength, 20, 80)):.0f}",
    }
    if attempt.stage.network.lines:
        attempt.stage.network.lines[receiver.number].set(conditions[fault.kind])
        while fault.kind is Kind.REORDER and attempt.running():
            attempt.note_landed(receiver, fault)
            let_pass(_LANDED_POLL_SECONDS)
    else:
        receiver.proxy.stop()
        let_pass(seconds_of(fault.strength, 0.1, 1.0))
        receiver.proxy.go()


def server_kill(attempt: Attempt, receiver: Receiver, fault: Fault) -> None:
    with receiver.lock:
        receiver.kill()
        let_pass(seconds_of(fault.strength, 0.0, 1.0))
        receiver.restart()


def server_death(attempt: Attempt, receiver: Receiver, fault: Fault) -> None:
    receiver.kill()


def server_stop(attempt: Attempt, receiver: Receiver, fault: Fault) -> None:
    # The client's keepalive is 10 seconds, and as long again for the answer.
    span = (21, 23) if fault.long_stop else (0.2, 2.5)
    attempt.note_landed_at_rest(receiver, fault)
    receiver.signal(signal.SIGSTOP)
    _hold(attempt, receiver, seconds_of(fault.strength % LONG_STOP / LONG_STOP, *span))
    receiver.signal(signal.SIGCONT)


def client_kill(attempt: Attempt, receiver: Receiver, fault: Fault) -> None:
    attempt.kill_client()
    try:
        # Of a server that another fault has killed or stopped nothing is known now.
        if {f.kind for f in attempt.faults} <= {Kind.CLIENT_KILL, Kind.CUT, Kind.CLIENT_CLOCK, Kind.SERVER_CLOCK}:
            for each in attempt.stage.receivers:
                attempt.landed_at_kill[each.number] = each.await_streams_end()
                attempt.note_landed(each, fault)
                attempt.mark(each)
    finally:
        attempt.begin()


def client_stop(attempt: Attempt, receiver: Receiver, fault: Fault) -> None:
    attempt.command.signal(signal.SIGSTOP)
    # The server's keepalive is one second, and as long again for the answer.
    let_pass(seconds_of(fault.strength, 2.2, 3.5))
    for each in attempt.stage.receivers:
        attempt.note_landed(each, fault)
    attempt.command.signal(signal.SIGCONT)


def disk_full(attempt: Attempt, receiver: Receiver, fault: Fault) -> None:
    """Until the push has ended: settle() makes room again."""
    left = int(seconds_of(fault.strength, 0, 512 * KIB))
    with receiver.filler.open("wb", buffering=0) as filler:
        for part in (256 * KIB, 4 * KIB):
            with contextlib.suppress(OSError):
                while filler.write(bytes(part)):
                    pass
        filler.truncate(max(0, filler.tell() - left))


def _jump_of(fault: Fault) -> float:
    """Seconds, from some to a day, forth or back."""
    return (1 if fault.seed % 2 else -1) * 10 ** seconds_of(fault.strength, 1, 4.9)


def server_clock(attempt: Attempt, receiver: Receiver, fault: Fault) -> None:
    receiver.jump(_jump_of(fault))


def client_clock(attempt: Attempt, receiver: Receiver, fault: Fault) -> None:
    jump_clock(attempt.stage.client_clock, max(_jump_of(fault), -_MOST_BACK_SECONDS))


def commit_reply(attempt: Attempt, receiver: Receiver, fault: Fault) -> bool:
    """The call arrives and takes effect; what the server answers to it does not arrive. False: there was no commit."""
    before = receiver.proxy.swallowed_replies
    receiver.proxy.swallow_reply(_COMMIT_METHOD)
    wait_until(
        lambda: receiver.proxy.swallowed_replies > before or not attempt.running(),
        "a commit is answered, or the push ends",
        4 * CLIENT_SECONDS,
        poll=0.002,
    )
    if fault.kind is Kind.COMMIT_REPLY_AND_KILL:
        with receiver.lock:
            receiver.kill()
            receiver.proxy.cut()
            receiver.restart()
    receiver.proxy.cut()
    return receiver.proxy.swallowed_replies > before


def two_senders(attempt: Attempt, receiver: Receiver, fault: Fault) -> None:
    source = attempt.stage.write_source(attempt.version, sender=1)
    attempt.second_sender = attempt.stage.start_push(source, attempt.version, ())


def corruption(attempt: Attempt, receiver: Receiver, fault: Fault) -> bool:
    """Anywhere; or aimed at what describes the data, which is a small part of all that passes. False: no bit met it."""
    rng = random.Random(fault.seed)
    count = rng.randint(1, 8)
    anywhere = int(2 ** seconds_of(fault.strength, 6, 18))
    # After what names of tensors begin with; and in the offsets of chunks, whose tag follows BF16 and F16.
    aim, within_bytes = rng.choice([(b"", anywhere), (b"layer.", 64), (b"16 ", 3)])
    before = receiver.proxy.flipped_bits
    receiver.proxy.flip_bits(rng, count, within_bytes, aim)
    wait_until(
        lambda: receiver.proxy.flipped_bits > before or not attempt.running(),
        "a bit is flipped, or the push or pull ends",
        _MOST_SECONDS,
        poll=0.01,
    )
    return receiver.proxy.flipped_bits > before


_HOW: dict[Kind, Callable[[Attempt, Receiver, Fault], bool | None]] = {
    Kind.CUT: cut,
    Kind.BLACKHOLE: blackhole,
    Kind.DELAY: line_conditions,
    Kind.REORDER: line_conditions,
    Kind.BANDWIDTH: line_conditions,
    Kind.SERVER_KILL: server_kill,
    Kind.SERVER_STOP: server_stop,
    Kind.CLIENT_KILL: client_kill,
    Kind.CLIENT_STOP: client_stop,
    Kind.DISK_FULL: disk_full,
    Kind.SERVER_CLOCK: server_clock,
    Kind.CLIENT_CLOCK: client_clock,
    Kind.COMMIT_REPLY: commit_reply,
    Kind.COMMIT_REPLY_AND_KILL: commit_reply,
    Kind.TWO_SENDERS: two_senders,
    Kind.CORRUPTION: corruption,
    Kind.SERVER_DEATH: server_death,
}

# These must lie in wait before what they break begins.
_FROM_THE_START = {Kind.COMMIT_REPLY, Kind.COMMIT_REPLY_AND_KILL}


def break_it(attempt: Attempt, fault: Fault) -> bool:
    """Waits for the fault's moment and makes it; False if the push had ended before, or it met nothing to break."""
    receiver = attempt.stage.receivers[fault.server]
    deadline = time.monotonic() + _TRIGGER_SECONDS
    while fault.kind not in _FROM_THE_START and attempt.passed(receiver) < fault.after_bytes:
        if not attempt.running() or time.monotonic() > deadline:
            return False
        let_pass(0.002)
    return _HOW[fault.kind](attempt, receiver, fault) is not False
