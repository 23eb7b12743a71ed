"""A part of the matrix in which each choice stands and each pair of axes: its cells are one-process runs."""

import matrix
import pytest

MAX_RANKS = 4  # here; `make matrix` goes to eight
ABLE = [
    cell
    for cell in matrix.cells()
    if cell.ranks <= MAX_RANKS and cell.precision != "bfloat16" and matrix.refused(cell) is None
]
CHOSEN = matrix.covering(ABLE)

Found = dict[matrix.Cell, str | tuple[float, float]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """The chosen cells, in eight processes that are started once."""
    return matrix.run(CHOSEN, tmp_path_factory.mktemp("matrix"))


@pytest.mark.parametrize("cell", CHOSEN, ids=lambda cell: cell.name)
def test_cell_is_the_one_process_run(found: Found, cell: matrix.Cell) -> None:
    """Loss and gradient norm of ten steps, in the cell's layout, precision and way."""
    assert matrix.right(cell, found[cell]), found[cell]


def test_the_chosen_part_covers_the_matrix() -> None:
    """Each choice of each axis is in it, so none is refused everywhere; and axes meet two by two."""
    covered = set().union(*map(matrix.marks, CHOSEN))
    assert covered == set().union(*map(matrix.marks, ABLE))
    choices = {(axis, pick) for axis, picks in matrix.CHOICES.items() for pick in picks if pick}
    assert choices < covered
    assert {("data", "tensor"), ("context", "expert"), ("tensor", "pipeline")} < covered
