"""Our models as Hugging Face names them: which family, and which name for each tensor.

Pure functions: no file is read or written here, and nothing of transformers is imported.
"""

from dataclasses import dataclass
from typing import Literal

from isoflop.config.base import ConfigError, Fault
from isoflop.config.errors import as_yaml
from isoflop.config.schema import ModelConfig
from isoflop.model.parametrization import attention_multiplier, logits_multiplier, residual_multiplier

Names = dict[str, str | tuple[str, ...]]
"""Our name of a tensor → theirs; several where theirs are the slices of ours along its first dim."""

EVERYWHERE = {"norm": "rmsnorm", "positions": "rope", "activation": "swiglu"}
"""What every family here has in common, beside the absence of biases."""


@dataclass(frozen=True)
class Mixture:
    """How a family writes its experts."""

    module: str
    """Of the mixture in a layer; the router is its `gate`."""
    gate: str
    up: str
    down: str
    n_experts: str
    """The key in config.json."""
    d_ff: str
    """The key of the features inside an expert."""
    chooses: bool
    """Has `norm_topk_prob`; else the weights of the chosen experts always add up to one."""
    dense_layers: bool
    """Can have layers without experts."""


@dataclass(frozen=True)
class Family:
    """A model type of transformers, told from the others by where it normalises, and by its experts."""

    model_type: str
    architecture: str
    qk_norm: Literal[False, "head", "projection"]
    norm_place: Literal["before", "after"]
    attention_norm: str = "input_layernorm"
    mlp_norm: str = "post_attention_layernorm"
    any_d_head: bool = True
    """Else the heads share the width out between them."""
    mixture: Mixture | None = None


PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
FAMILIES = {
    family.model_type: family
    for family in (
        Family("llama", "LlamaForCausalLM", False, "before"),
        Family("qwen3", "Qwen3ForCausalLM", "head", "before"),
        Family(
            "olmo2",
            "Olmo2ForCausalLM",
            "projection",
            "after",
            attention_norm="post_attention_layernorm",
            mlp_norm="post_feedforward_layernorm",
        ),
        Family(
            "mixtral",
            "MixtralForCausalLM",
            False,
            "before",
            mixture=Mixture(
                *("block_sparse_moe", "w1", "w3", "w2", "num_local_experts", "intermediate_size"),
                chooses=False,
                dense_layers=False,
            ),
        ),
        Family(
            "olmoe",
            "OlmoeForCausalLM",
            "projection",
            "before",
            any_d_head=False,
            mixture=Mixture(
                *("mlp", *PROJECTIONS, "num_experts", "intermediate_size"),
                chooses=True,
                dense_layers=False,
            ),
        ),
        Family(
            "qwen3_moe",
            "Qwen3MoeForCausalLM",
            "head",
            "before",
            mixture=Mixture(
                *("mlp", *PROJECTIONS, "num_experts", "moe_intermediate_size"),
                chooses=True,
                dense_layers=True,
            ),
        ),
    )
}


def family_of(model: ModelConfig) -> Family:
    """The family that computes what `model` does. Raises ConfigError naming what no family has."""
    faults = [
        Fault(f"model.{key}", getattr(model, key), f"is in no Hugging Face family known here; {value} is")
        for key, value in EVERYWHERE.items()
        if getattr(model, key) != value
    ]
    alike = [f for f in FAMILIES.values() if (f.mixture is None) == (model.moe is None)]
    found = [f for f in alike if (f.qk_norm, f.norm_place) == (model.qk_norm, model.norm_place)]
    if found:
        faults += _head_faults(model, found[0]) + _mixture_faults(model, found[0])
    else:
        known = ", ".join(f"{as_yaml(f.qk_norm)} and {f.norm_place} ({f.model_type})" for f in alike)
        hint = f"and model.norm_place={model.norm_place} are no family of Hugging Face's; {known} are"
        faults.append(Fault("model.qk_norm", model.qk_norm, hint))
    if faults:
        raise ConfigError(faults, subject="Hugging Face")
    return found[0]


