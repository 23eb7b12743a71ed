"""Lion by its formula (Chen et al. 2023, Algorithm 2), in numpy, on one process and on shards."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from isoflop.optim.lion import LionConfig

CONFIG = LionConfig(lr=0.02, betas=(0.7, 0.85), weight_decay=0.4)
STEPS = 20


def reference(theta: NDArray, gradients: list[NDArray], decay: float) -> tuple[NDArray, NDArray]:
    momentum = np.zeros_like(theta)
    for g in gradients:
        direction = np.sign(0.7 * momentum + (1 - 0.7) * g)
        theta = theta - 0.02 * (direction + decay * theta)
        momentum = 0.85 * momentum + (1 - 0.85) * g
    return theta, momentum


def draws() -> tuple[list[NDArray], list[list[NDArray]]]:
    """A matrix and a vector, and gradients for each step; some are exactly zero."""
    draw = np.random.default_rng(0)
    start = [draw.normal(size=(6, 4)), draw.normal(size=6)]
    gradients = [
        [draw.normal(size=part.shape) * (draw.random(part.shape) > 0.2) for part in start]
        for _ in range(STEPS)
    ]
    return start, gradients


def test_twenty_steps_are_the_formula() -> None:
    start, gradients = draws()
    parameters = [torch.nn.Parameter(torch.tensor(part)) for part in start]
    optimizer = CONFIG.build([{"params": parameters[:1]}, {"params": parameters[1:], "weight_decay": 0.0}])
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = torch.tensor(gradient)
        optimizer.step()
    for i, decay in enumerate((0.4, 0.0)):
        theta, momentum = reference(start[i], [step[i] for step in gradients], decay)
        np.testing.assert_allclose(parameters[i].detach().numpy(), theta, rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            optimizer.state[parameters[i]]["exp_avg"].numpy(), momentum, rtol=0, atol=1e-12
        )


def test_parameters_without_a_gradient_stay() -> None:
    still, moving = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    moving.grad = torch.ones(2)
    optimizer = CONFIG.build([{"params": [still, moving]}])
    optimizer.step()
    assert torch.equal(still, torch.ones(2))
    assert still not in optimizer.state
    assert (moving < 1).all()


def test_state_goes_through_a_checkpoint() -> None:
    """Ten steps, saved and loaded into a new optimizer, then ten more: the formula's twenty."""
    start, gradients = draws()
    parameter = torch.nn.Parameter(torch.tensor(start[0]))
    optimizer = CONFIG.build([{"params": [parameter]}])
    for number, step in enumerate(gradients):
        if number == STEPS // 2:
            saved = optimizer.state_dict()
            optimizer = LionConfig(lr=1.0).build([{"params": [parameter]}])
            optimizer.load_state_dict(saved)
        parameter.grad = torch.tensor(step[0])
        optimizer.step()
    theta, _ = reference(start[0], [step[0] for step in gradients], 0.4)
    np.testing.assert_allclose(parameter.detach().numpy(), theta, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_state_is_kept_in_the_dtype_of_the_parameter(dtype: torch.dtype) -> None:
    parameter = torch.nn.Parameter(torch.ones(3, dtype=dtype))
    parameter.grad = torch.tensor([1.0, -1.0, 0.0], dtype=dtype)
    optimizer = LionConfig(lr=0.125, weight_decay=0.5).build([{"params": [parameter]}])
    optimizer.step()
    assert optimizer.state[parameter]["exp_avg"].dtype == parameter.dtype == dtype
    exact = torch.tensor([1 - 0.0625 - 0.125, 1 - 0.0625 + 0.125, 1 - 0.0625])
    assert torch.equal(parameter.detach().float(), exact)  # all are powers of two apart: exact in bfloat16


def test_a_closure_is_called_with_gradients_on() -> None:
    parameter = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = LionConfig(lr=0.5, weight_decay=0.0).build([{"params": [parameter]}])

    def closure() -> torch.Tensor:
        loss = (parameter**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4.0
    assert parameter.item() == 1.5


ON_TWO_RANKS = """
import sys
import numpy as np, torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from test_lion import CONFIG, draws

rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))
start, gradients = draws()
places = [Shard(0)], [Replicate()]
parameters = [torch.nn.Parameter(distribute_tensor(torch.tensor(p), mesh, q)) for p, q in zip(start, places)]
optimizer = CONFIG.build([{"params": parameters}])
for step in gradients:
    for parameter, gradient, place in zip(parameters, step, places):
        parameter.grad = distribute_tensor(torch.tensor(gradient), mesh, place)
    optimizer.step()
momenta = [optimizer.state[p]["exp_avg"] for p in parameters]
assert all(isinstance(m, DTensor) and m.placements == p.placements for m, p in zip(momenta, parameters))
whole = [tensor.detach().full_tensor().numpy() for tensor in (*parameters, *momenta)]
if rank == 0:
    np.savez(out, *whole)
dist.destroy_process_group()
"""


def test_a_sharded_parameter_is_updated_where_it_lies(tmp_path: Path) -> None:
    """Two ranks, a matrix in halves and a vector on both: the formula on the whole."""
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    store, out = str(tmp_path / "store"), str(tmp_path / "out.npz")
    command = [sys.executable, "-c", ON_TWO_RANKS]
    ranks = [
        subprocess.Popen([*command, str(rank), store, out], env=env, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [rank.communicate(timeout=120)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(errors)
    start, gradients = draws()
    found = list(np.load(out).values())
    for i in range(2):
        theta, momentum = reference(start[i], [step[i] for step in gradients], 0.4)
        np.testing.assert_allclose(found[i], theta, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found[i + 2], momentum, rtol=0, atol=1e-12)
