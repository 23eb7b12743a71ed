"""The feed-forward half of a block as a mixture of experts, of which each token meets a few.

Shazeer et al. 2017; without capacity and so without dropped tokens, as Gale et al. 2023.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from isoflop.config.schema import ModelConfig, MoeConfig
from isoflop.model.mlp import build_mlp

Exchange = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]]
"""(rows sorted by expert, how many for each expert) → those for the experts here, how many for each of them,
and the way back for what they made of them."""


class MoE(nn.Module):
    """Routed experts, and shared ones that every token meets (Dai et al. 2024, §3.2).

    x (batch, seq, width) → (batch, seq, width). The auxiliary losses ride on the output: its backward
    also starts theirs, so that nothing but the hidden state need pass from part to part of a model.
    """

    share = 1.0
    """Of the auxiliary losses, where several ranks compute the same ones and add up their gradients."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.moe is not None
        self.config = config.moe
        self.router = Router(config.width, config.moe.n_experts, biased=config.moe.bias_rate > 0)
        self.experts = Experts(config)
        shared_d_ff = config.moe.n_shared_experts * config.expert_d_ff
        self.shared = build_mlp(config, shared_d_ff) if shared_d_ff else None
        self.sum_over_sequence: Callable[[Tensor], Tensor] = _as_it_is
        self.begin(1.0, 1)

    def begin(self, objective_scale: float, n_microbatches: int) -> None:
        """Start a batch: what the sums of its objective are multiplied by, one over its targets."""
        device = self.router.weight.device
        self.objective_scale = torch.tensor(objective_scale, dtype=torch.float64, device=device)
        # Of the last backward passes only: torch's pipelining runs one more before its first batch.
        self.loads: deque[Tensor] = deque(maxlen=n_microbatches)
        """How often each expert was chosen (experts,), by the microbatches whose backward has run."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.router(x)  # (batch, seq, experts)
        probabilities = logits.softmax(dim=-1)
        weights, chosen = choose(probabilities, self.router.bias, self.config)
        out = self.experts(x, weights, chosen)
        if self.shared is not None:
            out = out + self.shared(x)
        if not torch.is_grad_enabled():
            return out
        counts = count_experts(chosen, logits.shape[-1])
        load = counts.sum(dim=0)
        penalty = auxiliary_loss(logits, probabilities, self.sum_over_sequence(counts), self.config)
        return _Ride.apply(out, self.share * penalty, self.objective_scale, load, self.loads)


class Router(nn.Linear):
    """x (…, width) → logits (…, experts), in at least float32 (Fedus et al. 2021, §2.4).

    Its bias, if any, is no part of the logits: `choose` adds it, and no gradient moves it.
    """

    def __init__(self, width: int, n_experts: int, biased: bool) -> None:
        super().__init__(width, n_experts, bias=False)
        if biased:
            self.bias = nn.Parameter(torch.zeros(n_experts), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        return F.linear(x.to(dtype), self.weight.to(dtype))


def choose(probabilities: Tensor, bias: Tensor | None, config: MoeConfig) -> tuple[Tensor, Tensor]:
    """(batch, seq, experts) → the weights and the numbers (batch, seq, top_k) of each token's experts.

    `bias` (experts,) counts for who is chosen, not for the weight (Wang et al. 2024, §3).
    """
    scores = probabilities if bias is None else probabilities + bias
    chosen = scores.topk(config.top_k, dim=-1).indices
    weights = probabilities.gather(-1, chosen)
    if config.normalize_top_k:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return weights, chosen


def auxiliary_loss(logits: Tensor, probabilities: Tensor, counts: Tensor, config: MoeConfig) -> Tensor:
    """What one layer adds to the sum over tokens that is the objective; a scalar.

    logits and probabilities (batch, seq, experts), counts (batch, experts) as `count_experts`.

    `load_balancing` · Σ f·P for each token, of the token's own sequence: f is n_experts times the share
    of its choices that fell on an expert, P the expert's mean probability; 1 where all are used alike
    (Fedus et al. 2021, eq. 4, taken sequence by sequence as DeepSeek-AI 2024, §2.1.2, so that it does not
    depend on how the batch is cut). `router_z_loss` · logsumexp² for each token (Zoph et al. 2022, eq. 5).

    Where only some places of each sequence stand here, counts are to be those of the whole sequence: the
    losses of the ranks that have its places then add up to its loss.
    """
    counts = counts.to(logits.dtype)
    f = logits.shape[-1] * counts / counts.sum(dim=-1, keepdim=True)
    balance = (f * probabilities.sum(dim=1)).sum()
    return config.load_balancing * balance + config.router_z_loss * logits.logsumexp(dim=-1).square().sum()


def count_experts(chosen: Tensor, n_experts: int) -> Tensor:
    """chosen (batch, seq, top_k) → how often each sequence chose each expert, (batch, experts)."""
    row = torch.arange(len(chosen), device=chosen.device)[:, None, None]
    counts = torch.bincount((chosen + n_experts * row).flatten(), minlength=n_experts * len(chosen))
    return counts.view(len(chosen), n_experts)


class Experts(nn.Module):
    """Feed-forward layers side by side; each token's `top_k` outputs are added up by weight."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.moe is not None
        self.n_experts = config.moe.n_experts
        sizes = self.n_experts, config.width, config.expert_d_ff
        self.gate = StackedLinear(*sizes) if config.activation == "swiglu" else None
        self.up = StackedLinear(*sizes)
        self.down = StackedLinear(self.n_experts, config.expert_d_ff, config.width)
        self.exchange: Exchange = all_here

    def forward(self, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """x (batch, seq, width), weights and chosen (batch, seq, top_k) → as x."""
        top_k = chosen.shape[-1]
        order = chosen.flatten().argsort(stable=True)  # of (token, choice) pairs, by expert
        counts = torch.bincount(chosen.flatten(), minlength=self.n_experts)
        rows, here, back = self.exchange(gather_rows(x.flatten(0, -2), order, top_k), counts)
        out = scatter_rows(back(self._products(rows, here)), order, 1)
        out = out.view(*weights.shape, -1) * weights.to(out.dtype).unsqueeze(-1)
        return out.sum(dim=-2)

    def _products(self, rows: Tensor, counts: Tensor) -> Tensor:
        up = self.up(rows, counts)
        inner = F.gelu(up) if self.gate is None else F.silu(self.gate(rows, counts)) * up
        return self.down(inner, counts)


class StackedLinear(nn.Module):
    """One matrix an expert. Rows sorted by expert (rows, d_in), how many for each → (rows, d_out)."""

    def __init__(self, n_experts: int, d_in: int, d_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_experts, d_out, d_in))

    def forward(self, rows: Tensor, counts: Tensor) -> Tensor:
        weight = self.weight.to_local() if isinstance(self.weight, DTensor) else self.weight
        grouped = rows.is_cuda and rows.dtype == torch.bfloat16  # what torch's kernel is made for
        return (product_in_groups if grouped else product_by_expert)(rows, weight, counts)


