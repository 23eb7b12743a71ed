"""The mixture of experts: against a loop over tokens, transformers' models, and closed forms."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_against_transformers import their_name
from tiny_models import VOCAB_SIZE, random_tokens, tiny_config, tiny_decoder
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import (
    MixtralConfig,
    MixtralForCausalLM,
    OlmoeConfig,
    OlmoeForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from isoflop.config.schema import ModelConfig
from isoflop.model.decoder import Decoder
from isoflop.model.flops import matmul_flops_per_token, n_params
from isoflop.model.moe import (
    MoE,
    auxiliary_loss,
    choose,
    count_experts,
    gather_rows,
    mixtures,
    product_by_expert,
    product_in_groups,
    scatter_rows,
)

LOSSES = {"load_balancing": 0.3, "router_z_loss": 0.2}


def moe_config(activation: str = "swiglu", **changes: Any) -> ModelConfig:
    moe = {"n_experts": 5, "top_k": 2, "d_ff": 20, **LOSSES, **changes}
    return tiny_config(moe=moe, activation=activation)


def tiny_moe(config: ModelConfig) -> MoE:
    moe = tiny_decoder(config).blocks["0"].mlp
    assert isinstance(moe, MoE)
    return moe


def expert(x: Tensor, moe: MoE, e: int) -> Tensor:
    """One token through one expert, in plain formulas."""
    up = moe.experts.up.weight[e] @ x
    inner = F.gelu(up) if moe.experts.gate is None else F.silu(moe.experts.gate.weight[e] @ x) * up
    return moe.experts.down.weight[e] @ inner


def by_token(x: Tensor, moe: MoE) -> Tensor:
    """(batch, seq, width) → the same, a token at a time."""
    out = []
    for token in x.flatten(0, 1):
        p = (moe.router.weight @ token).softmax(dim=0)
        best = sorted(range(len(p)), key=lambda e: -p[e].item())[: moe.config.top_k]
        total = sum(p[e] for e in best) if moe.config.normalize_top_k else 1.0
        y = sum(p[e] / total * expert(token, moe, e) for e in best)
        out.append(y if moe.shared is None else y + moe.shared(token))
    return torch.stack(out).view_as(x)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"normalize_top_k": False, "n_shared_experts": 2},
        {"top_k": 5, "activation": "gelu", "n_shared_experts": 1},
        {"n_experts": 30, "top_k": 1, "normalize_top_k": False},  # most experts see no token
    ],
    ids=["plain", "shared", "all-gelu", "idle"],
)
def test_a_mixture_is_a_loop_over_tokens(changes: dict[str, Any]) -> None:
    """Outputs, and without auxiliary losses all gradients, are those of each token treated by itself."""
    moe = tiny_moe(moe_config(**{**changes, "load_balancing": 0.0, "router_z_loss": 0.0}))
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(2, 9, 24, dtype=torch.float64, generator=draw, requires_grad=True)
    towards = torch.randn(2, 9, 24, dtype=torch.float64, generator=draw)
    inputs = [x, *moe.parameters()]
    out, expected = moe(x), by_token(x, moe)
    assert_close(out, expected)
    found = torch.autograd.grad((out * towards).sum(), inputs)
    wanted = torch.autograd.grad((expected * towards).sum(), inputs, materialize_grads=True)
    for gradient, reference in zip(found, wanted, strict=True):
        assert_close(gradient, reference)
    assert all(gradient.abs().max() > 1e-6 for gradient in found)


def test_one_expert_is_the_dense_layer() -> None:
    """The same logits and gradients as a decoder without experts; the router's gradient is nothing."""
    dense = tiny_decoder(tiny_config())
    mixed = Decoder(
        tiny_config(moe={"n_experts": 1, "top_k": 1, "load_balancing": 0.7, "router_z_loss": 0.0})
    ).double()
    weights = dense.state_dict()
    for name in list(weights):
        if ".mlp." in name:
            weights[name.replace(".mlp.", ".mlp.experts.")] = weights.pop(name)[None]
    missing = mixed.load_state_dict(weights, strict=False)
    assert missing.unexpected_keys == []
    assert {name.split(".", 2)[2] for name in missing.missing_keys} == {"mlp.router.weight"}
    tokens = random_tokens(2, 12)
    logits = [model(tokens, torch.zeros_like(tokens)) for model in (dense, mixed)]
    assert_close(*logits)
    for out in logits:
        out.square().sum().backward()
    gradients = dict(mixed.named_parameters())
    for name, parameter in dense.named_parameters():
        other = gradients[name.replace(".mlp.", ".mlp.experts.")].grad
        assert_close(other.view_as(parameter), parameter.grad)  # type: ignore[union-attr]
    assert gradients["blocks.0.mlp.router.weight"].grad.abs().max() < 1e-12  # type: ignore[union-attr]


