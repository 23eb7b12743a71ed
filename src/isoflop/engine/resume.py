"""Which folder a run lives in, and which frozen config its ranks read there."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from isoflop.config.base import ConfigError, Fault, UserError
from isoflop.config.identity import run_id as identify
from isoflop.config.identity import science
from isoflop.config.load import dump_yaml, read_run_config
from isoflop.config.schema import RunConfig
from isoflop.monitor.folder import RunFolder

LAYOUT = ("parallel.", "engine.", "train.microbatch_sequences")
"""What may differ when a run is continued with `resume=`."""


def locate(config: RunConfig, data_sha256: Sequence[str]) -> tuple[RunFolder, str]:
    """The run's folder and id: the experiment's own, or those of the run that `resume` names.

    Raises UserError where that folder is no run, ConfigError where it is a run of another experiment.
    """
    if config.resume is None:
        run_id = identify(config, data_sha256)
        return RunFolder(Path(config.runs_dir) / f"{config.name}-{run_id}"), run_id
    folder = RunFolder(config.resume)
    before = read_run_config(folder.config)
    differing = list(differences(science(before, data_sha256), science(config, data_sha256)))
    if differing:
        raise ConfigError(differing, subject=f"resume={config.resume}")
    try:
        return folder, str(json.loads(folder.provenance.read_text())["run_id"])
    except (OSError, ValueError, KeyError):
        raise UserError(f"{folder.provenance}: cannot be read; start the run anew, without resume=") from None


def differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[Fault]:
    """What differs between the science of two runs, besides the layout, in no particular order."""
    for key in before.keys() | now.keys():
        path, old, new = prefix + key, before.get(key), now.get(key)
        if old == new or f"{path}.".startswith(LAYOUT) or path in LAYOUT:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            yield from differences(old, new, f"{path}.")
        else:
            yield Fault(path, new, f"is {old} in that run; only parallel, engine and microbatches may change")


def frozen_config(folder: RunFolder, config: RunConfig) -> Path:
    """Where `config` is, or is to be, frozen: config.yaml; config-2.yaml, … when a run goes on otherwise."""
    wanted = dump_yaml(config)
    path, attempt = folder.config, 1
    while path.exists() and path.read_text() != wanted:
        attempt += 1
        path = folder.path / f"config-{attempt}.yaml"
    return path


def is_finished(folder: RunFolder) -> bool:
    """Whether the run in `folder` came to its end."""
    try:
        return bool(json.loads(folder.summary.read_text())["status"] == "finished")
    except FileNotFoundError:
        return False
    except (ValueError, KeyError):
        raise UserError(f"{folder.summary}: cannot be read; remove it to resume the run") from None
