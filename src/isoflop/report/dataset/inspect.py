"""`isoflop data inspect`, in the terminal or as a page."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from isoflop.report.dataset.compare import compare
from isoflop.report.dataset.gather import Look, check_reason, gather_all
from isoflop.report.dataset.page import write_page
from isoflop.report.dataset.terminal import show


def inspect_datasets(roots: Sequence[Path], out: Path | None, reason: str | None, n: int, seed: int) -> None:
    """Print what there is to say about one or two datasets, or write it to `out` and print its path.

    Raises UserError where one is no dataset, or nothing was dropped for `reason`.
    """
    datasets = gather_all(roots)
    check_reason(reason, datasets)
    look = Look(n, seed, reason)
    comparison = compare(*datasets) if len(datasets) == 2 else None
    if out is None:
        show(Console(highlight=False), datasets, comparison, look)
    else:
        write_page(out, datasets, comparison, look)
        print(out)
