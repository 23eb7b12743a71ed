"""A checkpoint as a Hugging Face folder, written by one process, a tensor at a time."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from isoflop.checkpoint.safetensors_file import Entry, in_shards, write_file
from isoflop.checkpoint.source import Source, find_source
from isoflop.checkpoint.tensors import CheckpointTensors, parameter_shapes
from isoflop.checkpoint.tokenizer_files import copy_tokenizer
from isoflop.config.base import UserError
from isoflop.model.hf import Names, folded, their_names
from isoflop.model.hf_config import to_config
from isoflop.monitor.folder import disk_error


def export_checkpoint(
    run: Path, out: Path, step: int | None, dtype: str, shard_bytes: int, tokenizer: Path | None
) -> list[str]:
    """`isoflop export`: see `find_source` and `export`."""
    source = find_source(run, step)
    if tokenizer is not None:
        source = replace(source, tokenizer=tokenizer)
    return export(source, out, getattr(torch, dtype), shard_bytes)


def export(source: Source, out: Path, dtype: torch.dtype, shard_bytes: int) -> list[str]:
    """Write `source` to the folder `out`, which must not be there yet; what a user should know of it.

    No more than one tensor of the model is in memory at once. Raises UserError where the model is of no
    family of Hugging Face's, where the checkpoint is damaged, or where `out` cannot be written: then it is
    not there.
    """
    names = their_names(source.model)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is there already; give another folder, or remove it")
    tensors = CheckpointTensors(source.checkpoint, source.model)
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        _write_weights(partial, tensors, _entries(source, names, dtype), names, shard_bytes)
        notes = copy_tokenizer(source.tokenizer, source.eos_id, partial)
        config = to_config(source.model, source.seq_len, source.eos_id, str(dtype).removeprefix("torch."))
        (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise disk_error(out, error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return notes


def _entries(source: Source, names: Names, dtype: torch.dtype) -> list[Entry]:
    """Every tensor under Hugging Face's name, in the order of ours."""
    shapes = parameter_shapes(source.model)
    entries = []
    for ours, theirs in names.items():
        shape = tuple(shapes[ours])
        each, slices = (shape, (theirs,)) if isinstance(theirs, str) else (shape[1:], theirs)
        entries += [Entry(name, each, dtype) for name in slices]
    return entries


def _write_weights(
    folder: Path, tensors: CheckpointTensors, entries: list[Entry], names: Names, shard_bytes: int
) -> None:
    shards = in_shards(entries, shard_bytes)
    values = _values(tensors, names)
    if len(shards) == 1:
        write_file(folder / "model.safetensors", entries, values)
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_file(folder / name, shard, values)
        weight_map |= {entry.name: name for entry in shard}
    index = {"metadata": {"total_size": sum(e.n_bytes for e in entries)}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _values(tensors: CheckpointTensors, names: Names) -> Iterator[Tensor]:
    """The values of `_entries`, each read when it is asked for."""
    factors = folded(tensors.model)
    for ours, theirs in names.items():
        tensor = tensors.read(ours)
        if ours in factors:
            tensor *= factors[ours]
        if isinstance(theirs, str):
            yield tensor
        else:
            yield from tensor
        del tensor  # before the next one is read
