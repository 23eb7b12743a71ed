"""Run folders as a report reads them: whatever is there, with a named warning for what is not."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from isoflop.config.errors import UserError
from isoflop.monitor import units
from isoflop.monitor.folder import RunFolder
from isoflop.monitor.intro import layout_name

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """One run folder, read. `config` and the rest are plain mappings: any version's folder can be shown."""

    folder: RunFolder
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, float | int]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    overrides: str = ""
    label: str = ""

    @property
    def name(self) -> str:
        return str(self.config.get("name") or self.summary.get("name") or self.folder.path.name)

    @property
    def run_id(self) -> str:
        return str(self.summary.get("run_id") or self.folder.path.name.rpartition("-")[2])

    @property
    def status(self) -> str:
        """As in `summary.json`; a run that was killed before it could write one is `unknown`."""
        return str(self.summary.get("status", "unknown"))

    @property
    def layout(self) -> str:
        return layout_name(self.config.get("parallel") or {})

    @property
    def ranks(self) -> int:
        """How many processes trained it together."""
        parallel = self.config.get("parallel") or {}
        return int(np.prod([parallel.get(axis, 1) for axis in ("data", "tensor", "pipeline", "context")]))

    @property
    def n_params(self) -> int | None:
        return self.summary.get("n_params")

    @property
    def tokens(self) -> int:
        return int(self.last("tokens", 0))

    @property
    def flops(self) -> float:
        return self.last("flops", 0.0)

    @property
    def final_loss(self) -> float | None:
        """The summary's; of an unfinished run, the last row's."""
        given = self.summary.get("final_loss")
        return float(given) if given is not None else self.last("loss", None)

    @property
    def settled_loss(self) -> float | None:
        """Mean of the last twentieth of the rows, at least one: a single step's loss is noisy."""
        losses = [row["loss"] for row in self.rows if row.get("loss") is not None]
        last = losses[-max(1, len(losses) // 20) :]
        return float(np.mean(last)) if last else self.final_loss

    @property
    def datasets(self) -> list[dict[str, Any]]:
        """{path, content_sha256, manifest} of each dataset, as the run recorded them."""
        return [entry for entry in self.provenance.get("data") or [] if isinstance(entry, dict)]

    def last(self, metric: str, default: Any) -> Any:
        """A metric's value in the last row; where there is none, the summary's."""
        value = self.rows[-1].get(metric) if self.rows else None
        return value if value is not None else self.summary.get(metric, default)

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """The rows by metric, (rows,) each; nan where a row lacks it."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return {name: np.array([row.get(name, np.nan) for row in self.rows], dtype=float) for name in names}

    def typical(self, metric: str) -> float | None:
        """Median over the steps but the first, which warms up."""
        values = self.columns.get(metric, np.array([]))[1 if len(self.rows) > 1 else 0 :]
        values = values[np.isfinite(values)]
        return float(np.median(values)) if values.size else None

    def highest(self, metric: str) -> float | None:
        values = self.columns.get(metric, np.array([]))
        return float(np.nanmax(values)) if np.isfinite(values).any() else None


def gather(paths: Sequence[Path], warn: Warn) -> list[Run]:
    """The runs in `paths`, smallest first, each with a label of its own.

    A path is a run folder or a folder of run folders. Raises UserError where one holds no run; a run whose
    metrics cannot be read is left out with a warning, unless none is left.
    """
    folders = list(dict.fromkeys(folder for path in paths for folder in run_folders(path)))
    runs = []
    for folder in folders:
        try:
            runs.append(read_run(RunFolder(folder), warn))
        except UserError as error:
            if len(folders) == 1:
                raise
            warn(f"left out: {error}")
    if not runs:
        raise UserError(f"{paths[0]}: none of its runs can be read")
    return labelled(sorted(runs, key=lambda run: (run.n_params or 0, run.tokens, run.ranks, run.name)))


def run_folders(path: Path) -> list[Path]:
    """`path` itself where it is a run folder, else the run folders in it."""
    if not path.is_dir():
        raise UserError(f"{path}: there is no such folder; give a run folder, or a folder of them")
    if _is_run(path):
        return [path]
    inside = sorted(child for child in path.iterdir() if child.is_dir() and _is_run(child))
    if not inside:
        raise UserError(f"{path}: holds no run (a folder with a config.yaml or a metrics.jsonl)")
    return inside


def read_run(folder: RunFolder, warn: Warn) -> Run:
    """One run. Raises UserError where `metrics.jsonl` is broken; all else that is missing is a warning."""
    rows = folder.read_metrics()
    summary = _mapping(folder.summary, json.loads, warn)
    if not rows:
        warn(f"{folder.path.name}: no step was logged")
    elif summary.get("status") == "running" or not summary:
        warn(f"{folder.path.name}: not finished; it ends at step {rows[-1]['step']:,} so far")
    overrides = folder.overrides.read_text(errors="replace") if folder.overrides.is_file() else ""
    return Run(
        folder=folder,
        config=_mapping(folder.config, yaml.safe_load, warn),
        rows=rows,
        summary=summary,
        provenance=_mapping(folder.provenance, json.loads, warn),
        events=folder.read_events(),
        overrides=" ".join(overrides.split()),
    )


def labelled(runs: Sequence[Run]) -> list[Run]:
    """Each run with the shortest label that tells it from the others: its name, then what differs."""
    labels = [run.name for run in runs]
    for tell in (
        lambda run: f"{units.count(run.n_params)} params" if run.n_params else "",
        lambda run: f"{units.count(run.tokens)} tokens",
        lambda run: run.layout,
        lambda run: run.run_id,
        lambda run: str(run.folder.path.parent),
    ):
        seen = Counter(labels)
        told: dict[str, set[str]] = {label: set() for label in seen}
        for label, run in zip(labels, runs, strict=True):
            told[label].add(tell(run))
        labels = [
            f"{label} · {tell(run)}" if len(told[label]) > 1 else label
            for label, run in zip(labels, runs, strict=True)
        ]
    return [replace(run, label=label) for label, run in zip(labels, runs, strict=True)]


def _is_run(path: Path) -> bool:
    folder = RunFolder(path)
    return folder.config.is_file() or folder.metrics.is_file()


def _mapping(path: Path, parse: Callable[[str], Any], warn: Warn) -> dict[str, Any]:
    """A file's mapping; empty, with a warning, where it is missing or broken."""
    try:
        tree = parse(path.read_text())
    except FileNotFoundError:
        warn(f"{path.parent.name}: has no {path.name}")
        return {}
    except (OSError, ValueError, yaml.YAMLError):
        warn(f"{path}: cannot be read")
        return {}
    return tree if isinstance(tree, dict) else {}
