"""`make bench`: how fast weights move, beside what a user would otherwise do, in one run on one machine.

Every contender sends the same bytes. Rounds are interleaved, so that a slow minute of the machine is shared by all;
each figure is the median of the rounds, with the least and the most. README.md says what the sections are.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench import fleet, link, machine, memory, rate, report, shapes, sweeps, tls
from tests.bench.contenders import Settings
from tests.bench.processes import BenchError
from tests.bench.rounds import GIB, MIB, Section
from tests.bench.table import table

SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Part:
    """A part of the benchmark that --sections can name."""

    run: Callable[[Settings], list[Section]]
    # MiB of shared memory at a time, beside the source: places, and the versions held, made ready and on their way out.
    needs_mib: Callable[[Settings], int]


PARTS = {
    "rate": Part(rate.run, lambda s: 2 * s.place_mib + 3 * s.total_mib),
    "shapes": Part(shapes.run, lambda s: s.place_mib + 3 * max(s.total_mib, shapes.small_mib(s))),
    "sweeps": Part(sweeps.run, lambda s: s.place_mib + 3 * sweeps.swept_mib(s)),
    "tls": Part(tls.run, lambda s: s.place_mib + 2 * 3 * tls.sent_mib(s)),
    "memory": Part(memory.run, lambda s: 2 * max(memory.sizes_mib(s))),
    "fleet": Part(fleet.run, lambda s: 3 * (1 + fleet.SERVERS) * fleet.sent_mib(s)),
    "link": Part(link.run, lambda s: s.place_mib + 3 * s.link_mib),
}
QUICK_TOTAL_MIB, QUICK_ROUNDS, QUICK_SECTIONS = 1024, 3, ["rate"]


def counts(text: str) -> tuple[int, ...]:
    numbers = tuple(int(word) for word in text.split(","))
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError("each is 1 or more")
    return numbers


def count(text: str) -> int:
    return counts(text)[0]


def names(text: str) -> list[str]:
    words = text.split(",")
    if unknown := [word for word in words if word not in PARTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(PARTS)}")
    return words


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--sections", type=names, help=f"which, separated by commas: {','.join(PARTS)} (default all)")
    add("--quick", action="store_true", help="a first look: the section rate, 1 GiB, 3 rounds, unless said otherwise")
    add("--total-mib", type=count, help="MiB that one round sends (default 4096); some sections derive theirs from it")
    add("--rounds", type=count, help="rounds of each contender (default 5)")
    add("--connections", type=counts, default=(1, 2, 4), help="of the sections rate and tls (default 1,2,4)")
    add("--small-tensors", type=count, default=100_000, help="tensors of 4 KiB in the section shapes (default 100000)")
    add("--link-mib", type=count, default=256, help="most MiB of a round over the slow link (default 256)")
    add("--disk", type=Path, default=Path("/var/tmp"), metavar="DIR", help="not in memory; for the section fleet")
    add("--json", type=Path, metavar="FILE", help="also writes every round to this file")
    add("--plots", type=Path, metavar="DIR", help="draws the sweeps into this folder (needs python3-matplotlib)")
    add("--bin", type=Path, default=Path("bazel-bin"), metavar="DIR", help="where Bazel put the binaries")
    options = parser.parse_args(arguments)
    options.total_mib = options.total_mib or (QUICK_TOTAL_MIB if options.quick else 4096)
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else 5)
    options.sections = options.sections or (QUICK_SECTIONS if options.quick else list(PARTS))
    if options.plots and "sweeps" in options.sections and not importlib.util.find_spec("matplotlib"):
        parser.error("--plots needs matplotlib: run tools/setup bench")
    return options


def run_part(name: str, settings: Settings) -> list[Section]:
    """The part's sections; what cannot be run, or fails, is a section that says why."""
    part = PARTS[name]
    source_mib = min(settings.period_mib, 2 * settings.total_mib)
    needed = (source_mib + part.needs_mib(settings)) * MIB
    free = min(shutil.disk_usage(SHARED_MEMORY).free, machine.memory_bytes("MemAvailable"))
    if free < needed:
        why = f"needs {needed / GIB:.1f} GiB of shared memory, {free / GIB:.1f} are free: give a smaller --total-mib"
        return [Section(name, "not run", skipped=why)]
    try:
        return part.run(settings)
    except BenchError as error:
        return [Section(name, "not finished", failed=str(error))]


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    # So that a run that is ended cleans up: servers, shared memory, network namespaces.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    print(machine.text(machine.description()), end="\n\n")
    sections: list[Section] = []
    with tempfile.TemporaryDirectory(prefix=f"weightstream-bench-{os.getpid()}-", dir=SHARED_MEMORY) as folder:
        settings = Settings(
            benchmarks=options.bin / "tests" / "bench",
            server=options.bin / "server" / "weightstream-server",
            command=options.bin / "client" / "weightstream",
            folder=Path(folder),
            total_mib=options.total_mib,
            rounds=options.rounds,
            connections=options.connections,
            small_tensors=options.small_tensors,
            link_mib=options.link_mib,
            disk=options.disk,
            plots=options.plots,
        )
        for name in options.sections:
            for section in run_part(name, settings):
                sections.append(section)
                print(table(section), flush=True)
    if options.json:
        options.json.write_text(json.dumps(report.as_json(settings, sections), indent=1) + "\n")
    return 1 if any(section.failed for section in sections) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
