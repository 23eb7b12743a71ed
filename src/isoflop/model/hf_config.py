"""config.json of a Hugging Face folder: ours as theirs, and theirs read or refused field by field."""

from collections.abc import Iterator, Mapping
from typing import Any

from isoflop.config.base import ConfigError, Fault
from isoflop.config.checks import MODEL_CHECKS
from isoflop.config.errors import as_yaml
from isoflop.config.schema import ModelConfig, RopeScaling
from isoflop.config.validate import validate
from isoflop.model.hf import EVERYWHERE, FAMILIES, Family, Mixture, family_of

SIZES = {  # ours → theirs, where the number is the same
    "n_layers": "num_hidden_layers",
    "width": "hidden_size",
    "n_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "vocab_size": "vocab_size",
    "norm_eps": "rms_norm_eps",
}
SCALING = {
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_seq_len": "original_max_position_embeddings",
}
HONOURED: dict[str, tuple[Any, ...]] = {  # fields of which we have these values and no other
    "hidden_act": ("silu", "swish"),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "attention_dropout": (0, None),
    "use_sliding_window": (False, None),
    "clip_qkv": (None,),
    "partial_rotary_factor": (1, None),
    "quantization_config": (None,),
}


def to_config(model: ModelConfig, seq_len: int, eos_id: int | list[int] | None, dtype: str) -> dict[str, Any]:
    """The config.json of `model`, trained on sequences of `seq_len` tokens, its tensors in `dtype`.

    Rotary positions stand where transformers 4 has them, which 5 reads too.
    Raises ConfigError naming what no family has.
    """
    family = family_of(model)
    return {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        **{theirs: getattr(model, ours) for ours, theirs in SIZES.items()},
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "tie_word_embeddings": model.tied,
        "rope_theta": model.rope_theta,
        "rope_scaling": _their_scaling(model.rope_scaling),
        "max_position_embeddings": seq_len,
        "initializer_range": model.init_std,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "eos_token_id": eos_id,
        "pad_token_id": None,
        "use_cache": True,
        "torch_dtype": dtype,
        **_their_mixture(model, family),
    }


def from_config(config: Mapping[str, Any]) -> ModelConfig:
    """The model that a config.json describes. Raises ConfigError naming every field that we cannot honour."""
    faults = list(_faults(config))
    if faults:
        raise ConfigError(faults, subject="config.json")
    family = FAMILIES[config["model_type"]]
    rope = _rope(config)
    head_dim, heads = config.get("head_dim"), config["num_attention_heads"]
    if head_dim is None and family.model_type.startswith("qwen3"):
        head_dim = 128  # transformers' default; the others' is hidden_size / num_attention_heads, as ours
    tree = {
        **{ours: config[theirs] for ours, theirs in SIZES.items()},
        "n_kv_heads": config.get("num_key_value_heads"),
        "d_head": None if head_dim and head_dim * heads == config["hidden_size"] else head_dim,
        "tied": bool(config.get("tie_word_embeddings", False)),
        "qk_norm": family.qk_norm,
        "norm_place": family.norm_place,
        "rope_theta": rope["rope_theta"],
        "rope_scaling": _our_scaling(rope) if rope["rope_type"] == "llama3" else None,
        "max_seq_len": config.get("max_position_embeddings") or 8192,
        "init_std": config.get("initializer_range") or 0.02,
        "moe": None if family.mixture is None else _our_mixture(config, family.mixture),
        **EVERYWHERE,
    }
    return validate(tree, ModelConfig, *MODEL_CHECKS)


def _faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    family = FAMILIES.get(config.get("model_type", ""))
    if family is None:
        hint = f"is not known here; {', '.join(FAMILIES)} are"
        yield Fault("model_type", config.get("model_type"), hint)
    for key in SIZES.values():
        if config.get(key) is None:
            yield Fault(key, None, "is missing")
    for key, values in HONOURED.items():
        if config.get(key, values[0]) not in values:
            yield Fault(key, config[key], f"is not what our models do; {as_yaml(values[0])} is")
    if config.get("sliding_window") is not None and "use_sliding_window" not in config:
        yield Fault("sliding_window", config["sliding_window"], "is not what our models do; null is")
    sliding = sorted(set(config.get("layer_types") or ()) - {"full_attention"})
    if sliding:
        yield Fault("layer_types", sliding[0], "is not what our models do; full_attention is")
    yield from _rope_faults(_rope(config))
    if family is not None and family.mixture is not None:
        yield from _mixture_faults(config, family.mixture)


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """`rope_parameters` of transformers 5, or what stood in its place before."""
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    rope.setdefault("rope_theta", config.get("rope_theta"))
    rope["rope_type"] = rope.get("rope_type") or rope.get("type") or "default"
    return rope


