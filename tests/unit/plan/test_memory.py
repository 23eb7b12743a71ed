"""What a rank is expected to need: exact where tensors are counted, near where formulas estimate."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from communication import pretended_world, tiny_config
from torch import Tensor
from torch.distributed.tensor import DTensor

from isoflop.config.schema import RunConfig, optimizers
from isoflop.data.loader import Batch
from isoflop.plan.memory import (
    activation_bytes,
    block_bytes_per_token,
    expected_memory,
    microbatches_in_flight,
    optimizer_bytes,
    rank_memory,
)
from isoflop.plan.shapes import held_parameters, local_shape, place

LAYOUTS: dict[str, tuple[str, ...]] = {
    "one": (),
    "one-bf16": ("precision=bf16",),
    "one-fp64": ("precision=fp64",),
    "uneven": ("parallel.data=3", "train.global_batch_tokens=384", "model.d_ff=70", "model.vocab_size=257"),
    "tensor-data": ("parallel.data=2", "parallel.tensor=2", "precision=bf16"),
    "replicas": ("parallel.data=4", "parallel.replicas=2", "parallel.shard=zero2"),
    "copies-context": ("parallel.data=2", "parallel.context=2", "parallel.shard=none"),
    "mixture": ("model=moe-debug", "parallel.data=4", "parallel.expert=2", "parallel.tensor=2"),
}
OPTIMIZERS = optimizers.names()


def engine_of(config: RunConfig, rank: int) -> Any:
    """The real engine of `rank`, after a step in a pretended world that left its gradients."""
    from isoflop.dist.mesh import build_mesh
    from isoflop.engine.native import NativeEngine

    device = torch.device("cpu")
    engine = NativeEngine(config, build_mesh(config.parallel, device), device)
    engine.optimizer.zero_grad = lambda: None
    sequences = config.train.global_batch_tokens // config.train.seq_len // config.parallel.data
    tokens = torch.randint(0, config.model.vocab_size, (sequences, config.train.seq_len))
    engine.train_step(Batch(tokens, tokens, torch.zeros_like(tokens)), 9, 1e-3, lambda loss, norm: False)
    return engine


def local_bytes(tensor: Tensor) -> int:
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).nbytes


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_gradients_and_state_are_exact(layout: str) -> None:
    """The bytes of the last rank's tensors, which has least where rows do not divide, and of the first's."""
    from communication import experts_in_equal_use

    config = tiny_config(*LAYOUTS[layout])
    for rank in {0, config.parallel.ranks - 1}:
        with pretended_world(rank, config.parallel.ranks), experts_in_equal_use():
            engine = engine_of(config, rank)
            weights = sum(local_bytes(p) for p in engine.named.values())
            gradients = sum(local_bytes(p.grad) for p in engine.named.values())
            state = engine.state()["optimizer"]
            held = sum(local_bytes(tensor) for entry in state.values() for tensor in entry.values())
        expected = rank_memory(config, rank)
        assert (expected.parameters, expected.gradients, expected.optimizer) == (weights, gradients, held)


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, "sgd-plain"])
def test_every_optimizers_state_is_exact(optimizer: str) -> None:
    """Each optimizer that can be chosen, for every kind of parameter."""
    more = ("optimizer.momentum=0",) if optimizer == "sgd-plain" else ()
    config = tiny_config(f"optimizer={optimizer.partition('-')[0]}", "model.tied=false", *more)
    with pretended_world(0, 1):
        state = engine_of(config, 0).state()["optimizer"]
    (held,) = held_parameters(config, 0)
    at = place(config.parallel, 0)
    for parameter in held:
        found = sum(tensor.nbytes for tensor in state.get(parameter.name, {}).values())
        assert optimizer_bytes(config, parameter, local_shape(parameter, config, at)) == found, parameter.name


def saved_bytes(run: Callable[[], Any], but: set[int]) -> int:
    """Memory that `run` keeps for its backward pass, each storage once, without those in `but`."""
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in but:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = run()
    del out
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("model.activation=gelu",),
        ("model.document_mask=false", "model.d_ff=200"),
        ("model.n_kv_heads=4", "train.seq_len=64", "precision=fp64"),
        ("parallel.recompute=full",),
        ("parallel.loss_chunk_tokens=8", "model.vocab_size=2048"),
        ("model.vocab_size=2048",),
    ],
    ids=lambda overrides: " ".join(overrides) or "plain",
)
def test_activations_are_near(overrides: tuple[str, ...]) -> None:
    """Within a tenth of what a forward pass of one microbatch really keeps."""
    from isoflop.model.decoder import Decoder
    from isoflop.parallel.recompute import recompute

    config = tiny_config(*overrides)
    model = Decoder(config.model).to(getattr(torch, config.precision.params))
    model.loss_chunk_tokens = config.parallel.loss_chunk_tokens
    recompute(model, config.parallel)
    shape = (config.train.microbatch_sequences, config.train.seq_len)
    tokens = torch.randint(0, config.model.vocab_size, shape)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    real = saved_bytes(lambda: model(tokens, torch.zeros_like(tokens), tokens), weights)
    assert forgotten(config) + real == pytest.approx(activation_bytes(config, 0), rel=0.1)


def forgotten(config: RunConfig) -> float:
    """What is in the estimate for what is made again one at a time, which no forward pass keeps."""
    from isoflop.plan.memory import _recomputed_bytes_per_token

    tokens = config.train.microbatch_sequences * config.train.seq_len
    return tokens * _recomputed_bytes_per_token(config, [0])


@pytest.mark.parametrize("degree", [2, 4])
@pytest.mark.parametrize(
    ("schedule", "stages"),
    [("interleaved", 2), ("interleaved", 3), ("interleaved_zb", 2), ("zbv", 2), ("dualpipev", 2)],
)
def test_microbatches_in_flight(schedule: str, stages: int, degree: int) -> None:
    """As many as torch's own table of the schedule begins, at most, before it ends them."""
    from isoflop.dist.mesh import build_mesh
    from isoflop.engine.native import NativeEngine

    config = tiny_config(
        f"parallel.pipeline={degree}",
        f"parallel.pipeline_schedule={schedule}",
        f"parallel.stages_per_rank={stages}",
        f"model.n_layers={degree * stages}",
        "train.microbatch_sequences=1",
    )
    with pretended_world(0, degree):
        engine = NativeEngine(config, build_mesh(config.parallel, torch.device("cpu")), torch.device("cpu"))
        table = engine.runner.schedule.pipeline_order  # type: ignore[attr-defined]
    for rank in range(degree):
        live = most = 0
        for entry in table[rank]:
            for action in () if entry is None else entry.sub_actions or (entry,):
                kind = action.computation_type.name
                live += (kind == "FORWARD") - (kind in ("FULL_BACKWARD", "BACKWARD_WEIGHT"))
                most = max(most, live)
        assert microbatches_in_flight(config, rank) == most


