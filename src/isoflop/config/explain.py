"""Why a composition failed: every faulty override at once, each with what would do."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from isoflop.config.base import ConfigError, Fault, did_you_mean
from isoflop.config.compose import compose


def composition_error(name: str, configs: Path, argv: Sequence[str], error: Exception) -> Exception:
    """A ConfigError with all faults of `argv`; `error` itself where none of its overrides is to blame."""
    GlobalHydra.instance().clear()
    try:
        faults, good = check_overrides(name, configs, [word for word in argv if not word.startswith("-")])
        faults += validation_faults(name, configs, good) if faults else []
    except (HydraException, OmegaConfBaseException):
        return error
    return ConfigError(faults) if faults else error


def check_overrides(name: str, configs: Path, overrides: Sequence[str]) -> tuple[list[Fault], list[str]]:
    """The faults of each override on its own, and the overrides that have none."""
    Plugins.instance()
    faults: list[Fault] = []
    good: list[str] = []
    for override in overrides:
        found = list(_override_faults(name, configs, override))
        faults += found
        good += [] if found else [override]
    return faults, good


def _override_faults(name: str, configs: Path, override: str) -> Iterator[Fault]:
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        yield Fault(override, None, "cannot be read; overrides are key=value")
        return
    key, value = parsed.key_or_group, parsed.get_value_string()
    groups = _groups(configs)
    if key in groups:
        for option in value.split(",") if parsed.is_sweep_override() else [value]:
            if option not in groups[key] and option != "null":
                yield Fault(key, option, f"no such option{did_you_mean(option, groups[key])}")
        return
    keys = [*_keys(compose(name, (), configs)), *groups]
    if key in keys or parsed.is_add():
        return
    yield Fault(key, value, f"unknown key{_nearest_key(key, keys)}")


def _groups(configs: Path) -> dict[str, list[str]]:
    """Config groups and their options, as Hydra sees them in the folder."""
    return {
        str(folder.relative_to(configs)): sorted(file.stem for file in folder.glob("*.yaml"))
        for folder in configs.rglob("*")
        if folder.is_dir() and any(folder.glob("*.yaml"))
    }


def _keys(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")


def _nearest_key(key: str, keys: Sequence[str]) -> str:
    """Near as a whole, else the same last word elsewhere (`lr` → `optimizer.lr`)."""
    last = key.rpartition(".")[2]
    same = [known for known in keys if known.rpartition(".")[2] == last]
    hint = did_you_mean(key, keys)
    if same and not hint.startswith("; did"):
        return "; did you mean " + " or ".join(f"`{known}`" for known in same[:2]) + "?"
    return hint


def validation_faults(name: str, configs: Path, overrides: Sequence[str]) -> list[Fault]:
    """What validation finds in the composition of the overrides that are left."""
    if name != "train":
        return []
    from isoflop.config.checks import run_faults
    from isoflop.config.schema import RunConfig
    from isoflop.config.validate import validate

    if any(",".join(word.split("=")[1:]).count(",") and hydra for word in overrides):
        return []  # a sweep: its points are validated one by one
    try:
        validate(compose(name, overrides, configs), RunConfig, run_faults)
    except ConfigError as error:
        return error.faults
    return []
