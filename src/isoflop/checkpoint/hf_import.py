"""A Hugging Face folder as a checkpoint of ours, a tensor at a time. Needs `safetensors` (the `hf` extra)."""

import shutil
from pathlib import Path
from typing import Any

import torch
import yaml

from isoflop.checkpoint.safetensors_folder import SafetensorsFolder, read_json
from isoflop.checkpoint.source import IMPORT_FILE, MODEL_FILE, TOKENIZER_FOLDER
from isoflop.checkpoint.tensors import check_same_tensors, parameter_shapes, write_weights
from isoflop.checkpoint.tokenizer_files import copy_files
from isoflop.config.base import ConfigError, UserError
from isoflop.config.schema import ModelConfig
from isoflop.data.manifest import file_sha256
from isoflop.model.flops import n_params, n_vocabulary_params
from isoflop.model.hf import Names, their_names
from isoflop.model.hf_config import from_config
from isoflop.monitor.folder import disk_error, write_json

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
DERIVED = "rotary_emb.inv_freq"
"""Ends the name of what old folders hold although config.json says it."""


def import_model(folder: Path, into: Path) -> ModelConfig:
    """Write the model in the Hugging Face `folder` to `into`, which must not be there yet, as a checkpoint.

    No more than one tensor is in memory at once (of a mixture, one stack of experts). Raises UserError naming
    every field of config.json that our models cannot honour, and every tensor that has no place in our model,
    is missing or has another shape: then `into` is not there.
    """
    if into.exists():
        raise UserError(f"{into}: is there already; give another folder")
    config = read_json(folder / "config.json")
    try:
        model = from_config(config)
    except ConfigError as error:
        raise ConfigError(error.faults, subject=str(folder / "config.json")) from None
    partial = into.with_name(f"{into.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        tensors, names = SafetensorsFolder(folder), their_names(model)
        _check(tensors, model, names)
        partial.mkdir(parents=True)
        formats = {ours: tensors.dtype(_first(theirs)) for ours, theirs in names.items()}
        shapes = {ours: (shape, formats[ours]) for ours, shape in parameter_shapes(model).items()}
        write_weights(partial / "checkpoints", shapes, lambda ours: tensors.stack(names[ours]))
        (partial / MODEL_FILE).write_text(model_yaml(model))
        write_json(partial / IMPORT_FILE, _record(folder, config, len(tensors.found)))
        copy_files(folder, partial / TOKENIZER_FOLDER)
        partial.rename(into)
    except OSError as error:
        raise disk_error(into, error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return model


def _check(tensors: SafetensorsFolder, model: ModelConfig, names: Names) -> None:
    """Raises UserError where the folder does not hold the tensors of `model`, all of them and no others."""
    ours = parameter_shapes(model)
    expected: dict[str, torch.Size] = {}
    for name, theirs in names.items():
        shape = ours[name]
        expected |= {theirs: shape} if isinstance(theirs, str) else dict.fromkeys(theirs, shape[1:])
    found = {name: of.shape for name, of in tensors.found.items() if not name.endswith(DERIVED)}
    twice = model.tied and HEAD in found  # as some write it
    if twice and not torch.equal(tensors.read(HEAD), tensors.read(EMBEDDING)):
        tie = "tie_word_embeddings is true in config.json"
        raise UserError(f"{tensors.folder}: {tie}, but {HEAD} is not {EMBEDDING}; set it to false")
    if twice:
        del found[HEAD]
    check_same_tensors(str(tensors.folder), found, expected, "config.json")
    for theirs in names.values():
        slices = (theirs,) if isinstance(theirs, str) else theirs
        odd = [name for name in slices if tensors.dtype(name) != tensors.dtype(slices[0])]
        if odd:
            raise UserError(f"{tensors.folder}: {odd[0]} is in another number format than {slices[0]}")


def model_yaml(model: ModelConfig) -> str:
    """`model` as a file of configs/model: its parameters in the first line, then what is not the default."""
    shared = "tied embedding" if model.tied else "embedding and the head"
    first = f"# {n_params(model):,} parameters, {n_vocabulary_params(model):,} of them the {shared}\n"
    tree = model.model_dump(mode="json", exclude_defaults=True)
    return first + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _record(folder: Path, config: dict[str, Any], n_tensors: int) -> dict[str, Any]:
    return {
        "source": str(folder.absolute()),
        "model_type": config["model_type"],
        "config_sha256": file_sha256(folder / "config.json"),
        "n_tensors": n_tensors,
        "eos_id": config.get("eos_token_id"),
    }


def _first(names: str | tuple[str, ...]) -> str:
    return names if isinstance(names, str) else names[0]
