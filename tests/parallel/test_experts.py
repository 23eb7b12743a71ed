"""A mixture of experts is the same run in every layout, and sends what the formula says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from experiments import Case, Curve, relative_difference, run_cases, tiny
from helpers import random_documents, write_dataset
from torch.utils._python_dispatch import TorchDispatchMode

from isoflop.data.loader import build_batches
from isoflop.dist.env import Ranks
from isoflop.dist.mesh import build_mesh, process_group
from isoflop.dist.spawn import spawn_ranks
from isoflop.engine.capabilities import refusals
from isoflop.engine.native import NativeEngine
from isoflop.parallel.expert import AllToAll, all_to_all_bytes

FP64 = "precision=fp64"
TOLERANCE = 1e-9
MOE = (
    "model.n_layers=3",
    "model.moe={n_experts:8,top_k:2,d_ff:24,n_shared_experts:1,n_dense_layers:1,load_balancing:0.1,"
    "router_z_loss:0.01}",
)
TENSOR, PIPELINE, CONTEXT = "parallel.tensor=2", "parallel.pipeline=2", "parallel.context=2"


def experts(degree: int, data: int | None = None) -> tuple[str, ...]:
    return (f"parallel.expert={degree}", f"parallel.data={data or degree}")


LAYOUTS: dict[str, tuple[str, ...]] = {  # tests/parallel/matrix.py has the products with every axis
    "tensor-selective": (TENSOR, "parallel.recompute=selective"),
    "expert-4": experts(4),
    "expert-2-copies": (*experts(2, 4), "parallel.shard=none"),
    "expert-2-of-context": ("parallel.expert=2", CONTEXT),
    "expert-context-tensor": (*experts(4, 2), CONTEXT, TENSOR),
    "expert-recompute": (*experts(2), "parallel.recompute=full"),
}
MODELS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "gelu-untied": (
        (
            "model.activation=gelu",
            "model.tied=false",
            "model.moe={n_experts:4,top_k:1,every:2,normalize_top_k:false,load_balancing:0.1}",
        ),
        (*experts(2), TENSOR, PIPELINE),
    ),
    "few-for-many-ranks": (  # two experts on four ranks: their features are sharded
        ("model.moe={n_experts:4,top_k:2,load_balancing:0.1}",),
        (*experts(2, 8), "train.microbatch_sequences=2"),
    ),
}
BIASED = (MOE[0], MOE[1].replace("}", ",bias_rate:0.01}"))
RESHARDED: dict[str, tuple[tuple[str, ...], ...]] = {
    "2-to-1-to-4": (experts(2), experts(1), experts(4)),
}


def cases() -> list[Case]:
    rows = [Case("one", (FP64, *MOE))]
    rows += [Case(name, (FP64, *MOE, *layout)) for name, layout in LAYOUTS.items()]
    rows += [Case("unweighted", (FP64, *(word.replace("0.1", "0.0") for word in MOE)))]
    for name, (model, layout) in MODELS.items():
        rows += [Case(f"{name}-one", (FP64, *model)), Case(f"{name}-spread", (FP64, *model, *layout))]
    rows += [
        Case("biased-one", (FP64, *BIASED)),
        Case(
            "biased-cube",
            (FP64, *BIASED, *experts(2), PIPELINE, TENSOR),
            {5: (*experts(4), "parallel.tensor=1", "parallel.pipeline=1")},
        ),
    ]
    for name, (first, *later) in RESHARDED.items():
        stops = (3, 6)[: len(later)]
        rows.append(Case(f"reshard-{name}", (FP64, *MOE, *first), dict(zip(stops, later, strict=True))))
    return rows


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Curve | str]:
    folder: Path = tmp_path_factory.mktemp("experts")
    data = write_dataset(folder / "data", random_documents(300, seed=1))
    return run_cases(cases(), 8, folder / "results", data)


def assert_same_run(curves: dict[str, Curve | str], name: str, reference: str) -> None:
    spread, alone = curves[name], curves[reference]
    assert isinstance(alone, Curve), alone
    assert isinstance(spread, Curve), spread
    assert len(spread.loss) == 10
    assert relative_difference(spread.loss, alone.loss) < TOLERANCE
    assert relative_difference(spread.grad_norm, alone.grad_norm) < TOLERANCE
    assert spread.flops == alone.flops


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_mixture_is_the_same_run(curves: dict[str, Curve | str], layout: str) -> None:
    """Ten optimizer steps in `layout`, auxiliary losses and all, are the one-process run's in float64."""
    assert_same_run(curves, layout, "one")


@pytest.mark.parametrize("model", MODELS)
def test_other_mixtures_are_the_same_run(curves: dict[str, Curve | str], model: str) -> None:
    """Other kinds of mixtures, on eight ranks."""
    assert_same_run(curves, f"{model}-spread", f"{model}-one")


