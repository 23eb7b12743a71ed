"""What a block was built with, as plain data: the same for the same settings, in every process.

A stage's folder is named by it, so no setting can be forgotten: whatever a constructor keeps is in it.
"""

import hashlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from pathlib import Path, PurePath
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
from pydantic import BaseModel

from isoflop.config.errors import as_yaml

INLINE_ITEMS = 64  # longer lists stand as their hash and length
RUNTIME = {"stats", "output_mg"}  # filled while a block runs, as private attributes are
OURS = ("isoflop.", "datatrove.")  # their code is in the build's versions


def describe(value: Any) -> Any:
    """`value` as JSON has it. Raises TypeError for what cannot be told apart from another by its content."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, BaseModel):
        return describe(value.model_dump(mode="json"))
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in sorted(value.items(), key=lambda kv: str(kv[0]))}
    if isinstance(value, list | tuple):
        return _short([describe(item) for item in value])
    if isinstance(value, set | frozenset):
        return _short(sorted((describe(item) for item in value), key=canonical))
    if isinstance(value, re.Pattern):
        return {"pattern": value.pattern, "flags": int(value.flags)}
    if isinstance(value, np.ndarray):
        return {"dtype": str(value.dtype), "sha256": hashlib.sha256(value.tobytes()).hexdigest()}
    if isinstance(value, np.random.Generator):
        return describe(value.bit_generator.state)
    if isinstance(value, partial):
        return {"function": describe(value.func), "args": describe(value.args), **describe(value.keywords)}
    if isinstance(value, FunctionType) and not value.__module__.startswith(OURS):
        held = [cell.cell_contents for cell in value.__closure__ or ()]
        body = [value.__code__.co_code.hex(), *map(repr, value.__code__.co_consts)]
        return {"function": value.__qualname__, "body": digest(body), "closure": describe(held)}
    if isinstance(value, type | FunctionType | BuiltinFunctionType | MethodType):
        return f"{value.__module__}.{value.__qualname__}"
    return _object(value)


def canonical(tree: Any) -> str:
    """One text for one content."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"))


def digest(*trees: Any) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256("\n".join(map(canonical, trees)).encode()).hexdigest()


def differences(now: Any, then: Any, prefix: str = "") -> Iterator[str]:
    """`key: then → now` for each value that differs between two trees of plain data."""
    if isinstance(now, dict) and isinstance(then, dict):
        for key in sorted(now.keys() | then.keys()):
            yield from differences(now.get(key), then.get(key), f"{prefix}.{key}" if prefix else key)
    elif isinstance(now, list) and isinstance(then, list) and _alike(now, then):
        for i, (new, old) in enumerate(zip(now, then, strict=True)):
            yield from differences(new, old, f"{prefix}.{i}")
    elif now != then:
        yield f"{prefix}: {as_yaml(then)} → {as_yaml(now)}"


def _alike(now: list[Any], then: list[Any]) -> bool:
    """Lists of as many mappings: told apart item by item."""
    return len(now) == len(then) and all(isinstance(item, dict) for item in (*now, *then))


def _object(value: Any) -> Any:
    """A block, or what it holds: its class and its public attributes, where settings are kept."""
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__.startswith("datatrove.io") and hasattr(value, "path"):
        return str(value.path)  # a DataFolder
    if is_dataclass(value):
        held = {field.name: getattr(value, field.name) for field in fields(value)}
    elif hasattr(value, "__dict__"):
        held = {k: item for k, item in vars(value).items() if k not in RUNTIME and not k.startswith("_")}
    else:
        raise TypeError(f"{name} cannot be described; give the block plain settings")
    code = {} if kind.__module__.startswith(OURS) else {"code": _source_sha256(kind)}
    return {"class": name, **code, **describe(held)}


def _source_sha256(kind: type) -> str:
    """Of the file that a recipe's own class stands in."""
    try:
        return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()
    except TypeError:  # built into Python
        return ""


def _short(items: list[Any]) -> Any:
    return items if len(items) <= INLINE_ITEMS else {"items": len(items), "sha256": digest(items)}
