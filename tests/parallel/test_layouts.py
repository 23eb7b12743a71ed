"""A layout is right when it is the same run: loss and gradient norm of every step equal one process's."""

from pathlib import Path
from shutil import which

import pytest
from experiments import Case, Curve, relative_difference, run_cases
from helpers import random_documents, write_dataset

from isoflop.engine.capabilities import COMPILERS

DATA, TENSOR, PIPELINE = "parallel.data=2", "parallel.tensor=2", "parallel.pipeline=2"
CUBE = (DATA, TENSOR, PIPELINE)
SQUARE = (TENSOR, PIPELINE)
INTERLEAVED = (PIPELINE, "parallel.stages_per_rank=2", "parallel.pipeline_schedule=interleaved")
ZBV = (
    PIPELINE,
    "parallel.stages_per_rank=2",
    "parallel.pipeline_schedule=zbv",
    "train.microbatch_sequences=2",
)
CHUNKS = "parallel.loss_chunk_tokens=10"  # of 32, so that the last is shorter
FP64, FP32, BF16 = "precision=fp64", "precision=fp32", "precision=bf16"
TOLERANCE = {FP64: 1e-9, FP32: 1e-5, BF16: 2e-3}  # bf16 has 8 bits: sums in another order differ

LAYOUTS: dict[str, tuple[str, ...]] = {  # matrix.py has the products of all axes
    "data-zero3": (DATA,),
    "tensor": (TENSOR,),
    "pipeline-interleaved": INTERLEAVED,
    "cube": CUBE,
    "data-2-other-microbatch": (DATA, "train.microbatch_sequences=2"),
    "recompute-full": (*SQUARE, "parallel.recompute=full"),
    "recompute-selective": (TENSOR, "parallel.recompute=selective"),
    "recompute-zbv": (*ZBV, "parallel.recompute=full"),
    "chunks": (*SQUARE, CHUNKS),
    "chunks-zbv": (*ZBV, CHUNKS),
}
if any(map(which, COMPILERS)):
    LAYOUTS["compile"] = (DATA, "parallel.compile=true", "parallel.recompute=full")
    LAYOUTS["compile-context"] = ("parallel.context=2", "parallel.compile=true")
MODELS: dict[str, tuple[str, ...]] = {
    "untied-layernorm-gelu-learned": (
        "model.tied=false",
        "model.norm=layernorm",
        "model.activation=gelu",
        "model.positions=learned",
        "model.max_seq_len=32",
    ),
    "qk-norm-sinusoidal": ("model.qk_norm=true", "model.positions=sinusoidal"),
    "qk-layernorm-z-loss-no-mask": (
        "model.qk_norm=true",
        "model.norm=layernorm",
        "model.z_loss=0.01",
        "model.document_mask=false",
    ),
    "lion": ("optimizer=lion", "optimizer.lr=1e-3"),
    "uneven-vocabulary": ("model.vocab_size=261", "model.z_loss=0.01", CHUNKS),
}
RESHARDED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "cube-to-one": (CUBE, ("parallel.data=1", "parallel.tensor=1", "parallel.pipeline=1")),
    "one-to-cube": ((), CUBE),
    "data-to-pipeline": ((DATA,), ("parallel.data=1", *INTERLEAVED)),
}


def cases() -> list[Case]:
    """Every layout beside the one-process run that it must equal."""
    rows = [
        Case("one-fp64", (FP64,), steps=20),
        Case("one-fp32", (FP32,), steps=20),
        Case("one-bf16", (BF16,)),
    ]
    rows += [
        Case(f"{name}-fp64", (FP64, *layout), steps=20 if name == "cube" else 10)
        for name, layout in LAYOUTS.items()
    ]
    rows += [Case("cube-fp32", (FP32, *CUBE), steps=20), Case("data-zero3-bf16", (BF16, DATA))]
    for name, model in MODELS.items():
        rows += [Case(f"{name}-one", (FP64, *model)), Case(f"{name}-square", (FP64, *model, *SQUARE))]
    rows += [Case(f"reshard-{name}", (FP64, *a), {5: b}) for name, (a, b) in RESHARDED.items()]
    return rows


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Curve | str]:
    """All cases, in eight processes that are started once."""
    folder: Path = tmp_path_factory.mktemp("layouts")
    data = write_dataset(folder / "data", random_documents(300, seed=1))
    return run_cases(cases(), 8, folder / "results", data)


def assert_same_run(
    curves: dict[str, Curve | str], name: str, reference: str, tolerance: float, steps: int = 10
) -> None:
    spread, alone = curves[name], curves[reference]
    assert isinstance(alone, Curve), alone
    assert isinstance(spread, Curve), spread
    assert len(spread.loss) >= steps
    assert min(alone.grad_norm) > 0.2, "clipping never took part"
    assert relative_difference(spread.loss, alone.loss[: len(spread.loss)]) < tolerance
    assert relative_difference(spread.grad_norm, alone.grad_norm[: len(spread.loss)]) < tolerance
    assert spread.flops == alone.flops[: len(spread.loss)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_is_the_same_run(curves: dict[str, Curve | str], layout: str) -> None:
    """Ten optimizer steps in `layout` are the one-process run's, in float64; twenty in 3D."""
    steps = 20 if layout == "cube" else 10
    assert_same_run(curves, f"{layout}-fp64", "one-fp64", TOLERANCE[FP64], steps)


def test_3d_is_the_same_run_in_float32(curves: dict[str, Curve | str]) -> None:
    """Twenty steps of data × tensor × pipeline are the one-process run's to 1e-5 in float32."""
    assert_same_run(curves, "cube-fp32", "one-fp32", TOLERANCE[FP32], steps=20)


def test_bf16_stays_near(curves: dict[str, Curve | str]) -> None:
    """In bfloat16 sharding changes the loss no more than rounding does, which changes it from float32."""
    alone, whole = curves["one-bf16"], curves["one-fp32"]
    assert isinstance(alone, Curve)
    assert isinstance(whole, Curve)
    assert_same_run(curves, "data-zero3-bf16", "one-bf16", TOLERANCE[BF16])
    assert 0 < relative_difference(alone.loss, whole.loss[:10]) < 1e-2


@pytest.mark.parametrize("model", MODELS)
def test_every_kind_of_model_is_the_same_run(curves: dict[str, Curve | str], model: str) -> None:
    """Norms, positions, tying, z-loss and optimizers survive tensor × pipeline."""
    assert_same_run(curves, f"{model}-square", f"{model}-one", TOLERANCE[FP64])


def test_models_differ(curves: dict[str, Curve | str]) -> None:
    """The kinds of model are not all the same curve, as they would be if their options were not read."""
    names = ["one-fp64", *(f"{name}-one" for name in MODELS)]
    losses = {tuple(curve.loss) for name in names if isinstance(curve := curves[name], Curve)}
    assert len(losses) == len(names)


@pytest.mark.parametrize("change", RESHARDED)
def test_layout_may_change_at_a_checkpoint(curves: dict[str, Curve | str], change: str) -> None:
    """Five steps in one layout, a checkpoint, five in another are ten steps in one process."""
    assert_same_run(curves, f"reshard-{change}", "one-fp64", TOLERANCE[FP64])
