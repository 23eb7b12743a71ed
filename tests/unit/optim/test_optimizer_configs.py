"""An optimizer is chosen by its name, and choosing it costs no torch."""

import subprocess
import sys

import pytest

from isoflop.config.compose import compose
from isoflop.config.schema import optimizers
from isoflop.optim.adamw import AdamWConfig
from isoflop.optim.lion import LionConfig

VALIDATE = """
import sys
from isoflop.config.compose import compose
from isoflop.config.schema import RunConfig
config = RunConfig.model_validate(compose("train", [f"optimizer={sys.argv[1]}"]))
print(type(config.optimizer).__name__, "torch" in sys.modules)
"""


@pytest.mark.parametrize(("name", "class_name"), [("adamw", "AdamWConfig"), ("lion", "LionConfig")])
def test_validating_a_run_does_not_import_torch(name: str, class_name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", VALIDATE, name], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == [class_name, "False"]


@pytest.mark.parametrize(("name", "cls"), [("adamw", AdamWConfig), ("lion", LionConfig)])
def test_the_yaml_gives_every_field(name: str, cls: type) -> None:
    composed = compose("train", [f"optimizer={name}"])["optimizer"]
    assert set(composed) == set(cls.model_fields)
    assert type(optimizers.resolve(composed)) is cls


def test_both_are_registered_under_the_names_of_their_files() -> None:
    assert {"adamw", "lion"} <= set(optimizers.names())
    assert (optimizers.find("adamw"), optimizers.find("lion")) == (AdamWConfig, LionConfig)


@pytest.mark.parametrize("betas", [(1.0, 0.9), (0.9, -0.1), (0.9,)])
def test_betas_out_of_range_are_refused(betas: tuple[float, ...]) -> None:
    for name in ("adamw", "lion"):
        with pytest.raises(ValueError, match="betas"):
            optimizers.resolve({"name": name, "lr": 0.1, "betas": betas})
