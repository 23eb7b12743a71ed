"""Optimizers on distributed tensors, against the same on whole ones: what each of four ranks runs."""

import json
import traceback
from pathlib import Path
from typing import Any

import numpy as np

RANKS = 4
STEPS = 4
SHAPES = {
    "heads": (12, 5),  # three heads of four rows: cut inside a head, and unevenly
    "matrix": (7, 10),
    "embedding": (9, 5),
    "vector": (5,),
    "experts": (3, 4, 6),
    "row": (1, 6),  # fewer rows than ranks
}
PLACES = ("00", "01", "10", "0R", "R1", "1R", "RR", "R0")
"""On the two axes of a 2 × 2 mesh: the dim that is cut, or R for a copy."""
OPTIMIZERS = ("adamw", "adam_mini", "lion", "muon", "sgd")


def rows() -> list[tuple[str, str, str]]:
    """Every optimizer with every kind of parameter in every placement that it has dims for."""
    return [
        (name, kind, places)
        for name in OPTIMIZERS
        for kind, shape in SHAPES.items()
        for places in PLACES
        if all(place == "R" or int(place) < len(shape) for place in places)
    ]


def run(rank: int, n_ranks: int, folder: Path) -> int:
    """Writes [weights, state]: the largest differences of each row of `rows`, to `folder`/<rank>.json."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    store = dist.FileStore(str(folder / "store"), n_ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=n_ranks)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    found: dict[str, Any] = {}
    for row in rows():
        try:
            found[" ".join(row)] = differences(*row, mesh)
        except Exception:
            found[" ".join(row)] = traceback.format_exc()
            break  # the other ranks may be inside a collective that this one left
    (folder / f"{rank}.json").write_text(json.dumps(found))
    return 0


def differences(name: str, kind: str, places: str, mesh: Any) -> tuple[float, float]:
    """How far weights and state of a parameter in shards are from those of a whole one, after some steps."""
    import torch
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    from isoflop.config.schema import optimizers

    draw = np.random.default_rng(0)
    shape = SHAPES[kind]
    places_of = [Replicate() if place == "R" else Shard(int(place)) for place in places]
    start, gradients = draw.normal(size=shape), draw.normal(size=(STEPS, *shape))

    def spread(whole: Any) -> Any:
        return distribute_tensor(torch.tensor(whole), mesh, places_of, src_data_rank=None)

    whole, parts = torch.nn.Parameter(torch.tensor(start)), torch.nn.Parameter(spread(start))
    config = optimizers.find(name)(lr=0.02, weight_decay=0.3)
    group = {
        "kind": kind if kind in ("heads", "embedding", "vector") else "matrix",
        "weight_decay": 0.3,
        "block_rows": 4 if kind == "heads" else 1,
    }
    alone = config.build([{"params": [whole], **group}])
    shared = config.build([{"params": [parts], **group}])
    for gradient in gradients:
        whole.grad, parts.grad = torch.tensor(gradient), spread(gradient)
        alone.step()
        shared.step()

    def gap(a: Any, b: Any) -> float:
        return (b.full_tensor() - a if isinstance(b, DTensor) else b - a).abs().max().item()

    state = {key: gap(value, shared.state[parts][key]) for key, value in alone.state[whole].items()}
    assert state.keys() == shared.state[parts].keys()
    return gap(whole.detach(), parts.detach()), max(state.values())
