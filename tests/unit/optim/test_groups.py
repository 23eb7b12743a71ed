"""Matrices decay, vectors do not, in the order of their names."""

import torch
from torch import nn

from isoflop.optim.groups import parameter_groups


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(3, 5)
        self.norm = nn.LayerNorm(3)
        self.embedding = nn.Embedding(5, 3)
        self.frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)
        self.scale = nn.Parameter(torch.tensor(1.0))


def test_matrices_decay_and_vectors_do_not() -> None:
    toy = Toy()
    names = {id(parameter): name for name, parameter in toy.named_parameters()}
    groups = parameter_groups(toy.named_parameters(), weight_decay=0.1)
    found = [([names[id(p)] for p in group["params"]], group["weight_decay"]) for group in groups]
    assert found == [
        (["embedding.weight", "out.weight"], 0.1),
        (["norm.bias", "norm.weight", "out.bias", "scale"], 0.0),
    ]


def test_a_group_without_parameters_is_left_out() -> None:
    vectors = parameter_groups(nn.LayerNorm(3).named_parameters(), 0.1)
    assert [group["weight_decay"] for group in vectors] == [0.0]
    matrices = parameter_groups(nn.Embedding(3, 2).named_parameters(), 0.1)
    assert [group["weight_decay"] for group in matrices] == [0.1]
