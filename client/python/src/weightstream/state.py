"""What a server tells of its models."""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass
from typing import Any, TypeVar


class UpdateState(enum.Enum):
    """Where an update stands. COMMITTED and ABORTED are final."""

    UNKNOWN = 0
    RECEIVING = 1
    COMMITTING = 2
    COMMITTED = 3
    ABORTED = 4


class UpdateMode(enum.Enum):
    """Where an update's bytes go."""

    UNKNOWN = 0
    BESIDE = 1
    """Memory or a file of their own: readers keep a whole version throughout."""
    IN_PLACE = 2
    """Over the current version, where there is no room beside it: nothing is whole until the commit."""
    REGISTERED = 3
    """Into the memory that the inference server registered: nothing is whole there until the commit."""


class WeightsState(enum.Enum):
    """Whether readers have a whole version."""

    UNKNOWN = 0
    NONE = 1
    """No version was committed, or kept."""
    WHOLE = 2
    """The current version is whole, and stays so until another one is."""
    UPDATING = 3
    """An update is being written in place: nothing is whole there until its commit."""
    UNTRUSTED = 4
    """Such an update ended without a commit: a mixture, until another version is committed."""


class CommitHookState(enum.Enum):
    """How far the server is with telling its inference server of a version (`--on-commit`)."""

    UNKNOWN = 0
    PENDING = 1
    """An attempt is under way, or will be."""
    SUCCEEDED = 2
    FAILED = 3
    """Given up: the inference server was not told, or refused. The version is current all the same."""


E = TypeVar("E", bound=enum.Enum)


def _known(kind: type[E], number: int) -> E:
    """UNKNOWN for what only a later server says."""
    return kind(number if number in {each.value for each in kind} else 0)


def _time(message: Any, field: str) -> datetime.datetime | None:
    if not message.HasField(field):
        return None
    found: datetime.datetime = getattr(message, field).ToDatetime(datetime.timezone.utc)  # noqa: UP017 (Python 3.10)
    return found


@dataclass(frozen=True)
class VersionInfo:
    """A committed version that a model holds."""

    version: int
    total_bytes: int
    tensors: int
    commit_time: datetime.datetime
    """By the server's clock, in UTC."""
    path: str
    """The version's file on the server; empty where the target is not a file."""
    manifest_crc32c: int
    exports: int
    """How many other processes have its memory open: for that long it stays."""

    @classmethod
    def from_proto(cls, info: Any) -> VersionInfo:
        """Of a weightstream.v1.VersionInfo."""
        time = info.commit_time.ToDatetime(datetime.timezone.utc)  # noqa: UP017 (Python 3.10)
        return cls(info.version, info.total_bytes, info.tensors, time, info.path, info.manifest_crc32c, info.exports)


@dataclass(frozen=True)
class UpdateInfo:
    """An update in flight, or one that ended."""

    update_id: str
    version: int
    state: UpdateState
    total_bytes: int
    landed_bytes: int
    reason: str
    """Why it was aborted."""
    source_id: str
    mode: UpdateMode
    begin_time: datetime.datetime | None
    """By the server's clock, in UTC; a resume does not change it."""
    end_time: datetime.datetime | None
    """None while it is in flight."""
    open_streams: int
    manifest_crc32c: int

    @classmethod
    def from_proto(cls, info: Any) -> UpdateInfo:
        """Of a weightstream.v1.UpdateInfo."""
        return cls(
            update_id=info.update_id,
            version=info.version,
            state=_known(UpdateState, info.state),
            total_bytes=info.total_bytes,
            landed_bytes=info.landed_bytes,
            reason=info.reason,
            source_id=info.source_id,
            mode=_known(UpdateMode, info.mode),
            begin_time=_time(info, "begin_time"),
            end_time=_time(info, "end_time"),
            open_streams=info.open_streams,
            manifest_crc32c=info.manifest_crc32c,
        )


@dataclass(frozen=True)
class CommitHook:
    """How the inference server is told of the version that became current last. Its failure undoes no commit."""

    version: int
    state: CommitHookState
    attempts: int
    """Made so far; one that is under way counts."""
    message: str
    """What the last attempt was answered, or why it failed; empty before one ended."""
    time: datetime.datetime | None
    """When the last attempt ended, or the version became current, by the server's clock, in UTC."""

    @classmethod
    def from_proto(cls, hook: Any) -> CommitHook:
        """Of a weightstream.v1.CommitHook."""
        state = _known(CommitHookState, hook.state)
        return cls(hook.version, state, hook.attempts, hook.message, _time(hook, "time"))


@dataclass(frozen=True)
class RegisteredTargets:
    """An inference server's memory, into which updates are written, and what it holds."""

    owner: str
    """Who registered it: a peer, as gRPC names it."""
    tensors: int
    bytes: int
    state: WeightsState
    version: int
    """The version that is whole there; 0 in the other states."""
    next_version: int
    """The one that an update in flight writes there; 0 without one."""
    overwritten_version: int
    unfinished_version: int
    """Neither of the two can be trusted while UPDATING or UNTRUSTED; 0 where there is none."""

    @classmethod
    def from_proto(cls, targets: Any) -> RegisteredTargets:
        """Of a weightstream.v1.RegisteredTargets."""
        held = targets.state
        return cls(
            owner=targets.owner,
            tensors=targets.tensors,
            bytes=targets.bytes,
            state=_known(WeightsState, held.state),
            version=held.version,
            next_version=held.next_version,
            overwritten_version=held.overwritten_version,
            unfinished_version=held.unfinished_version,
        )


@dataclass(frozen=True)
class ModelState:
    """The state of one model."""

    name: str
    current_version: int
    """What readers get; 0 while no version was committed, or none is whole (see `weights_state`)."""
    highest_version: int
    """The highest that was ever committed; the next must be higher."""
    versions: tuple[VersionInfo, ...]
    """Those that are held, ascending."""
    updates: tuple[UpdateInfo, ...]
    """The one in flight, and the last ones that ended, the newest first."""
    prepared_bytes: int
    """Memory that was made ready for the next version since the last commit."""
    commit_hook: CommitHook | None
    """How the inference server is told of the current version; None where the server tells nobody, or no version became
    current since its start."""
    weights_state: WeightsState
    overwritten_version: int
    """The version that an update in place was written over, which cannot be trusted any more; 0 where there is none."""
    unfinished_version: int
    """The version of which an update in place wrote bytes, and which is not committed; 0 where there is none."""
    device: str
    """Where the server keeps versions: "host" (files), or memory that goes with the process, such as "cuda:0"."""
    device_error: str
    """Why the device can no longer be used, and what to do; empty while it works."""
    targets: RegisteredTargets | None
    """The memory that updates are written into; None where none is registered."""

    @classmethod
    def from_proto(cls, model: Any) -> ModelState:
        """Of a weightstream.v1.Model."""
        return cls(
            name=model.name,
            current_version=model.current_version,
            highest_version=model.highest_version,
            versions=tuple(map(VersionInfo.from_proto, model.versions)),
            updates=tuple(map(UpdateInfo.from_proto, model.updates)),
            prepared_bytes=model.prepared_bytes,
            commit_hook=CommitHook.from_proto(model.commit_hook) if model.HasField("commit_hook") else None,
            weights_state=_known(WeightsState, model.weights_state),
            overwritten_version=model.overwritten_version,
            unfinished_version=model.unfinished_version,
            device=model.device,
            device_error=model.device_error,
            targets=RegisteredTargets.from_proto(model.targets) if model.HasField("targets") else None,
        )