@pytest.mark.parametrize("change", RESHARDED)
def test_experts_move_at_a_checkpoint(curves: dict[str, Curve | str], change: str) -> None:
    """A run that goes on with its experts on other ranks is the run that never stopped."""
    assert_same_run(curves, f"reshard-{change}", "one")


def test_biases_of_the_choice_move_alike(curves: dict[str, Curve | str]) -> None:
    """The loads of all ranks and microbatches move the biases, which a checkpoint keeps."""
    assert_same_run(curves, "biased-cube", "biased-one")
    biased, free = curves["biased-one"], curves["one"]
    assert isinstance(biased, Curve)
    assert isinstance(free, Curve)
    assert biased.loss[0] == free.loss[0]
    assert abs(biased.loss[-1] - free.loss[-1]) > 1e-6


def test_the_auxiliary_losses_take_part(curves: dict[str, Curve | str]) -> None:
    """Without load balancing it is another run; the first loss, which does not count them, is the same."""
    balanced, free = curves["one"], curves["unweighted"]
    assert isinstance(balanced, Curve)
    assert isinstance(free, Curve)
    assert balanced.loss[0] == free.loss[0]
    assert abs(balanced.grad_norm[0] - free.grad_norm[0]) > 1e-6
    assert abs(balanced.loss[-1] - free.loss[-1]) > 1e-6


def test_what_fails_is_refused() -> None:
    """torch's selective checkpoint raises over the hooks that gather experts inside a block."""
    config = tiny(Path("nowhere"), *MOE, *experts(2), "parallel.recompute=selective")
    assert [refusal.key for refusal in refusals(config)] == ["parallel.recompute"]


class _Sent(TorchDispatchMode):
    """Bytes of rows that this rank gives to all-to-alls, whole and to others; autograd is below."""

    def __init__(self) -> None:
        super().__init__()
        self.whole, self.elsewhere = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops._c10d_functional.all_to_all_single.default:
            rows, _, splits, _ = args
            mine = splits[dist.get_rank() % len(splits)]  # the axes inside the expert axis have size 1 here
            row_bytes = rows.shape[1] * rows.element_size()
            self.whole += sum(splits) * row_bytes
            self.elsewhere += (sum(splits) - mine) * row_bytes
        return func(*args, **(kwargs or {}))


def _measure(rank: int, n_ranks: int, folder: Path, data: Path, recompute: str) -> int:
    """A step of training on ranks that share the experts; then a balanced exchange by itself."""
    torch.set_num_threads(1)
    config = tiny(data, FP64, *MOE, *experts(2, 4), f"parallel.recompute={recompute}")
    device = torch.device("cpu")
    store = dist.FileStore(str(folder / "store"), n_ranks)
    with process_group(Ranks(rank, n_ranks), device, config.cluster, store):
        engine = NativeEngine(config, build_mesh(config.parallel, device), device)
        batches = build_batches(config.data, config.train, config.seed)
        batch = batches.step(0, engine.data_rank, config.parallel.data)
        with _Sent() as step:
            engine.train_step(batch, batches.n_targets(0), 1e-3, lambda loss, grad_norm: True)
        exchange = AllToAll(dist.group.WORLD)
        with _Sent() as balanced:
            rows, here, back = exchange(torch.randn(24, 32), torch.full((8,), 3))
            back(rows)
        assert here.tolist() == [3 * n_ranks] * 2
    sent = [step.whole, step.elsewhere, balanced.whole, balanced.elsewhere]
    (folder / f"sent-{rank}").write_text(json.dumps(sent))
    return 0


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_what_is_sent_is_what_the_formula_says(tmp_path: Path, recompute: str) -> None:
    """All ranks together, in one step of training; and of a balanced exchange over 4 ranks three quarters."""
    data = write_dataset(tmp_path / "data", random_documents(100, seed=1))
    arguments = (tmp_path, data, recompute)
    codes = spawn_ranks(_measure, arguments, 4, tmp_path, 1, "isoflop.engine.worker")
    assert set(codes.values()) == {0}, codes
    sent = [json.loads((tmp_path / f"sent-{rank}").read_text()) for rank in range(4)]
    whole, elsewhere, balanced, balanced_elsewhere = map(sum, zip(*sent, strict=True))
    config = tiny(data, *MOE)
    assert whole == all_to_all_bytes(config.model, 512, 8, recomputed=recompute == "full")
    assert 0 < elsewhere < whole
    assert balanced == 4 * 2 * 24 * 32 * 4  # ranks × both ways × rows × width × bytes
    assert balanced_elsewhere == balanced * 3 // 4
