"""Brings one server to a version: begin, send what is missing, commit, and again after a loss."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from weightstream.calls import Control, Stop
from weightstream.errors import (
    AlreadyExistsError,
    InternalError,
    NotFoundError,
    UnavailableError,
    WeightStreamError,
)
from weightstream.limits import (
    ABORT_SECONDS,
    CHUNK_BYTES,
    FAR_BYTES_PER_SECOND,
    FAR_CONNECTIONS,
    LARGEST_CHUNK_BYTES,
    LEAST_FAR_STREAMS,
    MOST_ATTEMPTS,
    MOST_FAR_STREAMS,
    MOST_STALLS,
    NEAR_ROUND_TRIP_SECONDS,
    ONE_CONNECTION_BELOW_BYTES,
)
from weightstream.plan import Plan, check_missing
from weightstream.progress import Progress, Reporter
from weightstream.push_round import PushRound
from weightstream.retries import CallKind, Remedy, RetryBudget, remedy_for
from weightstream.source import Source
from weightstream.v1 import weightstream_pb2 as ws
from weightstream.verify import differences

_IN_FLIGHT = (ws.UPDATE_STATE_RECEIVING, ws.UPDATE_STATE_COMMITTING)


@dataclass(frozen=True)
class PushResult:
    """What a push came to."""

    model: str
    version: int
    path: str
    """The version's file on the server; empty where the target is not a file."""
    tensors: int
    total_bytes: int
    sent_bytes: int
    """Payload bytes that were sent, repeats included."""
    resumed_bytes: int
    """What had landed before, and was not sent again."""
    retries: int
    seconds: float
    traceparent: str | None
    """The span that this push was, in its caller's trace; None without one."""


def choose_version(model: Any, source_id: str) -> int:
    """The version of an update in flight of the same source, which is then resumed; else one more than the highest."""
    committed = max(model.highest_version, model.current_version)
    in_flight = [update for update in model.updates if update.state in _IN_FLIGHT]
    newest = max((update.version for update in in_flight), default=0)
    ours = [u.version for u in in_flight if u.state == ws.UPDATE_STATE_RECEIVING and u.source_id == source_id]
    if ours and max(ours) > committed and max(ours) == newest:
        return int(max(ours))
    return int(max(committed, newest) + 1)