def _rope_faults(rope: Mapping[str, Any]) -> Iterator[Fault]:
    if rope["rope_theta"] is None:
        yield Fault("rope_theta", None, "is missing")
    if rope["rope_type"] not in ("default", "llama3"):
        yield Fault("rope_scaling.rope_type", rope["rope_type"], "is not what our models do; llama3 is")
    if rope.get("partial_rotary_factor") not in (1, None):
        hint = "is not what our models do; 1 is"
        yield Fault("rope_parameters.partial_rotary_factor", rope["partial_rotary_factor"], hint)
    if rope["rope_type"] == "llama3":
        for key in SCALING.values():
            if rope.get(key) is None:
                yield Fault(f"rope_scaling.{key}", None, "is missing")


def _their_scaling(scaling: RopeScaling | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    return {"rope_type": "llama3", **{theirs: getattr(scaling, ours) for ours, theirs in SCALING.items()}}


def _our_scaling(rope: Mapping[str, Any]) -> dict[str, Any]:
    return {ours: rope[theirs] for ours, theirs in SCALING.items()}


def _their_mixture(model: ModelConfig, family: Family) -> dict[str, Any]:
    mixture, moe = family.mixture, model.moe
    if mixture is None or moe is None:
        return {}
    keys: dict[str, Any] = {
        mixture.n_experts: moe.n_experts,
        mixture.d_ff: model.expert_d_ff,
        "num_experts_per_tok": moe.top_k,
        "router_aux_loss_coef": moe.load_balancing,
        "output_router_logits": False,
    }
    if mixture.chooses:
        keys["norm_topk_prob"] = moe.normalize_top_k
    if mixture.dense_layers:
        dense = [layer for layer in range(model.n_layers) if layer not in model.mixture_layers]
        keys |= {"mlp_only_layers": dense, "decoder_sparse_step": 1}
    return keys


def _our_mixture(config: Mapping[str, Any], mixture: Mixture) -> dict[str, Any]:
    pattern = _pattern(config)
    assert pattern is not None
    return {
        "n_experts": _n_experts(config),
        "top_k": config["num_experts_per_tok"],
        "d_ff": None if mixture.d_ff == SIZES["d_ff"] else config[mixture.d_ff],
        "normalize_top_k": config["norm_topk_prob"] if mixture.chooses else True,
        **pattern,
    }


def _mixture_faults(config: Mapping[str, Any], mixture: Mixture) -> Iterator[Fault]:
    chosen = ("norm_topk_prob",) if mixture.chooses else ()
    if _n_experts(config) is None:
        yield Fault(mixture.n_experts, None, "is missing")
    for key in (mixture.d_ff, "num_experts_per_tok", *chosen):
        if config.get(key) is None:
            yield Fault(key, None, "is missing")
    if config.get("num_hidden_layers") is not None and _pattern(config) is None:
        hint = "leaves layers without experts in no order that model.moe.n_dense_layers and every can say"
        yield Fault("mlp_only_layers", config.get("mlp_only_layers"), hint)


def _n_experts(config: Mapping[str, Any]) -> int | None:
    """Of either name: transformers 4 and 5 differ."""
    return config.get("num_experts", config.get("num_local_experts"))


def _pattern(config: Mapping[str, Any]) -> dict[str, int] | None:
    """`n_dense_layers` and `every` of the layers that have experts; None where these two cannot say which."""
    layers, step = config["num_hidden_layers"], config.get("decoder_sparse_step") or 1
    dense = config.get("mlp_only_layers") or ()
    wanted = tuple(layer for layer in range(layers) if layer not in dense and (layer + 1) % step == 0)
    for every in range(1, layers + 1):
        for n_dense in range(layers):
            if tuple(range(n_dense + every - 1, layers, every)) == wanted:
                return {"n_dense_layers": n_dense, "every": every}
    return None
