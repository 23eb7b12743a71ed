"""A run's config, in and out: from what Hydra composed, and from the file that was frozen at submission."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from isoflop.config.base import ConfigError, UserError
from isoflop.config.checks import RUN_CHECKS
from isoflop.config.schema import RunConfig
from isoflop.config.validate import validate


def load_run(composed: Mapping[str, Any]) -> RunConfig:
    """The run that `composed` describes. Raises ConfigError with every fault."""
    return validate(composed, RunConfig, *RUN_CHECKS)


def dump_yaml(config: RunConfig) -> str:
    """`config` in full, every default written out; `read_run_config` gives an equal one, floats exact."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_run_config(path: Path) -> RunConfig:
    """The config frozen in `path`. Raises UserError where there is none, ConfigError where it has faults."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; give a run folder that has a config.yaml") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        cause = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read: {cause}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: is not the config of a run; it holds no keys")
    try:
        return load_run(tree)
    except ConfigError as error:
        raise ConfigError(error.faults, subject=str(path)) from None
