"""Do activations move as far in a wide (deep) model as in a narrow (shallow) one? A table and a plot.

For each parametrization and size the change of each activation since the initial weights (root mean square
over coordinates) after some steps on random tokens; flat lines are what μP and CompleteP promise.

    python benchmarks/coordinate_check.py [--axis width] [--sizes 32,64,128,256] [--out coordinates]
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from isoflop.config.schema import ModelConfig
from isoflop.optim.adamw import AdamWConfig
from isoflop.train.coordinates import activation_changes, slope

KINDS = {"width": ("standard", "mup"), "depth": ("mup", "completep")}
D_HEAD = 8
Row = dict[str, Any]


def main() -> None:
    """Measure, print the slopes, write `<out>.csv` and `<out>.html`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--axis", choices=KINDS, default="width")
    parser.add_argument("--sizes", type=_whole_numbers, default=None, help="32,64,… or, in depth, 2,4,…")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--out", type=Path, default=Path("coordinates"))
    given = parser.parse_args()
    sizes = given.sizes or ((32, 64, 128, 256) if given.axis == "width" else (2, 4, 8, 16, 32))
    rows = [
        {"parametrization": kind, given.axis: size, "step": step, "activation": name, "change": change}
        for kind in KINDS[given.axis]
        for size in sizes
        for step, changes in enumerate(_measure(kind, given.axis, size, sizes[0], given), start=1)
        for name, change in changes.items()
    ]
    with given.out.with_suffix(".csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    _plot(rows, given.axis, given.steps).write_html(given.out.with_suffix(".html"))
    _print_slopes([row for row in rows if row["step"] == given.steps], given.axis)


def _measure(kind: str, axis: str, size: int, base: int, given: argparse.Namespace) -> list[dict[str, float]]:
    width, n_layers = (size, 2) if axis == "width" else (64, size)
    bases: dict[str, int] = {} if kind == "standard" else {"base_width": base if axis == "width" else 64}
    if kind == "completep":
        bases["base_depth"] = base
    model = ModelConfig(
        n_layers=n_layers,
        width=width,
        n_heads=width // D_HEAD,
        d_ff=2 * width,
        vocab_size=64,
        init="normal",
        parametrization=kind,  # type: ignore[arg-type]
        **bases,
    )
    return activation_changes(model, AdamWConfig(lr=given.lr), given.steps, range(given.seeds))


def _print_slopes(rows: list[Row], axis: str) -> None:
    """The exponent of the size in each activation's change, after the last step."""
    for kind in KINDS[axis]:
        series = _series([row for row in rows if row["parametrization"] == kind], axis)
        powers = "  ".join(f"{name} {slope(*points):+.2f}" for name, points in series.items())
        print(f"{kind:10} {powers}")


def _series(rows: list[Row], axis: str) -> dict[str, tuple[list[int], list[float]]]:
    """Sizes and changes of each activation that every size has."""
    sizes = sorted({row[axis] for row in rows})
    found = {name: [r for r in rows if r["activation"] == name] for name in {r["activation"] for r in rows}}
    return {
        name: ([r[axis] for r in points], [r["change"] for r in points])
        for name, points in sorted(found.items())
        if len(points) == len(sizes)
    }


def _plot(rows: list[Row], axis: str, steps: int) -> go.Figure:
    """A panel for each parametrization and step: change against size, a line an activation."""
    kinds = KINDS[axis]
    titles = [f"{kind}, step {step}" for kind in kinds for step in range(1, steps + 1)]
    figure = make_subplots(len(kinds), steps, shared_yaxes="all", shared_xaxes="all", subplot_titles=titles)
    for row, kind in enumerate(kinds, start=1):
        for step in range(1, steps + 1):
            here = [r for r in rows if r["parametrization"] == kind and r["step"] == step]
            for name, (sizes, changes) in _series(here, axis).items():
                line = go.Scatter(x=sizes, y=changes, name=name, legendgroup=name, mode="lines+markers")
                figure.add_trace(line.update(showlegend=row == step == 1), row, step)
    figure.update_xaxes(type="log", title_text=axis, row=len(kinds))
    figure.update_yaxes(type="log", title_text="change (RMS)", col=1)
    return figure.update_layout(height=320 * len(kinds), template="plotly_white")


def _whole_numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    main()
