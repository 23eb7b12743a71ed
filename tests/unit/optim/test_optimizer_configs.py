"""An optimizer is chosen by its name, and choosing it costs no torch."""

import subprocess
import sys

import pytest

from isoflop.config.compose import compose
from isoflop.config.schema import optimizers
from isoflop.optim.adam_mini import AdamMiniConfig
from isoflop.optim.adamw import AdamWConfig
from isoflop.optim.lion import LionConfig
from isoflop.optim.muon import MuonConfig
from isoflop.optim.sgd import SGDConfig

CLASSES = {
    "adamw": AdamWConfig,
    "adam_mini": AdamMiniConfig,
    "lion": LionConfig,
    "muon": MuonConfig,
    "sgd": SGDConfig,
}

VALIDATE = """
import sys
from isoflop.config.compose import compose
from isoflop.config.schema import RunConfig
config = RunConfig.model_validate(compose("train", [f"optimizer={sys.argv[1]}"]))
print(type(config.optimizer).__name__, "torch" in sys.modules)
"""


@pytest.mark.parametrize("name", CLASSES)
def test_validating_a_run_does_not_import_torch(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", VALIDATE, name], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == [CLASSES[name].__name__, "False"]


@pytest.mark.parametrize(("name", "cls"), CLASSES.items())
def test_the_yaml_gives_every_field(name: str, cls: type) -> None:
    composed = compose("train", [f"optimizer={name}"])["optimizer"]
    assert set(composed) == set(cls.model_fields)
    assert type(optimizers.resolve(composed)) is cls


def test_each_is_registered_under_the_name_of_its_file() -> None:
    assert {name: optimizers.find(name) for name in optimizers.names()} == CLASSES


@pytest.mark.parametrize("betas", [(1.0, 0.9), (0.9, -0.1), (0.9,)])
def test_betas_out_of_range_are_refused(betas: tuple[float, ...]) -> None:
    for name in ("adamw", "lion", "muon", "adam_mini"):
        with pytest.raises(ValueError, match="betas"):
            optimizers.resolve({"name": name, "lr": 0.1, "betas": betas})
