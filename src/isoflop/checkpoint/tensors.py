"""The weights of a checkpoint, tensor by tensor, in one process: at no time is the model in memory."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import DefaultLoadPlanner, DefaultSavePlanner, FileSystemReader
from torch.distributed.checkpoint import FileSystemWriter as _FileSystemWriter
from torch.distributed.checkpoint.metadata import MetadataIndex, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from isoflop.checkpoint.marker import Progress, mark_complete, progress_marker, read_marker, step_folder
from isoflop.config.base import UserError
from isoflop.config.schema import ModelConfig
from isoflop.data.manifest import file_sha256
from isoflop.model.decoder import Decoder
from isoflop.model.init import canonical_name

PART = "model."
FILE_BYTES = 256 * 2**20
"""Tensors are written into files of about so many bytes: what torch holds while it writes one."""


def parameter_shapes(model: ModelConfig) -> dict[str, torch.Size]:
    """The name and shape of every parameter of `model`, a tied matrix once. Takes no memory."""
    with torch.device("meta"):
        named = Decoder(model).named_parameters()
    return {canonical_name(name, model): parameter.shape for name, parameter in named}


class CheckpointTensors:
    """The model's tensors in a complete checkpoint, read whole and one at a time, whatever layout saved them.

    Raises UserError, naming the file or tensor, where the checkpoint is damaged or another model's.
    """

    def __init__(self, folder: Path, model: ModelConfig) -> None:
        self.folder, self.model = folder, model
        verify_files(folder)
        self._reader = FileSystemReader(folder)
        try:
            self._metadata = self._reader.read_metadata()
        except Exception as error:  # what unpickling raises depends on the damage
            raise UserError(f"{folder / '.metadata'}: cannot be read: {type(error).__name__}") from None
        self._reader.set_up_storage_reader(self._metadata, True)
        found = self._metadata.state_dict_metadata
        self.found = {
            name.removeprefix(PART): of
            for name, of in found.items()
            if name.startswith(PART) and isinstance(of, TensorStorageMetadata)
        }
        shapes = {name: of.size for name, of in self.found.items()}
        check_same_tensors(str(folder), shapes, parameter_shapes(model), "its config")

    def read(self, name: str) -> Tensor:
        """The tensor called `name`, whole, in host memory, in the format that it was saved in."""
        of = self.found[name]
        tensor = torch.empty(of.size, dtype=of.properties.dtype)
        planner = DefaultLoadPlanner(flatten_state_dict=False)
        planner.set_up_planner({PART + name: tensor}, self._metadata, True)
        self._reader.read_data(planner.create_local_plan(), planner).wait()
        return tensor


def write_weights(
    checkpoints: Path,
    shapes: Mapping[str, tuple[torch.Size, torch.dtype]],
    read: Callable[[str], Tensor],
) -> Path:
    """Write a complete checkpoint of step 0 that holds weights alone; `read` is asked for each of them once.

    No more than the largest of them, or `FILE_BYTES`, is in memory at once.
    """
    folder = step_folder(checkpoints, 0)
    blank = {name: torch.empty(shape, dtype=dtype, device="meta") for name, (shape, dtype) in shapes.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process is what is meant
        dcp.save({"model": blank}, storage_writer=_InParts(folder), planner=_OnDemand(read), no_dist=True)
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(folder.iterdir())
    }
    mark_complete(folder, progress_marker(Progress(), loss=None, ranks=1, files=files))
    return folder


class _OnDemand(DefaultSavePlanner):
    """Plans with tensors that hold nothing, and reads each when it is written."""

    def __init__(self, read: Callable[[str], Tensor]) -> None:
        super().__init__()
        self.read = read

    def lookup_object(self, index: MetadataIndex) -> Any:
        return self.read(index.fqn.removeprefix(PART))


class _InParts(_FileSystemWriter):
    """Writes some tensors at a time: torch's own writer keeps those of a file until the file is closed."""

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        results: list[WriteResult] = []
        for number, items in enumerate(_parts(plan.items)):
            prefix = replace(plan.storage_data, prefix=f"__{number}_")
            part = replace(plan, items=items, storage_data=prefix)
            results += super().write_data(part, planner).wait()
        done: Future[list[WriteResult]] = Future()
        done.set_result(results)
        return done


def _parts(items: list[WriteItem]) -> list[list[WriteItem]]:
    """`items` in order, cut where more than FILE_BYTES come together."""
    parts: list[list[WriteItem]] = [[]]
    size = 0
    for item in items:
        assert item.tensor_data is not None
        n_bytes = item.tensor_data.size.numel() * item.tensor_data.properties.dtype.itemsize
        if parts[-1] and size + n_bytes > FILE_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(item)
        size += n_bytes
    return parts


def check_same_tensors(
    where: str, found: Mapping[str, torch.Size], expected: Mapping[str, torch.Size], asks: str
) -> None:
    """Raises UserError naming the tensors that `where` has not, has too many, or has in another shape."""
    faults = [
        *(f"{name} is in no place of our model" for name in sorted(found.keys() - expected.keys())),
        *(f"{name} is missing" for name in sorted(expected.keys() - found.keys())),
        *(
            f"{name} is {_by(found[name])}, {asks} asks for {_by(expected[name])}"
            for name in expected
            if name in found and tuple(found[name]) != tuple(expected[name])
        ),
    ]
    if faults:
        more = f"; and {len(faults) - 4} more" if len(faults) > 4 else ""
        raise UserError(f"{where}: {'; '.join(faults[:4])}{more}")


def verify_files(folder: Path) -> None:
    """Compare the files of a checkpoint with its marker. Raises UserError naming the first that differs."""
    for name, expected in read_marker(folder).get("files", {}).items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != expected["bytes"]:
            raise UserError(f"{path}: has not the size that was written; the checkpoint is damaged")
        if file_sha256(path) != expected["sha256"]:
            raise UserError(f"{path}: holds other bytes than were written; the checkpoint is damaged")


def _by(shape: torch.Size) -> str:
    return " × ".join(map(str, shape))
