"""The contract that every engine fulfils. It stands with the loop, which must not know its engines."""

from isoflop.train.contract import Accept, Engine, StepResult

__all__ = ["Accept", "Engine", "StepResult"]
