"""Hydra composes; everything below this file sees only frozen, validated configs."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from isoflop.config.errors import ConfigError, Fault, UserError
from isoflop.config.help import program_help

CONFIGS = Path(__file__).parents[3] / "configs"
SWEEP = {"-m", "--multirun"}


def program(name: str, task: Callable[[dict[str, Any], list[str]], None], configs: Path = CONFIGS) -> None:
    """Run `task(composed, overrides)` as the Hydra program `name`; a user's mistake ends without a traceback.

    `--cfg job`, `--info`, `-m` and completion are Hydra's own. Every point of a sweep is
    validated before the first one runs; one that fails later does not stop the others. Exits 2 on a
    faulty configuration, 1 on any other mistake the user can mend, 130 on Ctrl-C.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(program_help(name, configs))
        return
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # lets faults through, to be worded here
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in SWEEP)  # argparse wants flags first
    composed_once = False
    failures: list[UserError] = []

    def job(config: DictConfig) -> None:
        nonlocal composed_once
        overrides = list(HydraConfig.get().overrides.task)
        try:
            composed, composed_once = _resolved(name, configs, config), True
            _refuse_lone_sweep(overrides)
            task(composed, overrides)
        except UserError as error:  # kept from Hydra, which would put its own line before ours
            failures.append(error.as_written(overrides) if isinstance(error, ConfigError) else error)
            _say(failures[-1], " ".join(overrides) if HydraConfig.get().mode == RunMode.MULTIRUN else "")

    try:
        if SWEEP & set(sys.argv[1:]):
            _check_sweep(name, configs)
        hydra.main(version_base=None, config_path=str(configs), config_name=name)(job)()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:  # Hydra raises many kinds, also ValueError and YAML's, while it composes
        if composed_once:
            raise
        if isinstance(error, BrokenPipeError):  # `--cfg job | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        failures.append(error if isinstance(error, UserError) else _explained(name, configs, error))
        _say(failures[-1])
    if failures:
        sys.exit(max(failure.exit_code for failure in failures))


def compose(name: str, overrides: Sequence[str] = (), configs: Path = CONFIGS) -> dict[str, Any]:
    """The composed mapping of program `name`, as Hydra's command line would give it."""
    with hydra.initialize_config_dir(version_base=None, config_dir=str(configs)):
        return plain(hydra.compose(name, list(overrides)))


def plain(composed: DictConfig) -> dict[str, Any]:
    """Interpolations resolved, `hydra` dropped, no omegaconf types left."""
    tree = OmegaConf.to_container(composed, resolve=True, throw_on_missing=False)
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items() if key != "hydra"}


def _resolved(name: str, configs: Path, config: DictConfig) -> dict[str, Any]:
    try:
        return plain(config)
    except OmegaConfBaseException as error:
        raise _explained(name, configs, error) from None


def _refuse_lone_sweep(overrides: Sequence[str]) -> None:
    """An experiment that is a sweep, run without -m, would be one arbitrary point of it."""
    given = {word.partition("=")[0] for word in overrides}
    swept = [key for key in (HydraConfig.get().sweeper.get("params") or {}) if key not in given]
    if swept and HydraConfig.get().mode == RunMode.RUN:
        chosen = HydraConfig.get().runtime.choices.get("experiment")
        raise ConfigError([Fault("experiment", chosen, f"sweeps over {', '.join(swept)}; add -m to run it")])


def _check_sweep(name: str, configs: Path) -> None:
    from isoflop.config.explain import check_sweep

    check_sweep(name, configs, sys.argv[1:])


def _explained(name: str, configs: Path, error: Exception) -> ConfigError:
    from isoflop.config.explain import composition_error

    return composition_error(name, configs, sys.argv[1:], error)


def _say(error: UserError, where: str = "") -> None:
    """Print `error`; one that every rank finds by itself, only once."""
    sys.stdout.flush()
    if os.environ.get("RANK", "0") == "0" or not isinstance(error, ConfigError):
        print(f"{where}: {error}" if where else error, file=sys.stderr, flush=True)
