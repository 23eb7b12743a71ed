"""Every fault of a command line at once, also where Hydra would stop at the first one."""

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from isoflop.config.base import Config
from isoflop.config.errors import ConfigError, Fault, Verbatim, did_you_mean

# The function that validates what a program composed. Named, not imported: `--help` needs none of it.
LOADERS = {
    "train": ("isoflop.config.load", "load_run"),
    "data": ("isoflop.config.curation.run", "load_curation"),
}


def load(program: str, composed: Mapping[str, Any]) -> Config:
    """What `program` composed, as its config. Raises ConfigError with every fault."""
    module, function = LOADERS[program]
    config: Config = getattr(importlib.import_module(module), function)(composed)
    return config


def composition_error(name: str, configs: Path, argv: Sequence[str], error: Exception) -> ConfigError:
    """Why Hydra gave up: the faults of `argv` and of what the rest of it composes, else Hydra's own words."""
    GlobalHydra.instance().clear()
    program = _Program(name, configs, argv)
    faults: list[Fault] = []
    try:
        faults, good = program.override_faults()
        if faults:
            faults += program.validation_faults(good)
    except Exception as again:  # the files themselves: Hydra, OmegaConf and YAML raise many kinds
        error = again
    return ConfigError(faults or [_in_hydras_words(error)]).as_written(program.args.overrides)


def check_sweep(name: str, configs: Path, argv: Sequence[str]) -> None:
    """Raises ConfigError if any point of the sweep that `argv` asks for is faulty, before one has run."""
    program = _Program(name, configs, argv)
    faults, good = program.override_faults()
    faults += program.validation_faults(good)
    if faults:
        raise ConfigError(faults)


class _Program:
    """A program's configs and its command line, asked what is wrong with them."""

    def __init__(self, name: str, configs: Path, argv: Sequence[str]) -> None:
        Plugins.instance()
        self.args = get_args_parser().parse_args(list(argv))
        self.program, self.name, self.configs = name, self.args.config_name or name, configs
        self.more = [Path(self.args.config_dir).absolute()] if self.args.config_dir else []
        self.options: dict[str, list[str]] = {}
        for root in (*self.more, configs):
            for file in sorted(root.glob("*/**/*.yaml")):
                self.options.setdefault(str(file.parent.relative_to(root)), []).append(file.stem)

    def override_faults(self) -> tuple[list[Fault], list[str]]:
        """The faults of each override on its own, and the overrides that have none."""
        faults: list[Fault] = []
        parsed: list[Override] = []
        for word in self.args.overrides:
            try:
                parsed.append(OverridesParser.create().parse_override(word))
            except HydraException:
                faults.append(Fault(word, None, "cannot be read; an override is key=value"))
        groups = [item for item in parsed if item.key_or_group in self.options]
        found = {id(item): list(self._group_faults(item)) for item in groups}
        chosen = [_line(item) for item in groups if not found[id(item)] and not item.is_sweep_override()]
        keys = list(_keys(self.compose(chosen)))
        for item in parsed:
            if id(item) not in found:
                found[id(item)] = list(self._key_faults(item, keys))
        faults += [fault for item in parsed for fault in found[id(item)]]
        return faults, [_line(item) for item in parsed if not found[id(item)]]

    def _group_faults(self, override: Override) -> Iterator[Fault]:
        group, options = override.key_or_group, self.options[override.key_or_group]
        if override.is_sweep_override() and not self.args.multirun:
            yield _not_a_sweep(override)
            return
        if override.is_add():
            hint = f"is chosen already; write {group}={_written(override)}"
            yield Fault(f"+{group}", Verbatim(_written(override)), hint)
            return
        for option in _values(override):
            if option not in options:
                yield Fault(group, Verbatim(option), f"no such option{did_you_mean(option, options)}")

    def _key_faults(self, override: Override, keys: Sequence[str]) -> Iterator[Fault]:
        key = override.key_or_group
        if override.is_sweep_override() and not self.args.multirun:
            yield _not_a_sweep(override)
        elif key not in keys and not override.is_add() and not override.is_hydra_override():
            hint = f"unknown key{_nearest_key(key, [*self.options, *keys])}"
            given = None if override.is_delete() else Verbatim(_written(override))
            yield Fault(f"~{key}" if override.is_delete() else key, given, hint)

    def validation_faults(self, overrides: Sequence[str]) -> list[Fault]:
        """What validation finds in what `overrides` compose; in a sweep, with the point it is found at."""
        if not self.args.multirun:
            return list(self._point_faults(overrides))
        points = self._points(overrides)
        varying = [i for i in range(len(points[0])) if len({point[i] for point in points}) > 1]
        seen: dict[Fault, list[str]] = {}
        for point in points:
            for fault in self._point_faults(point):
                seen.setdefault(fault, []).append(" ".join(point[i] for i in varying))
        return [_at_points(fault, where, len(points)) for fault, where in seen.items()]

    def _points(self, overrides: Sequence[str]) -> list[list[str]]:
        """The overrides of each run of a sweep, those that an experiment sweeps over among them."""
        parser = OverridesParser.create()
        fixed = [
            _line(item) for item in parser.parse_overrides(list(overrides)) if not item.is_sweep_override()
        ]
        params = self._compose(fixed, with_hydra=True).hydra.sweeper.get("params") or {}
        words = [*(f"{key}={value}" for key, value in params.items()), *overrides]
        return BasicSweeper.split_arguments(parser.parse_overrides(words), None)[0]

    def _point_faults(self, overrides: Sequence[str]) -> Iterable[Fault]:
        try:
            composed = self.compose(overrides)
        except Exception as error:
            return [_in_hydras_words(error)]
        try:
            load(self.program, composed)
        except ConfigError as error:
            return error.as_written(overrides).faults
        return []

    def compose(self, overrides: Sequence[str]) -> dict[str, Any]:
        tree = OmegaConf.to_container(self._compose(overrides), resolve=True)
        assert isinstance(tree, dict)
        return {str(key): value for key, value in tree.items()}

    def _compose(self, overrides: Sequence[str], with_hydra: bool = False) -> DictConfig:
        with hydra.initialize_config_dir(version_base=None, config_dir=str(self.configs)):
            searched = (
                [f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in self.more)}]"]
                if self.more
                else []
            )
            return hydra.compose(self.name, [*searched, *overrides], return_hydra_config=with_hydra)


