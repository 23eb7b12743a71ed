"""The report's charts, as plotly figures in plain mappings. CSS gives text and rules their colours."""

import colorsys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from isoflop.monitor import units
from isoflop.report.agreement import Agreement
from isoflop.report.gather import Run
from isoflop.report.ladder import Ladder
from isoflop.report.series import SMOOTHED_FROM, smoothed, thinned

Figure = dict[str, Any]
DASHES = ("solid", "dash", "dot", "dashdot")
COUNTED = ("tokens", "parameters")  # axes of counts; other logarithmic ones are scientific
SANS = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"  # the page's
QUIET = "#8a8f98"  # reference lines; readable on white and on black
HUES = (212, 25, 150, 350, 265, 180, 45, 310)  # degrees, apart also for most colour-blind readers


def colours(runs: Sequence[Run]) -> list[str]:
    """One hue a model size in a ladder, lighter for smaller budgets; with fewer sizes, one a run."""
    sizes = sorted({run.n_params or 0 for run in runs})
    if len(sizes) < 3:
        return [_hex(HUES[i % len(HUES)], 0.52, 0.5) for i in range(len(runs))]
    chosen = []
    for run in runs:
        budgets = sorted({other.tokens for other in runs if other.n_params == run.n_params})
        hue = 265 - 235 * sizes.index(run.n_params or 0) / (len(sizes) - 1)
        rank = budgets.index(run.tokens) / max(1, len(budgets) - 1)
        chosen.append(_hex(hue, 0.55, 0.66 - 0.2 * rank if len(budgets) > 1 else 0.5))
    return chosen


def dashes(runs: Sequence[Run], pairs: Sequence[Agreement]) -> list[str]:
    """Solid, but for runs that repeat another one: those are drawn over it, dashed."""
    dash: dict[int, str] = {}
    seen: Counter[int] = Counter()
    for pair in pairs:
        seen[id(pair.reference)] += 1
        dash[id(pair.other)] = DASHES[seen[id(pair.reference)] % len(DASHES)]
    return [dash.get(id(run), "solid") for run in runs]


def loss_curves(
    runs: Sequence[Run], x: str, palette: list[str], dash: list[str], lines: Sequence[tuple[str, float]]
) -> Figure:
    """Loss against `x` (tokens or flops), raw and smoothed; `lines` are (label, nats) to draw across."""
    traces: list[dict[str, Any]] = []
    for i, run in enumerate(runs):
        if not {"loss", x} <= run.columns.keys():
            continue
        loss, along = run.columns["loss"], run.columns[x]
        kept = thinned(loss)
        style = {"color": palette[i], "dash": dash[i]}
        many = len(loss) >= SMOOTHED_FROM
        hover = f"{run.label}<br>loss %{{y:.4f}} · {'%{x:.4s} tokens' if x == 'tokens' else '%{x:.3e} FLOPs'}"
        raw = _line(i, along[kept], loss[kept], {**style, "width": 1 if many else 2}, hover)
        if many:
            raw |= {"opacity": 0.3, "hoverinfo": "skip", "hovertemplate": None}
            traces.append(_line(i, along[kept], smoothed(loss, along)[kept], {**style, "width": 2}, hover))
        traces.insert(0, raw)  # below every smoothed curve
    spans = [run.columns[x] for run in runs if run.columns.get(x, np.array([])).size]
    if spans:
        ends = (min(float(s[0]) for s in spans), max(float(s[-1]) for s in spans))
        traces += [_across(label, value, ends, i) for i, (label, value) in enumerate(lines)]
    title = "tokens" if x == "tokens" else "FLOPs"
    return _figure(traces, x=title, y="loss, nats per token", x_log=True, y_log=True)


def metric_over_steps(
    runs: Sequence[Run],
    metric: str,
    y: str,
    palette: list[str],
    dash: list[str],
    y_log: bool = False,
    unit: float = 1.0,
) -> Figure:
    """One metric over steps, divided by `unit`; a line a run."""
    traces = []
    for i, run in enumerate(runs):
        if metric not in run.columns:
            continue
        values = run.columns[metric] / unit
        kept = thinned(values)
        style = {"color": palette[i], "dash": dash[i], "width": 1.5}
        form = "%{y:.1%}" if metric == "mfu" else "%{y:.4s}"
        hover = f"{run.label}<br>{form} · step %{{x:,}}"
        traces.append(_line(i, run.columns["step"][kept], values[kept], style, hover))
    figure = _figure(traces, x="step", y=y, y_log=y_log)
    figure["layout"]["yaxis"] |= {"tickformat": ".0%" if metric == "mfu" else None}
    if not y_log:
        figure["layout"]["yaxis"]["rangemode"] = "tozero"
    return figure


