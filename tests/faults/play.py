"""Plays a schedule: pushes, breaks things, and checks what must hold whatever was broken."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass, field

from tests.end_to_end.processes import Command, Outcome
from tests.end_to_end.safetensors_file import SafetensorsFile
from tests.faults import resends
from tests.faults.breakage import Attempt, break_it
from tests.faults.schedule import KIB, MAY_FAIL, NEEDS_LINE, Fault, Kind, Push, Schedule
from tests.faults.stage import Stage
from tests.faults.witness import MODEL, BrokenInvariant, Known, check_folder

# A push takes as long as its client waits for a server at most, and some more for what was broken on top.
_PUSH_SECONDS = 150.0
# With a server that is restarted goes its update in flight, and another sender's or a damaged manifest is another one;
# after these alone may what had landed be sent again.
_MAY_LOSE = MAY_FAIL | {Kind.SERVER_KILL, Kind.COMMIT_REPLY_AND_KILL}


@dataclass
class Tally:
    """What happened, added up over schedules."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    # Not added up: the most of any.
    most: dict[str, int] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        self.counts += other.counts
        self.faults += other.faults
        for name, value in other.most.items():
            self.note_most(name, value)

    def seen(self) -> dict[str, int]:
        """All that was seen, by what it is called."""
        return {**self.counts, **self.most}

    def note_most(self, name: str, value: int) -> None:
        self.most[name] = max(value, self.most.get(name, 0))


def play(schedule: Schedule) -> Tally:
    """BrokenInvariant, or another AssertionError, for what does not hold; the message says what was seen."""
    tally = Tally()
    with Stage(schedule) as stage:
        try:
            for push in schedule.pushes:
                _play_push(stage, push, tally)
                if push.pulled:
                    _play_pull(stage, push, tally)
            _end(stage, tally)
        except BaseException as error:
            for receiver in stage.receivers:
                error.add_note(f"---- server {receiver.number}:\n{receiver.log_tail()}")
            raise
    tally.counts["schedules"] += 1
    return tally


# ---- A push -------------------------------------------------------------------------------------------------------


class _Breaker(threading.Thread):
    """Makes one fault at its moment; its error is the schedule's."""

    def __init__(self, attempt: Attempt, fault: Fault) -> None:
        super().__init__(daemon=True)
        self._attempt = attempt
        self._fault = fault
        self.made = False
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.made = break_it(self._attempt, self._fault)
        except BaseException as error:
            self.error = error

    def end(self, seconds: float) -> None:
        """Waits for it; raises its error, or that it has not ended: what it broke may then last into what follows."""
        self.join(seconds)
        if self.is_alive():
            raise AssertionError(f"{self._fault}: not over within {seconds} seconds")
        if self.error:
            raise self.error


def _row(stage: Stage, fault: Fault) -> str:
    """Of the table."""
    imitated = fault.kind in NEEDS_LINE and not stage.network.lines
    return f"a pause in place of {fault.name}" if imitated else fault.name


def _play_push(stage: Stage, push: Push, tally: Tally) -> None:
    source = stage.write_source(push.version)
    known = stage.library.candidates[push.version][-1]

    def start() -> Command:
        return stage.start_push(source, push.version, push.faults)

    attempt = Attempt(stage, push.version, push.faults, start)
    attempt.begin()
    breakers = [_Breaker(attempt, fault) for fault in push.faults]
    for breaker in breakers:
        breaker.end(2 * _PUSH_SECONDS)
    outcome = attempt.command.outcome(_PUSH_SECONDS)
    second = attempt.second_sender.outcome(_PUSH_SECONDS) if attempt.second_sender else None
    for breaker, fault in zip(breakers, push.faults, strict=True):
        tally.faults[_row(stage, fault)] += breaker.made
    stage.calm()
    _judge(stage, push, attempt, known, outcome, second)
    _check_resends(stage, push, attempt, outcome, tally)
    for receiver in stage.receivers:
        receiver.check_alive()
        grown = receiver.check_memory(stage.schedule.most_growth_bytes)
        tally.note_most("bytes of memory of a server's own on top of its start, at most", grown)
    _count(outcome, attempt, tally)
    source.unlink()


