"""An independent reader: knows what each version must be, follows `current` from outside, and says what is wrong.

It parses the files itself and digests every tensor; it shares nothing with the code under test.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.end_to_end.checkpoints import Tensor
from tests.end_to_end.safetensors_file import FormatError, SafetensorsFile

MODEL = "model"
_POLL_SECONDS = 0.05
_MOST_OPEN = 3


class BrokenInvariant(AssertionError):
    """One of the design's invariants does not hold; says which, where, and what was seen."""


@dataclass(frozen=True)
class Known:
    """What a file must hold: of each tensor its dtype, shape and digest."""

    tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]]

    @staticmethod
    def of(tensors: Sequence[Tensor]) -> Known:
        return Known({t.name: (t.dtype, t.shape, hashlib.sha256(t.data).digest()) for t in tensors})

    def difference(self, file: SafetensorsFile) -> str:
        """How the file differs from this, or empty."""
        if sorted(file.tensors) != sorted(self.tensors):
            return f"its tensors are {sorted(file.tensors)[:5]}..., not {sorted(self.tensors)[:5]}..."
        for name, (dtype, shape, digest) in self.tensors.items():
            entry = file.tensors[name]
            if (entry.dtype, entry.shape) != (dtype, shape):
                return f"{name} is {entry.dtype}{entry.shape}, not {dtype}{shape}"
            if hashlib.sha256(file.data(name)).digest() != digest:
                return f"the bytes of {name} differ"
        return ""


@dataclass
class Library:
    """All bytes that anyone tried to push: by version, one or more candidates (two senders of one version)."""

    candidates: dict[int, list[Known]] = field(default_factory=dict)

    def add(self, version: int, tensors: Sequence[Tensor]) -> Known:
        known = Known.of(tensors)
        self.candidates.setdefault(version, []).append(known)
        return known

    def check(self, version: int, file: SafetensorsFile) -> Known:
        """Which candidate the file is. BrokenInvariant if it is none, not whole, or not placed as promised."""
        try:
            file.check_placement()
        except FormatError as error:
            raise BrokenInvariant(f"invariant 1: {error}") from None
        differences = []
        for known in self.candidates.get(version, []):
            difference = known.difference(file)
            if not difference:
                return known
            differences.append(difference)
        why = "; ".join(differences) or "nobody pushed that version"
        raise BrokenInvariant(f"invariants 1 and 2: {file.path} is not version {version} as it was sent: {why}")


class Follower:
    """Follows `current` of one server in a thread, as an inference server would, until stop().

    Each version is digested when it becomes current, and once more at the end through the mapping that was made then:
    a committed version never changes, not even when it has been removed. No schedule rolls back: what is current never
    becomes an older version, and stays the same file for as long as it is current.
    """

    def __init__(self, data_dir: Path, library: Library) -> None:
        self._folder = data_dir / MODEL
        self._library = library
        self._open: dict[int, tuple[SafetensorsFile, Known]] = {}
        self.versions: list[int] = []
        # What was seen wrong so far; stop() raises it.
        self.error: BaseException | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> list[int]:
        """The versions that were seen, in their order. BrokenInvariant for whatever was seen wrong."""
        self._end.set()
        self._thread.join()
        try:
            self._look()
            for version, (file, known) in self._open.items():
                if difference := known.difference(file):
                    raise BrokenInvariant(f"invariant 5: version {version} has changed since: {difference}")
        finally:
            for file, _ in self._open.values():
                file.close()
        if self.error:
            raise self.error
        return self.versions

    def _run(self) -> None:
        try:
            while not self._end.wait(_POLL_SECONDS):
                self._look()
        except BaseException as error:
            self.error = error

    def _look(self) -> None:
        try:
            file = SafetensorsFile(self._folder / "current" / "model.safetensors")
        except FileNotFoundError as error:
            # Before the first commit there is nothing; afterwards there always is.
            if self.versions:
                raise BrokenInvariant(f"invariant 1: current is gone after {self.versions}: {error}") from None
            return
        except FormatError as error:
            raise BrokenInvariant(f"invariant 1: a reader saw {error}") from None
        # The file says itself which version it is: the link may have moved on since it was opened.
        version = int(file.metadata.get("version", "0"))
        last = self.versions[-1] if self.versions else 0
        if self.versions and version == last:
            same = file.identity == self._open[last][0].identity
            file.close()
            if not same:
                raise BrokenInvariant(f"invariant 5: version {version} is not the file that was committed")
            return
        if version < last:
            file.close()
            raise BrokenInvariant(f"invariant 1: a reader saw version {version} after {self.versions}")
        self._open[version] = (file, self._library.check(version, file))
        self.versions.append(version)
        if len(self._open) > _MOST_OPEN:
            oldest = min(self._open)
            self._open.pop(oldest)[0].close()


def check_folder(data_dir: Path, library: Library) -> list[int]:
    """A stopped server's folder: whole committed versions that are what was sent, what points at them, nothing else."""
    held: list[int] = []
    for model in data_dir.iterdir():
        if model.name == ".lock":
            continue
        versions = sorted(entry.name for entry in model.iterdir() if entry.name != "current")
        for name in versions:
            files = sorted(path.name for path in (model / name).iterdir())
            if not name.isdigit() or files != ["model.safetensors"]:
                raise BrokenInvariant(f"invariant 1: {model / name} is left, with {files}")
            with SafetensorsFile(model / name / "model.safetensors") as file:
                if model.name != MODEL:
                    raise BrokenInvariant(f"invariant 2: {file.path} was committed, and nobody sent that model")
                library.check(int(name), file)
            held.append(int(name))
        current = model / "current"
        if (versions or current.is_symlink()) and str(current.readlink()) not in versions:
            raise BrokenInvariant(f"invariant 1: {current} -> {current.readlink()}, and there are {versions}")
    return sorted(held)
