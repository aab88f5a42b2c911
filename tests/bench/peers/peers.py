"""`make bench-peers`: the same bytes over loopback TCP, by Weightstream and by what a user would pick instead.

The rounds of all contenders are interleaved, so that a slow minute of the machine is shared by all; each figure is the
median of the rounds, with the least and the most. A first round of each, not counted, checks that what landed is what
was sent, and leaves Weightstream warm. What cannot run here is in the table with the reason.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench import machine, report
from tests.bench.bench import SHARED_MEMORY, counts
from tests.bench.contenders import Settings
from tests.bench.peers.contenders import (
    PEERS,
    Contender,
    PeerContender,
    last_line,
    make_source,
    read_chosen,
    references,
)
from tests.bench.processes import BenchError
from tests.bench.rounds import GIB, MIB, Label, Row, Section
from tests.bench.table import table

MEMORY_NOTE = "memory: RssAnon at its most; a peer's has Python and the libraries that it loads in it"


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def available(
    settings: Settings, home: Path, wanted: Sequence[str]
) -> tuple[list[PeerContender], dict[str, str], dict[str, str]]:
    """The peers that can be used; their versions; and the reasons of the others."""
    found, versions, reasons = [], {}, {}
    for peer in PEERS:
        if wanted and peer.name not in wanted:
            continue
        contender = PeerContender(peer, settings, home)
        try:
            versions[peer.name] = f"{peer.distribution} {contender.version()}"
            found.append(contender)
        except BenchError as error:
            reasons[peer.name] = last_line(str(error))
    return found, versions, reasons


def sweep(contender: PeerContender, connections: int, total_mib: int, rounds: int) -> dict[str, int]:
    """The settings of the grid with the best median, the rounds of all of them interleaved."""
    grid = contender.peer.grid
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    rates: list[list[float]] = [[] for _ in combinations]
    for _ in range(rounds):
        for chosen, seen in zip(combinations, rates, strict=True):
            seen.append(contender.run_with(connections, chosen, total_mib, verify=False).rate)
            tell(f"sweep {contender.name} x{connections} {chosen}: {seen[-1]:.2f} GB/s")
    return max(zip(rates, combinations, strict=True), key=lambda pair: statistics.median(pair[0]))[1]


def choose_settings(
    contenders: list[PeerContender], options: argparse.Namespace, reasons: dict[str, str]
) -> list[PeerContender]:
    """Gives each peer the settings of --settings, or those that a sweep finds; drops those that fail in it."""
    given = read_chosen(options.settings) if options.settings else {}
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
        except BenchError as error:
            reasons[contender.name] = last_line(str(error))
    return remaining


def label(contender: Contender, connections: int, total_mib: int) -> Label:
    note = " ".join(f"{name}={value}" for name, value in contender.chosen_for(connections).items())
    return Label(contender.name, connections, total_mib, note=note)


def measure(contenders: Sequence[Contender], settings: Settings, reasons: dict[str, str]) -> list[Row]:
    """Every round of every contender, by turns; one that fails is told in `reasons`, and takes no further part."""
    turns = list(itertools.product(settings.connections, contenders))
    rows = {(one.name, count): Row(label(one, count, settings.total_mib)) for count, one in turns}
    for number in range(settings.rounds + 1):
        for count, contender in turns:
            if contender.name in reasons:
                continue
            try:
                done = contender.run(count, verify=number == 0)
            except BenchError as error:
                why = last_line(str(error))
                reasons[contender.name] = f"failed in round {number} with {count} connections: {why}"
                continue
            if number > 0:
                rows[contender.name, count].rounds.append(done)
            tell(f"round {number} {contender.name} x{count}: {done.rate:.2f} GB/s")
    return [row for row in rows.values() if row.rounds]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-peers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bin", type=Path, default=Path("bazel-bin"), help="where Bazel put the binaries")
    parser.add_argument("--home", type=Path, default=Path("build/peers"), help="where the virtual environment is")
    parser.add_argument("--total-mib", type=int, default=4096, help="MiB that one round sends (default 4096)")
    parser.add_argument("--source-mib", type=int, default=1024, help="MiB of distinct bytes among them (default 1024)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count, after one that checks (default 5)")
    parser.add_argument("--connections", type=counts, default=(1, 2, 4), help="separated by commas (default 1,2,4)")
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
    wanted = (2 * options.source_mib + 2 * options.total_mib) * MIB
    if shutil.disk_usage(SHARED_MEMORY).free < wanted:
        tell(f"make bench-peers: {SHARED_MEMORY} has less than {wanted / GIB:.0f} GiB free; use a smaller --total-mib")
        return 1
    section = Section("peers", "Beside what users would pick instead", notes=[MEMORY_NOTE])
    with tempfile.TemporaryDirectory(prefix="weightstream-peers-", dir=SHARED_MEMORY) as folder:
        settings = Settings(
            benchmarks=options.bin / "tests" / "bench",
            server=options.bin / "server" / "weightstream-server",
            command=options.bin / "client" / "weightstream",
            folder=Path(folder),
            total_mib=options.total_mib,
            rounds=options.rounds,
            connections=options.connections,
            period_mib=options.source_mib,
        )
        make_source(settings)
        peers, versions, reasons = available(settings, options.home, options.peer)
        peers = choose_settings(peers, options, reasons)
        with references(settings) as ours:
            section.rows = measure([*ours, *peers], settings, reasons)
    section.notes += [f"{name} not measured: {reason}" for name, reason in reasons.items()]
    section.facts = {
        "versions": versions,
        "unavailable": reasons,
        # What --settings reads.
        "settings": {
            one.name: {count: one.chosen_for(count) for count in settings.connections}
            for one in peers
            if one.name not in reasons
        },
        "swept": options.sweep,
    }
    print(machine.text(machine.description()), table(section), sep="\n\n")
    if options.json:
        options.json.write_text(json.dumps(report.as_json(settings, [section]), indent=1) + "\n")
    # Reasons of peers are part of the result; without the references there is no result.
    return 1 if reasons.keys() & {one.name for one in ours} else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
