"""What the engine refuses is refused with its reason and with what works, and that is then accepted."""

from pathlib import Path

import pytest
from experiments import tiny

from isoflop.config.base import ConfigError
from isoflop.config.schema import SPLIT_BACKWARD
from isoflop.engine.capabilities import refusals
from isoflop.engine.launch import preflight

PIPELINE = ("parallel.pipeline=2", "parallel.stages_per_rank=2", "train.microbatch_sequences=1")
MOE = ("model=moe-debug", "model.n_layers=4", "parallel.data=2", "parallel.expert=2")
REFUSED: dict[str, tuple[tuple[str, ...], str, str]] = {
    **{
        f"{schedule}-zero3": (
            (*PIPELINE, f"parallel.pipeline_schedule={schedule}", "parallel.data=2"),
            "parallel.shard=zero3",
            "parallel.shard=zero2",
        )
        for schedule in SPLIT_BACKWARD
    },
    "context-zero3": (
        (*PIPELINE, "parallel.pipeline_schedule=zbv", "parallel.context=2"),
        "parallel.shard=zero3",
        "parallel.shard=zero2",
    ),
    "selective": (
        (*PIPELINE, "parallel.pipeline_schedule=zbv", "parallel.recompute=selective"),
        "parallel.recompute=selective",
        "parallel.recompute=full",
    ),
    "selective-experts": (
        (*MOE, "parallel.recompute=selective"),
        "parallel.recompute=selective",
        "parallel.recompute=full",
    ),
    "compile-split": (
        (*PIPELINE, "parallel.pipeline_schedule=zbv", "parallel.compile=true"),
        "parallel.compile=true",
        "parallel.compile=false",
    ),
    "compile-tensor": (
        ("parallel.tensor=2", "parallel.compile=true"),
        "parallel.compile=true",
        "parallel.compile=false",
    ),
    "compile-experts": (
        ("model=moe-debug", "model.n_layers=4", "parallel.compile=true"),
        "parallel.compile=true",
        "parallel.compile=false",
    ),
    "flex-context": (
        ("parallel.context=2", "model.attention=flex"),
        "model.attention=flex",
        "model.attention=auto",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_names_the_key_and_what_works(case: str) -> None:
    overrides, refused, instead = REFUSED[case]
    (refusal,) = refusals(tiny(Path("unread"), *overrides))
    fault = refusal.fault()
    assert fault.head == refused
    assert refusal.because
    assert instead.partition("=")[2] in refusal.instead
    assert not list(refusals(tiny(Path("unread"), *overrides, instead)))


@pytest.mark.parametrize("kernel", ["flex"])
def test_a_kernel_without_a_backward_is_refused_where_the_device_is_known(kernel: str) -> None:
    config = tiny(Path("unread"), f"model.attention={kernel}")
    assert not list(refusals(config))
    assert not list(refusals(config, "cuda"))
    (refusal,) = refusals(config, "cpu")
    assert str(refusal.fault()) == f"model.attention={kernel}  has no backward on cpu; auto or sdpa does"


def test_compiling_needs_a_compiler_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(Path("unread"), "parallel.compile=true")
    monkeypatch.setattr("isoflop.engine.capabilities.which", lambda name: "/usr/bin/c++")
    assert not list(refusals(config, "cpu"))
    monkeypatch.setattr("isoflop.engine.capabilities.which", lambda name: None)
    (refusal,) = refusals(config, "cpu")
    assert "apt install g++" in str(refusal.fault())
    assert not list(refusals(config, "cuda"))


def test_refusals_are_told_before_any_process_starts(tmp_path: Path) -> None:
    """Together with the other faults."""
    from helpers import random_documents, write_dataset

    data = write_dataset(tmp_path / "data", random_documents(300, seed=1))
    config = tiny(data, *REFUSED["zbv-zero3"][0], "model.attention=flex", "engine.device=cpu")
    with pytest.raises(ConfigError) as error:
        preflight(config, None)
    assert {fault.key for fault in error.value.faults} == {"parallel.shard", "model.attention"}
