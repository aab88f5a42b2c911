"""`make bench-peers`: the same bytes over loopback TCP, by Weightstream and by what a user would pick instead.

The rounds of all contenders are interleaved, so that a slow minute of the machine is shared by all; each figure is the
median of the rounds, with the least and the most. A first round of each, not counted, checks that what landed is what
was sent, and leaves Weightstream warm. What cannot run here is in the table with the reason.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.peers import table
from tests.bench.peers.contenders import (
    PEERS,
    Contender,
    PeerContender,
    Setup,
    read_settings,
    references,
    source_file,
)
from tests.bench.peers.processes import RoundError

GIB = 1 << 30
SHARED_MEMORY = Path("/dev/shm")


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def available(setup: Setup, wanted: Sequence[str]) -> tuple[list[PeerContender], dict[str, str], dict[str, str]]:
    """The peers that can be used; their versions; and the reasons of the others."""
    found, versions, reasons = [], {}, {}
    for peer in PEERS:
        if wanted and peer.name not in wanted:
            continue
        contender = PeerContender(peer, setup)
        try:
            versions[peer.name] = f"{peer.distribution} {contender.version()}"
            found.append(contender)
        except RoundError as error:
            reasons[peer.name] = str(error)
    return found, versions, reasons


def sweep(contender: PeerContender, connections: int, total_mib: int, rounds: int) -> dict[str, int]:
    """The settings of the grid with the best median, the rounds of all of them interleaved."""
    grid = contender.peer.grid
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    rates: list[list[float]] = [[] for _ in combinations]
    for _ in range(rounds):
        for settings, seen in zip(combinations, rates, strict=True):
            seen.append(contender.run_with(connections, settings, total_mib, verify=False).gb_per_second())
            tell(f"sweep {contender.name} x{connections} {settings}: {seen[-1]:.2f} GB/s")
    return max(zip(rates, combinations, strict=True), key=lambda pair: statistics.median(pair[0]))[1]


def choose_settings(
    contenders: list[PeerContender], options: argparse.Namespace, reasons: dict[str, str]
) -> list[PeerContender]:
    """Gives each peer the settings of --settings, or those that a sweep finds; drops those that fail in it."""
    given = read_settings(options.settings) if options.settings else {}
    remaining = []
    for contender in contenders:
        contender.chosen.update(given.get(contender.name, {}))
        try:
            if options.sweep:
                for connections in options.connections:
                    contender.chosen[connections] = sweep(
                        contender, connections, options.sweep_mib, options.sweep_rounds
                    )
            remaining.append(contender)
        except RoundError as error:
            reasons[contender.name] = str(error)
    return remaining


def measure(
    contenders: Sequence[Contender], connections: Sequence[int], rounds: int, reasons: dict[str, str]
) -> list[table.Row]:
    """Every round of every contender, by turns; one that fails is told in `reasons`, and takes no further part."""
    rows = {
        (one.name, count): table.Row(one.name, count, one.settings(count))
        for one in contenders
        for count in connections
    }
    for number in range(rounds + 1):
        for count, contender in itertools.product(connections, contenders):
            if contender.name in reasons:
                continue
            try:
                done = contender.run(count, verify=number == 0)
            except RoundError as error:
                reasons[contender.name] = f"failed in round {number} with {count} connections: {error}"
                continue
            if number > 0:
                rows[contender.name, count].rounds.append(done)
            tell(f"round {number} {contender.name} x{count}: {done.gb_per_second():.2f} GB/s")
    return [rows[one.name, count] for count in connections for one in contenders]


def conditions(options: argparse.Namespace) -> Mapping[str, Any]:
    """What the figures depend on, beside the contenders."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "total_mib": options.total_mib,
        "source_mib": options.source_mib,
        "rounds": options.rounds,
        "swept": options.sweep,
    }


def counts(text: str) -> list[int]:
    numbers = [int(word) for word in text.split(",")]
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError("a number of connections is at least 1")
    return numbers


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-peers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bin", type=Path, default=Path("bazel-bin"), help="where Bazel put the binaries")
    parser.add_argument("--home", type=Path, default=Path("build/peers"), help="where the virtual environment is")
    parser.add_argument("--total-mib", type=int, default=4096, help="MiB that one round sends (default 4096)")
    parser.add_argument("--source-mib", type=int, default=1024, help="MiB of distinct bytes among them (default 1024)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count, after one that checks (default 5)")
    parser.add_argument("--connections", type=counts, default=[1, 2, 4], help="separated by commas (default 1,2,4)")
    parser.add_argument("--peer", action="append", default=[], choices=[peer.name for peer in PEERS], help="only these")
    parser.add_argument(
        "--sweep",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="first find each peer's best settings, for each number of connections",
    )
    parser.add_argument("--sweep-mib", type=int, default=1024, help="MiB that one round of the sweep sends")
    parser.add_argument("--sweep-rounds", type=int, default=2, help="rounds of the sweep (default 2)")
    parser.add_argument("--settings", type=Path, help="use the settings that an earlier --json=FILE recorded")
    parser.add_argument("--json", type=Path, help="also writes every round, and the settings, to this file")
    options = parser.parse_args(arguments)
    if options.sweep and options.settings:
        parser.error("--sweep finds settings and --settings gives them: use one of the two")
    return options


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    # The source, the current version of Weightstream's model, the next one, and raw_tcp's destination.
    wanted = (2 * options.source_mib + 2 * options.total_mib) << 20
    if shutil.disk_usage(SHARED_MEMORY).free < wanted:
        tell(f"make bench-peers: {SHARED_MEMORY} has less than {wanted / GIB:.0f} GiB free; use a smaller --total-mib")
        return 1
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="weightstream-peers-", dir=SHARED_MEMORY))
        setup = Setup(
            binaries=options.bin.resolve(),
            home=options.home.resolve(),
            root=Path(__file__).absolute().parents[3],
            source=Path(folder) / "source",
            source_mib=options.source_mib,
            total_mib=options.total_mib,
        )
        source_file(setup.source, setup.source_mib)
        peers, versions, reasons = available(setup, options.peer)
        peers = choose_settings(peers, options, reasons)
        ours = stack.enter_context(references(setup, Path(folder) / "data"))
        rows = measure([*ours, *peers], options.connections, options.rounds, reasons)
    print("\n".join(table.lines_of(rows, reasons)))
    if options.json:
        table.write_json(table.report_of(rows, reasons, versions, conditions(options)), options.json)
    # Reasons of peers are part of the result; without the references there is no result.
    return 1 if reasons.keys() & {one.name for one in ours} else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
