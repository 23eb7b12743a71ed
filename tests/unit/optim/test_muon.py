"""Muon against the singular values' polynomial, against torch's Muon, and its AdamW part against torch's."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from updates import draws, group_of, parameters, train

from isoflop.optim.muon import MuonConfig
from isoflop.optim.rules.orthogonal import newton_schulz

MATRICES = ("heads", "matrix")
OTHERS = ("head", "embedding", "vector")


def closed_form(matrix: NDArray, steps: int) -> NDArray:
    """What the iteration of Jordan et al. 2024 makes of each singular value, by an SVD."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values = values / np.linalg.norm(matrix)
    for _ in range(steps):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left @ np.diag(values) @ right


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (6, 12), (1, 5)])
def test_orthogonalisation_is_a_polynomial_of_the_singular_values(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(3).normal(size=shape)
    for steps in (1, 5):
        found = newton_schulz(torch.tensor(matrix), steps).numpy()
        np.testing.assert_allclose(found, closed_form(matrix, steps), rtol=1e-9, atol=1e-11)
    values = np.linalg.svd(newton_schulz(torch.tensor(matrix), 5).numpy(), compute_uv=False)
    assert ((values > 0.65) & (values < 1.25)).all()


def test_matrices_side_by_side_are_each_their_own() -> None:
    """Experts lie in one tensor (experts, out, in)."""
    stack = torch.randn(3, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    alone = torch.stack([newton_schulz(matrix, 5) for matrix in stack])
    torch.testing.assert_close(newton_schulz(stack, 5), alone, rtol=1e-12, atol=1e-13)


def test_a_zero_matrix_stays_zero_and_dtypes_stay() -> None:
    assert torch.equal(newton_schulz(torch.zeros(3, 4), 5), torch.zeros(3, 4))
    matrix = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    assert newton_schulz(matrix.bfloat16(), 5).dtype == torch.bfloat16
    rough = newton_schulz(matrix, 5, torch.bfloat16)
    assert rough.dtype == torch.float32
    error = (rough - newton_schulz(matrix, 5)).norm() / rough.norm()
    assert 1e-5 < error < 5e-2


def built(config: MuonConfig, weights: dict[str, torch.nn.Parameter], decay: float) -> torch.optim.Optimizer:
    return config.build([group_of(kind, p, decay if p.ndim == 2 else 0.0) for kind, p in weights.items()])


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("scale", ["rms", "spectral"])
def test_twenty_steps_are_the_formula(scale: str, nesterov: bool) -> None:
    start, gradients = draws()
    ours = parameters(start)
    config = MuonConfig(lr=0.02, momentum=0.8, nesterov=nesterov, scale=scale, weight_decay=0.3)
    train(built(config, ours, 0.3), ours, gradients)
    for kind in MATRICES:
        theta, momentum = start[kind], np.zeros_like(start[kind])
        rows, columns = theta.shape
        size = {"spectral": max(1, rows / columns) ** 0.5, "rms": 0.2 * max(rows, columns) ** 0.5}[scale]
        for step in gradients:
            momentum = 0.8 * momentum + 0.2 * step[kind]
            direction = 0.2 * step[kind] + 0.8 * momentum if nesterov else momentum
            theta = theta - 0.02 * (size * closed_form(direction, 5) + 0.3 * theta)
        np.testing.assert_allclose(ours[kind].detach().numpy(), theta, rtol=1e-8, atol=1e-9)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch's own came with 2.9")
@pytest.mark.parametrize(("scale", "adjust"), [("rms", "match_rms_adamw"), ("spectral", "original")])
def test_matrices_move_as_under_torchs_muon(scale: str, adjust: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose rounding to bfloat16 is taken out, so that both compute in float64."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    start, gradients = draws()
    ours, theirs = parameters(start), parameters(start)
    config = MuonConfig(lr=0.02, momentum=0.8, scale=scale, weight_decay=0.3)
    train(built(config, ours, 0.3), ours, gradients)
    matrices = {kind: theirs[kind] for kind in MATRICES}
    options: dict[str, Any] = {"lr": 0.02, "momentum": 0.8, "weight_decay": 0.3, "adjust_lr_fn": adjust}
    train(torch.optim.Muon(matrices.values(), **options), matrices, gradients)
    for kind, right in matrices.items():
        torch.testing.assert_close(ours[kind], right, rtol=1e-9, atol=1e-10)


def test_the_rest_is_adamws_at_its_own_rate() -> None:
    start, gradients = draws()
    ours, theirs = parameters(start), parameters(start)
    config = MuonConfig(lr=0.02, adamw_lr_ratio=0.25, betas=(0.7, 0.8), eps=1e-3, implementation="loop")
    optimizer = built(config, ours, 0.3)
    for group in optimizer.param_groups:  # as the engine does before each step
        group["lr"] = 0.02 * group["lr_scale"]
    train(optimizer, ours, gradients)
    others = {kind: theirs[kind] for kind in OTHERS}
    groups = [{"params": [p], "weight_decay": 0.3 if p.ndim == 2 else 0.0} for p in others.values()]
    reference = torch.optim.AdamW(groups, lr=0.005, betas=(0.7, 0.8), eps=1e-3)
    train(reference, others, gradients)
    for kind, right in others.items():
        torch.testing.assert_close(ours[kind], right, rtol=1e-12, atol=1e-13)
    assert all(set(optimizer.state[ours[kind]]) == {"momentum"} for kind in MATRICES)
