"""The plots: ratios to raw TCP, as SVG. Equal figures make equal bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

STYLE = {
    "font.family": "sans-serif",
    "font.size": 13,
    "axes.titlesize": 15,
    # Text stays text: readable, searchable, small.
    "svg.fonttype": "none",
    # Without it the ids in the file are random.
    "svg.hashsalt": "weightstream",
    "axes.spines.top": False,
    "axes.spines.right": False,
}
COLOUR = "#1f5fa8"

# x, then ratios: the median, the least, the most.
Point = tuple[int, float, float, float]


def draw(path: Path, title: str, x_title: str, points: Sequence[Point], text_of: Callable[[int], str]) -> None:
    """One line with its spread; raw TCP is the line at 1."""
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
        # Points at equal distances: both sweeps go up by factors.
        places = range(len(points))
        medians = [median for _, median, _, _ in points]
        below = [median - least for _, median, least, _ in points]
        above = [most - median for _, median, _, most in points]
        axes.axhline(1.0, color="#888888", linestyle="--", label="tcp, median")
        axes.errorbar(
            places,
            medians,
            yerr=(below, above),
            color=COLOUR,
            marker="o",
            capsize=4,
            label="weightstream, least to most",
        )
        axes.set_xticks(places, [text_of(x) for x, _, _, _ in points])
        axes.set_ylim(0, max([1.1, *(most * 1.05 for _, _, _, most in points)]))
        axes.set(title=title, xlabel=x_title, ylabel="rate, as a ratio to tcp")
        axes.grid(axis="y", color="#dddddd")
        axes.set_axisbelow(True)
        axes.legend(loc="lower right", frameon=False)
        # No date: it would change the file each time.
        figure.savefig(path, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def kib_text(kib: int) -> str:
    return f"{kib // 1024} MiB" if kib >= 1024 else f"{kib} KiB"
