"""Runs the fuzz targets, one after the other, and sums up what came of it: `make fuzz`.

What a run finds stays under the state folder (build/fuzz): corpus/TARGET is where the next run goes on, and
crashes/TARGET holds the inputs that broke a promise. Exits 1 if there is one.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

TARGETS = ("chunk_codec", "manifest", "safetensors", "checkpoint_index", "token_file", "server")
# What is longer cannot go into the corpus in the tree.
MAX_INPUT_BYTES = 4096
# Of one target, in the tree.
MAX_CORPUS_FILES = 36
# An input that takes longer hangs; a server's own deadlines are shorter.
INPUT_SECONDS = 120
# A server's interesting inputs are sequences, and its executions too few to let their length grow slowly.
OPTIONS = {"server": ["-len_control=0"]}
# Names in a report's stacks.
SYMBOLIZER = "/usr/bin/llvm-symbolizer-14"
# The sanitizers keep freed memory for a while.
MEMORY_MIB = 4096

_FEATURES = re.compile(r"\bft: (\d+)")
_STATISTIC = re.compile(r"^stat::(\w+):\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """What came of one target's run."""

    target: str
    start: datetime
    executions: int
    per_second: int
    features: int
    crashes: tuple[Path, ...]
    exit_code: int

    @property
    def is_clean(self) -> bool:
        return self.exit_code == 0 and not self.crashes


@dataclass(frozen=True)
class Fuzzer:
    """One target's binary, and the folders that it reads and writes."""

    target: str
    binary: Path
    tree_corpus: Path
    state: Path

    @property
    def corpus(self) -> Path:
        return self.state / "corpus" / self.target

    @property
    def crashes(self) -> Path:
        return self.state / "crashes" / self.target

    @property
    def log(self) -> Path:
        return self.state / "logs" / f"{self.target}.log"

    def command(self, *arguments: str) -> list[str]:
        options = [f"-max_len={MAX_INPUT_BYTES}", f"-timeout={INPUT_SECONDS}", f"-rss_limit_mb={MEMORY_MIB}"]
        options += OPTIONS.get(self.target, [])
        return [str(self.binary), *options, f"-artifact_prefix={self.crashes}/", *arguments]

    def run(self, seconds: int) -> Run:
        """Fuzzes for so long, or until a promise breaks."""
        self._make_folders()
        start = datetime.now(UTC)
        known = set(self.crashes.iterdir())
        command = self.command(f"-max_total_time={seconds}", "-print_final_stats=1", str(self.corpus))
        if self.tree_corpus.is_dir():
            command.append(str(self.tree_corpus))
        exit_code = _execute(command, self.log)
        output = self.log.read_text(errors="replace")
        statistics = {name: int(value) for name, value in _STATISTIC.findall(output)}
        features = [int(value) for value in _FEATURES.findall(output)]
        return Run(
            target=self.target,
            start=start,
            executions=statistics.get("number_of_executed_units", 0),
            per_second=statistics.get("average_exec_per_sec", 0),
            features=max(features, default=0),
            crashes=tuple(sorted(set(self.crashes.iterdir()) - known)),
            exit_code=exit_code,
        )

    def _make_folders(self) -> None:
        for folder in (self.corpus, self.crashes, self.log.parent):
            folder.mkdir(parents=True, exist_ok=True)

    def minimise(self) -> int:
        """Replaces the corpus in the tree by few inputs that reach most of the code. Returns how many."""
        self._make_folders()
        with tempfile.TemporaryDirectory() as folder:
            merged = Path(folder) / "merged"
            merged.mkdir()
            control = Path(folder) / "control"
            sources = [path for path in (self.tree_corpus, self.corpus) if path.is_dir()]
            # Branches alone, not how often each was taken: a tenth of the files, for nearly the same checks.
            options = ("-merge=1", "-use_counters=0", f"-merge_control_file={control}")
            if _execute(self.command(*options, str(merged), *map(str, sources)), self.log) != 0:
                raise SystemExit(f"fuzz: cannot merge the corpus of {self.target}; {self.log} says why")
            chosen = [file.read_bytes() for file in choose_inputs(control.read_text(), MAX_CORPUS_FILES)]
        shutil.rmtree(self.tree_corpus, ignore_errors=True)
        self.tree_corpus.mkdir(parents=True)
        for content in chosen:
            (self.tree_corpus / f"{hashlib.sha256(content).hexdigest()[:12]}.bin").write_bytes(content)
        return len(chosen)


