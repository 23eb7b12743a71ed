"""Faults between a configuration and its datasets."""

from pathlib import Path
from typing import Any

import pytest
from helpers import random_documents, write_dataset

from isoflop.config.compose import compose
from isoflop.config.schema import RunConfig
from isoflop.data.checks import preflight_faults
from isoflop.data.manifest import read_manifest


def faults_of(overrides: list[str], **dataset: Any) -> list[tuple[str, str]]:
    config = RunConfig.model_validate(compose("train", overrides))
    root = Path(config.data.entries[0].path)
    write_dataset(root, random_documents(30), **dataset)
    manifests = [read_manifest(root)] * len(config.data.entries)
    return [(fault.key, fault.message) for fault in preflight_faults(config, manifests)]


@pytest.mark.parametrize(
    ("vocab_size", "tensor", "enough"), [(4097, 1, 4224), (4224, 2, 4224), (5000, 6, 5376), (4096, 1, None)]
)
def test_a_vocabulary_too_small_names_the_next_that_would_do(
    tmp_path: Path, vocab_size: int, tensor: int, enough: int | None
) -> None:
    """`debug` has 4,096; the answer is a multiple of 128 that the tensor degree divides."""
    overrides = [f"data.path={tmp_path}", f"parallel.tensor={tensor}"]
    found = faults_of(overrides, vocab_size=vocab_size)
    if enough is None:
        assert found == []
    else:
        [(key, message)] = found
        assert key == "model.vocab_size"
        assert message.endswith(f"the {vocab_size} of {tmp_path}'s tokenizer; {enough} would do")


def test_a_sequence_longer_than_the_data_is_a_fault(tmp_path: Path) -> None:
    [(key, message)] = faults_of(
        [f"data.path={tmp_path}", "train.seq_len=4096", "train.global_batch_tokens=32768"]
    )
    assert key == "train.seq_len"
    assert "so many at most" in message


def test_a_weight_too_small_to_be_drawn_is_a_fault(tmp_path: Path) -> None:
    entry = "{path: " + str(tmp_path) + ", weight: %s}"
    mixture = f"data.mixture=[{entry % 1},{entry % '1e-5'}]"
    [(key, message)] = faults_of(["data.path=null", mixture])
    assert key == "data.mixture.1.weight"
    assert "gives it no place among 4096; 0.00024 or more does" in message
