"""Export and import: transformers computes the same, and nothing is left out, made up or held in memory."""

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import random_documents, write_dataset
from hf_models import OURS, THEIRS, logits, our_model, restored, saved, their_model, tiny_decoder
from safetensors.torch import load_file, save_file
from tiny_models import random_tokens
from torch import Tensor
from torch.testing import assert_close

from isoflop.checkpoint import tensors as checkpoint_tensors
from isoflop.checkpoint.hf_export import export
from isoflop.checkpoint.hf_import import import_model
from isoflop.checkpoint.safetensors_folder import SafetensorsFolder
from isoflop.checkpoint.source import find_source
from isoflop.checkpoint.tensors import CheckpointTensors, parameter_shapes
from isoflop.config.base import ConfigError, UserError

TOKENS = random_tokens(2, 40, seed=3)
GB = 10**9


def loaded(folder: Path) -> Any:
    """What transformers makes of a folder; nothing may be missing, left over or of another shape."""
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info.values()), info
    return model.eval()


def contents(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def assert_same_logits(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.std() > 0.2, "too flat to tell a mistake"
    assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


@pytest.mark.parametrize("kind", OURS)
def test_transformers_computes_what_was_exported(kind: str, tmp_path: Path) -> None:
    """Logits of the exported folder are ours, to 1e-5 of the largest, in float32."""
    ours = tiny_decoder(our_model(kind), torch.float32)
    notes = export(saved(tmp_path / "run", ours), tmp_path / "hf", torch.float32, GB)
    assert len(notes) == 1
    assert "no tokenizer" in notes[0]
    theirs = loaded(tmp_path / "hf")
    assert theirs.config.max_position_embeddings == 48
    with torch.no_grad():
        assert_same_logits(logits(ours, TOKENS), theirs(TOKENS).logits)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "olmo2", "mixtral"])
def test_multipliers_are_folded_into_weights(kind: str, tmp_path: Path) -> None:
    """A model of CompleteP, whose forward pass has multipliers that Hugging Face's has not."""
    scaled = {"parametrization": "completep", "base_width": 8, "base_depth": 2, "base_d_head": 2}
    ours = tiny_decoder(our_model(kind, **scaled), torch.float32)
    plain = tiny_decoder(our_model(kind), torch.float32)
    plain.load_state_dict(ours.state_dict())
    assert not torch.allclose(logits(ours, TOKENS), logits(plain, TOKENS), atol=0.1)
    export(saved(tmp_path / "run", ours), tmp_path / "hf", torch.float32, GB)
    with torch.no_grad():
        assert_same_logits(logits(ours, TOKENS), loaded(tmp_path / "hf")(TOKENS).logits)


@pytest.mark.parametrize("kind", THEIRS)
def test_an_imported_model_computes_what_transformers_does(kind: str, tmp_path: Path) -> None:
    """Logits from a folder that transformers wrote, in several files; exported again it is bitwise that."""
    theirs = their_model(kind)
    theirs.save_pretrained(tmp_path / "hf", max_shard_size="20KB")
    assert (tmp_path / "hf" / "model.safetensors.index.json").exists()
    import_model(tmp_path / "hf", tmp_path / "ours")
    source = find_source(tmp_path / "ours")
    with torch.no_grad():
        assert_same_logits(logits(restored(source), TOKENS), theirs(TOKENS).logits)
    export(source, tmp_path / "again", torch.float32, 20_000)
    before, after = contents(tmp_path / "hf"), contents(tmp_path / "again")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert loaded(tmp_path / "again").config.eos_token_id == 7