def test_microbatches_in_flight_with_one_stage_a_rank() -> None:
    """gpipe begins them all; 1f1b as many as there are stages from here on (Narayanan et al. 2021, §2.2)."""
    four = ("parallel.pipeline=4", "train.microbatch_sequences=2")
    gpipe, one = tiny_config(*four, "parallel.pipeline_schedule=gpipe"), tiny_config(*four)
    assert [microbatches_in_flight(gpipe, rank) for rank in range(4)] == [8, 8, 8, 8]
    assert [microbatches_in_flight(one, rank) for rank in range(4)] == [4, 3, 2, 1]


def test_selective_recompute_keeps_inputs_and_products() -> None:
    """A block's input, and what its products and its attention give, as an eager pass makes them."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from isoflop.model.decoder import Decoder
    from isoflop.parallel.recompute import KEPT

    class Products(TorchDispatchMode):
        total = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if func in KEPT:
                self.total += sum(x.nbytes for x in (out if isinstance(out, tuple) else (out,)))
            return out

    def products(layers: int) -> int:
        config = tiny_config(f"model.n_layers={layers}", "model.d_ff=200")
        tokens = torch.zeros(4, 32, dtype=torch.long)
        with Products() as mode:
            Decoder(config.model)(tokens, tokens, tokens)
        return mode.total

    config = tiny_config("parallel.recompute=selective", "model.d_ff=200")
    inputs = 4 * config.model.width
    one_block = (products(3) - products(2)) / (4 * 32)
    assert block_bytes_per_token(config, 0) == pytest.approx(inputs + one_block, rel=0.05)


def test_the_fullest_rank_is_found() -> None:
    """In 1F1B the first stage holds most microbatches; with a large head the last has more weights."""
    pipeline = ("parallel.pipeline=2", "train.microbatch_sequences=1")
    assert expected_memory(tiny_config(*pipeline))[0] == 0
    rank, memory = expected_memory(tiny_config(*pipeline, "model.vocab_size=65536", "model.tied=false"))
    assert rank == 1
    assert memory.total == sum(
        (memory.parameters, memory.gradients, memory.optimizer, memory.gathered, memory.activations)
    )


def test_gathered_weights_shrink_with_zero3() -> None:
    """zero2 keeps all weights whole, zero3 two blocks; without a data axis nothing is gathered."""
    gathered = {
        shard: rank_memory(tiny_config("parallel.data=2", f"parallel.shard={shard}", "model.n_layers=8"), 0)
        for shard in ("none", "zero2", "zero3")
    }
    assert gathered["zero3"].gathered < gathered["zero2"].gathered
    assert gathered["none"].gathered == 0
    assert gathered["zero3"].parameters == gathered["zero2"].parameters < gathered["none"].parameters
