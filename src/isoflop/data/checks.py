"""Rules between a run's configuration and the datasets that it reads."""

from collections.abc import Iterator, Sequence
from math import lcm

from isoflop.config.base import Fault
from isoflop.config.schema import DataConfig, RunConfig
from isoflop.data.manifest import Manifest
from isoflop.data.mixture import BLOCK, block_counts

VOCAB_MULTIPLE = 128  # matrix products are quick in multiples of it


def preflight_faults(config: RunConfig, manifests: Sequence[Manifest]) -> Iterator[Fault]:
    """Everything wrong between `config` and the manifests of `config.data.entries`, in their order."""
    for entry, manifest in zip(config.data.entries, manifests, strict=True):
        yield from _dataset_faults(config, entry.path, manifest)
    yield from _weight_faults(config.data)


def _dataset_faults(config: RunConfig, path: str, manifest: Manifest) -> Iterator[Fault]:
    needed, given = manifest.tokenizer.vocab_size, config.model.vocab_size
    if given < needed:
        multiple = lcm(VOCAB_MULTIPLE, config.parallel.tensor)
        enough = -(-needed // multiple) * multiple
        message = f"is less than the {needed} of {path}'s tokenizer; {enough} would do"
        yield Fault("model.vocab_size", given, message)
    if config.train.seq_len > manifest.total_tokens:
        message = f"is more than the {manifest.total_tokens} tokens of {path}; so many at most"
        yield Fault("train.seq_len", config.train.seq_len, message)


def _weight_faults(data: DataConfig) -> Iterator[Fault]:
    total = sum(entry.weight for entry in data.entries)
    for number, count in enumerate(block_counts([entry.weight for entry in data.entries])):
        if count == 0:
            message = f"of {total:g} gives it no place among {BLOCK}; {total / BLOCK:.2g} or more does"
            yield Fault(f"data.mixture.{number}.weight", data.entries[number].weight, message)
