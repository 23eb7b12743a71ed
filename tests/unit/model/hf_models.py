"""Tiny models of the Hugging Face families, ours and transformers', and our checkpoints of them."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
import yaml
from tiny_models import VOCAB_SIZE, tiny_config, tiny_decoder
from torch import Tensor, nn

from isoflop.checkpoint.marker import Progress, mark_complete, progress_marker, step_folder
from isoflop.checkpoint.source import Source, find_source
from isoflop.checkpoint.tensors import CheckpointTensors
from isoflop.config.schema import ModelConfig
from isoflop.data.manifest import file_sha256
from isoflop.model.decoder import Decoder
from isoflop.model.init import canonical_name

SCALING = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_seq_len": 16}
MIXTURE = {"n_experts": 4, "top_k": 2}
OURS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-untied": {"tied": False},
    "llama-scaled": {"rope_scaling": SCALING, "rope_theta": 100.0},
    "qwen3": {"qk_norm": "head", "rope_theta": 1e6},
    "olmo2": {"qk_norm": "projection", "norm_place": "after", "tied": False, "rope_theta": 5e5},
    "mixtral": {"moe": MIXTURE, "tied": False},
    "olmoe": {"qk_norm": "projection", "moe": {**MIXTURE, "normalize_top_k": False}, "d_head": None},
    "qwen3_moe": {"qk_norm": "head", "n_layers": 4, "moe": {**MIXTURE, "d_ff": 20, "n_dense_layers": 1}},
}
SIZES: dict[str, Any] = {
    "num_hidden_layers": 3,
    "hidden_size": 24,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 40,
    "vocab_size": VOCAB_SIZE,
    "rms_norm_eps": 1e-3,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": 7,
    "pad_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 100.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
THEIRS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "llama-tied": {"model_type": "llama", "tie_word_embeddings": True},
    "llama-scaled": {"model_type": "llama", "rope_parameters": LLAMA3},
    "qwen3": {"model_type": "qwen3", "tie_word_embeddings": True},
    "olmo2": {"model_type": "olmo2"},
    "mixtral": {"model_type": "mixtral", "num_local_experts": 4},
    "olmoe": {"model_type": "olmoe", "num_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {
        "model_type": "qwen3_moe",
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 20,
        "mlp_only_layers": [0],
    },
}


def our_model(kind: str, **changes: Any) -> ModelConfig:
    """The configuration of a tiny model; 6 query heads of 8 in a width of 24, so that no size is another."""
    return tiny_config(**{"document_mask": False, "n_layers": 3, **OURS[kind], **changes})


def their_model(kind: str) -> nn.Module:
    """transformers' own, with random weights at which a mistake shows."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {key: size for key, size in SIZES.items() if (key, kind) != ("head_dim", "olmoe")}
    config = AutoConfig.for_model(**{**sizes, **THEIRS[kind]})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            parameter.copy_(1 + 0.3 * noise if parameter.ndim < 2 else 0.3 * noise)
    return model


def saved(folder: Path, decoder: Decoder, seq_len: int = 48, data: str = "nowhere", step: int = 3) -> Source:
    """`decoder` in a run folder as training leaves it: with a config, and with optimizer state."""
    model = decoder.config
    state = {canonical_name(name, model): p.detach() for name, p in decoder.named_parameters()}
    checkpoint = step_folder(folder / "checkpoints", step)
    momenta = {name: {"exp_avg": torch.randn_like(tensor)} for name, tensor in state.items()}
    dcp.save({"model": state, "optimizer": momenta}, checkpoint_id=checkpoint, no_dist=True)
    files = {p.name: {"bytes": p.stat().st_size, "sha256": file_sha256(p)} for p in checkpoint.iterdir()}
    mark_complete(checkpoint, progress_marker(Progress(step), files=files))
    tree = {"model": model.model_dump(mode="json"), "train": {"seq_len": seq_len}, "data": {"path": data}}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    return find_source(folder)


def restored(source: Source) -> Decoder:
    """The model in a checkpoint of ours."""
    tensors = CheckpointTensors(source.checkpoint, source.model)
    model = Decoder(source.model.model_copy(update={"document_mask": False}))
    state = {name: tensors.read(canonical_name(name, source.model)) for name in model.state_dict()}
    model.load_state_dict(state)
    return model


def logits(model: Decoder, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return model(tokens, torch.zeros_like(tokens))


__all__ = ["OURS", "THEIRS", "logits", "our_model", "restored", "saved", "their_model", "tiny_decoder"]