class Push:
    """One push. `run` is called once, and everything else is behind it."""

    def __init__(
        self,
        control: Control,
        source: Source,
        model: str,
        version: int | None,
        connections: int,
        chunk_bytes: int | None,
        stop: Stop,
        reporter: Reporter,
    ) -> None:
        self._control = control
        self._source = source
        self._model = model
        self._version = version or 0
        self._connections = 1 if source.total_bytes < ONE_CONNECTION_BELOW_BYTES else connections
        self._chunk_bytes = chunk_bytes
        self._stop = stop
        self._reporter = reporter
        self._budget = RetryBudget(control.endpoint.limits.connect)
        self._update_id = ""
        self._least_missing = 0
        self._landed = 0
        self._sent = 0
        self._resumed = 0
        self._retries = 0
        self._stalls = 0

    def run(self) -> PushResult:
        """Blocks until the version is current."""
        began = time.monotonic()
        self._tell("connecting")
        if not self._version:
            self._version = self._choose_version()
        try:
            path = self._transfer_and_commit()
        except WeightStreamError as error:
            self._abort_if_refused(error)
            raise
        self._tell("done")
        return PushResult(
            self._model, self._version, path, len(self._source.specs), self._source.total_bytes,
            self._sent, self._resumed, self._retries, time.monotonic() - began, self._control.endpoint.traceparent,
        )  # fmt: skip

    def _choose_version(self) -> int:
        try:
            model = self._call(CallKind.READ, "GetModel", ws.GetModelRequest(model=self._model))
        except NotFoundError:
            model = ws.Model()
        return choose_version(model, self._source.source_id)

    def _call(self, kind: CallKind, method: str, request: Any, seconds: float | None = None) -> Any:
        return self._control.call(kind, method, request, self._budget, self._stop, seconds)

    def _transfer_and_commit(self) -> str:
        commits = 0
        while True:
            committed, cause = self._transfer_and_try_commit(commits > 0)
            if committed is not None:
                return committed
            assert cause is not None
            # Not the budget's to count: all the bytes that were sent again in between are no progress.
            commits += 1
            if commits >= MOST_ATTEMPTS:
                raise cause.within(f"gave up after {commits} commits without effect")
            self._retries += 1
            self._stop.wait(self._budget.short_wait())

    def _transfer_and_try_commit(self, commit_sent: bool) -> tuple[str | None, WeightStreamError | None]:
        """The version's path, or why everything begins again."""
        try:
            self._transfer()
        except AlreadyExistsError as error:
            if not commit_sent:
                raise
            return self._path_if_committed(), error
        try:
            self._source.check_unchanged()
        except WeightStreamError as error:
            self._abort(error.message)
            raise error.within("not committed") from None
        self._tell("committing")
        request = ws.CommitUpdateRequest(
            model=self._model,
            update_id=self._update_id,
            version=self._version,
            manifest_crc32c=self._source.manifest_crc32c,
        )
        try:
            seconds = self._control.commit_seconds(self._source.total_bytes)
            return str(self._call(CallKind.COMMIT, "CommitUpdate", request, seconds).path), None
        except WeightStreamError as error:
            remedy = remedy_for(CallKind.COMMIT, error)
            if remedy is Remedy.RETRY:
                raise error.within(
                    f'the commit was sent but not answered, so version {self._version} of "{self._model}" may or may '
                    "not be current; ask with Client.model()"
                ) from None
            if remedy is Remedy.GIVE_UP:
                raise
            if remedy is Remedy.START_OVER:
                self._abort(error.message)
            return (self._path_if_committed() if remedy is Remedy.ASK_WHETHER_COMMITTED else None), error

    def _path_if_committed(self) -> str | None:
        """Where a commit's reply was lost: the version's path if the server holds our bytes under our number."""
        try:
            model = self._call(CallKind.READ, "GetModel", ws.GetModelRequest(model=self._model))
        except NotFoundError:
            return None
        for held in model.versions:
            if held.version != self._version:
                continue
            found = differences(self._control, self._source, self._model, self._version, self._budget, self._stop)
            if found:
                raise AlreadyExistsError(
                    f'version {self._version} of "{self._model}" was committed by another sender, with other bytes: '
                    f"{found[0]}",
                    self._control.endpoint.address,
                )
            return str(held.path)
        return None

    def _transfer(self) -> None:
        """Returns once everything has landed."""
        failure: WeightStreamError | None = None
        while True:
            self._tell("beginning")
            began = time.monotonic()
            reply = self._call(CallKind.BEGIN, "BeginUpdate", self._begin_request())
            begin_took = time.monotonic() - began
            missing = check_missing(reply, self._source)
            progressed = self._note_begun(reply)
            if reply.missing_bytes == 0:
                return
            if failure is not None:
                self._stop.wait(self._budget.short_wait() if progressed else self._budget.fruitless(failure))
            chunk_bytes, streams = self._pace(begin_took, reply.bucket_limit_bytes)
            plan = Plan(self._source.specs, missing, chunk_bytes, reply.takes_packed_chunks)
            outcome = self._run_round(plan, streams)
            if outcome.complete:
                self._budget.progressed()
                self._least_missing = 0
                return
            failure = self._failure_of(outcome)
            self._retries += 1
            self._budget.last_alive(outcome.last_progress)

    def _run_round(self, plan: Plan, streams: int) -> PushRound:
        outcome = PushRound(self._control.endpoint, self._source, plan, self._update_id, self._stop)
        try:
            outcome.run(self._connections, streams, lambda: self._tell("sending", outcome.sent_bytes))
        finally:
            self._sent += outcome.sent_bytes
        return outcome

    def _failure_of(self, outcome: PushRound) -> WeightStreamError:
        cause = outcome.cause
        assert cause is not None
        if outcome.give_up or not isinstance(cause, WeightStreamError):
            raise cause
        self._stalls = self._stalls + 1 if outcome.stalled else 0
        if self._stalls >= MOST_STALLS:
            raise cause.within("the server answers but takes no data")
        return cause

    def _begin_request(self) -> Any:
        return ws.BeginUpdateRequest(
            model=self._model,
            version=self._version,
            tensors=[ws.TensorSpec(name=s.name, dtype=s.dtype, shape=s.shape) for s in self._source.specs],
            bucket_limit_bytes=self._chunk_bytes or LARGEST_CHUNK_BYTES,
            metadata=self._source.metadata,
            source_id=self._source.source_id,
            takes_everything_missing=True,
        )

    def _note_begun(self, reply: Any) -> bool:
        """Whether something new has landed since the last time."""
        landed = self._source.total_bytes - min(reply.missing_bytes, self._source.total_bytes)
        first, same = not self._update_id, reply.update_id == self._update_id
        progressed: bool = same and reply.missing_bytes < self._least_missing
        if first:
            self._resumed = landed if reply.resumed else 0
        elif not same:
            # A server that was restarted has lost what an earlier push had brought as well.
            self._resumed = min(self._resumed, landed)
        if not same or progressed:
            self._least_missing = reply.missing_bytes
        self._update_id = reply.update_id
        self._landed = landed
        if progressed:
            self._budget.progressed()
            self._stalls = 0
        return progressed

    def _pace(self, begin_took: float, bucket_limit: int) -> tuple[int, int]:
        """Bytes of a chunk, and streams on each connection, from how far away the server is."""
        limit = min(self._chunk_bytes or LARGEST_CHUNK_BYTES, bucket_limit)
        distance = begin_took
        if distance >= NEAR_ROUND_TRIP_SECONDS:
            distance = self._control.round_trip(self._model, NEAR_ROUND_TRIP_SECONDS)
        if distance < NEAR_ROUND_TRIP_SECONDS:
            return (limit if self._chunk_bytes else min(limit, CHUNK_BYTES)), 1
        streams = math.ceil(distance * FAR_BYTES_PER_SECOND / limit)
        streams = streams * FAR_CONNECTIONS // max(self._connections, FAR_CONNECTIONS)
        return limit, max(LEAST_FAR_STREAMS, min(streams, MOST_FAR_STREAMS))

    def _abort_if_refused(self, error: WeightStreamError) -> None:
        """What the server itself refused it would hold for nobody, on a medium that may be full."""
        lost = isinstance(error, UnavailableError | InternalError) or remedy_for(CallKind.PUSH, error) is Remedy.RETRY
        if self._update_id and not lost:
            self._abort(error.message)

    def _abort(self, reason: str) -> None:
        request = ws.AbortUpdateRequest(model=self._model, update_id=self._update_id, reason=reason)
        self._update_id = ""
        try:
            self._control.once("AbortUpdate", request, ABORT_SECONDS)
        except WeightStreamError:
            # A server that is not there drops the update by itself; this failure would hide the cause.
            return

    def _tell(self, phase: str, round_bytes: int = 0) -> None:
        there = min(self._source.total_bytes, self._landed + round_bytes)
        if phase in ("committing", "done"):
            there = self._source.total_bytes
        moved = there - min(there, self._resumed)
        self._reporter.tell(
            Progress(phase, self._version, self._source.total_bytes, moved, self._resumed, self._retries)
        )
