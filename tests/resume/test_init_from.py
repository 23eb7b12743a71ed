"""A run that begins with another's weights has that one's loss at its first step, and is a run of its own."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import random_documents, write_dataset
from programs import events, read_rows, reproducible
from runs_here import train_here

from isoflop.checkpoint.hf_export import export
from isoflop.checkpoint.hf_import import import_model
from isoflop.checkpoint.source import find_source
from isoflop.checkpoint.tensors import CheckpointTensors
from isoflop.config.base import ConfigError, UserError
from isoflop.config.load import read_run_config
from isoflop.data.loader import IGNORE, build_batches

UNMASKED = "model.document_mask=false"  # transformers knows no documents
LONGER = ("train.steps=3", "checkpoint.every=1", "name=longer", UNMASKED)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), random_documents(300, seed=4))


@pytest.fixture(scope="module")
def base(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of twelve steps, with checkpoints of 8 and 12."""
    words = ("train.steps=12", "checkpoint.every=8", "optimizer.lr=3e-3", UNMASKED)
    return train_here(data, tmp_path_factory.mktemp("base"), *words)


def first_loss_of_theirs(run: Path, folder: Path) -> float:
    """What transformers computes from `folder` on the first batch of `run`."""
    from transformers import AutoModelForCausalLM

    config = read_run_config(run / "config.yaml")
    batch = build_batches(config.data, config.train, config.seed).step(0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    with torch.no_grad():
        logits = model(batch.tokens).logits
    return F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE).item()


@pytest.mark.parametrize("what", ["run", "checkpoint", "earlier"])
def test_the_first_loss_is_that_of_the_weights(data: Path, base: Path, tmp_path: Path, what: str) -> None:
    """As transformers computes it from those weights, exported; steps, data and optimizer begin anew."""
    step = 8 if what == "earlier" else 12
    init_from = base if what == "run" else base / "checkpoints" / f"step-{step:08d}"
    longer = train_here(data, tmp_path / "runs", *LONGER, f"init_from={init_from}")
    export(find_source(base, step), tmp_path / "hf", torch.float32, 10**9)
    rows = read_rows(longer)
    assert rows[0]["loss"] == pytest.approx(first_loss_of_theirs(longer, tmp_path / "hf"), rel=1e-6)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[0]["tokens"] == read_rows(base)[0]["tokens"]
    assert events(longer)[0] == "start"
    assert rows[0]["loss"] < read_rows(base)[0]["loss"] - 0.05, "the weights had learned nothing"


def test_an_imported_model_goes_on_training(data: Path, tmp_path: Path) -> None:
    """From a folder that transformers wrote to the first step of a run."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    sizes: dict[str, Any] = {"num_hidden_layers": 4, "hidden_size": 32, "intermediate_size": 64}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 256}
    torch.manual_seed(0)
    theirs = Qwen3ForCausalLM(Qwen3Config(**sizes, tie_word_embeddings=True, initializer_range=0.3))
    theirs.save_pretrained(tmp_path / "hf")
    import_model(tmp_path / "hf", tmp_path / "qwen")
    as_theirs = ("model.qk_norm=head", "model.d_head=8", "model.norm_eps=1e-6")
    run = train_here(data, tmp_path / "runs", *LONGER, *as_theirs, f"init_from={tmp_path / 'qwen'}")
    loss = first_loss_of_theirs(run, tmp_path / "hf")
    assert loss > 6, "no different from weights that know nothing"
    assert read_rows(run)[0]["loss"] == pytest.approx(loss, rel=1e-6)
    assert read_rows(run)[2]["loss"] != read_rows(run)[0]["loss"]


def test_another_number_format_takes_the_same_weights(data: Path, base: Path, tmp_path: Path) -> None:
    """Saved in float32, begun with in float64: bitwise the same numbers."""
    words = ("train.steps=1", "optimizer.lr=1e-30", "precision=fp64", UNMASKED, f"init_from={base}")
    source, begun = (find_source(run) for run in (base, train_here(data, tmp_path, *words)))
    before, after = (CheckpointTensors(s.checkpoint, s.model) for s in (source, begun))
    for name in before.found:
        assert torch.equal(before.read(name).double(), after.read(name)), name


def test_the_other_run_is_needed_only_to_begin(data: Path, base: Path, tmp_path: Path) -> None:
    moved = tmp_path / "base"
    shutil.copytree(base, moved)
    words = (*LONGER, f"init_from={moved}")
    run = train_here(data, tmp_path / "runs", *words)
    rows = reproducible(run)
    shutil.rmtree(moved)
    (run / "summary.json").unlink()
    (run / "checkpoints" / "step-00000003" / "COMPLETE").unlink()
    assert train_here(data, tmp_path / "runs", *words) == run
    assert reproducible(run) == rows
    assert "resume" in events(run)
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("model.rope_theta=500000",), "model.rope_theta=500000.0"),
        (("model.n_layers=2", "model.d_ff=32"), "model.d_ff=32"),
        (("model.norm_place=after",), "model.norm_place=after  is before there"),
        (("model.moe={n_experts: 4, top_k: 2}",), "is no mixture there"),
        (("branch_from=runs/x-0123456789@3",), "branch_from"),
    ],
)
def test_a_model_that_the_weights_are_not_of_is_refused(
    data: Path, base: Path, tmp_path: Path, words: tuple[str, ...], named: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        train_here(data, tmp_path, *LONGER, f"init_from={base}", *words)
    assert named in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("model.n_kv_heads=2", "model.z_loss=1e-4"), ("model.attention=sdpa",)])
def test_what_the_weights_do_not_depend_on_may_differ(
    data: Path, base: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    assert read_rows(train_here(data, tmp_path, *LONGER, f"init_from={base}", *words))


@pytest.mark.parametrize("where", ["nowhere", "empty", "stripped", "damaged"])
def test_where_no_weights_are_is_named(data: Path, base: Path, tmp_path: Path, where: str) -> None:
    folder = tmp_path / where
    if where == "empty":
        folder.mkdir()
    elif where != "nowhere":
        shutil.copytree(base, folder)
        checkpoint = folder / "checkpoints" / "step-00000012"
        if where == "stripped":
            (folder / "config.yaml").unlink()
        else:
            file = next(checkpoint.glob("*.distcp"))
            file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError) as refused:
        train_here(data, tmp_path / "runs", *LONGER, f"init_from={folder}")
    assert str(folder) in str(refused.value)
    assert "resume from the checkpoint before it" not in str(refused.value)
