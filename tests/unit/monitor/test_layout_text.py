"""A layout in words: which ranks form the groups of each axis."""

import pytest
import torch
from communication import pretended_world, tiny_config

from isoflop.monitor.layout import Axis, axes, group_text, stages_text


@pytest.mark.parametrize("rank", [0, 13, 31])
def test_groups_are_the_meshes_own(rank: int) -> None:
    """Each axis's group of a rank is the process group that the real meshes give it."""
    from isoflop.dist.mesh import build_context_mesh, build_expert_mesh, build_mesh

    config = tiny_config(
        "model=moe-debug",
        "parallel.data=4",
        "parallel.context=2",
        "parallel.tensor=2",
        "parallel.pipeline=2",
        "parallel.expert=2",
        "train.microbatch_sequences=1",
    )
    found = {axis.name: axis for axis in axes(config.parallel)}
    assert list(found) == ["data", "tensor", "pipeline", "context", "expert"]
    cpu = torch.device("cpu")
    with pretended_world(rank, config.parallel.ranks):
        mesh, context = build_mesh(config.parallel, cpu), build_context_mesh(config.parallel, cpu)
        expert = build_expert_mesh(config.parallel, cpu)
        real = {
            "tensor": mesh["tensor"],
            "pipeline": mesh["pipeline"],
            "context": context,
            "expert": expert["expert"],
        }
        real_groups = {name: tuple(part.mesh.tolist()) for name, part in real.items()}
    for name, group in real_groups.items():
        assert group in {tuple(found[name].group(i)) for i in range(found[name].n_groups)}, name
        assert rank in group


def test_every_rank_is_in_one_group_of_each_axis() -> None:
    for axis in (Axis("data", 3, 4, 24), Axis("tensor", 4, 1, 24), Axis("pipeline", 2, 12, 24)):
        groups = [axis.group(i) for i in range(axis.n_groups)]
        assert sorted(rank for group in groups for rank in group) == list(range(24))
        assert [group[0] for group in groups] == sorted(group[0] for group in groups)


@pytest.mark.parametrize(
    ("ranks", "text"),
    [
        (range(2), "(0,1)"),
        (range(8), "(0–7)"),
        (range(0, 8, 2), "(0,2,4,6)"),
        (range(0, 512, 8), "(0,8,…,504)"),
    ],
)
def test_a_group_is_said_shortly(ranks: range, text: str) -> None:
    assert group_text(ranks) == text


def test_many_groups_are_left_out() -> None:
    assert Axis("tensor", 8, 1, 4096).groups_text() == "(0–7) (8–15) … (4088–4095)"


def test_stages_say_what_stands_where() -> None:
    layers = [range(1), range(1, 4), range(4, 6), range(6, 8)]
    assert stages_text(layers[:2], [[0], [1]]) == ["0: embedding, layer 0", "1: layers 1–3, head"]
    assert stages_text(layers, [[0, 3], [1, 2]]) == [
        "0: embedding, layers 0, 6–7, head",
        "1: layers 1–3, 4–5",
    ]
    many = stages_text([range(i, i + 1) for i in range(8)], [[i] for i in range(8)])
    assert many == ["0: embedding, layer 0", "1: layer 1", "…", "7: layer 7, head"]
