"""A frozen config.yaml is the run: it is read back equal, with the same id, or refused by name."""

from pathlib import Path

import pytest
from command_line import options_of

from isoflop.config.base import ConfigError, UserError
from isoflop.config.compose import compose
from isoflop.config.identity import run_id
from isoflop.config.load import dump_yaml, load_run, read_run_config
from isoflop.config.schema import RunConfig

CHOICES = [
    f"{group}={option}"
    for group in ("experiment", "debug", "optimizer", "model")
    for option in options_of(group)
]


@pytest.mark.parametrize("choice", CHOICES)
def test_a_frozen_config_is_the_same_run(choice: str, tmp_path: Path) -> None:
    config = load_run(compose("train", [choice]))
    again = _through_a_file(config, tmp_path)
    assert again == config
    assert type(again.optimizer) is type(config.optimizer)
    assert run_id(again, ["0" * 64]) == run_id(config, ["0" * 64])


@pytest.mark.parametrize("lr", [3e-05, 1e-300, 0.1, 1 / 3, 2.0, 1e22, 5e-324, 1.7976931348623157e308])
def test_floats_come_back_exact(lr: float, tmp_path: Path) -> None:
    config = load_run({**compose("train"), "optimizer": {"name": "lion", "lr": lr}})
    assert _through_a_file(config, tmp_path).optimizer.lr == lr


@pytest.mark.parametrize(
    "text", ["no", "1e3", "null", "0x10", "2026-01-01", "~", "a: b", "ü 語", "- x", "3_000"]
)
def test_texts_come_back_as_texts(text: str, tmp_path: Path) -> None:
    config = load_run({**compose("train"), "runs_dir": text})
    assert _through_a_file(config, tmp_path).runs_dir == text


def test_a_frozen_config_says_every_default(tmp_path: Path) -> None:
    """A later version's other default must not change a run that was frozen before it."""
    sparse = load_run({**compose("train"), "monitor": {}, "optimizer": {"name": "adamw"}})
    written = dump_yaml(sparse)
    for field in (*type(sparse.monitor).model_fields, *type(sparse.optimizer).model_fields):
        assert f"  {field}:" in written


def test_a_frozen_config_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    with pytest.raises(UserError, match=r"config\.yaml: there is no such file"):
        read_run_config(path)
    for text, cause in (("a: [", "cannot be read"), ("", "holds no keys"), ("- 1", "holds no keys")):
        path.write_text(text)
        with pytest.raises(UserError, match=cause) as error:
            read_run_config(path)
        assert str(error.value).startswith(str(path))
        assert "\n" not in str(error.value)


def test_a_frozen_config_with_faults_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(dump_yaml(load_run(compose("train"))).replace("n_layers: 4", "n_layer: 4"))
    with pytest.raises(ConfigError) as error:
        read_run_config(path)
    assert str(error.value).splitlines()[0] == f"{path}: 2 faults"
    assert [fault.key for fault in error.value.faults] == ["model.n_layer", "model.n_layers"]


def _through_a_file(config: RunConfig, folder: Path) -> RunConfig:
    path = folder / "config.yaml"
    path.write_text(dump_yaml(config))
    return read_run_config(path)
