"""Sections as text: one style for all tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.rounds import MIB, Row, Section


@dataclass(frozen=True)
class Column:
    heading: str
    text: Callable[[Section, Row], str]
    # Left out where no row has anything to say in it.
    optional: bool = False
    left: bool = False


def _ratio(section: Section, row: Row) -> str:
    ratio = section.ratio(row)
    return "-" if ratio is None else f"{ratio:.2f}"


def _rate(rate: float) -> str:
    # Slow links have their figures behind the point.
    return f"{rate:.2f}" if rate >= 0.1 else f"{rate:.4f}"


def _megabytes(size: int) -> str:
    return f"{size / MIB:.0f}"


def cost_text(microseconds: dict[str, float]) -> str:
    """What something costs, by the side that pays."""
    return ", ".join(f"{side} {cost:.1f} us" for side, cost in microseconds.items())


COLUMNS = (
    Column("contender", lambda _, row: row.label.contender, left=True),
    Column("arena", lambda _, row: row.label.arena, optional=True, left=True),
    Column("shape", lambda _, row: row.label.shape, optional=True, left=True),
    Column("servers", lambda _, row: str(row.label.receivers) if row.label.receivers > 1 else "", optional=True),
    Column("conns", lambda _, row: str(row.label.connections)),
    Column("chunk KiB", lambda _, row: str(row.label.chunk_kib or ""), optional=True),
    Column("MiB", lambda _, row: _megabytes(row.rounds[0].bytes)),
    Column("rounds", lambda _, row: str(len(row.rounds))),
    Column("GB/s", lambda _, row: _rate(row.rate())),
    Column("least", lambda _, row: _rate(min(row.rates()))),
    Column("most", lambda _, row: _rate(max(row.rates()))),
    Column("", _ratio),
    Column("CPU s/GiB send", lambda _, row: f"{row.cpu_per_gib('sender'):.2f}"),
    Column("CPU receive", lambda _, row: f"{row.cpu_per_gib('receiver'):.2f}"),
    Column("memory MiB send", lambda _, row: _megabytes(row.memory("sender"))),
    Column("memory receive", lambda _, row: _megabytes(row.memory("receiver"))),
    Column("note", lambda _, row: row.label.note, optional=True, left=True),
)


def table(section: Section) -> str:
    """The section's title, its table, its notes; or why there is none."""
    lines = [f"{section.name}: {section.title}"]
    if section.skipped or section.failed:
        why = f"SKIPPED: {section.skipped}" if section.skipped else f"FAILED: {section.failed}"
        return "\n".join([*lines, f"  {why}", ""])
    columns = [(column, [column.text(section, row) for row in section.rows]) for column in COLUMNS]
    shown = [(column, texts) for column, texts in columns if any(texts) or not column.optional]
    cells = [[column.heading or section.ratio_heading for column, _ in shown]]
    cells += [list(texts) for texts in zip(*(texts for _, texts in shown), strict=True)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(shown))]
    for row in cells:
        padded = [
            text.ljust(width) if column.left else text.rjust(width)
            for text, width, (column, _) in zip(row, widths, shown, strict=True)
        ]
        lines.append(("  " + "  ".join(padded)).rstrip())
    lines += [f"  ({note})" for note in section.notes]
    return "\n".join([*lines, ""])
