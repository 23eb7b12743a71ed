"""The report: one HTML page from run folders. It needs no network and can be sent as it stands."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from isoflop import __version__
from isoflop.config.errors import UserError
from isoflop.monitor import units
from isoflop.monitor.folder import write_bytes
from isoflop.monitor.metrics import METRICS
from isoflop.report import figures
from isoflop.report.agreement import Agreement, agreements
from isoflop.report.gather import Run, gather
from isoflop.report.headline import headline
from isoflop.report.ladder import find_ladder
from isoflop.report.series import thinned
from isoflop.report.tables import config_differences, dataset_views, machine_views

TEMPLATES = Path(__file__).parent / "template"


def write_report(paths: Sequence[Path], out: Path | None, title: str | None) -> tuple[Path, list[str]]:
    """Write the report of the runs in `paths`; returns where it stands and what was missing.

    Without `out`: `report.html` in the first path. Raises UserError where there is no run to report.
    """
    notes: list[str] = []
    runs = gather(paths, notes.append)
    out = out or paths[0] / "report.html"
    if out.is_dir():
        raise UserError(f"{out}: is a folder; give --out a file, such as {out / 'report.html'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out.parent}: cannot be made: {error.strerror}; give another --out") from None
    write_bytes(out, render(runs, title or default_title(runs), notes).encode())
    return out, notes


def render(runs: Sequence[Run], title: str, notes: Sequence[str]) -> str:
    """The page. Its numbers also stand in it as JSON, in the script element with the id `isoflop-data`."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; `pip install 'isoflop[report]'`") from None
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": units.count,
        "scientific": units.scientific,
        "memory": units.memory,
        "duration": units.duration,
        "percent": units.percent,
        "when": when,
        "yaml": partial(yaml.safe_dump, sort_keys=False, allow_unicode=True, width=100),
    }
    pairs = agreements(runs)
    palette = figures.colours(runs)
    return environment.get_template("report.html").render(
        title=title,
        made=datetime.now(UTC),
        version=__version__,
        runs=runs,
        colours=palette,
        tiles=headline(runs, pairs),
        notes=notes,
        pairs=pairs,
        charts=charts(runs, pairs, palette),
        ladder=find_ladder(runs),
        datasets=dataset_views(runs),
        differences=config_differences(runs),
        machines=machine_views(runs),
        events=[(run, event) for run in runs for event in run.events],
        metrics=METRICS,
        data=script_json(numbers(runs, pairs)),
        script_json=script_json,
        plotly=get_plotlyjs(),
    )


def charts(runs: Sequence[Run], pairs: Sequence[Agreement], palette: list[str]) -> dict[str, figures.Figure]:
    """Every chart of the page by the id of its place."""
    dash = figures.dashes(runs, pairs)
    lines = figures.entropy_lines(runs)
    highest = max((run.highest("memory_bytes") or 0 for run in runs), default=0)
    memory_unit, memory_bytes = ("GiB", 2**30) if highest >= 2**31 else ("MiB", 2**20)
    over_steps = partial(figures.metric_over_steps, runs, palette=palette, dash=dash)
    drawn = {
        "loss-tokens": figures.loss_curves(runs, "tokens", palette, dash, lines),
        "loss-flops": figures.loss_curves(runs, "flops", palette, dash, lines),
        "gradient": over_steps("grad_norm", "gradient norm", y_log=True),
        "rate": over_steps("lr", "learning rate"),
        "throughput": over_steps("tokens_per_second", "tokens per second"),
        "mfu": over_steps("mfu", "model FLOPs utilisation"),
        "step-seconds": over_steps("step_seconds", "seconds per step", y_log=True),
        "memory": over_steps("memory_bytes", f"peak memory, {memory_unit}", unit=memory_bytes),
    }
    drawn |= {f"agreement-{i}": figures.differences(pair) for i, pair in enumerate(pairs)}
    ladder = find_ladder(runs)
    if ladder is not None:
        drawn["ladder-params"] = figures.ladder_chart(ladder, "n_params")
        drawn["ladder-flops"] = figures.ladder_chart(ladder, "flops")
    return {place: figure for place, figure in drawn.items() if figure["data"]}


def numbers(runs: Sequence[Run], pairs: Sequence[Agreement]) -> dict[str, Any]:
    """What the page shows, for tools: rows (as many as the curves have points), results and verdicts."""
    return {
        "isoflop": __version__,
        "runs": [
            {
                "run_id": run.run_id,
                "label": run.label,
                "folder": str(run.folder.path),
                "status": run.status,
                "layout": run.layout,
                "n_params": run.n_params,
                "tokens": run.tokens,
                "flops": run.flops,
                "final_loss": run.final_loss,
                "tokens_per_second": run.typical("tokens_per_second"),
                "mfu": run.typical("mfu"),
                "memory_bytes": run.highest("memory_bytes"),
                "metrics": _shown_rows(run),
            }
            for run in runs
        ],
        "agreement": [
            {
                "reference": pair.reference.run_id,
                "other": pair.other.run_id,
                "steps": len(pair.steps),
                "max_loss_difference": float(pair.loss.max(initial=0.0)),
                "max_grad_norm_difference": float(pair.grad_norm.max(initial=0.0)),
                "tolerance": pair.tolerance,
                "agrees": pair.agrees,
                "verdict": pair.verdict,
            }
            for pair in pairs
        ],
    }


def _shown_rows(run: Run) -> dict[str, list[float | int | None]]:
    if "loss" not in run.columns:
        return {}
    kept = thinned(run.columns["loss"])
    return {name: figures.numbers(values[kept]) for name, values in run.columns.items()}


def default_title(runs: Sequence[Run]) -> str:
    """The run's name, or the names that several share."""
    names = list(dict.fromkeys(run.name for run in runs))
    if len(runs) == 1:
        return names[0]
    return f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''}: {len(runs)} runs"


def script_json(tree: Any) -> str:
    """JSON that may stand inside a script element."""
    from markupsafe import Markup

    return Markup(json.dumps(tree, separators=(",", ":")).replace("<", "\\u003c"))


def when(moment: str | datetime) -> str:
    """An ISO 8601 time as `2026-08-01 14:03:22 UTC`; anything else as it stands."""
    try:
        time = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError:
        return str(moment)
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
