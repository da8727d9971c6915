"""Do the limits of each architecture agree with each other?"""

from __future__ import annotations

import pytest

from tracekit.architectures import capability, instructions, multiprocessors
from tracekit.devices import find_datasheet


def test_oldest_first_and_each_once() -> None:
    found = [one.capability for one in multiprocessors()]
    assert found == sorted(set(found))
    assert found[0] == (7, 5)
    assert [capability(one.since) for one in instructions()] == sorted(capability(one.since) for one in instructions())


@pytest.mark.parametrize("one", multiprocessors(), ids=lambda one: one.compute_capability)
def test_a_block_fits_the_multiprocessor(one) -> None:
    assert one.shared_bytes_block + one.shared_bytes_reserved == one.shared_bytes
    assert one.shared_bytes % 1024 == one.registers % 1024 == 0
    assert one.blocks <= one.warps
    assert one.shared_unit in (128, 256)


@pytest.mark.parametrize("one", multiprocessors(), ids=lambda one: one.compute_capability)
def test_the_example_is_a_device_of_that_capability(one) -> None:
    names = {"A100": "NVIDIA A100-SXM4-40GB", "H100": "NVIDIA H100 80GB HBM3"}
    sheet = find_datasheet(names.get(one.example, f"NVIDIA {one.example}"))
    assert sheet is not None
    assert (sheet.compute_capability, sheet.architecture) == (one.compute_capability, one.name)


def test_capabilities_compare_as_numbers() -> None:
    assert capability("10.0") > capability("9.0") > capability("8.9")
    first = instructions()[0]
    assert first.known_to((7, 5))
    assert not first.known_to((7, 0))
