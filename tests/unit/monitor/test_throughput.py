"""Peaks that MFU is measured against, and memory."""

import pytest
import torch

from isoflop.monitor import throughput, units
from isoflop.monitor.throughput import (
    data_sheet,
    device_peak_flops,
    measured_matmul_flops,
    peak_memory_bytes,
    reset_peak_memory,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989.4),
        ("NVIDIA GH200 480GB", 989.4),
        ("NVIDIA B200", 2250),
        ("NVIDIA GB200", 2500),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("AMD Instinct MI300X", 1307.4),
    ],
)
def test_data_sheet_bf16_dense(name: str, tera: float) -> None:
    assert data_sheet(name)[torch.bfloat16] == tera * 1e12


def test_an_unknown_device_has_no_data_sheet() -> None:
    assert data_sheet("NVIDIA GeForce RTX 2080") == {}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_cpu_is_measured(dtype: torch.dtype) -> None:
    peak = device_peak_flops(CPU, dtype)
    assert 1e7 < peak < 1e14


def test_a_product_of_n_by_n_is_two_n_cubed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that advances 2 ms a look."""
    looks = iter(range(10_000))
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(looks) * 2e-3)
    assert measured_matmul_flops(CPU, torch.float32) == pytest.approx(2 * 256**3 / 2e-3)


def test_peak_memory_counts_what_was_let_go() -> None:
    before = peak_memory_bytes(CPU)
    size = before // 4 + 64 * 2**20
    held = torch.ones(max(size, before) // 4, dtype=torch.float32)  # as much again as there was
    del held
    after = peak_memory_bytes(CPU)
    assert after - before > size // 2
    assert after < 100 * 2**30
    reset_peak_memory(CPU)  # the next run of a sweep has a peak of its own
    assert after - peak_memory_bytes(CPU) > size // 2


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (units.count(853), "853"),
        (units.count(41_234.5), "41.2 k"),
        (units.count(125_854_464), "125.9 M"),
        (units.count(3_040_870_400), "3.04 B"),
        (units.count(999_999), "1.00 M"),
        (units.count(0.25), "0.25"),
        (units.rounded(819_200), "820 k"),
        (units.rounded(1_638_400), "1.6 M"),
        (units.scientific(2.7537e18), "2.75e18"),
        (units.scientific(1e-5, 0), "1e-5"),
        (units.flop_rate(0.906e9), "0.906 G"),
        (units.memory(75_161_927_680), "70 GiB"),
        (units.memory(1023 * 2**20), "1,023 MiB"),
        (units.duration(0.42), "0.42 s"),
        (units.duration(725), "12 min 5 s"),
        (units.duration(59.7), "1 min"),
        (units.duration(13_200), "3 h 40 min"),
        (units.duration(187_200), "2 d 4 h"),
        (units.percent(0.3821), "38.2 %"),
        (units.percent(0.000123), "0.0123 %"),
    ],
)
def test_numbers_as_a_person_reads_them(made: str, said: str) -> None:
    assert made == said
