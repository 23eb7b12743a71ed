"""Where weights come from: a run, one of its checkpoints, or an imported model. No torch here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from isoflop.checkpoint.marker import MARKER, complete_checkpoints, step_of
from isoflop.checkpoint.tokenizer_files import eos_of
from isoflop.config.base import ConfigError, Fault, UserError
from isoflop.config.errors import as_yaml
from isoflop.config.schema import DataConfig, ModelConfig
from isoflop.config.validate import validate
from isoflop.monitor.folder import RunFolder

MODEL_FILE = "model.yaml"
"""Beside the checkpoint of an imported model, where a run has its config."""
IMPORT_FILE = "import.json"
"""What was imported, and from where."""
TOKENIZER_FOLDER = "tokenizer"
FREE = ("attention", "document_mask", "z_loss", "init", "init_std")
"""Fields of the model that say how it is computed or trained, not what it is."""
FREE_OF_MIXTURE = ("d_ff", "n_dense_layers", "every", "load_balancing", "router_z_loss")


@dataclass(frozen=True)
class Source:
    """Complete weights, and what they are the weights of."""

    model: ModelConfig
    checkpoint: Path
    seq_len: int
    """Tokens of a sequence that it was trained on."""
    tokenizer: Path | None
    """Folder of the tokenizer's files; it may be gone."""
    eos_id: int | list[int] | None
    """The token, or tokens, that end a document; None where nobody says."""


def find_source(path: Path, step: int | None = None) -> Source:
    """The weights in `path`: a run folder's last checkpoint or that of `step`, or the checkpoint itself.

    Raises UserError where there is none.
    """
    if (path / MARKER).is_file():
        return _source(path.absolute().parents[1], path)
    if not path.is_dir():
        raise UserError(f"{path}: there is no such folder; give a run folder or one of its checkpoints")
    checkpoints = complete_checkpoints(path / "checkpoints")
    if not checkpoints:
        raise UserError(f"{path}: holds no complete checkpoint; give a run folder that has one")
    if step is None:
        return _source(path, checkpoints[-1])
    found = [folder for folder in checkpoints if step_of(folder) == step]
    if not found:
        steps = ", ".join(str(step_of(folder)) for folder in checkpoints[-8:])
        raise UserError(f"{path}: has no complete checkpoint of step {step}; of {steps} it has")
    return _source(path, found[0])


def _source(root: Path, checkpoint: Path) -> Source:
    imported = root / MODEL_FILE
    if imported.is_file():
        model = _model(_mapping(imported), imported)
        eos_id = _mapping(root / IMPORT_FILE).get("eos_id")
        return Source(model, checkpoint, model.max_seq_len, root / TOKENIZER_FOLDER, eos_id)
    config = RunFolder(root).config
    if not config.is_file():
        what = f"which would say what model {checkpoint.name} is of"
        raise UserError(f"{root}: has neither {config.name} nor {MODEL_FILE}, {what}")
    tree = _mapping(config)
    try:  # of the run only what the weights depend on: it may have run where this one could not
        model = _model(tree["model"], config)
        data = validate(tree["data"], DataConfig)
        dataset = Path(data.entries[0].path) if data.entries else None
        return Source(model, checkpoint, int(tree["train"]["seq_len"]), dataset, eos_of(dataset))
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{config}: is not the config of a run") from None


def _model(tree: Mapping[str, Any], path: Path) -> ModelConfig:
    try:
        return validate(tree, ModelConfig)
    except ConfigError as error:
        raise ConfigError(error.faults, subject=str(path)) from None


def _mapping(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: holds no keys")
    return tree


def check_weights(model: ModelConfig, init_from: str) -> None:
    """Raises UserError where no weights are in `init_from`, ConfigError where they are of another model."""
    faults = list(_differences(find_source(Path(init_from)).model, model))
    if faults:
        raise ConfigError(faults, subject=f"init_from={init_from}")


def _differences(source: ModelConfig, model: ModelConfig) -> Iterator[Fault]:
    if (source.moe is None) != (model.moe is None):
        given = as_yaml(model.moe and model.moe.model_dump(exclude_defaults=True))
        there = "no mixture" if source.moe is None else f"a mixture of {source.moe.n_experts} experts"
        yield Fault("model.moe", given, f"is {there} there")
        return
    before, now = _identity(source), _identity(model)
    for key in sorted(now):
        if before[key] != now[key]:
            hint = f"is {as_yaml(before[key])} there; the same weights would mean something else"
            yield Fault(f"model.{key}", as_yaml(now[key]), hint)


def _identity(model: ModelConfig) -> dict[str, Any]:
    """What `model` computes: two that are equal give the same logits from the same weights."""
    tree = model.model_dump(exclude={*FREE, "n_kv_heads", "d_head", "moe"})
    tree |= {"n_kv_heads": model.kv_heads, "d_head": model.head_dim}
    if model.positions != "rope":
        tree |= {"rope_theta": None, "rope_scaling": None}
    if model.positions != "learned":
        tree["max_seq_len"] = None
    if model.moe is not None:
        mixture = model.moe.model_dump(exclude=set(FREE_OF_MIXTURE))
        tree |= {f"moe.{key}": value for key, value in mixture.items()}
        tree |= {"moe.d_ff": model.expert_d_ff, "moe layers": model.mixture_layers}
        if len(model.mixture_layers) == model.n_layers:
            tree["d_ff"] = None
    return tree
