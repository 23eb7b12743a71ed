"""Names and config.json of the Hugging Face families: what is mapped, and what is refused by name."""

from typing import Any

import pytest
from hf_models import OURS, our_model

from isoflop.checkpoint.tensors import parameter_shapes
from isoflop.config.base import ConfigError
from isoflop.config.compose import compose
from isoflop.config.load import load_run
from isoflop.config.schema import ModelConfig, MoeConfig
from isoflop.model.flops import n_params
from isoflop.model.hf import family_of, their_names
from isoflop.model.hf_config import from_config, to_config

# Every field of a model is one of these: a new one must be thought about here, or an export would forget it.
WRITTEN = {
    *("n_layers", "width", "n_heads", "n_kv_heads", "d_head", "d_ff", "vocab_size", "tied", "norm_eps"),
    *("rope_theta", "rope_scaling", "init_std", "moe"),
}
TELLS_THE_FAMILY = {"norm", "norm_place", "qk_norm", "positions", "activation"}
FOLDED_INTO_WEIGHTS = {"parametrization", "base_width", "base_depth", "base_d_head", "depth_alpha"}
NOT_OF_THE_WEIGHTS = {"attention", "document_mask", "z_loss", "init", "max_seq_len"}
MIXTURE = {"n_experts", "top_k", "d_ff", "n_dense_layers", "every", "normalize_top_k"}
MIXTURE_REFUSED = {"n_shared_experts", "bias_rate"}
NOT_OF_THE_EXPERTS = {"load_balancing", "router_z_loss"}

LLAMA_3_2_1B = {  # as its config.json says it, in the words of transformers 4
    "model_type": "llama",
    "num_hidden_layers": 16,
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 8192,
    "vocab_size": 128256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "tie_word_embeddings": True,
    "max_position_embeddings": 131072,
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
}


def test_every_field_of_a_model_is_thought_about() -> None:
    known = WRITTEN | TELLS_THE_FAMILY | FOLDED_INTO_WEIGHTS | NOT_OF_THE_WEIGHTS
    assert set(ModelConfig.model_fields) == known
    assert set(MoeConfig.model_fields) == MIXTURE | MIXTURE_REFUSED | NOT_OF_THE_EXPERTS


@pytest.mark.parametrize("kind", OURS)
def test_every_parameter_has_one_name(kind: str) -> None:
    names = their_names(our_model(kind))
    assert names.keys() == parameter_shapes(our_model(kind)).keys()
    theirs = [name for value in names.values() for name in ([value] if isinstance(value, str) else value)]
    assert len(set(theirs)) == len(theirs)


@pytest.mark.parametrize("kind", OURS)
def test_a_config_comes_back(kind: str) -> None:
    """Written and read again it is the same model, but for what Hugging Face has no word for."""
    model = our_model(kind, document_mask=True, max_seq_len=77)
    again = from_config(to_config(model, seq_len=77, eos_id=3, dtype="float32"))
    assert again.model_copy(update={"d_head": model.d_head, "moe": None}) == model.model_copy(
        update={"moe": None}
    )
    assert again.head_dim == model.head_dim
    assert again.mixture_layers == model.mixture_layers
    assert again.expert_d_ff == model.expert_d_ff
    assert family_of(again) == family_of(model)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"norm": "layernorm"}, "model.norm=layernorm"),
        ({"positions": "learned"}, "model.positions=learned"),
        ({"activation": "gelu"}, "model.activation=gelu"),
        ({"norm_place": "after"}, "model.norm_place=after"),
        ({"qk_norm": "projection"}, "model.qk_norm=projection"),
        ({"moe": {"n_experts": 4, "top_k": 2, "n_shared_experts": 1}}, "model.moe.n_shared_experts=1"),
        ({"moe": {"n_experts": 4, "top_k": 2, "bias_rate": 0.1}}, "model.moe.bias_rate=0.1"),
        ({"moe": {"n_experts": 4, "top_k": 2, "normalize_top_k": False}}, "model.moe.normalize_top_k=false"),
        ({"moe": {"n_experts": 4, "top_k": 2, "n_dense_layers": 1}}, "leaves 1 of 3 layers"),
        (
            {"moe": {"n_experts": 4, "top_k": 2}, "qk_norm": "projection", "n_kv_heads": 2, "d_head": 8},
            "model.d_head=8",
        ),
    ],
)
def test_what_no_family_has_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as refused:
        their_names(our_model("llama", **changes))
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "gpt2"}, "model_type=gpt2"),
        ({"hidden_act": "gelu"}, "hidden_act=gelu"),
        ({"attention_bias": True}, "attention_bias=true"),
        ({"mlp_bias": True}, "mlp_bias=true"),
        ({"attention_dropout": 0.1}, "attention_dropout=0.1"),
        ({"use_sliding_window": True, "sliding_window": 4096}, "use_sliding_window=true"),
        ({"sliding_window": 4096}, "sliding_window=4096"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types=sliding_attention"),
        ({"clip_qkv": 8.0}, "clip_qkv=8.0"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_scaling.rope_type=yarn"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "rope_scaling.rope_type=linear"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 4.0}}, "rope_scaling.low_freq_factor"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        ({"rope_theta": None}, "rope_theta"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": 2049, "head_dim": None}, "width"),
        ({"model_type": "mixtral", "num_experts_per_tok": 2}, "num_local_experts"),
        ({"model_type": "olmoe", "num_experts": 8, "num_experts_per_tok": 2}, "norm_topk_prob"),
    ],
)
def test_a_field_that_we_cannot_honour_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_config({**LLAMA_3_2_1B, **changes})
    assert named in str(refused.value)


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match="2 faults"):
        from_config({**LLAMA_3_2_1B, "attention_bias": True, "hidden_act": "gelu"})


def test_a_published_config_is_the_size_of_that_name() -> None:
    """Meta's config.json of Llama 3.2 1B is configs/model/llama-3.2-1b.yaml."""
    ours = load_run(compose("train", ["model=llama-3.2-1b"])).model
    theirs = from_config(LLAMA_3_2_1B)
    assert theirs.model_copy(update={"max_seq_len": ours.max_seq_len}) == ours


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        ("llama-3.2-1b", 1_235_814_400),  # as the Hub counts the tensors of meta-llama/Llama-3.2-1B
        (
            "qwen3-0.6b",
            751_632_384 - 151_936 * 1024,
        ),  # Qwen/Qwen3-0.6B, whose files hold the tied matrix twice
        ("olmo2-1b", 1_484_916_736),  # allenai/OLMo-2-0425-1B
    ],
)
def test_a_published_model_has_its_published_size(size: str, parameters: int) -> None:
    model = load_run(compose("train", [f"model={size}"])).model
    assert n_params(model) == parameters
    assert family_of(model).model_type == size.partition("-")[0]


@pytest.mark.parametrize("dense", [[], [0], [0, 1], [0, 2], [1, 3], [0, 1, 2]])
def test_layers_without_experts_are_found_again(dense: list[int]) -> None:
    config = to_config(our_model("qwen3_moe", n_layers=4), 64, None, "float32")
    model = from_config({**config, "mlp_only_layers": dense}) if dense != [1, 3] else None
    if model is None:
        with pytest.raises(ConfigError, match="mlp_only_layers"):
            from_config({**config, "mlp_only_layers": dense})
    else:
        assert [layer for layer in range(4) if layer not in model.mixture_layers] == dense
