"""Whole runs of one rank inside the test's own process: as the program does it, without starting Python."""

import json
from pathlib import Path
from typing import Any

from experiments import TINY

from isoflop.config.compose import compose
from isoflop.config.load import load_run
from isoflop.data.manifest import read_manifest
from isoflop.engine.launch import train
from isoflop.engine.resume import locate


def train_here(data: Path, runs: Path, *overrides: str) -> Path:
    """Run the tiny experiment to its end, or what is left of it; its folder."""
    here = [f"data.path={data}", f"runs_dir={runs}", "cluster.threads_per_rank=1"]
    composed = compose("train", [*TINY, *here, *overrides])
    train(composed, [])
    return locate(load_run(composed), [read_manifest(data).content_sha256])[0].path


def events_of(run_folder: Path, kind: str) -> list[dict[str, Any]]:
    """The events of one kind, whole."""
    lines = (run_folder / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]
