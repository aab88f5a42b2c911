"""What a schedule is played on: its network, its servers, their readers, the sources, and the client."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.end_to_end.checkpoints import Tensor, random_tensor, write_safetensors
from tests.end_to_end.processes import Command, binary
from tests.end_to_end.safetensors_file import DTYPE_BITS
from tests.faults.namespaces import Network, mount_tmpfs, unavailable, unmount
from tests.faults.receiver import Receiver, clock_wrapper
from tests.faults.schedule import MIB, Fault, Kind, Schedule
from tests.faults.witness import Follower, Library

# What holds for servers and clients here, so that a schedule takes seconds where an operator's defaults take half a
# minute. Each limit is still several times what a busy machine needs to answer.
SERVER_FLAGS = ("--keepalive-seconds=1", "--drain-seconds=1", "--idle-update-seconds=60", "--staging-mib=8")
CLIENT_SECONDS = 15
# A server that stands still for longer than the client's keepalive (10 + 10 s) is waited for.
PATIENT_SECONDS = 60
# A server that is dead for good need not be waited for that long here.
IMPATIENT_SECONDS = 4
DTYPES = ("BF16", "F32", "U8", "F16", "I64", "F8_E4M3")
_SHM = "/dev/shm"


def isolated() -> str:
    """Why servers and client share plain loopback here; empty if each has a namespace of its own."""
    return unavailable()


class Stage:
    """A context: everything is gone at its end."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.library = Library()
        self.receivers: list[Receiver] = []
        self.followers: list[Follower] = []
        self._stack = contextlib.ExitStack()
        self._commands: list[Command] = []

    def __enter__(self) -> Stage:
        try:
            self._build()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for command in self._commands:
            command.kill()
        self._stack.close()

    def _build(self) -> None:
        schedule, kinds = self.schedule, self.schedule.kinds()
        self.folder = Path(tempfile.mkdtemp(dir=os.environ.get("TEST_TMPDIR")))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        # What a killed test leaves, the end-to-end tests sweep away: a folder whose lock nobody holds.
        self._shared = Path(tempfile.mkdtemp(prefix="weightstream-e2e-", dir=_SHM))
        self._stack.callback(shutil.rmtree, self._shared, ignore_errors=True)
        owner = self._stack.enter_context((self._shared / "owner").open("w"))
        fcntl.flock(owner, fcntl.LOCK_SH)
        self.network = Network(binary("SLOW_LINK"), schedule.servers, isolated() == "")
        self._stack.callback(self.network.close)
        self.calm()
        # The addresses of the namespaces are not the loopback's.
        flags = [*SERVER_FLAGS, "--allow-plaintext", f"--device={schedule.device}"]
        flags.append(f"--keep-versions={schedule.keep_versions}")
        for number in range(schedule.servers):
            data_dir = self._data_dir(number, Kind.DISK_FULL in kinds)
            receiver = Receiver(self.network, number, data_dir, self.folder, flags, Kind.SERVER_CLOCK in kinds)
            self._stack.callback(receiver.close)
            self.receivers.append(receiver)
            self.followers.append(Follower(data_dir, self.library))
        self.client_clock = self.folder / "client.clock"
        self._client_wrapper = clock_wrapper(self.client_clock) if Kind.CLIENT_CLOCK in kinds else []

    def _data_dir(self, number: int, own_medium: bool) -> Path:
        folder = self._shared / f"medium-{number}"
        folder.mkdir()
        if own_medium:
            # The versions that are kept, one that comes, memory made ready for the next, and what headers take.
            size = (self.schedule.keep_versions + 2) * (self.schedule.model_bytes + MIB) + 2 * MIB
            mount_tmpfs(folder, size)
            self._stack.callback(unmount, folder)
        return folder / "data"

    def calm(self) -> None:
        """Nothing is broken any more."""
        for line in self.network.lines:
            line.set("delay_ms=0 loss=0 reorder=0")
            line.set(f"mbit={self.schedule.line_mbit}")
        for receiver in self.receivers:
            receiver.settle()

    # ---- The client ------------------------------------------------------------------------------------------------

    def tensors(self, version: int, sender: int = 0) -> list[Tensor]:
        """Of about the model's size in all, of one large and many small ones, and an empty one."""
        rng = np.random.default_rng([self.schedule.seed, version, sender])
        count = self.schedule.tensors
        names = np.random.default_rng(self.schedule.seed)
        weights = names.pareto(1.0, count) + 0.01
        parts = weights / weights.sum() * self.schedule.model_bytes
        dtypes = [DTYPES[i % len(DTYPES)] for i in range(count)]
        shapes = [(int(part) * 8 // DTYPE_BITS[dtype],) for part, dtype in zip(parts, dtypes, strict=True)]
        named = enumerate(zip(dtypes, shapes, strict=True))
        made = [random_tensor(rng, f"layer.{i}.w", dtype, shape) for i, (dtype, shape) in named]
        return [*made, random_tensor(rng, "empty", "F32", (0, 3))]

    def write_source(self, version: int, sender: int = 0) -> Path:
        tensors = self.tensors(version, sender)
        self.library.add(version, tensors)
        path = self.folder / f"source-{version}-{sender}.safetensors"
        return write_safetensors(path, tensors, {"version": str(version)})

    @staticmethod
    def _client_seconds(faults: Sequence[Fault]) -> int:
        if any(fault.kind is Kind.SERVER_DEATH for fault in faults):
            return IMPATIENT_SECONDS
        if any(fault.long_stop for fault in faults):
            return PATIENT_SECONDS
        return CLIENT_SECONDS

    def start_push(self, source: Path, version: int, faults: Sequence[Fault]) -> Command:
        seconds = self._client_seconds(faults)
        to = ",".join(receiver.address for receiver in self.receivers)
        return self._start(
            "push",
            source,
            f"--to={to}",
            "--model=model",
            f"--version={version}",
            f"--connections={self.schedule.connections}",
            f"--bucket-mib={self.schedule.bucket_kib / 1024}",
            f"--connect-seconds={seconds}",
            f"--stall-seconds={seconds}",
        )

    def start_pull(self, receiver: Receiver, out: Path) -> Command:
        seconds = (f"--connect-seconds={CLIENT_SECONDS}", f"--stall-seconds={CLIENT_SECONDS}")
        return self._start("pull", f"--from={receiver.address}", "--model=model", f"--out={out}", *seconds)

    def _start(self, *arguments: str | Path) -> Command:
        number = len(self._commands)
        command = self.network.at_client(lambda: Command(arguments, self.folder, number, self._client_wrapper))
        self._commands.append(command)
        return command
