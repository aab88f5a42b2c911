"""Plays many schedules, or one again: `make faults`, which builds what this needs.

    make faults                                        # 500 schedules
    make faults ARGS="--schedules=50 --seed=1000"      # others
    make faults ARGS="--seed=1234 --schedules=1"       # that one again

Prints each schedule with its seed, and a table of what was done at the end. Exits 1 if anything did not hold.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.faults.namespaces import keep_mounts_private, unavailable
from tests.faults.play import Tally, play
from tests.faults.schedule import KINDS, Kind, draw

# Where `make faults` builds them.
BINARIES = {
    "WEIGHTSTREAM": "client/weightstream",
    "WEIGHTSTREAM_SERVER": "server/weightstream-server",
    "SLOW_LINK": "tests/bench/slow_link",
    "JUMPING_CLOCK_LIBRARY": "tests/faults/libjumping_clock.so",
}


@dataclass
class Result:
    """Of one schedule; `error` is empty if everything held."""

    seed: int
    seconds: float
    tally: Tally
    error: str
    # Why it was not played; empty if it was.
    skipped: str = ""


_no_mounts = ""


def play_seed(seed: int) -> Result:
    """Plays the schedule of a seed in this process."""
    began = time.monotonic()
    if _no_mounts and Kind.DISK_FULL in draw(seed).kinds():
        return Result(seed, 0, Tally(), "", f"{Kind.DISK_FULL.value}: {_no_mounts}")
    try:
        tally, error = play(draw(seed)), ""
    except Exception:
        tally, error = Tally(), traceback.format_exc()
    return Result(seed, time.monotonic() - began, tally, error)


def _start_worker() -> None:
    global _no_mounts
    _no_mounts = keep_mounts_private()


def _results(seeds: Iterable[int], workers: int) -> Iterable[Result]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        yield from pool.map(play_seed, seeds)


def table(tally: Tally) -> str:
    """What was done, as lines of Markdown."""
    lines = ["| what was broken | times |", "|---|---|"]
    lines += [f"| {kind} | {count:,} |" for kind, count in sorted(tally.faults.items())]
    lines += ["", "| what was seen | |", "|---|---|"]
    lines += [f"| {name} | {count:,} |" for name, count in sorted(tally.seen().items())]
    return "\n".join(lines)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults", description="Breaks real processes on purpose, by seeds.")
    parser.add_argument("--seed", type=int, default=1, help="of the first schedule; the others follow (1)")
    parser.add_argument("--schedules", type=int, default=500, help="how many (500)")
    parser.add_argument("--kind", choices=[kind.name for kind in KINDS], help="only those in which this is certain")
    parser.add_argument("--workers", type=int, default=2, help="schedules at a time (2)")
    parser.add_argument("--binaries", type=Path, default=Path("bazel-bin"), help="where they were built (bazel-bin)")
    parser.add_argument("--json", type=Path, help="write the table there as well")
    return parser.parse_args()


def main() -> int:
    arguments = _parse()
    for variable, path in BINARIES.items():
        os.environ.setdefault(variable, str(arguments.binaries / path))
    if missing := unavailable():
        print(f"no delay, reordering, loss and bandwidth of a line here, the proxy pauses instead: {missing}")
    seeds = range(arguments.seed, arguments.seed + arguments.schedules)
    if arguments.kind:
        number = [kind.name for kind in KINDS].index(arguments.kind)
        every = len(KINDS)
        seeds = range(
            arguments.seed - arguments.seed % every + number, arguments.seed + arguments.schedules * every, every
        )
        seeds = seeds[: arguments.schedules]
    total, failed, skipped, began = Tally(), [], 0, time.monotonic()
    for result in _results(seeds, arguments.workers):
        print(draw(result.seed).describe())
        if result.skipped:
            skipped += 1
            print(f"  skipped: {result.skipped}", flush=True)
            continue
        print(f"  {'FAILED' if result.error else 'held'} after {result.seconds:.1f} s", flush=True)
        total.add(result.tally)
        if result.error:
            failed.append(result.seed)
            print(f"{result.error}\nagain: make faults ARGS='--seed={result.seed} --schedules=1'", flush=True)
    minutes = (time.monotonic() - began) / 60
    print(f"\n{len(seeds)} schedules in {minutes:.1f} minutes; skipped: {skipped}; failed: {failed or 'none'}")
    print(f"\n{table(total)}")
    if arguments.json:
        document = {
            "failed": failed,
            "skipped": skipped,
            "minutes": minutes,
            "faults": total.faults,
            "counts": total.counts,
            "most": total.most,
        }
        arguments.json.write_text(json.dumps(document, indent=2))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
