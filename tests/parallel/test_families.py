"""The norms of OLMo 2 in every layout, and one export from whatever layout saved a checkpoint."""

from pathlib import Path

import pytest
import torch
from experiments import Case, Curve, relative_difference, run_cases, tiny
from helpers import random_documents, write_dataset

from isoflop.checkpoint.hf_export import export
from isoflop.checkpoint.source import Source

DATA, TENSOR, PIPELINE = "parallel.data=2", "parallel.tensor=2", "parallel.pipeline=2"
INTERLEAVED = (PIPELINE, "parallel.stages_per_rank=2", "parallel.pipeline_schedule=interleaved")
OLMO2 = ("model.norm_place=after", "model.qk_norm=projection", "model.tied=false")
SCALING = "model.rope_scaling={factor: 8, original_seq_len: 16}"
MODELS: dict[str, tuple[str, ...]] = {
    "olmo2": OLMO2,
    "olmo2-layernorm": (*OLMO2, "model.norm=layernorm", SCALING),
    "before": ("model.qk_norm=projection",),
}
SPREAD: dict[str, tuple[str, ...]] = {
    "tensor-4": ("parallel.tensor=4", "model.n_kv_heads=4"),
    "data-tensor": (DATA, TENSOR),
    "tensor-pipeline": (TENSOR, PIPELINE, "parallel.recompute=full"),
}
PAIRS = [
    ("olmo2", "tensor-4"),
    ("olmo2-layernorm", "data-tensor"),
    ("before", "tensor-pipeline"),
]
SAVED: dict[str, tuple[str, ...]] = {
    "alone": (),
    "zero3": ("parallel.data=4",),
    "data-tensor": (DATA, TENSOR),
    "tensor-pipeline": (TENSOR, PIPELINE),
    "data-interleaved": (DATA, *INTERLEAVED),
    "experts": ("parallel.data=4", "parallel.expert=2"),
}
EXPORTED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # the model, and who saves it
    "llama": ((), ("alone", "zero3", "tensor-pipeline", "data-interleaved")),
    "olmo2": (OLMO2, ("alone", "data-tensor")),
    "mixtral": (
        ("model.moe={n_experts: 4, top_k: 2}", "model.tied=false"),
        ("alone", "data-tensor", "experts"),
    ),
}
FP64 = "precision=fp64"


def cases() -> list[Case]:
    rows = []
    for model, layout in PAIRS:
        rows.append(Case(f"{model}-{layout}", (FP64, *MODELS[model], *SPREAD[layout]), steps=5))
    rows += [Case(f"{model}-one", (FP64, *words), steps=5) for model, words in MODELS.items()]
    rows.append(Case("olmo2-one-4", (FP64, *OLMO2, "model.n_kv_heads=4"), steps=5))
    return rows


def saving(model: str) -> list[Case]:
    words, layouts = EXPORTED[model]
    return [Case(f"saved-{model}-{layout}", (*words, *SAVED[layout]), steps=0) for layout in layouts]


def ran(folder: Path, rows: list[Case]) -> tuple[Path, dict[str, Curve | str]]:
    """The cases, in four processes that are started once."""
    data = write_dataset(folder / "data", random_documents(300, seed=1))
    return folder, run_cases(rows, 4, folder / "results", data)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Curve | str]]:
    return ran(tmp_path_factory.mktemp("families"), cases())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Curve | str]]:
    return ran(tmp_path_factory.mktemp("saved"), [case for model in EXPORTED for case in saving(model)])


@pytest.mark.slow
@pytest.mark.parametrize(("model", "layout"), PAIRS)
def test_a_norm_over_the_projection_is_the_same_run(
    results: tuple[Path, dict[str, Curve | str]], model: str, layout: str
) -> None:
    """Five optimizer steps with features split over ranks are the one-process run's, in float64."""
    spread = results[1][f"{model}-{layout}"]
    alone = results[1][f"{model}-one-4" if layout == "tensor-4" else f"{model}-one"]
    assert isinstance(alone, Curve), alone
    assert isinstance(spread, Curve), spread
    assert relative_difference(spread.loss, alone.loss) < 1e-9
    assert relative_difference(spread.grad_norm, alone.grad_norm) < 1e-9


@pytest.mark.parametrize("model", EXPORTED)
def test_every_layout_exports_the_same_bytes(
    saved: tuple[Path, dict[str, Curve | str]], tmp_path: Path, model: str
) -> None:
    """The first weights, which are the same in every layout, saved by one to four ranks."""
    folder, curves = saved
    written = {}
    for case in saving(model):
        assert isinstance(curves[case.name], Curve), curves[case.name]
        config = tiny(folder / "data", *case.overrides)
        checkpoint = folder / "results" / case.name / "step-00000000"
        assert len(list(checkpoint.glob("*.distcp"))) == config.parallel.ranks
        source = Source(config.model, checkpoint, config.train.seq_len, None, 0)
        export(source, tmp_path / case.name, torch.float32, 100_000)
        written[case.name] = {path.name: path.read_bytes() for path in (tmp_path / case.name).iterdir()}
    first, *others = written.values()
    assert len(first) > 3
    assert len(others) >= 1
    assert all(other == first for other in others)