def _not_a_sweep(override: Override) -> Fault:
    written = _written(override)
    hint = f"is several values; add -m to sweep over them, or write [{written}] for a list"
    return Fault(override.key_or_group, Verbatim(written), hint)


def _at_points(fault: Fault, where: Sequence[str], n_points: int) -> Fault:
    """`fault` with the sweep's point it was found at, where not all have it."""
    if len(where) == n_points:
        return fault
    more = f" and {len(where) - 1} more" if len(where) > 1 else ""
    return Fault(fault.key, fault.given, f"{fault.message} (sweep point {where[0]}{more}, of {n_points})")


def _line(override: Override) -> str:
    return override.input_line or ""


def _written(override: Override) -> str:
    return _line(override).partition("=")[2]


def _values(override: Override) -> list[str]:
    """The value of an override, or the values it sweeps over, as text."""
    if override.is_sweep_override():
        return list(override.sweep_string_iterator()) if override.is_discrete_sweep() else []
    return [] if override.is_delete() else [override.get_value_element_as_str()]


def _keys(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")


def _nearest_key(key: str, keys: Sequence[str]) -> str:
    """Near among keys as deep, else by its last word anywhere (`lr` → `optimizer.lr`)."""
    hint = did_you_mean(key, [known for known in keys if known.count(".") == key.count(".")])
    if "did you mean" in hint:
        return hint
    near = get_close_matches(
        key.rpartition(".")[2], {known.rpartition(".")[2] for known in keys}, n=1, cutoff=0.75
    )
    same = [known for known in keys if near and known.rpartition(".")[2] == near[0]]
    return "; did you mean " + " or ".join(f"`{known}`" for known in same[:2]) + "?" if same else ""


def _in_hydras_words(error: Exception) -> Fault:
    """What Hydra, OmegaConf or YAML said, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return Fault("configs", None, "cannot be composed: " + " ".join(lines[:3]))
