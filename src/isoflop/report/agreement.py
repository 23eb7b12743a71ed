"""Do two layouts train the same run? Relative differences, step by step, against what counts as proof.

The tolerances are the project's: from the same seed and data, over at least ten steps, 1e-9 in float64 and
1e-5 in float32. Lower precisions have none: there the order of a sum is no longer a detail.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from isoflop.config.identity import DATA_NOT_SCIENCE, NOT_SCIENCE
from isoflop.monitor import units
from isoflop.report.gather import Run

TOLERANCE = {"float64": 1e-9, "float32": 1e-5}
ENOUGH_STEPS = 10


@dataclass(frozen=True)
class Agreement:
    """`other` against `reference`, the run of the fewest ranks; arrays over the steps that both have."""

    reference: Run
    other: Run
    steps: np.ndarray
    loss: np.ndarray  # |Δloss| / |loss|
    grad_norm: np.ndarray  # |Δgrad_norm| / |grad_norm|
    precision: str

    @property
    def tolerance(self) -> float | None:
        return TOLERANCE.get(self.precision)

    @property
    def worst(self) -> np.ndarray:
        """The larger of both differences, (steps,)."""
        return np.maximum(self.loss, self.grad_norm)

    @property
    def first_apart(self) -> int | None:
        """The first step at which they differ by more than the tolerance, or one is not a number."""
        apart = self.steps[~(self.worst <= (self.tolerance or np.inf))]
        return int(apart[0]) if apart.size else None

    @property
    def agrees(self) -> bool | None:
        """None where it cannot be told: too few steps, or a precision without a tolerance."""
        if self.first_apart is not None:
            return False
        return True if self.tolerance is not None and len(self.steps) >= ENOUGH_STEPS else None

    @property
    def verdict(self) -> str:
        """In words."""
        steps = f"{len(self.steps)} step" + "s" * (len(self.steps) != 1)
        within = (
            f"{units.scientific(self.tolerance, 0)}, the tolerance for {self.precision}"
            if self.tolerance
            else ""
        )
        if self.first_apart is not None:
            return self._parting(self.first_apart, within)
        if len(self.steps) < ENOUGH_STEPS:
            return f"They share {steps}; fewer than {ENOUGH_STEPS} prove nothing."
        if self.tolerance is None:
            return f"Over {steps} they stay this close; {self.precision} has no tolerance to hold them to."
        if not self.worst.any():
            return f"Over {steps} they are equal to the last bit."
        return f"Over {steps} they are the same run: every difference is within {within}."

    def _parting(self, step: int, within: str) -> str:
        """Where they part, in which number, and by how much."""
        here = int(np.searchsorted(self.steps, step))
        by_how_much = " and ".join(
            f"the {name} by {units.scientific(float(values[here]), 1)}"
            for name, values in (("loss", self.loss), ("gradient norm", self.grad_norm))
            if not values[here] <= (self.tolerance or np.inf)
        )
        same = f"They are the same run for {here} steps, then part: at" if here else "At"
        return f"{same} step {step:,} {by_how_much}{f', more than {within}' if within else ''}."


def agreements(runs: Sequence[Run]) -> list[Agreement]:
    """Every run that repeats another one in a layout of its own, against the one of the fewest ranks."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.config and {"step", "loss", "grad_norm"} <= run.columns.keys():
            groups[experiment(run)].append(run)
    found = []
    for group in groups.values():
        reference, *others = sorted(group, key=lambda run: run.ranks)
        found += [compare(reference, other) for other in others]
    return found


def experiment(run: Run) -> str:
    """What a result should depend on, as canonical JSON: the config's science without its layout."""
    tree: dict[str, Any] = {key: value for key, value in run.config.items() if key not in NOT_SCIENCE}
    tree.pop("parallel", None)
    tree["train"] = {k: v for k, v in (tree.get("train") or {}).items() if k != "microbatch_sequences"}
    if run.datasets:  # named by content, so that the same data in another place is the same
        tree["data"] = {k: v for k, v in (tree.get("data") or {}).items() if k not in DATA_NOT_SCIENCE}
        tree["data"]["content"] = [entry.get("content_sha256") for entry in run.datasets]
    return json.dumps(tree, sort_keys=True, default=str)


def compare(reference: Run, other: Run) -> Agreement:
    """Step by step, over the steps that both logged."""
    steps, here, there = np.intersect1d(reference.columns["step"], other.columns["step"], return_indices=True)
    precision = reference.config.get("precision") or {}
    kinds = {precision.get(part, "float32") for part in ("params", "compute", "reduce")}
    lowest = next((kind for kind in ("bfloat16", "float32", "float64") if kind in kinds), "float32")
    return Agreement(
        reference=reference,
        other=other,
        steps=steps.astype(int),
        loss=_relative(reference.columns["loss"][here], other.columns["loss"][there]),
        grad_norm=_relative(reference.columns["grad_norm"][here], other.columns["grad_norm"][there]),
        precision=lowest,
    )


def _relative(reference: np.ndarray, other: np.ndarray) -> np.ndarray:
    """|other - reference| / |reference|; 0 where both are the same number, 0 included."""
    size = np.where(reference == 0, 1.0, np.abs(reference))
    return np.abs(other - reference) / size
