"""Tiny experiments, run in ranks that are started once for many of them."""

import gc
import json
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from isoflop.config.compose import compose
from isoflop.config.load import load_run
from isoflop.config.schema import RunConfig
from isoflop.dist.spawn import spawn_ranks

TINY = (
    "model.n_layers=4",
    "model.width=32",
    "model.n_heads=4",
    "model.n_kv_heads=2",
    "model.d_ff=64",
    "model.vocab_size=256",
    "train.seq_len=32",
    "train.global_batch_tokens=512",
    "train.microbatch_sequences=4",
    "train.clip_grad_norm=0.2",  # below what is seen, so that clipping takes part
    "monitor.wandb=off",
    "monitor.terminal=off",
)


@dataclass(frozen=True)
class Case:
    """An experiment: its overrides, and after which steps it goes on in which other layout."""

    name: str
    overrides: tuple[str, ...] = ()
    then: dict[int, tuple[str, ...]] = field(default_factory=dict)
    steps: int = 10


@dataclass(frozen=True)
class Curve:
    """What a case gave, step by step."""

    loss: list[float]
    grad_norm: list[float]
    flops: list[float]


def tiny(data: Path, *overrides: str) -> RunConfig:
    """The tiny experiment on the dataset in `data`, changed by `overrides`."""
    return load_run(compose("train", [*TINY, f"data.path={data}", *overrides]))


def run_cases(cases: Sequence[Case], n_ranks: int, folder: Path, data: Path) -> dict[str, Curve | str]:
    """Every case in its own layout, in the same `n_ranks` processes; a string is a traceback."""
    folder.mkdir(parents=True, exist_ok=True)
    codes = spawn_ranks(_rank, (list(cases), folder, data), n_ranks, folder, 1, "isoflop.engine.worker")
    assert set(codes.values()) == {0}, codes
    results: dict[str, Curve | str] = {}
    for case in cases:
        failed = sorted(folder.glob(f"{case.name}.failed-*"))
        curve = folder / f"{case.name}.json"
        results[case.name] = failed[0].read_text() if failed else Curve(**json.loads(curve.read_text()))
    return results


def _rank(rank: int, n_ranks: int, cases: list[Case], folder: Path, data: Path) -> int:
    import torch

    torch.set_num_threads(1)
    for case in cases:
        try:
            curve = _train(case, rank, folder, data)
        except Exception:
            (folder / f"{case.name}.failed-{rank}").write_text(traceback.format_exc())
            if torch.distributed.is_initialized():  # else every case after it would fail too
                torch.distributed.destroy_process_group()
            continue
        if rank == 0:
            (folder / f"{case.name}.json").write_text(json.dumps(asdict(curve)))
        gc.collect()  # groups keep their threads and sockets until the last mesh that knows them is gone
    return 0


def _train(case: Case, rank: int, folder: Path, data: Path) -> Curve:
    curve = Curve([], [], [])
    starts = [0, *case.then]
    for start, stop in zip(starts, [*case.then, case.steps], strict=True):
        config = tiny(data, *case.overrides, *case.then.get(start, ()))
        if rank < config.parallel.ranks:
            _train_part(config, curve, rank, start, stop, folder / case.name)
        elif stop != case.steps:
            _wait_for(folder / case.name / f"step-{stop:08d}" / "COMPLETE")
    return curve


def _train_part(config: RunConfig, curve: Curve, rank: int, start: int, stop: int, folder: Path) -> None:
    import torch
    import torch.distributed as dist

    from isoflop.checkpoint.load import load
    from isoflop.checkpoint.marker import Progress, step_folder
    from isoflop.checkpoint.save import save
    from isoflop.data.loader import build_batches
    from isoflop.dist.env import Ranks
    from isoflop.dist.mesh import build_mesh, process_group
    from isoflop.engine.native import NativeEngine

    folder.mkdir(exist_ok=True)
    ranks = Ranks(rank, config.parallel.ranks)
    store = dist.FileStore(str(folder / f"store-{start}"), ranks.world_size)
    device = torch.device("cpu")
    with process_group(ranks, device, config.cluster, store):
        engine = NativeEngine(config, build_mesh(config.parallel, device), device)
        batches = build_batches(config.data, config.train, config.seed)
        if start:
            assert load(engine.state(), step_folder(folder, start)).step == start
        for step in range(start, stop):
            batch = batches.step(step, engine.data_rank, config.parallel.data)
            result = engine.train_step(
                batch, batches.n_targets(step), config.optimizer.lr, lambda loss, grad_norm: True
            )
            for name in ("loss", "grad_norm", "flops"):
                getattr(curve, name).append(getattr(result, name))
        save(engine.state(), Progress(stop), folder, keep=9)


def _wait_for(file: Path) -> None:
    import time

    while not file.exists():
        time.sleep(0.05)


def relative_difference(a: list[float], b: list[float]) -> float:
    """The largest |a - b| / |b| over the steps."""
    assert len(a) == len(b)
    return max(abs(x - y) / abs(y) for x, y in zip(a, b, strict=True))