def product_by_expert(rows: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """rows (n, d_in) sorted by expert, weight (experts, d_out, d_in), counts (experts,) → (n, d_out)."""
    pieces = rows.split(counts.tolist())
    return torch.cat([F.linear(piece, matrix) for piece, matrix in zip(pieces, weight, strict=True)])


def product_in_groups(rows: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """As `product_by_expert`, in one kernel, and without waiting for the device to say the counts."""
    return F.grouped_mm(rows, weight.transpose(-2, -1), offs=counts.cumsum(dim=0).to(torch.int32))


def all_here(rows: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """The exchange of one rank, which has all experts."""
    return rows, counts, _as_it_is


def gather_rows(x: Tensor, order: Tensor, copies: int) -> Tensor:
    """x (n, d), order a permutation of n·copies → (n·copies, d): each row copied, then put in order."""
    return _Gather.apply(x, order, copies)


def scatter_rows(y: Tensor, order: Tensor, copies: int) -> Tensor:
    """The transpose of `gather_rows`, and for one copy its inverse: (n·copies, d) → (n, d)."""
    return _Scatter.apply(y, order, copies)


def _gather(x: Tensor, order: Tensor, copies: int) -> Tensor:
    return x[order // copies]


def _scatter(y: Tensor, order: Tensor, copies: int) -> Tensor:
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return y[back].unflatten(0, (-1, copies)).sum(dim=1)


class _Gather(torch.autograd.Function):
    """Autograd knows neither that `order` is a permutation nor, hence, that its sums have a fixed order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, copies: int) -> Tensor:
        ctx.save_for_backward(order)
        ctx.copies = copies
        return _gather(x, order, copies)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (order,) = ctx.saved_tensors
        return _scatter(grads[0], order, ctx.copies), None, None


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, order: Tensor, copies: int) -> Tensor:
        ctx.save_for_backward(order)
        ctx.copies = copies
        return _scatter(y, order, copies)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (order,) = ctx.saved_tensors
        return _gather(grads[0], order, ctx.copies), None, None


class _Ride(torch.autograd.Function):
    """`out` as it is. Its backward gives the penalty the gradient that it has in the objective.

    Then the load is noted too, for a block that is computed again has several forward passes.
    """

    @staticmethod
    def forward(
        ctx: Any, out: Tensor, penalty: Tensor, scale: Tensor, load: Tensor, loads: deque[Tensor]
    ) -> Tensor:
        ctx.save_for_backward(scale.to(penalty.dtype), load)
        ctx.loads = loads
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scale, load = ctx.saved_tensors
        ctx.loads.append(load)
        return grads[0], scale, None, None, None


def mixtures(model: nn.Module) -> list[MoE]:
    """The mixtures of experts in `model`, in the order of the layers."""
    return [module for module in model.modules() if isinstance(module, MoE)]


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor
