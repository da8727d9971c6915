from __future__ import annotations

import re

import pytest

from tracekit.devices import datasheets, find_datasheet


@pytest.mark.parametrize(
    ("name", "memory_gb_s"),
    [
        ("Tesla T4", 320),
        ("Tesla V100-SXM2-32GB", 900),
        ("NVIDIA A100-SXM4-80GB", 2039),
        ("NVIDIA A100-SXM4-40GB", 1555),
        ("NVIDIA H100 80GB HBM3", 3350),
        ("NVIDIA L4", 300),
        ("NVIDIA L40S", 864),
        ("AMD Instinct MI300X VF", 5300),
    ],
)
def test_names_as_pytorch_prints_them(name: str, memory_gb_s: float) -> None:
    sheet = find_datasheet(name)
    assert sheet is not None
    assert sheet.memory_gb_s == memory_gb_s


@pytest.mark.parametrize("name", ["", "unnamed GPU", "NVIDIA A1000", "NVIDIA L400", "NVIDIA H100 PCIe", "NVIDIA A100"])
def test_an_unknown_device_stays_unknown(name: str) -> None:
    assert find_datasheet(name) is None


def test_every_entry_names_its_source_and_plausible_peaks() -> None:
    for sheet in datasheets():
        assert sheet.source
        assert re.compile(sheet.match)
        assert 100 < sheet.memory_gb_s < 20_000
        assert sheet.tflops["fp32"] <= max(sheet.tflops.values())