def test_bfloat16_is_the_same_numbers_rounded(tmp_path: Path) -> None:
    """Written in bfloat16 each tensor is torch's rounding of the float32 one; it comes back as bfloat16."""
    source = saved(tmp_path / "run", tiny_decoder(our_model("llama"), torch.float32))
    export(source, tmp_path / "wide", torch.float32, GB)
    export(source, tmp_path / "half", torch.bfloat16, GB)
    wide, half = contents(tmp_path / "wide"), contents(tmp_path / "half")
    assert all(torch.equal(half[name], wide[name].bfloat16()) for name in wide)
    assert json.loads((tmp_path / "half" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    import_model(tmp_path / "half", tmp_path / "ours")
    assert restored_tensor(tmp_path / "ours", "norm.weight").dtype == torch.bfloat16
    export(find_source(tmp_path / "ours"), tmp_path / "again", torch.bfloat16, GB)
    assert (tmp_path / "half" / "model.safetensors").read_bytes() == (
        tmp_path / "again" / "model.safetensors"
    ).read_bytes()


def restored_tensor(folder: Path, name: str) -> Tensor:
    source = find_source(folder)
    return CheckpointTensors(source.checkpoint, source.model).read(name)


def test_files_are_no_larger_than_asked(tmp_path: Path) -> None:
    """All but those of one tensor; together they hold every tensor once, as the index says."""
    source = saved(tmp_path / "run", tiny_decoder(our_model("llama"), torch.float32))
    export(source, tmp_path / "hf", torch.float32, 4_000)
    index = json.loads((tmp_path / "hf" / "model.safetensors.index.json").read_text())
    files = sorted((tmp_path / "hf").glob("*.safetensors"))
    for file in files:
        held = load_file(file)
        assert sum(tensor.nbytes for tensor in held.values()) <= 4_000 or len(held) == 1
        assert {name for name, where in index["weight_map"].items() if where == file.name} == held.keys()
    assert files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in contents(tmp_path / "hf").values())


class Alive:
    """Counts the bytes of the tensors that a function gave and that are still held."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def watch(self, read: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def watched(*arguments: Any) -> Tensor:
            tensor = read(*arguments)
            n_bytes = tensor.nbytes
            self.now += n_bytes
            self.most = max(self.most, self.now)
            weakref.finalize(tensor, self.gone, n_bytes)
            return tensor

        return watched

    def gone(self, n_bytes: int) -> None:
        self.now -= n_bytes


@pytest.mark.parametrize("kind", ["llama", "qwen3_moe"])
def test_one_tensor_at_a_time_is_in_memory(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways, whatever the size of the files: never more than the largest of our tensors."""
    model = our_model(kind)
    source = saved(tmp_path / "run", tiny_decoder(model, torch.float32))
    largest = max(4 * shape.numel() for shape in parameter_shapes(model).values())
    alive = Alive()
    monkeypatch.setattr(CheckpointTensors, "read", alive.watch(CheckpointTensors.read))
    export(source, tmp_path / "hf", torch.float32, GB)
    assert (alive.now, alive.most) == (0, largest)
    alive = Alive()
    monkeypatch.setattr(checkpoint_tensors, "FILE_BYTES", 1)
    monkeypatch.setattr(SafetensorsFolder, "stack", alive.watch(SafetensorsFolder.stack))
    import_model(tmp_path / "hf", tmp_path / "ours")
    assert (alive.now, alive.most) == (0, largest)


def test_the_tokenizer_of_the_dataset_goes_along(tmp_path: Path) -> None:
    """transformers loads it, and knows the token that ends a document, from what the manifest says."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoTokenizer

    made = Tokenizer(models.WordLevel({"<end>": 0, "deep": 1, "learning": 2}, unk_token="<end>"))
    made.add_special_tokens(["<end>"])
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    data = write_dataset(tmp_path / "data", random_documents(3), tokenizer=made.to_str().encode())
    source = saved(tmp_path / "run", tiny_decoder(our_model("llama"), torch.float32), data=str(data))
    assert export(source, tmp_path / "hf", torch.float32, GB) == []
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert tokenizer("deep learning").input_ids == [1, 2]
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<end>", 0)
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["eos_token_id"] == 0
    (data / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="is not the tokenizer"):
        export(source, tmp_path / "other", torch.float32, GB)
    assert not list(tmp_path.glob("other*"))
    import_model(tmp_path / "hf", tmp_path / "ours")
    export(find_source(tmp_path / "ours"), tmp_path / "again", torch.float32, GB)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "hf" / name).read_bytes()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tied Llama as a Hugging Face folder of one file."""
    folder = tmp_path_factory.mktemp("exported")
    export(
        saved(folder / "run", tiny_decoder(our_model("llama"), torch.float32)),
        folder / "hf",
        torch.float32,
        GB,
    )
    return folder / "hf"


UP = "model.layers.1.mlp.up_proj.weight"
DAMAGE: dict[str, tuple[Callable[[dict[str, Tensor]], None], str]] = {
    "unmapped": (
        lambda held: held.update({"model.extra.weight": torch.ones(2)}),
        "model.extra.weight is in no",
    ),
    "absent": (lambda held: held.__delitem__(UP), f"{UP} is missing"),
    "other shape": (
        lambda held: held.update({UP: torch.ones(40, 23)}),
        f"{UP} is 40 × 23, config.json asks for",
    ),
    "untied": (
        lambda held: held.update({"lm_head.weight": torch.ones(held["model.embed_tokens.weight"].shape)}),
        "tie_word_embeddings",
    ),
    "integers": (lambda held: held.update({UP: held[UP].to(torch.int8)}), f"{UP} is in I8"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_tensor_that_does_not_fit_is_named(kind: str, exported: Path, tmp_path: Path) -> None:
    """And nothing is left behind."""
    change, named = DAMAGE[kind]
    held = contents(exported)
    change(held)
    save_file(held, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((exported / "config.json").read_bytes())
    with pytest.raises(UserError) as refused:
        import_model(tmp_path, tmp_path / "into")
    assert named in str(refused.value)
    assert not list(tmp_path.glob("into*"))


def test_a_tied_matrix_may_stand_there_twice(exported: Path, tmp_path: Path) -> None:
    """As in the published files of Qwen3 0.6B; old files hold the rotary frequencies too."""
    held = contents(exported)
    held["lm_head.weight"] = held["model.embed_tokens.weight"].clone()
    held["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(held, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((exported / "config.json").read_bytes())
    import_model(tmp_path, tmp_path / "into")
    assert torch.equal(restored_tensor(tmp_path / "into", "embedding.weight"), held["lm_head.weight"])


@pytest.mark.parametrize(
    ("file", "damage", "named"),
    [
        ("config.json", None, "config.json: there is no such file"),
        ("config.json", b"{", "config.json: cannot be read"),
        ("config.json", b'{"model_type": "gpt2"}', "model_type=gpt2"),
        ("model.safetensors", None, "has neither model.safetensors nor"),
        ("model.safetensors", b"\x10", "model.safetensors: cannot be read"),
        (
            "model.safetensors.index.json",
            b'{"weight_map": {"a": "gone.safetensors"}}',
            "gone.safetensors: is missing",
        ),
        (
            "model.safetensors.index.json",
            b'{"weight_map": {"a": "model.safetensors"}}',
            "a is not where it says",
        ),
    ],
)
def test_a_damaged_folder_is_named(
    exported: Path, tmp_path: Path, file: str, damage: bytes | None, named: str
) -> None:
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / file).unlink(missing_ok=True)
    if damage is not None:
        (tmp_path / file).write_bytes(damage)
    with pytest.raises(UserError) as refused:
        import_model(tmp_path, tmp_path / "into")
    assert named in str(refused.value)
    assert not list(tmp_path.glob("into*"))


def test_a_damaged_checkpoint_is_not_exported(tmp_path: Path) -> None:
    """One bit of one file: its name is said, and no folder is left."""
    source = saved(tmp_path / "run", tiny_decoder(our_model("llama"), torch.float32))
    file = next(source.checkpoint.glob("*.distcp"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=file.name):
        export(source, tmp_path / "hf", torch.float32, GB)
    assert not list(tmp_path.glob("hf*"))


def test_another_models_checkpoint_is_not_exported(tmp_path: Path) -> None:
    source = saved(tmp_path / "run", tiny_decoder(our_model("llama"), torch.float32))
    with pytest.raises(UserError, match=r"blocks\.3\.attention\.k\.weight is missing"):
        CheckpointTensors(source.checkpoint, our_model("llama", n_layers=4))
    with pytest.raises(UserError, match=r"blocks\.2\.attention\.k\.weight is in no place of our model"):
        CheckpointTensors(source.checkpoint, our_model("llama", n_layers=2))


def test_nothing_is_overwritten(tmp_path: Path, exported: Path) -> None:
    source = saved(tmp_path / "run", tiny_decoder(our_model("llama"), torch.float32))
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "mine").write_text("kept")
    with pytest.raises(UserError, match="is there already"):
        export(source, tmp_path / "hf", torch.float32, GB)
    with pytest.raises(UserError, match="is there already"):
        import_model(exported, tmp_path / "hf")
    assert [path.name for path in (tmp_path / "hf").iterdir()] == ["mine"]


def test_a_model_of_no_family_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    ours = tiny_decoder(our_model("llama", norm="layernorm"), torch.float32)
    with pytest.raises(ConfigError, match=r"model\.norm=layernorm"):
        export(saved(tmp_path / "run", ours), tmp_path / "hf", torch.float32, GB)
    assert not list(tmp_path.glob("hf*"))
