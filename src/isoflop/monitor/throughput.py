"""How fast a device could be, and how much memory the run took."""

import os
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch

# Dense matrix products in FLOP/s, without sparsity: NVIDIA's and AMD's data sheets, the SXM (OAM) board
# unless named. float32 is without TF32, which torch leaves off. The first match wins: longer names first.
DATA_SHEETS: tuple[tuple[str, dict[torch.dtype, float]], ...] = (
    ("A100", {torch.bfloat16: 312e12, torch.float32: 19.5e12, torch.float64: 19.5e12}),
    ("A800", {torch.bfloat16: 312e12, torch.float32: 19.5e12}),
    ("H100 PCIe", {torch.bfloat16: 756e12, torch.float32: 51e12, torch.float64: 51e12}),
    ("H100 NVL", {torch.bfloat16: 835e12, torch.float32: 60e12, torch.float64: 60e12}),
    ("H100", {torch.bfloat16: 989.4e12, torch.float32: 67e12, torch.float64: 67e12}),
    ("H800", {torch.bfloat16: 989.4e12, torch.float32: 67e12}),
    ("H200 NVL", {torch.bfloat16: 835e12, torch.float32: 60e12, torch.float64: 60e12}),
    ("H200", {torch.bfloat16: 989.4e12, torch.float32: 67e12, torch.float64: 67e12}),
    ("GH200", {torch.bfloat16: 989.4e12, torch.float32: 67e12, torch.float64: 67e12}),
    ("GB200", {torch.bfloat16: 2500e12}),
    ("B200", {torch.bfloat16: 2250e12}),
    ("L40S", {torch.bfloat16: 362e12, torch.float32: 91.6e12}),
    ("L4", {torch.bfloat16: 121e12, torch.float32: 30.3e12}),
    ("MI300X", {torch.bfloat16: 1307.4e12, torch.float32: 163.4e12, torch.float64: 163.4e12}),
)
MEASUREMENTS = 200


def device_peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Peak FLOP/s of one device in `dtype`, the denominator of MFU.

    From the data sheet; a device or precision that the table lacks is measured instead, and so is a CPU: all
    its cores together, however many ranks share them. MFU is then a fraction of what matmul reaches.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        known = data_sheet(name).get(dtype)
        if known is not None:
            return known
    return measured_matmul_flops(device, dtype)


def data_sheet(device_name: str) -> dict[torch.dtype, float]:
    """Peaks by precision for a device as CUDA names it; empty for one that is not known.

    A name is matched as whole words: an "NVIDIA L40S" is not an L4.
    """
    words = device_name.replace("-", " ").split()
    for name, peaks in DATA_SHEETS:
        wanted = name.split()
        if all(word in words for word in wanted):
            return peaks
    return {}


def measured_matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """The best of many square products, in FLOP/s, on every core of a CPU. Takes some 40 ms there.

    The best, not the mean: other programs on the machine can only make a product slower.
    """
    size = 4096 if device.type == "cuda" else 256
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    try:
        left = torch.ones(size, size, dtype=dtype, device=device)
        out = left @ left  # warm-up: threads, libraries
        return 2 * size**3 / min(_seconds(left, out) for _ in range(MEASUREMENTS))
    finally:
        torch.set_num_threads(threads)


def _seconds(left: torch.Tensor, out: torch.Tensor) -> float:
    """How long one product of `left` with itself takes."""
    _synchronize(left.device)
    start = time.perf_counter()
    torch.mm(left, left, out=out)
    _synchronize(left.device)
    return time.perf_counter() - start


def peak_memory_bytes(device: torch.device) -> int:
    """Most device memory that tensors held at once; on a CPU the most resident memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kibibytes on Linux


def reset_peak_memory(device: torch.device) -> None:
    """Count the peak from here on: a sweep's points share a process. Outside Linux a CPU's peak stays."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak resident set size


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
