"""The safetensors of a Hugging Face folder, read one at a time. Needs `safetensors` (the `hf` extra)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isoflop.config.base import UserError

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"


DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class Found:
    """Where a tensor is, and what it is like."""

    path: Path
    shape: torch.Size
    dtype: str
    """In the words of safetensors."""


class SafetensorsFolder:
    """The tensors of a Hugging Face folder, in one file or in several with an index; read one at a time.

    Raises UserError naming the file that is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: dict[str, Found] = {}
        for name, expected in self._shards().items():
            path = folder / name
            with _opened(path) as file:
                held = set(file.keys())
                if expected is not None and held != expected:
                    odd = sorted(held ^ expected)[0]
                    raise UserError(
                        f"{folder / INDEX}: {odd} is not where it says; download the folder again"
                    )
                for tensor in held:
                    what = file.get_slice(tensor)
                    self.found[tensor] = Found(path, torch.Size(what.get_shape()), what.get_dtype())

    def dtype(self, name: str) -> torch.dtype:
        """Raises UserError where it holds no plain floating-point numbers."""
        kind = self.found[name].dtype
        if kind not in DTYPES:
            raise UserError(f"{self.folder}: {name} is in {kind}; {', '.join(DTYPES)} are read")
        return DTYPES[kind]

    def read(self, name: str) -> Tensor:
        """The file is opened anew: what is mapped of it counts as memory as long as it is open."""
        with _opened(self.found[name].path) as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor

    def stack(self, names: str | tuple[str, ...]) -> Tensor:
        """The tensor of that name; of several names their tensors, one above the other."""
        if isinstance(names, str):
            return self.read(names)
        whole = torch.empty(len(names), *self.found[names[0]].shape, dtype=self.dtype(names[0]))
        for row, name in zip(whole, names, strict=True):
            row.copy_(self.read(name))
        return whole

    def _shards(self) -> dict[str, set[str] | None]:
        """The files, and which tensors the index says each holds."""
        if (self.folder / INDEX).is_file():
            weight_map: dict[str, str] = read_json(self.folder / INDEX).get("weight_map", {})
            files = sorted(set(weight_map.values()))
            return {file: {name for name, held in weight_map.items() if held == file} for file in files}
        if (self.folder / WHOLE).is_file():
            return {WHOLE: None}
        raise UserError(f"{self.folder}: has neither {WHOLE} nor {INDEX}; other formats are not read")


def _opened(path: Path) -> Any:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise UserError("import: needs safetensors; `pip install 'isoflop[hf]'`") from None
    try:
        return safe_open(str(path), framework="pt")
    except FileNotFoundError:
        raise UserError(f"{path}: is missing; download the folder again") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cannot be read: {error}; download the folder again") from None


def read_json(path: Path) -> dict[str, Any]:
    """The keys in `path`. Raises UserError where there are none."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; give a folder that transformers wrote") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: holds no keys")
    return tree
