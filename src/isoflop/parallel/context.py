"""The context axis: each rank has some places of every sequence, and sees the keys and values of all.

Keys and values are gathered (Llama Team 2024, §3.3.2) rather than passed around a ring: any kernel that takes
a mask can then attend, and documents may begin anywhere.
"""

import torch
from torch import Tensor
from torch.distributed import _functional_collectives as functional
from torch.distributed.device_mesh import DeviceMesh

from isoflop.model.decoder import Decoder
from isoflop.model.kernels import Sdpa

# By its name from torch 2.13 on, else by its old one.
all_gather = getattr(functional, "all_gather_single_autograd", None) or functional.all_gather_tensor_autograd


def places_of(rank: int, degree: int, seq_len: int) -> Tensor:
    """The places (seq_len / degree,) that `rank` has: one piece from the front and one from the back.

    Later places look at more keys: 2·degree pieces, paired first with last, cost every rank the same.
    """
    piece = seq_len // (2 * degree)
    back = 2 * degree - 1 - rank
    return torch.cat([torch.arange(i * piece, (i + 1) * piece) for i in (rank, back)])


class GatheredSdpa:
    """torch's attention between the queries here and the keys of the whole sequence."""

    def __init__(self, mesh: DeviceMesh, seq_len: int, device: torch.device) -> None:
        degree = mesh.size()
        self.group = mesh.get_group()
        self.inner = Sdpa()
        self.rows = places_of(mesh.get_local_rank(), degree, seq_len).to(device)
        # keys are gathered as they stand on the ranks; a softmax does not mind their order
        self.columns = torch.cat([places_of(rank, degree, seq_len) for rank in range(degree)]).to(device)

    def mask(self, documents: Tensor, masked: bool) -> Tensor:
        """documents (batch, seq) → (batch or 1, 1, places here, seq): the row may look at the column."""
        causal = self.rows[:, None] >= self.columns
        if not masked:
            return causal[None, None]
        same = documents[:, self.rows, None] == documents[:, None, self.columns]
        return (same & causal)[:, None]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """q, k, v of the places here, (batch, places, heads, d_head) → as q."""
        both = all_gather(torch.stack((k, v)), gather_dim=2, group=self.group)
        k, v = both.unbind()
        return self.inner.attend(q, k, v, mask)


def split_sequence(model: Decoder, mesh: DeviceMesh, seq_len: int, device: torch.device) -> None:
    """Let `model` work on this rank's places of each sequence, in place."""
    if mesh.size() == 1:
        return
    kernel = GatheredSdpa(mesh, seq_len, device)
    model.places = kernel.rows
    model.kernel = kernel
    for block in model.blocks.values():
        block.attention.kernel = kernel  # type: ignore[union-attr]
