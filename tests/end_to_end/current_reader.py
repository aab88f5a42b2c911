"""A reader that follows `current` in a loop, as an inference server would, and looks at every word.

Usage: current_reader.py FOLDER_OF_THE_MODEL. Prints "reading" after its first whole version. When its input ends it
prints one JSON object, {"reads", "versions", "error"}: the versions in the order in which they were first seen.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.end_to_end.checkpoints import fill_word
from tests.end_to_end.safetensors_file import SafetensorsFile


def read_version(path: Path) -> int:
    """Which version the file is; ValueError unless every word of it belongs to that one."""
    with SafetensorsFile(path) as file:
        version = int(file.metadata["fill"])
        for name in file.tensors:
            words = np.frombuffer(file.data(name), dtype="<u8")
            if not bool((words == fill_word(version)).all()):
                raise ValueError(f"{path}: {name} has words that are not of version {version}")
            del words
        return version


def follow(path: Path) -> dict[str, object]:
    reads = 0
    versions: list[int] = []
    ended = False
    while not ended:
        # Once more after the end: what is current then is seen, however late this process was let run.
        ended = bool(select.select([sys.stdin], [], [], 0)[0])
        try:
            version = read_version(path)
        except FileNotFoundError as error:
            # Before the first commit there is nothing; afterwards there always is.
            if versions:
                return {"reads": reads, "versions": versions, "error": f"current is gone: {error}"}
            continue
        except (ValueError, OSError) as error:
            return {"reads": reads, "versions": versions, "error": str(error)}
        reads += 1
        if versions and version < versions[-1]:
            return {"reads": reads, "versions": versions, "error": f"version {version} after {versions[-1]}"}
        if not versions:
            print("reading", flush=True)
        if not versions or version > versions[-1]:
            versions.append(version)
    return {"reads": reads, "versions": versions, "error": None}


class Reader:
    """This program, as a process of its own."""

    def __init__(self, model_folder: Path) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(model_folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    def await_first(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == b"reading\n", line

    def result(self) -> Any:
        out, _ = self.process.communicate(timeout=60)
        return json.loads(out.splitlines()[-1])

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


if __name__ == "__main__":
    print(json.dumps(follow(Path(sys.argv[1]) / "current" / "model.safetensors")), flush=True)
