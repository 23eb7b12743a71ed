"""How fast a device could be, and how much memory the run took."""

import resource
import sys
import time

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
MEASURE_SECONDS = 0.025


def device_peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Peak FLOP/s of one device in `dtype`, the denominator of MFU.

    From the data sheet; a CPU, or a device or precision that the table lacks, is measured instead by a short
    matrix product on the threads that this process has, so that its MFU is a fraction of what matmul reaches.
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
    """The best of a few square products, in FLOP/s. Takes some 25 ms on a CPU."""
    size = 4096 if device.type == "cuda" else 256
    left = torch.ones(size, size, dtype=dtype, device=device)
    best_seconds, deadline = float("inf"), time.perf_counter() + MEASURE_SECONDS
    out = left @ left  # warm-up: threads, libraries
    while best_seconds == float("inf") or time.perf_counter() < deadline:
        _synchronize(device)
        start = time.perf_counter()
        torch.mm(left, left, out=out)
        _synchronize(device)
        best_seconds = min(best_seconds, time.perf_counter() - start)
    return 2 * size**3 / best_seconds


def peak_memory_bytes(device: torch.device) -> int:
    """Most device memory that tensors held at once; on a CPU the most resident memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kibibytes on Linux


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
