"""A new run that begins where another one stood: one stable phase, several horizons (`branch_from`)."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isoflop.checkpoint.marker import (
    MARKER,
    complete_checkpoints,
    mark_complete,
    on_disk,
    read_marker,
    step_folder,
    step_of,
)
from isoflop.config.base import ConfigError, Fault, UserError
from isoflop.config.identity import science
from isoflop.config.load import read_run_config
from isoflop.config.ramp import tokens_before
from isoflop.config.schema import RunConfig
from isoflop.engine.resume import differences
from isoflop.monitor.folder import RunFolder, write_bytes, write_json
from isoflop.train.budget import total_steps

SAME_WEIGHTS = {"attention", "document_mask", "z_loss", "init_std"}
"""What may differ in `model` between a run and its branch: the weights mean the same."""


def is_begun(folder: RunFolder) -> bool:
    """Whether a run has a checkpoint to go on from: then it needs no other run any more."""
    return bool(complete_checkpoints(folder.checkpoints))


def check_branch(config: RunConfig) -> None:
    """Raises ConfigError where the run cannot begin where `branch_from` says, UserError where no run is."""
    faults = list(branch_faults(config))
    if faults:
        raise ConfigError(faults, subject=f"branch_from={config.branch_from}")


def branch_faults(config: RunConfig) -> Iterator[Fault]:
    """Everything wrong between a run and the checkpoint of another that it is to begin with."""
    parent, step = _origin(config)
    before = read_run_config(parent.config)
    found = [step_of(folder) for folder in complete_checkpoints(parent.checkpoints)]
    if step not in found:
        there = ", ".join(map(str, found)) or "none"
        hint = f"has no complete checkpoint there; there are: {there}; checkpoint.keep_every keeps more"
        yield Fault("branch_from", config.branch_from, hint)
    if step >= total_steps(config):
        hint = f"leaves nothing to train: the run ends with step {total_steps(config)}"
        yield Fault("branch_from", config.branch_from, hint)
    model, old = config.model.model_dump(), before.model.model_dump()
    for key in model:
        if model[key] != old.get(key) and key not in SAME_WEIGHTS:
            yield Fault(f"model.{key}", model[key], f"is {old.get(key)} in that run")
    if config.optimizer.name != before.optimizer.name:
        hint = f"is {before.optimizer.name} in that run, whose state it cannot take over"
        yield Fault("optimizer.name", config.optimizer.name, hint)
    tokens, known = (tokens_before(c.train.stages, step) for c in (config, before))
    if tokens != known:
        hint = f"and its ramp make {tokens:,} tokens of {step} steps; that run had {known:,} by then"
        yield Fault("train.global_batch_tokens", config.train.global_batch_tokens, hint)


def begin_branch(config: RunConfig, folder: RunFolder) -> None:
    """Put the other run's checkpoint and its rows up to there into `folder`, and write down whose they are.

    The files of the checkpoint are linked where the file system can, else copied: the branch does not need
    the other run any more. From here on it is a run like any other that is resumed.
    """
    parent, step = _origin(config)
    (there, old), (here, new) = _identity(parent, read_run_config(parent.config)), _identity(folder, config)
    differing = sorted(fault.key for fault in differences(old, new) if fault.key != "branch_from")
    origin = {"run_id": there["run_id"], "folder": str(parent.path), "differs": differing}
    write_json(folder.provenance, {**here, "branched_from": {**origin, "step": step}})
    write_bytes(folder.metrics, parent.metrics.read_bytes())
    folder.truncate_metrics(step)
    folder.append_event("branch", step, **origin)
    _take_over(step_folder(parent.checkpoints, step), step_folder(folder.checkpoints, step))


def branch_note(config: RunConfig, resumed_step: int) -> str:
    """For the line that says from where the run goes on; empty where that is its own checkpoint."""
    if config.branch_from is None or resumed_step != _origin(config)[1]:
        return ""
    return f"a branch of {_origin(config)[0].path}"


def _origin(config: RunConfig) -> tuple[RunFolder, int]:
    assert config.branch_from is not None
    folder, _, step = config.branch_from.rpartition("@")
    return RunFolder(folder), int(step)


def _identity(folder: RunFolder, config: RunConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """What provenance.json says of a run, and the science of its `config`."""
    try:
        record = json.loads(folder.provenance.read_text())
        return record, science(config, [data["content_sha256"] for data in record["data"]])
    except (OSError, ValueError, KeyError):
        raise UserError(f"{folder.provenance}: cannot be read; where a run comes from is in it") from None


def _take_over(source: Path, target: Path) -> None:
    """The checkpoint `source` as `target`, complete or not at all. Raises UserError where it cannot be."""
    try:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for path in source.iterdir():
            if path.name != MARKER:
                _link(path, target / path.name)
        on_disk(target)
        mark_complete(target, read_marker(source))
    except OSError as error:
        raise UserError(f"{target}: cannot be taken over from {source}: {error.strerror or error}") from None


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
