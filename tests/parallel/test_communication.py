"""What a rank sends in a step is what `isoflop.plan.communication` says, for each axis and their products.

The step is the real engine's. In a pretended world one rank runs alone, of up to 4,096; a few layouts run on
real ranks too, so that nothing rests on the pretence.
"""

from collections import Counter
from pathlib import Path

import pytest
from communication import Record, step_collectives, tiny_config
from helpers import random_documents, write_dataset

from isoflop.config.schema import RunConfig
from isoflop.dist.spawn import spawn_ranks
from isoflop.plan.communication import step_traffic

DATA, TENSOR, PIPELINE, CONTEXT = (f"parallel.{axis}=2" for axis in ("data", "tensor", "pipeline", "context"))
ONE_SEQUENCE, BF16 = "train.microbatch_sequences=1", "precision=bf16"
ZERO2, COPIES, FOUR = "parallel.shard=zero2", "parallel.shard=none", "parallel.data=4"
TWO_STAGES = "parallel.stages_per_rank=2"
MIXTURE = ("model=moe-debug", "model.n_layers=3", "model.width=32", "model.n_heads=4", "model.vocab_size=256")
WIDE = ("model.n_kv_heads=4", "model.vocab_size=512")

ALONE: dict[str, tuple[str, ...]] = {
    "one": (),
    "one-bf16": (BF16,),
    "zero3": (DATA,),
    "zero3-bf16": (DATA, BF16),
    "zero3-one-microbatch": ("parallel.data=4", "parallel.recompute=full"),
    "zero2": (DATA, ZERO2),
    "copies": (FOUR, COPIES),
    "replicas": (FOUR, "parallel.replicas=2"),
    "replicas-zero2-bf16": (FOUR, "parallel.replicas=2", ZERO2, BF16),
    "uneven": ("parallel.data=3", "train.global_batch_tokens=384", "model.d_ff=70"),
    "tensor": (TENSOR,),
    "tensor-bf16-heads": (TENSOR, BF16, "model.qk_norm=head", "train.microbatch_sequences=16"),
    "tensor-loss": (TENSOR, "model.z_loss=0.1", "parallel.loss_chunk_tokens=10", "model.qk_norm=projection"),
    "tensor-selective": (TENSOR, "parallel.recompute=selective", "model.norm_place=after"),
    "tensor-full": (TENSOR, "parallel.recompute=full", "precision=fp64"),
    "tensor-layernorm-learned": (
        TENSOR,
        "model.norm=layernorm",
        "model.positions=learned",
        "model.qk_norm=projection",
        "model.tied=false",
    ),
    "context": (CONTEXT,),
    "context-full": (CONTEXT, "parallel.recompute=full", COPIES),
    "gpipe": ("parallel.pipeline=4", "parallel.pipeline_schedule=gpipe"),
    "1f1b": (PIPELINE, "model.tied=false"),
    "interleaved": (PIPELINE, TWO_STAGES, "parallel.pipeline_schedule=interleaved"),
    "interleaved-zero-bubble": (PIPELINE, TWO_STAGES, "parallel.pipeline_schedule=interleaved_zb"),
    "zbv": (PIPELINE, TWO_STAGES, "parallel.pipeline_schedule=zbv"),
    "dualpipev": (PIPELINE, TWO_STAGES, "parallel.pipeline_schedule=dualpipev"),
    "mixture-tensor": (*MIXTURE, TENSOR),
    "mixture-context-full": (*MIXTURE, CONTEXT, "parallel.recompute=full"),
    "expert": (*MIXTURE, FOUR, "parallel.expert=2"),
    "expert-copies": (*MIXTURE, FOUR, COPIES, "parallel.expert=4"),
}
PRODUCTS: dict[str, tuple[str, ...]] = {
    "data-tensor-pipeline": (DATA, TENSOR, PIPELINE),
    "data-tensor-zero2-learned": (DATA, TENSOR, ZERO2, "model.positions=learned", "model.norm=layernorm"),
    "data-tensor-bf16-chunks": (DATA, TENSOR, BF16, "parallel.loss_chunk_tokens=8"),
    "data-gpipe-4": (DATA, "parallel.pipeline=4", "parallel.pipeline_schedule=gpipe", ONE_SEQUENCE),
    "data-interleaved": (
        DATA,
        PIPELINE,
        TWO_STAGES,
        "parallel.pipeline_schedule=interleaved",
        ONE_SEQUENCE,
    ),
    "replicas-dualpipev": (
        FOUR,
        "parallel.replicas=2",
        ZERO2,
        PIPELINE,
        TWO_STAGES,
        "parallel.pipeline_schedule=dualpipev",
        ONE_SEQUENCE,
    ),
    "data-tensor-context-bf16": (DATA, TENSOR, CONTEXT, BF16),
    "expert-tensor-full": (*MIXTURE, FOUR, ZERO2, TENSOR, "parallel.expert=2", "parallel.recompute=full"),
    "expert-replicas": (
        *MIXTURE,
        "parallel.data=8",
        "parallel.replicas=2",
        "parallel.expert=2",
        ONE_SEQUENCE,
    ),
}
LARGE: dict[str, tuple[str, ...]] = {
    "data-4096": ("parallel.data=4096", "train.global_batch_tokens=131072", ONE_SEQUENCE),
    "replicas-1024": (
        "parallel.data=1024",
        "parallel.replicas=128",
        "train.global_batch_tokens=32768",
        ONE_SEQUENCE,
    ),
    "all-4096": (
        "parallel.data=128",
        "parallel.tensor=4",
        "parallel.pipeline=4",
        CONTEXT,
        "train.global_batch_tokens=16384",
        ONE_SEQUENCE,
        *WIDE,
    ),
}


