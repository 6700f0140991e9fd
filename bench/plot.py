"""plot.py RESULT.json PICTURE.png: CPU per request, a panel a row. Runs in the peers' environment, for matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLUMNS = 3
OURS, THEIRS = "#1f6f8b", "#b9c4c9"


def main(source: Path, target: Path) -> None:
    document = json.loads(source.read_text())
    panels = {name: [c for c in cells if c["cpu_us"] is not None] for name, cells in document["rows"].items()}
    panels = {name: cells for name, cells in panels.items() if cells}
    if not panels:
        return
    height = -(-len(panels) // COLUMNS)
    figure, grid = plt.subplots(height, COLUMNS, figsize=(5 * COLUMNS, 2.6 * height), squeeze=False)
    for axes in grid.flat:
        axes.set_visible(False)
    for axes, (name, cells) in zip(grid.flat, panels.items(), strict=False):
        axes.set_visible(True)
        # barh draws upwards; the best on top.
        cells = sorted(cells, key=lambda cell: -cell["cpu_us"])
        colours = [OURS if cell["server"].startswith(document["base"]) else THEIRS for cell in cells]
        bars = axes.barh([cell["server"] for cell in cells], [cell["cpu_us"] for cell in cells], color=colours)
        axes.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
        axes.margins(x=0.18)
        axes.set_title(name, fontsize=10)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Server CPU per request, µs (less is better)")
    figure.tight_layout()
    figure.savefig(target, dpi=120)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