def differences(pair: Agreement) -> Figure:
    """Relative differences of loss and gradient norm against step, with the tolerance as a line."""
    traces = []
    for name, values, hue in (("loss", pair.loss, HUES[0]), ("gradient norm", pair.grad_norm, HUES[1])):
        shown = np.where(values > 0, values, np.nan)  # equal to the last bit: nothing to draw on a log axis
        kept = thinned(shown)
        hover = f"{name}<br>|Δ| %{{y:.2e}} · step %{{x:,}}"
        style = {"color": _hex(hue, 0.52, 0.5), "width": 1.5}
        trace = _line(None, pair.steps[kept], shown[kept], style, hover)
        traces.append(
            {**trace, "name": name, "showlegend": True, "mode": "lines+markers", "marker": {"size": 4}}
        )
    if pair.tolerance and pair.steps.size:
        ends = (float(pair.steps[0]), float(pair.steps[-1]))
        traces.append(_across(f"tolerance {units.scientific(pair.tolerance, 0)}", pair.tolerance, ends))
    return _figure(traces, x="step", y="relative difference", y_log=True)


def ladder_chart(ladder: Ladder, x: str) -> Figure:
    """Final loss against `n_params` or `flops`, a colour and a line for each budget."""
    traces = []
    for i, (budget, runs) in enumerate(ladder.groups):
        hue = 212 - 187 * i / max(1, len(ladder.groups) - 1)
        along = [run.n_params if x == "n_params" else run.flops for run in runs]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": budget,
                "x": along,
                "y": [run.settled_loss for run in runs],
                "text": [run.label for run in runs],
                "line": {"color": _hex(hue, 0.55, 0.5), "width": 1.5},
                "marker": {"size": 8},
                "hovertemplate": "%{text}<br>loss %{y:.4f}<extra></extra>",
                "showlegend": True,
            }
        )
    return _figure(
        traces,
        x="parameters" if x == "n_params" else "FLOPs",
        y="settled loss, nats per token",
        x_log=True,
        y_log=True,
    )


def _line(run: int | None, x: np.ndarray, y: np.ndarray, line: dict[str, Any], hover: str) -> dict[str, Any]:
    """A trace; `meta` says which run it shows, for the legend that hides and shows runs."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": numbers(x),
        "y": numbers(y),
        "line": line,
        "meta": run,
        "hovertemplate": f"{hover}<extra></extra>",
        "showlegend": False,
    }


def _across(label: str, y: float, ends: tuple[float, float], above: int = 0) -> dict[str, Any]:
    """A labelled horizontal line."""
    return {
        "type": "scatter",
        "mode": "lines+text",
        "x": list(ends),
        "y": [y, y],
        "text": ["", label],
        "textposition": "bottom left" if above % 2 else "top left",
        "line": {"color": QUIET, "width": 1.5, "dash": "4px,3px"},
        "hovertemplate": f"{label}<extra></extra>",
        "showlegend": False,
        "cliponaxis": False,
    }


def _figure(traces: list[dict[str, Any]], x: str, y: str, x_log: bool = False, y_log: bool = False) -> Figure:
    return {
        "data": traces,
        "layout": {
            "xaxis": _axis(x, x_log, [value for trace in traces for value in trace["x"]]),
            "yaxis": _axis(y, y_log, [value for trace in traces for value in trace["y"]]),
            "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "hovermode": "closest",
            "font": {"family": SANS, "size": 12},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        },
    }


def _axis(title: str, log: bool, values: list[float | None]) -> dict[str, Any]:
    """An axis; a logarithmic one over more than half a decade gets ticks that say their whole value."""
    axis: dict[str, Any] = {"title": {"text": title, "standoff": 8}, "type": "log" if log else "linear"}
    axis |= {"zeroline": False, "automargin": True, "exponentformat": "SI"}
    positive = [value for value in values if value is not None and value > 0]
    if log and positive and max(positive) > 4 * min(positive):
        ticks = log_ticks(min(positive), max(positive))
        name = units.rounded if title in COUNTED else _scientific_tick
        axis |= {"tickvals": ticks, "ticktext": [name(tick) for tick in ticks]}
    return axis


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten around low…high, with their doubles and halves where those are few."""
    decades = np.log10(high / low)
    digits = (1, 2, 5) if decades < 2.5 else (1,)
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    powers = powers[:: max(1, round(decades / 6))]
    return [float(f"{digit}e{power}") for power in powers for digit in digits]


def _scientific_tick(value: float) -> str:
    return f"{value:g}" if 1e-3 <= value < 1e4 else units.scientific(value, 0)


def numbers(values: np.ndarray) -> list[float | int | None]:
    """As JSON has them: whole ones as integers, null where not finite."""
    return [None if not np.isfinite(v) else int(v) if float(v).is_integer() else float(v) for v in values]


def _hex(hue: float, saturation: float, lightness: float) -> str:
    red, green, blue = colorsys.hls_to_rgb(hue / 360, lightness, saturation)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def entropy_lines(runs: Sequence[Run]) -> list[tuple[str, float]]:
    """(label, nats) of each dataset's unigram entropy, where its manifest has it."""
    lines = {}
    for run in runs:
        for entry in run.datasets:
            nats = (entry.get("manifest") or {}).get("unigram_entropy_nats")
            if isinstance(nats, int | float):
                lines[round(nats, 6)] = f"unigram entropy {nats:.3f}"
    return [(label, nats) for nats, label in sorted(lines.items())]
