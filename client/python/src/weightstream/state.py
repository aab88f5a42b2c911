"""What a server tells of its models."""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass
from typing import Any


class UpdateState(enum.Enum):
    """Where an update stands. COMMITTED and ABORTED are final."""

    UNKNOWN = 0
    RECEIVING = 1
    COMMITTING = 2
    COMMITTED = 3
    ABORTED = 4


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

    @classmethod
    def from_proto(cls, info: Any) -> VersionInfo:
        """Of a weightstream.v1.VersionInfo."""
        time = info.commit_time.ToDatetime(datetime.timezone.utc)  # noqa: UP017 (Python 3.10)
        return cls(info.version, info.total_bytes, info.tensors, time, info.path, info.manifest_crc32c)


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

    @classmethod
    def from_proto(cls, info: Any) -> UpdateInfo:
        """Of a weightstream.v1.UpdateInfo; states of a later server are UNKNOWN."""
        known = {each.value for each in UpdateState}
        state = UpdateState(info.state if info.state in known else 0)
        return cls(
            info.update_id, info.version, state, info.total_bytes, info.landed_bytes, info.reason, info.source_id
        )


@dataclass(frozen=True)
class ModelState:
    """The state of one model."""

    name: str
    current_version: int
    """What readers get; 0 while no version was committed."""
    highest_version: int
    """The highest that was ever committed; the next must be higher."""
    versions: tuple[VersionInfo, ...]
    """Those that are held, ascending."""
    updates: tuple[UpdateInfo, ...]
    """The one in flight, and the last ones that ended, the newest first."""

    @classmethod
    def from_proto(cls, model: Any) -> ModelState:
        """Of a weightstream.v1.Model."""
        return cls(
            model.name,
            model.current_version,
            model.highest_version,
            tuple(map(VersionInfo.from_proto, model.versions)),
            tuple(map(UpdateInfo.from_proto, model.updates)),
        )
