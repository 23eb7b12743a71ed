"""The charts of a dataset's page, as plotly figures in plain mappings. CSS colours text and rules."""

from collections.abc import Sequence
from typing import Any

from isoflop.monitor import units
from isoflop.report.dataset.gather import Dataset
from isoflop.report.dataset.statistics import LONGEST_TOKEN
from isoflop.report.figures import SANS, Figure

COLOURS = ("#3d7ac2", "#c2703d")  # the first dataset's, the second's


def length_chart(datasets: Sequence[Dataset], of: str) -> Figure:
    """The share of `documents` or `tokens` in documents of each length: bars for each dataset."""
    column = {"documents": 2, "tokens": 3}[of]
    traces = []
    for dataset, colour in zip(datasets, COLOURS, strict=False):
        bins = dataset.lengths.bins()
        whole = sum(row[column] for row in bins) or 1
        traces.append(
            _bars(
                dataset.name,
                colour,
                x=[row[0] for row in bins],
                y=[row[column] / whole for row in bins],
                text=[f"{row[0]:,} to {row[1]:,} tokens: {units.count(row[column])} {of}" for row in bins],
            )
        )
    ticks = sorted({row[0] for dataset in datasets for row in dataset.lengths.bins()})
    figure = _figure(traces, "tokens in the document", f"of the {of}")
    # The bins are equally wide on a logarithmic axis: as categories they stand side by side.
    shown = [tick for tick in ticks if tick & (tick - 1) == 0]
    figure["layout"]["xaxis"] |= {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": [str(tick) for tick in ticks],
        "tickvals": [str(tick) for tick in shown[:: max(1, len(shown) // 8)]],
    }
    for trace in traces:
        trace["x"] = [str(x) for x in trace["x"]]
    return figure


def byte_chart(datasets: Sequence[Dataset]) -> Figure:
    """The share of the text's bytes in tokens of each length in bytes."""
    traces = []
    for dataset, colour in zip(datasets, COLOURS, strict=False):
        rows = dataset.tokens.by_bytes
        text = [f"tokens of {n} bytes: {t:.2%} of the tokens, {b:.2%} of the bytes" for n, t, b in rows]
        if rows:
            traces.append(
                _bars(dataset.name, colour, [row[0] for row in rows], [row[2] for row in rows], text)
            )
    figure = _figure(traces, "bytes of a token", "of the text's bytes")
    figure["layout"]["xaxis"] |= {
        "tickvals": [1, 4, 8, 12, LONGEST_TOKEN],
        "ticktext": ["1", "4", "8", "12", f"≥ {LONGEST_TOKEN}"],
    }
    return figure


def _bars(name: str, colour: str, x: list[Any], y: list[float], text: list[str]) -> dict[str, Any]:
    return {
        "type": "bar",
        "name": name,
        "x": x,
        "y": y,
        "marker": {"color": colour},
        "hovertext": text,
        "hovertemplate": "%{hovertext}<extra></extra>",
        "meta": None,
    }


def _figure(traces: list[dict[str, Any]], x: str, y: str) -> Figure:
    axis = {"zeroline": False, "automargin": True}
    return {
        "data": traces,
        "layout": {
            "xaxis": {**axis, "title": {"text": x, "standoff": 8}, "showgrid": False},
            "yaxis": {
                **axis,
                "title": {"text": y, "standoff": 8},
                "tickformat": ".0%",
                "rangemode": "tozero",
            },
            "barmode": "group",
            "bargap": 0.12,
            "bargroupgap": 0.0,
            "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "hovermode": "closest",
            "font": {"family": SANS, "size": 12},
            "showlegend": len(traces) > 1,
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        },
    }