def test_the_losses_are_what_their_papers_write() -> None:
    """Fedus et al. 2021, eq. 4-6, a sequence; Zoph et al. 2022, eq. 5; weighted, summed over tokens."""
    config = moe_config().moe
    assert config is not None
    logits = torch.randn(3, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    probabilities = logits.softmax(dim=-1)
    chosen = choose(probabilities, None, config)[1]
    expected = 0.0
    for sequence in range(3):
        balance = 0.0
        for e in range(5):
            fraction = sum((token == e).any().item() for token in chosen[sequence]) / (7 * 2)
            balance += 5 * fraction * sum(p[e].item() for p in probabilities[sequence]) / 7
        z = sum(token.exp().sum().log().item() ** 2 for token in logits[sequence])
        expected += 7 * 0.3 * balance + 0.2 * z
    found = auxiliary_loss(logits, probabilities, count_experts(chosen, 5), config)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_the_balance_of_one_sequence_is_transformers() -> None:
    """Theirs counts a token once for each of its experts, ours once: theirs is top_k times ours."""
    config = moe_config(load_balancing=1.0, router_z_loss=0.0).moe
    assert config is not None
    logits = torch.randn(1, 30, 5, generator=torch.Generator().manual_seed(3))
    probabilities = logits.softmax(dim=-1)
    counts = count_experts(choose(probabilities, None, config)[1], 5)
    ours = auxiliary_loss(logits, probabilities, counts, config) / 30
    theirs = load_balancing_loss_func((logits[0],), num_experts=5, top_k=2)
    assert_close(2 * ours, theirs)


def test_equal_use_of_the_experts_costs_one() -> None:
    config = moe_config(load_balancing=1.0, router_z_loss=0.0, n_experts=4).moe
    assert config is not None
    logits = torch.eye(4).repeat(3, 2, 1) * 1e-9  # every expert is first twice, second by its number
    chosen = torch.tensor([[0, 1], [2, 3]]).repeat(3, 4, 1)
    loss = auxiliary_loss(logits, logits.softmax(dim=-1), count_experts(chosen, 4), config)
    assert loss.item() == pytest.approx(3 * 8)
    one = torch.zeros_like(chosen)
    certain = F.one_hot(one[..., 0], 4).float()
    loss = auxiliary_loss(50 * certain, certain, count_experts(one, 4), config)
    assert loss.item() == pytest.approx(4 * 3 * 8)  # all on one expert: n_experts times as much


def test_the_losses_ride_on_the_output() -> None:
    """The gradient of a decoder is that of its loss plus those of all layers' losses, scaled as it is."""
    config = moe_config(n_dense_layers=1)
    model = tiny_decoder(config)
    tokens = random_tokens(3, 11)
    penalties: list[Tensor] = []

    def listen(moe: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        assert isinstance(moe, MoE)
        logits = moe.router(inputs[0])
        probabilities = logits.softmax(dim=-1)
        counts = count_experts(choose(probabilities, None, moe.config)[1], logits.shape[-1])
        penalties.append(auxiliary_loss(logits, probabilities, counts, moe.config))

    for moe in mixtures(model):
        moe.begin(objective_scale=0.01, n_microbatches=1)
    (0.01 * model(tokens, torch.zeros_like(tokens)).sum()).backward()
    ridden = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}  # type: ignore[union-attr]
    model.zero_grad()
    for moe in mixtures(model):
        moe.begin(objective_scale=0.0, n_microbatches=1)
        moe.register_forward_hook(listen)
    loss = 0.01 * model(tokens, torch.zeros_like(tokens)).sum()
    assert len(penalties) == 1  # one block is dense
    (loss + 0.01 * sum(penalties)).backward()
    for name, parameter in model.named_parameters():
        assert_close(ridden[name], parameter.grad, msg=lambda text, name=name: f"{name}: {text}")


def test_a_bias_moves_the_choice_and_not_the_weight() -> None:
    """Wang et al. 2024, eq. 3; and the load that is to move it is noted once, when the backward has run."""
    config = moe_config(top_k=2, normalize_top_k=False, bias_rate=0.1)
    moe = tiny_moe(config)
    assert moe.router.bias is not None
    assert not moe.router.bias.requires_grad
    probabilities = torch.tensor([[[0.5, 0.3, 0.15, 0.05, 0.0]]])
    weights, chosen = choose(probabilities, torch.tensor([0.0, 0.0, 0.0, 0.4, 0.0]), moe.config)
    assert chosen.tolist() == [[[0, 3]]]
    assert_close(weights, torch.tensor([[[0.5, 0.05]]]))
    moe.router.bias.copy_(torch.tensor([9.0, 0.0, 0.0, 0.0, 9.0]))
    out = moe(torch.randn(2, 7, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(5)))
    assert not moe.loads
    out.sum().backward()
    assert [load.tolist() for load in moe.loads] == [[14, 0, 0, 0, 14]]
    assert n_params(config) == n_params(moe_config()) + 2 * 5
    assert matmul_flops_per_token(config) == matmul_flops_per_token(moe_config())


def test_the_grouped_kernel_is_the_loop_over_experts() -> None:
    """Outputs and both gradients, with experts that have no row, in bfloat16 (here on the CPU)."""
    draw = torch.Generator().manual_seed(6)
    counts = torch.tensor([4, 0, 9, 3, 0])
    rows = torch.randn(16, 16, generator=draw).bfloat16().requires_grad_()
    weight = torch.randn(5, 8, 16, generator=draw).bfloat16().requires_grad_()
    towards = torch.randn(16, 8, generator=draw).bfloat16()
    results = []
    for product in (product_in_groups, product_by_expert):
        out = product(rows, weight, counts)
        results.append((out, *torch.autograd.grad(out, (rows, weight), towards)))
    for found, expected in zip(*results, strict=True):
        assert_close(found, expected)
    assert results[0][2][1].abs().max() == 0  # of the expert that nobody met


def test_rows_come_back_to_where_they_were() -> None:
    """Scattering is the transpose of gathering, by their matrices; autograd knows both."""
    draw = torch.Generator().manual_seed(4)
    order = torch.randperm(12, generator=draw)
    matrix, back = gather_rows(torch.eye(4), order, 3), scatter_rows(torch.eye(12), order, 3)
    assert matrix.sum().item() == 12
    assert torch.equal(back, matrix.T)
    x = torch.randn(4, 2, dtype=torch.float64, generator=draw, requires_grad=True)
    y = torch.randn(12, 2, dtype=torch.float64, generator=draw, requires_grad=True)
    assert torch.autograd.gradcheck(lambda rows: gather_rows(rows, order, 3), (x,))
    assert torch.autograd.gradcheck(lambda rows: scatter_rows(rows, order, 3), (y,))


def test_which_layers_are_mixtures() -> None:
    def layers(**changes: int) -> list[int]:
        config = tiny_config(n_layers=6, moe={"n_experts": 2, "top_k": 1, **changes})
        model = Decoder(config)
        return [int(name) for name, block in model.blocks.items() if isinstance(block.mlp, MoE)]

    assert layers() == [0, 1, 2, 3, 4, 5]
    assert layers(n_dense_layers=2) == [2, 3, 4, 5]
    assert layers(every=2) == [1, 3, 5]  # as Qwen3-MoE's decoder_sparse_step
    assert layers(n_dense_layers=1, every=3) == [3]


@pytest.mark.parametrize("activation", ["swiglu", "gelu"])
def test_parameters_and_flops_are_those_that_torch_counts(activation: str) -> None:
    """All experts are parameters; of the FLOPs only those that a token meets, whichever they are."""
    from torch.utils.flop_counter import FlopCounterMode

    config = moe_config(activation, n_shared_experts=3, n_dense_layers=1)
    model = tiny_decoder(config)
    assert n_params(config) == sum(parameter.numel() for parameter in model.parameters())
    tokens = random_tokens(3, 16)
    with FlopCounterMode(display=False) as counter:
        model(tokens, torch.zeros_like(tokens)).sum().backward()
    counts = {str(operator): count for operator, count in counter.get_flop_counts()["Global"].items()}
    products = sum(count for operator, count in counts.items() if operator in ("aten.mm", "aten.addmm"))
    assert products == matmul_flops_per_token(config) * tokens.numel()


SIZES: dict[str, Any] = {
    "num_hidden_layers": 3,
    "hidden_size": 24,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 20,
    "vocab_size": VOCAB_SIZE,
    "rms_norm_eps": 1e-3,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    "tie_word_embeddings": False,
    "num_experts_per_tok": 2,
    "attn_implementation": "eager",
}
ROUTED: dict[str, tuple[type, type, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # theirs, their config, its own options, our model's options, our mixture's options
    "mixtral": (MixtralForCausalLM, MixtralConfig, {"num_local_experts": 5, "head_dim": 8}, {}, {}),
    "olmoe": (
        OlmoeForCausalLM,
        OlmoeConfig,
        {"num_experts": 5, "norm_topk_prob": False},
        {"d_head": 4, "qk_norm": "projection"},
        {"normalize_top_k": False},
    ),
    "qwen3-moe": (
        Qwen3MoeForCausalLM,
        Qwen3MoeConfig,
        {
            "num_experts": 5,
            "norm_topk_prob": True,
            "head_dim": 8,
            "moe_intermediate_size": 20,
            "intermediate_size": 40,
            "mlp_only_layers": [0],
        },
        {"d_ff": 40, "qk_norm": "head"},
        {"d_ff": 20, "n_dense_layers": 1},
    ),
}


@pytest.mark.parametrize("kind", ROUTED)
def test_logits_are_those_of_transformers(kind: str) -> None:
    """Weight for weight, in float32, to 1e-5 of the largest logit."""
    model, configuration, their_options, options, moe = ROUTED[kind]
    moe = {"n_experts": 5, "top_k": 2, **moe}
    config = tiny_config(
        **{"n_layers": 3, "d_ff": 20, "tied": False, "rope_theta": 500.0, "document_mask": False, **options},
        moe=moe,
    )
    ours = tiny_decoder(config, torch.float32)
    theirs = model(configuration(**{**SIZES, **their_options})).eval()
    theirs.load_state_dict(renamed(ours.state_dict()))
    tokens = random_tokens(2, 33)
    expected = theirs(tokens).logits
    found = ours(tokens, torch.zeros_like(tokens))
    assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Ours under transformers' names, which stacks gate and up of each expert in one matrix."""
    theirs = {}
    for name, tensor in weights.items():
        block = name.partition(".mlp.")[0].replace("blocks", "model.layers")
        if name.endswith("mlp.router.weight"):
            theirs[f"{block}.mlp.gate.weight"] = tensor
        elif name.endswith("experts.gate.weight"):
            both = torch.cat((tensor, weights[name.replace(".gate.", ".up.")]), dim=1)
            theirs[f"{block}.mlp.experts.gate_up_proj"] = both
        elif name.endswith("experts.down.weight"):
            theirs[f"{block}.mlp.experts.down_proj"] = tensor
        elif not name.endswith("experts.up.weight"):
            theirs[their_name(name)] = tensor
    return theirs
