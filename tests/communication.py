"""What a rank really sends: every collective that torch is asked for during one training step."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

KINDS = {
    "allgather_": "all_gather",
    "_allgather_base_": "all_gather",
    "all_gather_into_tensor": "all_gather",
    "_reduce_scatter_base_": "reduce_scatter",
    "reduce_scatter_tensor": "reduce_scatter",
    "reduce_scatter_": "reduce_scatter",
    "allreduce_": "all_reduce",
    "all_reduce": "all_reduce",
    "alltoall_base_": "all_to_all",
    "all_to_all_single": "all_to_all",
    "broadcast_": "broadcast",
    "send": "send",
    "recv_": "receive",
}
Record = tuple[str, tuple[int, ...], int]
"""Kind, ranks of the group, bytes of the whole: what a gather gives, what a scatter or a sum is given."""


class Collectives(TorchDispatchMode):
    """Lists every collective inside the context, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Record] = []
        self.unknown: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # first what it does with its local parts, which comes here again
        out = func(*args, **(kwargs or {}))
        namespace, _, name = func._schema.name.partition("::")
        if namespace in ("c10d", "_c10d_functional", "_c10d_functional_autograd"):
            self._note(name, args, out)
        return out

    def _note(self, name: str, args: Any, out: Any) -> None:
        if name in ("wait_tensor", "_wrap_tensor_autograd", "barrier"):
            return
        if name not in KINDS:
            self.unknown[name] += 1
            return
        kind, group = KINDS[name], next(found for found in map(as_group, args) if found is not None)
        sizes = [size_bytes(x) for x in (*args, out)]
        self.records.append((kind, tuple(dist.get_process_group_ranks(group)), max(sizes)))


def as_group(argument: Any) -> dist.ProcessGroup | None:
    """The process group that an argument of a collective names, if it does."""
    if isinstance(argument, torch.ScriptObject):
        try:
            return dist.ProcessGroup.unbox(argument)
        except (RuntimeError, TypeError):
            return None
    if isinstance(argument, str) and argument not in ("sum", "max", "min", "avg"):
        return dist.distributed_c10d._resolve_process_group(argument)
    return None


def size_bytes(argument: Any) -> int:
    """Bytes of the tensors in an argument, of lists together."""
    if isinstance(argument, Tensor):
        return argument.nbytes
    if isinstance(argument, list | tuple):
        return sum(map(size_bytes, argument))
    return 0


@contextmanager
def pretended_world(rank: int, n_ranks: int) -> Iterator[None]:
    """A process group of `n_ranks` of which only `rank` is there: collectives return at once, unsummed."""
    from torch.distributed.tensor.debug import _clear_sharding_prop_cache
    from torch.testing._internal.distributed.fake_pg import FakeStore

    _clear_sharding_prop_cache()  # it remembers the groups of the world before
    dist.init_process_group("fake", rank=rank, world_size=n_ranks, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def known_hidden_states(config: Any) -> Iterator[None]:
    """The stages of a pipeline need not ask each other, once, what their hidden states look like."""
    from torch.distributed.pipelining import stage as stages

    parallel, train = config.parallel, config.train
    places = train.seq_len // parallel.context // parallel.tensor
    shape = (train.microbatch_sequences, places, config.model.width)
    dtype = getattr(torch, config.precision.compute)

    def told(self: Any, source: int) -> Any:
        forward = source < self.stage_index
        hidden = torch.empty(shape, dtype=dtype, device=self.device, requires_grad=forward)
        metas = stages.extract_tensor_metas((hidden,))
        return stages._StageForwardMeta(metas) if forward else stages._StageBackwardMeta(metas)

    before = stages.PipelineStage._recv_meta, stages.PipelineStage._send_meta
    stages.PipelineStage._recv_meta = told  # type: ignore[method-assign]
    stages.PipelineStage._send_meta = lambda self, meta, target: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        stages.PipelineStage._recv_meta, stages.PipelineStage._send_meta = before  # type: ignore[method-assign]


@contextmanager
def experts_in_equal_use() -> Iterator[None]:
    """As many tokens come from each rank as go to it: nobody is there to say otherwise."""
    real = dist.all_to_all_single

    def counts(output: Tensor, given: Tensor, *more: Any, **named: Any) -> Any:
        output.copy_(given)
        return real(output, given, *more, **named)

    dist.all_to_all_single = counts
    try:
        yield
    finally:
        dist.all_to_all_single = real


@contextmanager
def one_step(config: Any, rank: int) -> Iterator[Callable[[], None]]:
    """One step of the real engine of `rank` in a pretended world, after a first one, when it is called."""
    from isoflop.data.loader import Batch
    from isoflop.dist.mesh import build_mesh
    from isoflop.engine.native import NativeEngine

    device = torch.device("cpu")
    world = pretended_world(rank, config.parallel.ranks)
    with world, known_hidden_states(config), experts_in_equal_use():
        engine = NativeEngine(config, build_mesh(config.parallel, device), device)
        sequences = config.train.global_batch_tokens // config.train.seq_len // config.parallel.data
        tokens = torch.randint(0, config.model.vocab_size, (sequences, config.train.seq_len))
        batch = Batch(tokens, tokens, torch.zeros_like(tokens))

        def step() -> None:
            engine.train_step(batch, 100, 1e-3, lambda loss, grad_norm: False)

        step()
        yield step


def step_collectives(config: Any, rank: int) -> Collectives:
    """What `rank` asks for in a step."""
    found = Collectives()
    with one_step(config, rank) as step, found:
        step()
    return found


def tiny_config(*overrides: str) -> Any:
    from experiments import tiny

    return tiny(Path("nowhere"), *overrides)
