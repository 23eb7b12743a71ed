"""Hydra composes; everything below this file sees only frozen, validated configs."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

CONFIGS = Path(__file__).parents[3] / "configs"


def program(name: str, task: Callable[[dict[str, Any], list[str]], None], configs: Path = CONFIGS) -> None:
    """Run `task(composed, overrides)` as the Hydra program `name`; a user's mistake ends without a traceback.

    `--help`, `--cfg job`, `--info`, `-m` and completion are Hydra's own. Exits 2 on a faulty
    configuration, 1 on any other mistake the user can mend, 130 on Ctrl-C.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # lets faults through, to be worded here

    def job(composed: DictConfig) -> None:
        task(plain(composed), list(hydra.core.hydra_config.HydraConfig.get().overrides.task))

    from isoflop.config.base import UserError

    try:
        hydra.main(version_base=None, config_path=str(configs), config_name=name)(job)()
    except (HydraException, OmegaConfBaseException) as error:
        from isoflop.config.explain import composition_error

        _leave(composition_error(name, configs, sys.argv[1:], error), 2)
    except UserError as error:
        _leave(error, error.exit_code)
    except KeyboardInterrupt:
        _leave("interrupted", 130)


def compose(name: str, overrides: Sequence[str] = (), configs: Path = CONFIGS) -> dict[str, Any]:
    """The composed mapping of program `name`, as Hydra's command line would give it."""
    with hydra.initialize_config_dir(version_base=None, config_dir=str(configs)):
        return plain(hydra.compose(name, list(overrides)))


def plain(composed: DictConfig) -> dict[str, Any]:
    """Interpolations resolved, `hydra` dropped, no omegaconf types left."""
    tree = OmegaConf.to_container(composed, resolve=True, throw_on_missing=False)
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items() if key != "hydra"}


def _leave(message: object, code: int) -> None:
    sys.stdout.flush()
    print(message, file=sys.stderr)
    sys.exit(code)
