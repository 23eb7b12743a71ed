"""The engine gives each group its share of the learning rate."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from experiments import tiny
from helpers import random_documents, write_dataset

from isoflop.data.loader import build_batches
from isoflop.dist.env import Ranks
from isoflop.dist.mesh import build_mesh, process_group
from isoflop.engine.native import NativeEngine

CPU = torch.device("cpu")


def test_the_first_step_moves_each_weight_by_its_own_rate(tmp_path: Path) -> None:
    """Adam's first step is its rate in every coordinate with a gradient: a quarter of it in the blocks of a
    model four times as wide as its base."""
    data = write_dataset(tmp_path / "data", random_documents(60, seed=1))
    scaled = ["model.parametrization=mup", "model.base_width=8", "model.base_d_head=8"]
    config = tiny(data, *scaled, "optimizer.weight_decay=0", "optimizer.eps=1e-30", "precision=fp64")
    store = dist.FileStore(str(tmp_path / "store"), 1)
    with process_group(Ranks(), CPU, config.cluster, store):
        engine = NativeEngine(config, build_mesh(config.parallel, CPU), CPU)
        before = {name: weight.detach().clone() for name, weight in engine.named.items()}
        batches = build_batches(config.data, config.train, config.seed)
        engine.train_step(batches.step(0, 0, 1), batches.n_targets(0), 1e-3, lambda loss, grad_norm: True)
        for name, weight in engine.named.items():
            moved = (weight.detach() - before[name]).abs().max().item()
            block = name.startswith("blocks.") and weight.ndim == 2
            assert moved == pytest.approx(2.5e-4 if block else 1e-3, rel=1e-6), name