def choose_inputs(control: str, most: int) -> list[Path]:
    """The inputs that together reach most, the one that adds most first, by what a merge noted in its control file.

    The file holds the number of inputs, how many of them were there before, and their paths; then, of each that was
    run, a line "FT INDEX FEATURE...".
    """
    lines = control.splitlines()
    paths = [Path(line) for line in lines[2 : 2 + int(lines[0])]]
    features: dict[Path, set[str]] = {}
    for line in lines[2 + len(paths) :]:
        if line.startswith("FT "):
            _, index, *reached = line.split()
            features[paths[int(index)]] = set(reached)
    chosen: list[Path] = []
    covered: set[str] = set()
    while len(chosen) < most:
        # Of equals the shortest: an input of a few bytes says what it is about.
        best = max(features, key=lambda path: (len(features[path] - covered), -path.stat().st_size), default=None)
        if best is None or features[best] <= covered:
            break
        covered |= features.pop(best)
        chosen.append(best)
    return chosen


def _execute(command: Sequence[str], log: Path) -> int:
    """Runs it with its output in `log`, and what it leaves in temporary folders removed."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="ws-fuzz-", dir=memory if memory.is_dir() else None) as folder:
        environment = os.environ | {"WEIGHTSTREAM_FUZZ_FOLDER": folder, "ASAN_SYMBOLIZER_PATH": SYMBOLIZER}
        with log.open("wb") as output:
            return subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment, check=False
            ).returncode


def report(runs: Sequence[Run], state: Path) -> str:
    """A table of the runs, then what broke, and how to see it again."""
    lines = [
        "| target | begun (UTC) | executions | executions/s | coverage features | crashes |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for run in runs:
        lines.append(
            f"| {run.target} | {run.start:%Y-%m-%d %H:%M:%S} | {run.executions:,} | {run.per_second:,} "
            f"| {run.features:,} | {len(run.crashes)} |"
        )
    for run in runs:
        for crash in run.crashes:
            lines += ["", f"{run.target}: {crash}", f"  replay: {state}/bin/{run.target}_fuzzer {crash}"]
        if run.exit_code != 0 and not run.crashes:
            lines += ["", f"{run.target}: exit code {run.exit_code}, see {state}/logs/{run.target}.log"]
    return "\n".join(lines)


def fuzzers_of(targets: Sequence[str], binaries: Path, room: Path, state: Path) -> list[Fuzzer]:
    """The fuzzers, their binaries copied to where the next build does not replace them."""
    fuzzers = []
    (state / "bin").mkdir(parents=True, exist_ok=True)
    for target in targets:
        binary = state / "bin" / f"{target}_fuzzer"
        binary.unlink(missing_ok=True)
        shutil.copy2(binaries / binary.name, binary)
        fuzzers.append(Fuzzer(target, binary.resolve(), room / "corpus" / target, state))
    return fuzzers


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Runs the fuzz targets and sums up what came of it.")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--targets", nargs="+", default=TARGETS, metavar="TARGET", help=f"some of {', '.join(TARGETS)}")
    parser.add_argument("--binaries", type=Path, default=Path("bazel-bin/tests/fuzz"), help="where TARGET_fuzzer lies")
    parser.add_argument("--state", type=Path, default=Path("build/fuzz"), help="where findings stay")
    parser.add_argument("--room", type=Path, default=Path("tests/fuzz"), help="the folder that holds corpus/")
    parser.add_argument(
        "--minimise", action="store_true", help="run nothing; take what was found into the corpus in the tree"
    )
    options = parser.parse_args(arguments)
    fuzzers = fuzzers_of(options.targets, options.binaries, options.room, options.state)
    if options.minimise:
        for fuzzer in fuzzers:
            print(f"{fuzzer.target}: {fuzzer.minimise()} inputs", flush=True)
        return 0
    runs = []
    for fuzzer in fuzzers:
        print(f"{datetime.now(UTC):%H:%M:%S} {fuzzer.target}: {options.seconds} s", flush=True)
        runs.append(fuzzer.run(options.seconds))
    text = report(runs, options.state)
    (options.state / "summary.md").write_text(text + "\n")
    print(text)
    return 0 if all(run.is_clean for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
