"""What does a launch ask of the driver, and what does it say when the driver refuses? Without a device: the driver is played."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tracekit.errors import TracekitError  # noqa: E402
from tracekit.kernels import launch  # noqa: E402
from tracekit.kernels.launch import Kernels  # noqa: E402

driver = pytest.importorskip("cuda.bindings.driver", reason="needs the extra cuda")
SUCCESS, TOO_LARGE = driver.CUresult.CUDA_SUCCESS, driver.CUresult.CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE
COOPERATIVE = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE
SERIALIZATION = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION


class PlayedDriver:
    """Notes the attributes of each launch, and answers all launches alike."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.launched = answer, []

    def __getattr__(self, name: str) -> Any:
        return getattr(driver, name)

    def cuLaunchKernelEx(self, config, function, parameters, extra):  # noqa: N802
        attributes = {one.id: one.value for one in config.attrs or []}
        assert config.numAttrs == len(attributes)
        self.launched.append(attributes)
        return (self.answer,)


def played(answer: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Kernels, PlayedDriver]:
    """Kernels for a Hopper device that is not there, and its driver."""
    stand_in = PlayedDriver(answer)
    monkeypatch.setattr(launch, "_driver", lambda: stand_in)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=0))
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H1")
    kernels = Kernels.__new__(Kernels)
    kernels.device, kernels._can_chain, kernels._granted = torch.device("cuda", 0), True, {"step": 1 << 20}
    kernels._module = SimpleNamespace(handle=lambda name: 0)
    return kernels, stand_in


def test_a_cooperative_launch_says_so_and_no_other_does(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels, stand_in = played(SUCCESS, monkeypatch)
    kernels.launch("step", (96, 1), 640, (), cooperative=True)
    kernels.launch("step", (96, 1), 640, ())
    kernels.launch("step", (96, 1), 640, (), chained=True)
    kernels.launch("step", (96, 1), 640, (), chained=True, cooperative=True)
    assert [set(one) for one in stand_in.launched] == [{COOPERATIVE}, set(), {SERIALIZATION}, {COOPERATIVE, SERIALIZATION}]
    assert stand_in.launched[0][COOPERATIVE].cooperative == 1


def test_a_grid_that_is_too_large_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels, _ = played(TOO_LARGE, monkeypatch)
    with pytest.raises(TracekitError) as caught:
        kernels.launch("step", (320, 1), 640, (), shared_bytes=171_904, cooperative=True)
    assert str(caught.value) == (
        "the kernel step: 320 blocks of 640 threads and 171,904 bytes of shared memory must run at once, for which NVIDIA H1 "
        "has no room; run the variant fused-layers"
    )


def test_any_other_refusal_names_the_kernel_and_the_drivers_word(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels, _ = played(driver.CUresult.CUDA_ERROR_INVALID_VALUE, monkeypatch)
    with pytest.raises(RuntimeError, match=r"^the kernel step could not be launched \(CUDA_ERROR_INVALID_VALUE\)$"):
        kernels.launch("step", (1, 1), 32, ())
