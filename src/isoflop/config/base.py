"""What every configuration object shares: frozen, strict about keys, and honest about its faults."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """A frozen piece of configuration. Unknown keys are faults, and defaults are checked like values."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, protected_namespaces=()
    )


Degree = Annotated[int, Field(ge=1, description="size of a parallel axis")]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
UnitInterval = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a configuration: the key, what was given, and what would do."""

    key: str
    given: Any
    message: str

    def __str__(self) -> str:
        return f"{self.key}={self.given}  {self.message}" if self.given is not None else f"{self.key}  {self.message}"


class UserError(Exception):
    """A mistake that the user can mend. Shown as one line, without a traceback, with a non-zero exit."""

    exit_code = 1


class ConfigError(UserError):
    """A configuration with faults, all of them."""

    exit_code = 2

    def __init__(self, faults: Sequence[Fault], subject: str = "config") -> None:
        self.faults = list(faults)
        self.subject = subject
        super().__init__(self.render())

    def render(self) -> str:
        """The faults in the user's words, aligned, one a line."""
        heads = [f"{f.key}={f.given}" if f.given is not None else f.key for f in self.faults]
        width = min(max(map(len, heads), default=0), 48)
        count = f"{len(self.faults)} fault" + "s" * (len(self.faults) != 1)
        rows = [f"  {head:<{width}}  {f.message}" for head, f in zip(heads, self.faults, strict=True)]
        return "\n".join([f"{self.subject}: {count}", *rows])


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A hint such as "; did you mean `lr`?", or the known words where nothing is near and they are few."""
    near = get_close_matches(word, known, n=2, cutoff=0.6)
    if near:
        return "; did you mean " + " or ".join(f"`{n}`" for n in near) + "?"
    return f"; known: {', '.join(known)}" if 0 < len(known) <= 16 else ""
