"""Mistakes that a user can mend, in the user's words. Imports nothing heavy: `--help` passes through here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any


class UserError(Exception):
    """A mistake that the user can mend. Shown as one line, without a traceback, with a non-zero exit."""

    exit_code = 1


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a configuration: the key, what was given (None: nothing), and what would do."""

    key: str
    given: Any
    message: str

    @property
    def head(self) -> str:
        return self.key if self.given is None else f"{self.key}={as_yaml(self.given)}"

    def __str__(self) -> str:
        return f"{self.head}  {self.message}"


class ConfigError(UserError):
    """A configuration with faults, all of them."""

    exit_code = 2

    def __init__(self, faults: Sequence[Fault], subject: str = "config") -> None:
        self.faults = list(faults)
        self.subject = subject
        super().__init__(self.render())

    def render(self) -> str:
        """The faults in the user's words, aligned, one a line."""
        width = min(max((len(fault.head) for fault in self.faults), default=0), 48)
        count = f"{len(self.faults)} fault" + "s" * (len(self.faults) != 1)
        rows = [f"  {fault.head:<{width}}  {fault.message}" for fault in self.faults]
        return "\n".join([f"{self.subject}: {count}", *rows])

    def as_written(self, overrides: Sequence[str]) -> "ConfigError":
        """The same faults in the order of the command line, each value as it was written there."""
        written = {}
        for position, (key, sign, value) in enumerate(word.partition("=") for word in overrides):
            if sign:
                written[key.lstrip("+~")] = (position, value)
        named = [fault.key.lstrip("+~") for fault in self.faults]
        order = sorted(range(len(named)), key=lambda i: _position(named[i], written))
        faults = []
        for i in order:
            fault = self.faults[i]
            if named[i] in written and fault.given is not None:
                fault = replace(fault, given=Verbatim(written[named[i]][1]))
            faults.append(fault)
        return ConfigError(faults, self.subject)


class Verbatim(str):
    """Text that is shown as it stands."""

    __slots__ = ()


def as_yaml(value: Any) -> str:
    """A value as one would write it in YAML: `null`, `true`, `[1, 2]`; long ones cut."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        text = "[" + ", ".join(map(as_yaml, value)) + "]"
    elif isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {as_yaml(item)}" for key, item in value.items()) + "}"
    else:
        text = str(value)
    return text if isinstance(value, Verbatim) or len(text) <= 60 else text[:59] + "…"


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A hint such as "; did you mean `lr`?", or the known words where nothing is near and they are few."""
    near = get_close_matches(word, list(dict.fromkeys(known)), n=2, cutoff=0.6)
    if near:
        return "; did you mean " + " or ".join(f"`{n}`" for n in near) + "?"
    return f"; known: {', '.join(known)}" if 0 < len(known) <= 16 else ""


def _position(key: str, written: Mapping[str, tuple[int, str]]) -> int:
    """Where `key`, or the group it stands in, was written; after everything where it was not."""
    parts = key.split(".")
    for end in range(len(parts), 0, -1):
        found = written.get(".".join(parts[:end]))
        if found is not None:
            return found[0]
    return len(written)