def _current_of(stage: Stage, number: int) -> Known | None:
    receiver = stage.receivers[number]
    version = receiver.current()
    if version == 0:
        return None
    with SafetensorsFile(receiver.data_dir / MODEL / str(version) / "model.safetensors") as file:
        return stage.library.check(version, file)


def _judge(stage: Stage, push: Push, attempt: Attempt, known: Known, outcome: Outcome, second: Outcome | None) -> None:
    """A push that says it is done is done everywhere; one that failed says why, and was allowed to."""
    currents = [_current_of(stage, number) for number in range(len(stage.receivers))]
    if outcome.code == 0 and any(current is not known for current in currents):
        raise BrokenInvariant(f"invariant 2: the push of {push.version} ended well, and is not current everywhere")
    if second is not None and second.code == 0:
        theirs = stage.library.candidates[push.version][-1]
        if any(current is not theirs for current in currents):
            raise BrokenInvariant("invariant 2: the second sender's push ended well, and is not current everywhere")
    for receiver in stage.receivers:
        if receiver.current() not in (push.version, *range(push.version)):
            raise BrokenInvariant(f"server {receiver.number} has version {receiver.current()}, not yet sent")
    if outcome.code == 0:
        return
    if outcome.code != 1 or not outcome.error:
        raise BrokenInvariant(f"invariant 7: a push ended with {outcome.code} and no cause: {outcome.stdout}")
    # Killed after its commit, before it could say so: the one that was started again is told.
    told = attempt.killed_client and "ALREADY_EXISTS" in outcome.error
    if told and any(current is known for current in currents):
        return
    if not {fault.kind for fault in push.faults} & MAY_FAIL:
        raise BrokenInvariant(f"the push of {push.version} was to heal, and failed: {outcome.error}")
    _check_death(stage, push, outcome)


