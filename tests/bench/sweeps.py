"""What chunk size and the number of connections do, what one more chunk costs, and the plots of both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.bench.contenders import NOT_READY, Baseline, Settings, Work, push, server, standing_servers_case
from tests.bench.rate import ARENA_NOTE
from tests.bench.rounds import GIB, Case, Row, Section, interleave
from tests.bench.table import cost_text

CHUNKS_KIB = (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 65536)
CHUNK_CONNECTIONS = 2
# What the server must be told to take the largest of them.
BUCKET_MIB = max(CHUNKS_KIB) // 1024
# Between which sizes, in KiB, the cost of one more chunk is taken.
COST_SPANS_KIB = ((16, 64), (64, 1024), (128, 1024))
CONNECTIONS = (1, 2, 3, 4, 6, 8)


def run(settings: Settings) -> list[Section]:
    sections = [sweep_chunks(settings), sweep_connections(settings)]
    if settings.plots:
        plot(sections, settings.plots)
    return sections


def swept_mib(settings: Settings) -> int:
    # Half, as there are many points.
    return max(1, settings.total_mib // 2)


def sweep_chunks(settings: Settings) -> Section:
    total_mib = swept_mib(settings)
    title = f"Sweep of the chunk size, {CHUNK_CONNECTIONS} connections, server with --bucket-mib={BUCKET_MIB}"
    section = Section("sweep-chunks", title, notes=[ARENA_NOTE])
    with Baseline("tcp", settings) as tcp, server(settings, f"--bucket-mib={BUCKET_MIB}") as receiver:
        push(settings, [receiver], Work(total_mib, CHUNK_CONNECTIONS))
        cases: list[Case] = [tcp.warmed_up().case(total_mib, CHUNK_CONNECTIONS)]
        for chunk_kib in CHUNKS_KIB:
            work = Work(total_mib, CHUNK_CONNECTIONS, chunk_kib=chunk_kib)
            cases.append(standing_servers_case(settings, "weightstream", [receiver], work))
        section.rows = interleave(section.name, settings.rounds, cases)
    add_chunk_costs(section)
    return section


def add_chunk_costs(section: Section) -> None:
    """Adds what one more chunk costs either side: the slope of CPU seconds per GiB over chunks per GiB."""
    costs = chunk_costs(section.rows)
    section.facts["cpu_microseconds_per_chunk"] = costs
    for span, sides in costs.items():
        section.notes.append(f"CPU of one more chunk, {span}: {cost_text(sides)}")


def chunk_costs(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    warm = {row.label.chunk_kib: row for row in rows if row.label.arena == "warm"}
    costs = {}
    for small, large in COST_SPANS_KIB:
        if small in warm and large in warm:
            more_chunks = GIB / (small << 10) - GIB / (large << 10)
            costs[f"{small} to {large} KiB"] = {
                side: (warm[small].cpu_per_gib(side) - warm[large].cpu_per_gib(side)) / more_chunks * 1e6
                for side in ("sender", "receiver")
            }
    return costs


def sweep_connections(settings: Settings) -> Section:
    total_mib = swept_mib(settings)
    title = "Sweep of the connections, chunk size chosen by the client"
    section = Section("sweep-connections", title, notes=[ARENA_NOTE])
    with Baseline("tcp", settings) as tcp, server(settings) as receiver:
        push(settings, [receiver], Work(total_mib, max(CONNECTIONS)))
        tcp.warmed_up()
        cases: list[Case] = []
        for connections in CONNECTIONS:
            cases.append(tcp.case(total_mib, connections))
            work = Work(total_mib, connections)
            cases.append(standing_servers_case(settings, "weightstream", [receiver], work))
        section.rows = interleave(section.name, settings.rounds, cases)
    return section


def plot(sections: list[Section], folder: Path) -> None:
    # Here, as nothing but the plots needs matplotlib.
    from tests.bench import plots

    chunks, connections = sections
    folder.mkdir(parents=True, exist_ok=True)
    plots.draw(
        folder / "bench-chunk-size.svg",
        f"Rate by chunk size, {CHUNK_CONNECTIONS} connections",
        "chunk size",
        [point(chunks, row, row.label.chunk_kib) for row in warm_rows(chunks)],
        plots.kib_text,
    )
    plots.draw(
        folder / "bench-connections.svg",
        "Rate by number of connections",
        "connections, of both",
        [point(connections, row, row.label.connections) for row in warm_rows(connections)],
        str,
    )


def warm_rows(section: Section) -> list[Row]:
    """What may be plotted: rounds that found no memory ready may not pass for others."""
    left_out = [str(row.label) for row in section.rows if row.label.arena == NOT_READY]
    if left_out:
        section.notes.append(f"not in the plot: {', '.join(left_out)}")
    return [row for row in section.rows if row.label.arena == "warm"]


def point(section: Section, row: Row, x: int) -> tuple[int, float, float, float]:
    """x, and the ratio to tcp's median: of the median, the least and the most."""
    reference = section.reference_of(row)
    assert reference is not None, row.label
    tcp = reference.rate()
    return x, row.rate() / tcp, min(row.rates()) / tcp, max(row.rates()) / tcp