def _head_faults(model: ModelConfig, family: Family) -> list[Fault]:
    if family.any_d_head or model.head_dim * model.n_heads == model.width:
        return []
    hint = f"is not model.width / model.n_heads = {model.width} / {model.n_heads}, as in {family.model_type}"
    return [Fault("model.d_head", model.head_dim, hint)]


def _mixture_faults(model: ModelConfig, family: Family) -> list[Fault]:
    if model.moe is None or family.mixture is None:
        return []
    faults = []
    for key in ("n_shared_experts", "bias_rate"):
        if value := getattr(model.moe, key):
            faults.append(Fault(f"model.moe.{key}", value, "is in no Hugging Face family known here; 0 is"))
    if not model.moe.normalize_top_k and not family.mixture.chooses:
        hint = f"is not what {family.model_type} does; true is"
        faults.append(Fault("model.moe.normalize_top_k", False, hint))
    dense = model.n_layers - len(model.mixture_layers)
    if dense and not family.mixture.dense_layers:
        hint = f"leaves {dense} of {model.n_layers} layers without experts; {family.model_type} has none such"
        faults.append(Fault("model.moe", None, hint))
    return faults


def folded(model: ModelConfig) -> dict[str, float]:
    """What each tensor is multiplied by so that the model does without the multipliers of μP and CompleteP.

    By our names; those that stay as they are, are left out. Hugging Face's models have no multipliers; here
    each stands beside a matrix or gain that can take it.
    """
    after = model.norm_place == "after"
    branches = ("attention_norm", "mlp_norm") if after else ("attention.out", "mlp.down", "mlp.experts.down")
    queries = "attention.q_norm" if model.qk_norm else "attention.q"
    factors = {"norm.weight": logits_multiplier(model)}
    for layer in range(model.n_layers):
        factors |= {f"blocks.{layer}.{name}.weight": residual_multiplier(model) for name in branches}
        factors[f"blocks.{layer}.{queries}.weight"] = attention_multiplier(model)
    return {name: factor for name, factor in factors.items() if factor != 1}


def their_names(model: ModelConfig) -> Names:
    """Our name of every parameter → theirs. A tied head has none of its own."""
    family = family_of(model)
    names: Names = {"embedding.weight": "model.embed_tokens.weight"}
    for layer in range(model.n_layers):
        block = _block_names(model, family) | _mlp_names(model, family, layer)
        for ours, theirs in block.items():
            prefix = f"model.layers.{layer}"
            names[f"blocks.{layer}.{ours}.weight"] = (
                f"{prefix}.{theirs}.weight"
                if isinstance(theirs, str)
                else tuple(f"{prefix}.{slice_}.weight" for slice_ in theirs)
            )
    names["norm.weight"] = "model.norm.weight"
    if not model.tied:
        names["head.weight"] = "lm_head.weight"
    return names


def _block_names(model: ModelConfig, family: Family) -> Names:
    names: Names = {
        "attention_norm": family.attention_norm,
        "attention.q": "self_attn.q_proj",
        "attention.k": "self_attn.k_proj",
        "attention.v": "self_attn.v_proj",
        "attention.out": "self_attn.o_proj",
        "mlp_norm": family.mlp_norm,
    }
    if model.qk_norm:
        names |= {"attention.q_norm": "self_attn.q_norm", "attention.k_norm": "self_attn.k_norm"}
    return names


def _mlp_names(model: ModelConfig, family: Family, layer: int) -> Names:
    if layer not in model.mixture_layers:
        ours = ("mlp.gate", "mlp.up", "mlp.down")
        return {name: f"mlp.{theirs}" for name, theirs in zip(ours, PROJECTIONS, strict=True)}
    mixture = family.mixture
    assert mixture is not None
    assert model.moe is not None
    names: Names = {"mlp.router": f"{mixture.module}.gate"}
    for part, matrix in (("gate", mixture.gate), ("up", mixture.up), ("down", mixture.down)):
        each = (f"{mixture.module}.experts.{expert}.{matrix}" for expert in range(model.moe.n_experts))
        names[f"mlp.experts.{part}"] = tuple(each)
    return names
