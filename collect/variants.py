"""In which ways can the same model be run?

Each variant differs from the others by a few lines. Only running one imports torch.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracekit.errors import TracekitError

from .options import Sampling

if TYPE_CHECKING:
    from torch import Tensor

    from tracekit.manifest import Device

    from .fused import Decode
    from .gpt2 import GPT2
    from .workload import Next, Step

_AMPERE = (8, 0)
_TURING = (7, 5)
_VOLTA = (7, 0)
_COMPILER = "compute capability 7.0, or a C++ compiler on a CPU"


@dataclass(frozen=True)
class Demand:
    """What a step is built for.

    `sampling` says how tokens are chosen; None means greedily. `growing` says whether each call has one more token than the
    last.
    """

    sampling: Sampling | None = None
    growing: bool = False


@dataclass(frozen=True)
class Variant:
    """One way to run the model.

    `dtype` is torch's name for the dtype of weights, cache and arithmetic. `build` turns a model, on its device and with its
    cache, into a step. It may change the model's modules, which no other variant uses. `needs` says in words what `obstacle`
    checks on a device. `doubt` is what a reader must know about running on a device. `captures` says that the steps are CUDA
    graphs, so that each must have the shape of the one before. `annotatable` says that Python runs the steps layer by layer.
    `weights` is the dtype in which a decode step reads the weights, if that is not `dtype`.
    """

    name: str
    summary: str
    dtype: str
    build: Callable[[GPT2, Demand], Step]
    needs: str = "any device"
    obstacle: Callable[[Device], str | None] = lambda device: None
    doubt: Callable[[Device], str | None] = lambda device: None
    captures: bool = False
    annotatable: bool = False
    weights: str | None = None

    def unsupported(self, device: Device) -> str | None:
        """Why the variant cannot run on a device; None if it can."""
        return self.obstacle(device)

    def unsuitable(self, workload: str) -> str | None:
        """Why the variant makes no sense for a workload; None if it does."""
        if self.captures and workload == "recompute":
            return f"captures steps of fixed shape, and {workload} has none"
        return None


def eager(model: GPT2, demand: Demand) -> Step:
    """The step as PyTorch runs it without a compiler or a graph."""
    from .workload import Next

    temperature, top_k = _sampling(demand)

    def step(tokens: Tensor, positions: Tensor) -> Next:
        logits = model.head(model.hidden(tokens, positions)[:, -1:])
        return Next(model.choose(logits, temperature, top_k), positions[-1:] + 1, logits)

    return step


def compiled(model: GPT2, demand: Demand) -> Step:
    """The step through torch.compile in its default mode. Prefill and decode are compiled separately, for their own shapes."""
    return _compile(eager(model, demand), demand, {})


def graphs(model: GPT2, demand: Demand) -> Step:
    """The eager step. Each prefill and each decode step is one launch of a CUDA graph."""
    from .graphs import CapturedStep

    return CapturedStep(eager(model, demand))


def compiled_graphs(model: GPT2, demand: Demand) -> Step:
    """The compiled step in its fastest form. Each prefill and each decode step is one launch of a CUDA graph.

    Inductor turns a product of one row into a kernel of its own, fused with the operators around it, but only if the bias is
    added separately. It searches for the best shape of that kernel only if an option asks for it.
    """
    from .graphs import CapturedStep

    _add_biases_apart(model)
    return CapturedStep(_compile(eager(model, demand), demand, {"coordinate_descent_tuning": True}))


def fused(model: GPT2, demand: Demand) -> Step:
    """Our own kernels. Each prefill and each decode step is one launch of a CUDA graph.

    A decode step is one kernel, or five for each layer.
    """
    from .fused import fastest

    return _fused(model, demand, fastest)


def fused_layers(model: GPT2, demand: Demand) -> Step:
    """Our own kernels, as in `fused`, but a decode step always has five kernels for each layer.

    That is what a T4 runs, and a trace of it can tell the layers.
    """
    from .fused import by_layers

    return _fused(model, demand, by_layers)


def fused_int8(model: GPT2, demand: Demand) -> Step:
    """Our own kernels, as in `fused_layers`, but a decode step reads the linear layers and the LM head in INT8.

    The prefill reads them in FP16.
    """
    from .fused import by_layers_int8

    return _fused(model, demand, by_layers_int8)


def _fused(model: GPT2, demand: Demand, build: Callable[[GPT2], Decode]) -> Step:
    from .fused import fused_step
    from .graphs import CapturedStep

    return CapturedStep(fused_step(model, eager(model, demand), *_sampling(demand), build))


def _sampling(demand: Demand) -> tuple[float, int | None]:
    return (0.0, None) if demand.sampling is None else (demand.sampling.temperature, demand.sampling.top_k)


def _compile(step: Step, demand: Demand, options: Mapping[str, bool]) -> Step:
    import torch

    # "TensorFloat32 is available but not enabled": the options of the collection ask for exactly that.
    warnings.filterwarnings("ignore", message=".*TensorFloat32", category=UserWarning)
    return torch.compile(step, fullgraph=True, dynamic=demand.growing, options=dict(options) or None)


def _add_biases_apart(model: GPT2) -> None:
    """Replace every linear layer of the model by one with the same weights that multiplies and adds in two operators."""
    from torch import nn

    class ProductAndSum(nn.Linear):
        def __init__(self, linear: nn.Linear) -> None:
            super().__init__(linear.in_features, linear.out_features, device="meta")
            self.weight, self.bias = linear.weight, linear.bias

        def forward(self, x: Tensor) -> Tensor:
            product: Tensor = x @ self.weight.t()
            return product + self.bias

    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, ProductAndSum(child))


def _no_cuda(device: Device) -> str | None:
    return None if device.kind == "cuda" else "CUDA graphs need a CUDA device"


def _no_fused_kernels(device: Device) -> str | None:
    if device.kind != "cuda":
        return "its kernels need a CUDA device"
    capability = _capability(device)
    if capability < _TURING:
        return f"its kernels need compute capability 7.5, this is {_dotted(capability)}"
    # The outer package is looked for first, because find_spec raises for a module inside a missing package.
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.core") is None:
        return "its kernels need cuda-core: pip install 'torch-tracekit[cuda]'"
    return None


def _no_compiler(device: Device) -> str | None:
    if device.kind == "cuda":
        capability = _capability(device)
        return None if capability >= _VOLTA else f"Triton needs compute capability 7.0, this is {_dotted(capability)}"
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler.split()[0]) is None:
        return f"torch.compile needs a C++ compiler on a CPU, and there is no {compiler} (install g++, or name one in CXX)"
    return None


def _emulated_bf16(device: Device) -> str | None:
    if device.kind == "cuda" and _capability(device) < _AMPERE:
        return f"BF16 is emulated at compute capability {_dotted(_capability(device))}: expect it to be slow"
    return None


def _capability(device: Device) -> tuple[int, int]:
    major, _, minor = (device.compute_capability or "0.0").partition(".")
    return int(major), int(minor)


def _dotted(capability: tuple[int, int]) -> str:
    return "{}.{}".format(*capability)


BASELINE = Variant("baseline", "FP32, eager", "float32", eager, annotatable=True)

VARIANTS: tuple[Variant, ...] = (
    BASELINE,
    Variant("fp16", "FP16, eager", "float16", eager, annotatable=True),
    Variant(
        "bf16",
        "BF16, eager",
        "bfloat16",
        eager,
        "any device; emulated below compute capability 8.0",
        doubt=_emulated_bf16,
        annotatable=True,
    ),
    Variant("compiled", "FP32, torch.compile", "float32", compiled, _COMPILER, obstacle=_no_compiler),
    Variant("fp16-compiled", "FP16, torch.compile", "float16", compiled, _COMPILER, obstacle=_no_compiler),
    Variant(
        "graphs",
        "FP16, each step in one CUDA graph, no compiler",
        "float16",
        graphs,
        "CUDA",
        obstacle=_no_cuda,
        captures=True,
    ),
    Variant(
        "fp16-compiled-graphs",
        "FP16, torch.compile tuned, each step in one CUDA graph",
        "float16",
        compiled_graphs,
        "CUDA, compute capability 7.0",
        obstacle=lambda device: _no_cuda(device) or _no_compiler(device),
        captures=True,
    ),
    Variant(
        "fused",
        "FP16, prefill and decode by our own fused kernels, each step in one CUDA graph",
        "float16",
        fused,
        "CUDA, compute capability 7.5, and the extra `cuda`",
        obstacle=_no_fused_kernels,
        captures=True,
    ),
    Variant(
        "fused-layers",
        "as fused, always five kernels a layer",
        "float16",
        fused_layers,
        "CUDA, compute capability 7.5, and the extra `cuda`",
        obstacle=_no_fused_kernels,
        captures=True,
    ),
    Variant(
        "fused-int8",
        "as fused-layers, with weights in INT8, a scale for each output",
        "float16",
        fused_int8,
        "CUDA, compute capability 7.5, and the extra `cuda`",
        obstacle=_no_fused_kernels,
        captures=True,
        weights="int8",
    ),
)


def find_variant(name: str) -> Variant:
    """The variant of that name. Raises TracekitError, which lists all names, if there is none."""
    for variant in VARIANTS:
        if variant.name == name:
            return variant
    names = ", ".join(variant.name for variant in VARIANTS)
    raise TracekitError(f"no such variant as {name!r}", where="--variant", mend=f"use one of {names}")