def _check_death(stage: Stage, push: Push, outcome: Outcome) -> None:
    dead = [fault.server for fault in push.faults if fault.kind is Kind.SERVER_DEATH]
    if not dead:
        return
    address = stage.receivers[dead[0]].address
    if address not in outcome.error or not any(code in outcome.error for code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")):
        raise BrokenInvariant(f"invariant 7: {address} is dead, and the cause that is named: {outcome.error}")


def _check_resends(stage: Stage, push: Push, attempt: Attempt, outcome: Outcome, tally: Tally) -> None:
    """Invariant 4: what has landed is not sent again, by this client or the one after it."""
    sent = resends.Sent(stage.schedule.tensors + 1, stage.schedule.bucket_kib * KIB)
    servers = outcome.json.get("servers", [])
    for receiver in stage.receivers:
        all_begins = receiver.begins_since(attempt.first_positions[receiver.number])
        begins = [begin for begin in all_begins if begin.log_position >= attempt.log_positions[receiver.number]]
        landed_before = attempt.landed.get(receiver.number, [])
        proven = resends.check(all_begins, landed_before, bool({fault.kind for fault in push.faults} & _MAY_LOSE))
        tally.counts["resumes held to what had landed before"] += proven.resumes
        tally.counts["bytes that had landed before a resume"] += proven.bytes_kept
        marks, passed = attempt.marks[receiver.number], receiver.proxy.passed_bytes
        superseded = stage.schedule.connections if attempt.second_sender else 0
        line = resends.check_line(all_begins, marks, passed, sent, attempt.undisturbed(receiver), superseded)
        tally.counts["bytes that passed on the lines to servers"] += attempt.passed_in_all(receiver)
        tally.counts["moments in mid push since which the line was counted"] += line.marks_in_mid_push
        tally.counts["bytes that passed since them"] += line.bytes_since_them
        tally.counts["resumed updates"] += sum(begin.resumed for begin in begins)
        if attempt.second_sender or not servers:
            continue
        # By the client's own count as well, to the byte: each round sends each byte that is missing once, at most.
        counted = servers[receiver.number]["sent_bytes"]
        if counted > sum(begin.missing_bytes for begin in begins):
            raise BrokenInvariant(f"invariant 4: {counted} bytes sent to server {receiver.number}, by {begins}")
        landed = attempt.landed_at_kill.get(receiver.number, 0)
        if landed and begins and not _lost_update(push):
            if servers[receiver.number]["resumed_bytes"] < landed:
                raise BrokenInvariant(f"invariant 4: {landed} bytes had landed, and were not resumed: {servers}")
            tally.counts["bytes not sent again after a client was killed"] += landed


def _lost_update(push: Push) -> bool:
    """Whether a server may have been restarted, and with it have lost the update."""
    return any(fault.kind in (Kind.SERVER_KILL, Kind.COMMIT_REPLY_AND_KILL) for fault in push.faults)


def _count(outcome: Outcome, attempt: Attempt, tally: Tally) -> None:
    tally.counts["pushes"] += 1
    tally.counts["pushes done" if outcome.code == 0 else "pushes that failed and said why"] += 1
    for server in outcome.json.get("servers", []):
        tally.counts["retries"] += server["retries"]
        tally.counts["bytes sent, as clients count them"] += server["sent_bytes"]


# ---- A pull, and the end ------------------------------------------------------------------------------------------


def _play_pull(stage: Stage, push: Push, tally: Tally) -> None:
    """Reads the current version back; what arrives is what was sent, or the command fails and says why."""
    fault = push.pull_fault
    receiver = stage.receivers[fault.server if fault else 0]
    version = receiver.current()
    if version == 0:
        return
    out = stage.folder / f"pulled-{push.version}"
    faults = (fault,) if fault else ()
    attempt = Attempt(stage, version, faults, lambda: stage.start_pull(receiver, out))
    attempt.begin()
    breakers = []
    if fault:
        # Few bytes go towards the server in a pull: the fault begins at once.
        breakers.append(_Breaker(attempt, Fault(fault.kind, fault.server, 0, fault.strength, fault.seed)))
    for breaker in breakers:
        breaker.end(2 * _PUSH_SECONDS)
        tally.faults[f"{_row(stage, fault)}, in a pull" if fault else ""] += breaker.made
    outcome = attempt.command.outcome(_PUSH_SECONDS)
    stage.calm()
    tally.counts["pulls"] += 1
    if outcome.code == 0:
        with SafetensorsFile(out / "model.safetensors") as file:
            stage.library.check(version, file)
        return
    if not outcome.error:
        raise BrokenInvariant(f"invariant 7: a pull ended with {outcome.code} and no cause: {outcome.stdout}")
    if not fault or fault.kind not in MAY_FAIL:
        raise BrokenInvariant(f"a pull was to heal, and failed: {json.dumps(outcome.json)}")
    tally.counts["pulls that failed and said why"] += 1


def _end(stage: Stage, tally: Tally) -> None:
    """Stops the servers; what they leave is what was committed, and readers saw nothing else."""
    for receiver in stage.receivers:
        receiver.end()
    for receiver, follower in zip(stage.receivers, stage.followers, strict=True):
        seen = follower.stop()
        held = check_folder(receiver.data_dir, stage.library)
        if held[-1:] != [stage.schedule.pushes[-1].version]:
            raise BrokenInvariant(f"server {receiver.number} holds {held} in the end")
        if len(held) > stage.schedule.keep_versions:
            raise BrokenInvariant(f"invariant 3: server {receiver.number} keeps {held}")
        tally.counts["versions that readers saw"] += len(seen)
        tally.counts["bits flipped"] += receiver.proxy.flipped_bits
        tally.counts["commit replies lost"] += receiver.proxy.swallowed_replies