def counted(records: list[Record]) -> Counter[tuple[str, int, int]]:
    """How many messages of each kind, size of group, and size; a group of one sends nothing."""
    return Counter((kind, len(ranks), size) for kind, ranks, size in records if len(ranks) > 1)


def planned(config: RunConfig, rank: int) -> Counter[tuple[str, int, int]]:
    found: Counter[tuple[str, int, int]] = Counter()
    for traffic in step_traffic(config, rank):
        found[traffic.kind, traffic.ranks, traffic.message_bytes] += traffic.count
    return found


def assert_as_planned(overrides: tuple[str, ...], rank: int) -> None:
    config = tiny_config(*overrides)
    rank = rank % config.parallel.ranks
    seen = step_collectives(config, rank)
    assert not seen.unknown
    assert counted(seen.records) == planned(config, rank)


@pytest.mark.parametrize("layout", ALONE)
def test_an_axis_alone(layout: str) -> None:
    """Every message of the first rank's step: kind, group, bytes and how many."""
    assert_as_planned(ALONE[layout], 0)


@pytest.mark.parametrize("layout", PRODUCTS)
def test_products_of_axes(layout: str) -> None:
    """The same of the last rank."""
    assert_as_planned(PRODUCTS[layout], -1)


@pytest.mark.parametrize("layout", LARGE)
def test_thousands_of_ranks(layout: str) -> None:
    """The same of a rank in the middle of up to 4,096."""
    assert_as_planned(LARGE[layout], 1234)


def test_messages_stay_on_their_axis() -> None:
    """The groups that a rank talks to are those of its row of the mesh: tensor ranks are neighbours."""
    config = tiny_config(FOUR, "parallel.replicas=2", CONTEXT, TENSOR, PIPELINE, ONE_SEQUENCE)
    groups = {ranks for _, ranks, _ in step_collectives(config, 13).records if len(ranks) > 1}
    # 32 ranks as pipeline 2 × replicas 2 × shards 4 × tensor 2; 13 stands at (0, 1, 2, 1)
    assert groups == {
        (12, 13),  # tensor
        (13, 15),  # context: neighbours among shards
        (9, 11, 13, 15),  # the shards of a copy
        (5, 13),  # copies
        (13, 29),  # pipeline, and the ends of it
        tuple(range(32)),
    }


def test_torch_counts_as_many() -> None:
    """torch's own CommDebugMode, which can follow one microbatch, sees as many collectives of each kind."""
    from communication import one_step
    from torch.distributed.tensor.debug import CommDebugMode

    config = tiny_config(DATA, TENSOR, CONTEXT, "train.microbatch_sequences=8")
    mode = CommDebugMode()
    with one_step(config, 3) as step, mode:
        step()
    names = Counter({str(op).rsplit(".", 1)[-1]: n for op, n in mode.get_comm_counts().items()})
    gathers = names["_allgather_base_"] + names["all_gather_into_tensor"]
    scatters = names["_reduce_scatter_base_"] + names["reduce_scatter_tensor"]
    sums = names["allreduce_"] + names["all_reduce"]
    plan = Counter(dict.fromkeys(("all_gather", "reduce_scatter", "all_reduce"), 0))
    for traffic in step_traffic(config, 3):
        plan[traffic.kind] += traffic.count
    assert plan == {"all_gather": gathers, "reduce_scatter": scatters, "all_reduce": sums}


REAL = {
    "data-pipeline": (DATA, PIPELINE),
    "zbv-tensor": (TENSOR, PIPELINE, TWO_STAGES, "parallel.pipeline_schedule=zbv"),
    "context-tensor": (CONTEXT, TENSOR),
}


def test_real_ranks_send_the_same(tmp_path: Path) -> None:
    """On four ranks that do talk to each other, each compares its own third step with its plan."""
    data = write_dataset(tmp_path / "data", random_documents(100, seed=1))
    codes = spawn_ranks(_rank, (tmp_path, data), 4, tmp_path / "logs", 1, "isoflop.engine.worker")
    assert set(codes.values()) == {0}, {
        rank: (tmp_path / f"wrong-{rank}").read_text() for rank, code in codes.items() if code
    }


def _rank(rank: int, n_ranks: int, folder: Path, data: Path) -> int:
    import traceback

    import torch
    import torch.distributed as dist
    from communication import Collectives
    from experiments import tiny

    from isoflop.data.loader import build_batches
    from isoflop.dist.env import Ranks
    from isoflop.dist.mesh import build_mesh, process_group
    from isoflop.engine.native import NativeEngine

    try:
        device = torch.device("cpu")
        for name, overrides in REAL.items():
            config = tiny(data, *overrides)
            store = dist.FileStore(str(folder / name), n_ranks)
            with process_group(Ranks(rank, n_ranks), device, config.cluster, store):
                engine = NativeEngine(config, build_mesh(config.parallel, device), device)
                batches = build_batches(config.data, config.train, config.seed)
                for step in range(3):
                    seen = Collectives()
                    batch = batches.step(step, engine.data_rank, config.parallel.data)
                    with seen:
                        engine.train_step(batch, batches.n_targets(step), 1e-3, lambda loss, norm: True)
            assert not seen.unknown, seen.unknown
            assert counted(seen.records) == planned(config, rank), name
    except Exception:
        (folder / f"wrong-{rank}").write_text(traceback.format_exc())
        return 1
    return 0
