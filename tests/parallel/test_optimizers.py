"""Optimizers under sharding: the update is that of the whole matrix, in every layout, from any checkpoint."""

import json
from pathlib import Path

import pytest
import sharded_updates
from experiments import Case, Curve, relative_difference, run_cases
from helpers import random_documents, write_dataset

from isoflop.dist.spawn import spawn_ranks

FP64 = "precision=fp64"
ONE = ("parallel.data=1", "parallel.tensor=1", "parallel.pipeline=1")
CUBE = ("parallel.data=2", "parallel.tensor=2", "parallel.pipeline=2")
WIDER = ("model.base_width=16", "model.base_depth=2", "model.base_d_head=4")
OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "sgd": ("optimizer=sgd", "optimizer.nesterov=true", "optimizer.weight_decay=0.1"),
    "muon": ("optimizer=muon", "model.tied=false"),
    "adam_mini": ("optimizer=adam_mini", "optimizer.decay=all"),
    "completep": ("model.parametrization=completep", *WIDER, "model.qk_norm=true", "model.init=small"),
}
RESHARDED: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "muon-one-to-cube": ("muon", ONE, CUBE),
    "adam_mini-cube-to-one": ("adam_mini", CUBE, ONE),
}


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Curve | str]:
    """All cases, in eight processes that are started once."""
    cases = [Case(f"{name}-one", (FP64, *words)) for name, words in OPTIMIZERS.items()]
    cases += [Case(f"{name}-cube", (FP64, *words, *CUBE)) for name, words in OPTIMIZERS.items()]
    cases += [
        Case(name, (FP64, *OPTIMIZERS[optimizer], *before), {5: after})
        for name, (optimizer, before, after) in RESHARDED.items()
    ]
    folder: Path = tmp_path_factory.mktemp("optimizers")
    data = write_dataset(folder / "data", random_documents(300, seed=1))
    return run_cases(cases, 8, folder / "results", data)


def assert_same_run(curves: dict[str, Curve | str], name: str, reference: str) -> None:
    spread, alone = curves[name], curves[reference]
    assert isinstance(alone, Curve), alone
    assert isinstance(spread, Curve), spread
    assert len(spread.loss) == 10
    assert relative_difference(spread.loss, alone.loss) < 1e-9
    assert relative_difference(spread.grad_norm, alone.grad_norm) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_3d_is_the_same_run(curves: dict[str, Curve | str], name: str) -> None:
    """Ten steps of data × tensor × pipeline are the one-process run's, in float64."""
    assert_same_run(curves, f"{name}-cube", f"{name}-one")


@pytest.mark.slow
@pytest.mark.parametrize("name", RESHARDED)
def test_state_goes_to_another_layout(curves: dict[str, Curve | str], name: str) -> None:
    """Five steps in one layout, a checkpoint, five in another."""
    assert_same_run(curves, name, f"{RESHARDED[name][0]}-one")


@pytest.mark.slow
def test_optimizers_differ(curves: dict[str, Curve | str]) -> None:
    """As they would not if the choice were not read; and each of them learns."""
    found = [curve for name in OPTIMIZERS if isinstance(curve := curves[f"{name}-one"], Curve)]
    assert len({tuple(curve.loss) for curve in found}) == len(OPTIMIZERS)
    assert all(curve.loss[-1] < curve.loss[0] for curve in found)


@pytest.fixture(scope="module")
def updates(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[float] | str]]:
    """What each of four ranks found of every row of `sharded_updates`."""
    folder: Path = tmp_path_factory.mktemp("updates")
    codes = spawn_ranks(
        sharded_updates.run, (folder,), sharded_updates.RANKS, folder, 1, "isoflop.engine.worker"
    )
    assert set(codes.values()) == {0}, codes
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(sharded_updates.RANKS)]


@pytest.mark.parametrize("optimizer", sharded_updates.OPTIMIZERS)
def test_an_update_in_shards_is_that_of_the_whole(
    updates: list[dict[str, list[float] | str]], optimizer: str
) -> None:
    """Weights and state after four steps, whatever is cut where on a 2 × 2 mesh, evenly or not."""
    wanted = [" ".join(row) for row in sharded_updates.rows() if row[0] == optimizer]
    assert len(wanted) > 30
    for rank, found in enumerate(updates):
        for row in wanted:
            gaps = found.get(row, "was not reached")
            assert not isinstance(gaps, str), f"rank {rank}: {row}: {gaps}"
            assert max(gaps) < 1e-12, f"rank {rank}: {row}: {gaps}"
