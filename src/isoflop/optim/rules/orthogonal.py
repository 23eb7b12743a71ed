"""The nearest thing to an orthogonal matrix, also of matrices that lie in shards on several ranks."""

from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, distribute_tensor

from isoflop.optim.rules.base import local

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024: steep at zero, within 0.3 of 1 after five


def newton_schulz(matrix: Tensor, steps: int, dtype: torch.dtype | None = None) -> Tensor:
    """matrix (…, rows, columns) → the same singular vectors, every singular value near 1 (0.7 to 1.2).

    The quintic iteration of Jordan et al. 2024: of X = USVᵀ scaled to a norm of 1, S ← aS + bS³ + cS⁵ in
    each step. In `dtype`; None: the matrix's own, at least float32.
    """
    a, b, c = COEFFICIENTS
    x = matrix.to(dtype or torch.promote_types(matrix.dtype, torch.float32))
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x  # the smaller square below
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x.mT if tall else x).to(matrix.dtype)


def orthogonalized(
    parameters: Sequence[Tensor], directions: Sequence[Tensor], steps: int, dtype: torch.dtype | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Each parameter with its own part of `newton_schulz` of the whole of its direction.

    `directions` are the parts that lie here, as the parameters' shards. Matrices that are whole here are
    worked on here; those that are split over a mesh by its ranks in turn. Every rank of a mesh must come
    with the same parameters in the same order.
    """
    split: dict[DeviceMesh, list[tuple[DTensor, Tensor]]] = {}
    for parameter, direction in zip(parameters, directions, strict=True):
        if isinstance(parameter, DTensor) and is_split(parameter):
            split.setdefault(parameter.device_mesh, []).append((parameter, direction))
        else:
            yield parameter, newton_schulz(direction, steps, dtype)
    for mesh, pairs in split.items():
        for start in range(0, len(pairs), mesh.size()):
            yield from _in_turn(pairs[start : start + mesh.size()], mesh, steps, dtype)


def is_split(parameter: DTensor) -> bool:
    """Whether its matrices (the last two dims) lie on several ranks; also as copies, which can share work."""
    if parameter.device_mesh.size() == 1:
        return False
    shards = [place for place in parameter.placements if not place.is_replicate()]
    leading = parameter.ndim - 2  # dims over which there are several matrices, whole where only these are cut
    return not shards or any(place.dim % parameter.ndim >= leading for place in shards)  # type: ignore[attr-defined]


def _in_turn(
    pairs: Sequence[tuple[DTensor, Tensor]], mesh: DeviceMesh, steps: int, dtype: torch.dtype | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """As `orthogonalized`, of at most as many parameters as `mesh` has ranks: each rank works on one.

    All are gathered before any is worked on, else each rank would wait for the one before it.
    """
    found = mesh.get_coordinate()
    assert found is not None, "not a rank of this parameter's mesh"
    coordinate = list(found)  # a list in some versions of torch, a tuple in others
    mine = None
    for number, (parameter, direction) in enumerate(pairs):
        whole = _like(parameter, direction).full_tensor()
        if _owner(number, mesh) == coordinate:
            mine = whole
    result = None if mine is None else newton_schulz(mine, steps, dtype).contiguous()
    for number, (parameter, direction) in enumerate(pairs):
        owner = _owner(number, mesh)
        whole = result if result is not None and owner == coordinate else direction.new_empty(parameter.shape)
        _spread(whole, owner, coordinate, mesh)
        # from what every rank has now, each keeps its own part: nothing is sent
        yield (
            parameter,
            local(distribute_tensor(whole, mesh, parameter.placements, src_data_rank=None)),
        )


def _like(parameter: DTensor, part: Tensor) -> DTensor:
    """`part` as the shard of something that is laid out as `parameter` is."""
    return DTensor.from_local(
        part,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def _owner(number: int, mesh: DeviceMesh) -> list[int]:
    """The coordinate on `mesh` of the rank that works on parameter `number`."""
    coordinate = []
    for size in reversed(mesh.shape):
        coordinate.append(number % size)
        number //= size
    return coordinate[::-1]


def _spread(whole: Tensor, owner: list[int], here: list[int], mesh: DeviceMesh) -> None:
    """Give the owner's `whole` to all ranks of `mesh`, axis after axis: after each, one more axis has it."""
    for axis in range(mesh.ndim):
        if here[axis + 1 :] == owner[axis + 1 :] and mesh.size(axis) > 1:
            dist.broadcast(whole, group=mesh.get_group(axis), group_src=owner[axis])
