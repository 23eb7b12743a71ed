"""How a sequence is dealt out to the ranks of the context axis, and stages to those of the pipeline."""

import pytest
import torch

from isoflop.config.schema import ParallelConfig
from isoflop.parallel.context import places_of
from isoflop.parallel.stages import stages_of


@pytest.mark.parametrize("degree", [1, 2, 3, 8])
def test_every_place_is_dealt_out_once_and_costs_are_equal(degree: int) -> None:
    """Place p looks at p + 1 keys: each rank looks at as many as every other."""
    seq_len = 48
    dealt = [places_of(rank, degree, seq_len) for rank in range(degree)]
    assert torch.cat(dealt).sort().values.tolist() == list(range(seq_len))
    assert {int((places + 1).sum()) for places in dealt} == {seq_len * (seq_len + 1) // 2 // degree}


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe", "interleaved", "interleaved_zb", "zbv", "dualpipev"])
@pytest.mark.parametrize("degree", [2, 4])
def test_stages_stand_where_torch_looks_for_them(schedule: str, degree: int) -> None:
    """The schedules send to the ranks that torch's own mapping names: loops, or down and up again."""
    from torch.distributed.pipelining._utils import generate_rank_to_stage_mapping

    per_rank = 1 if schedule in ("1f1b", "gpipe") else 2
    parallel = ParallelConfig(pipeline=degree, pipeline_schedule=schedule, stages_per_rank=per_rank)
    style = "v" if schedule in ("zbv", "dualpipev") else "loop"
    expected = generate_rank_to_stage_mapping(degree, degree * per_rank, style)
    assert {rank: stages_of(rank, parallel) for rank in range(degree)} == expected
